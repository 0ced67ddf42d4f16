"""A/B tests: always-valid inference, sample-ratio mismatch, the verdict and the report; shadow comparison."""
