"""What learns from the log: training sets, training, measures, the model card. Appends nothing but control events."""
