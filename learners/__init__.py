"""Everything that learns from the log: training, experiments, drift, the adaptive loop. Appends only control events."""
