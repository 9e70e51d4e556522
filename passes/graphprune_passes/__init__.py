"""The passes that ship with graphprune: one method per file, named after it."""
