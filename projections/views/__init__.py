"""The read models, one per module."""
