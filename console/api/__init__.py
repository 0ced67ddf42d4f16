"""The HTTP API (docs/api.md): one process that reads the log, and writes to Kafka and the control stream."""
