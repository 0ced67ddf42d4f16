"""Pictures, one module a subject. What they show was measured elsewhere; `console.plots.figure` says how they look."""
