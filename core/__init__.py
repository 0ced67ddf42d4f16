"""The domain and the log: events, features, rules, policy, the pipeline. Domain modules do no I/O."""
