"""The log as tables for people: searches, SQL, exports and notebooks read these."""
