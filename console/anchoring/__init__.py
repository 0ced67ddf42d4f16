"""Signs checkpoints of a log, and leaves copies of them, anchors, where the log's operator can't change them."""
