"""Mutates the heart of graphprune and counts the mutants that its tests notice."""
