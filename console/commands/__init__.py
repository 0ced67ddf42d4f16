"""One module per command of `sentinel`."""
