"""Benchmarks. Each prints a table and can print JSON; none is a test."""
