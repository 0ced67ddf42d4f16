"""Route handlers, one module per subject. A handler converts and delegates; what it asks is in `console.api.desk`."""
