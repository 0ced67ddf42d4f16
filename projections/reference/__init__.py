"""Reference tables: what is known of merchants and devices across all partitions, and their publisher."""
