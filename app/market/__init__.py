"""The owners of state. Knows ports and core, no adapter."""
