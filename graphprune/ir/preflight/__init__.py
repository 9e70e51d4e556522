"""Checks of a model file, cheap first, before any library that trusts it sees it."""
