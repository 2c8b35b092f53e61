"""One module a group of rows; each row is a function of the world that answers with figures."""
