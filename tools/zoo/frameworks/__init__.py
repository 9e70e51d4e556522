"""Graphs of other frameworks than torch; every module imports its framework only inside its functions."""
