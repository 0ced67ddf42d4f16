"""The event log: a protocol (`base`), a reference implementation (`memory`), Redis Streams (`redis_streams`)."""
