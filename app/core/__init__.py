"""Pure vocabulary of the house: identities, packets, rows, errors, sessions. No I/O, no clock."""
