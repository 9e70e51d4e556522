"""The search for the fastest model at a bound loss; every candidate is a recipe."""
