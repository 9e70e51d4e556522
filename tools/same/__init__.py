"""Whether two states of the code do the same: `python -m tools.same BASE HEAD`."""
