"""The instrument universe: an immutable snapshot, replaced whole."""
