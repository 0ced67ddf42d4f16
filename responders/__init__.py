"""Live-only side effects of alerts (block, queue, notify); their outcomes return as feedback. None is built yet."""
