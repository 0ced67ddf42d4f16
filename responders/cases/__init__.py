"""Casework: what analysts do with cases, as plain functions for the command line and the HTTP API."""
