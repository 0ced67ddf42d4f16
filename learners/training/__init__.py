"""Training: the log as a training set; candidates trained or updated, calibrated and evaluated; the validation gate."""
