"""Finds out how a file is written and what its columns mean, for `sentinel map`: a proposal that a person can edit."""
