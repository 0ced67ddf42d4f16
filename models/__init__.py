"""Models: LightGBM's text format scored by our own kernel, and the content-addressed store that artifacts live in."""
