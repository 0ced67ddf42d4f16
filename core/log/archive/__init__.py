"""The archive: sealed runs of the log as Parquet segments, listed in a manifest whose digests continue the chain."""
