"""The Kafka edge: the worker, its intake, what it publishes, and the producer of streams."""
