"""Reference tables: history of merchants and devices across all partitions, and their publisher."""
