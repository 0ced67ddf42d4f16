"""The projection framework: definition, feed, runner, checkpoints, and reading as of a moment."""
