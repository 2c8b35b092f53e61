"""The composition root: the only place that calls constructors of owners and adapters."""
