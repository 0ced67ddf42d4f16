"""Was this payment fraud? Quality control, reliability of sources, consensus, maturity."""
