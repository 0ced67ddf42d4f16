"""Folds of the log into what is read: they never write to it, except for publishing what they have computed."""
