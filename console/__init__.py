"""The user interface: the command line, its output, the local stack and product benchmarks."""
