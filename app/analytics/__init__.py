"""Option analytics, pure and vectorised."""
