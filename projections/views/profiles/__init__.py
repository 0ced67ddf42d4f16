"""Account profiles: the record, the projection, and the same fold by columns."""
