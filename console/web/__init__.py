"""The web console: static files, and what serves them."""
