"""Drift detection: have the model's inputs or performance changed since deployment? Statistics, windows, monitor."""
