"""Training: the log as a training set, candidates trained or brought up to date, calibrated, measured, and the gate."""
