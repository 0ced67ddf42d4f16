"""Ways out: how a message reaches somebody outside. Each knows one protocol, and nothing of alerts or the log."""
