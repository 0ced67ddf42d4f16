"""The read models, one a module."""
