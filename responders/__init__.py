"""Carries out what live alerts recommend, through an outbox that is the log itself; and casework, what analysts do."""
