"""Projections: folds of the log into read models. They never write to the log, except to publish computed tables."""
