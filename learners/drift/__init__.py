"""Drift: has what the model sees, or how well it does, changed since it was chosen? Statistics, windows, monitor."""
