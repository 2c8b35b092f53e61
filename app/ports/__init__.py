"""What the owners of state need from outside; only where two adapters exist."""
