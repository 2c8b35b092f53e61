"""One file per change of schema; a revision that was ever released is never edited."""
