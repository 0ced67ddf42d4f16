"""The event log: one protocol (`base`), a reference implementation (`memory`), Redis Streams (`redis_streams`)."""
