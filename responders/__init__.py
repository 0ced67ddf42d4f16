"""Side effects of live alerts (block, queue, notify); their outcomes return as feedback. None is built yet."""
