"""The framework of projections: what one is, what feeds it, how it runs, is checkpointed, and reads as of a moment."""
