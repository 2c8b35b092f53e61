"""Start, end of day, stop."""
