"""Side-by-side measurements of graphprune and the tools that do the same work."""
