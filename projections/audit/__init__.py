"""Questions about decisions already made: decide again, tell the story, what if, blast radius, look up."""
