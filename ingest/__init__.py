"""The Kafka edge: the worker, its intake, what it publishes, and the producers of streams."""
