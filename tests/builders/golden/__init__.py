"""The golden log of an engine: a small log of every kind of event and decision, which later releases decide again."""
