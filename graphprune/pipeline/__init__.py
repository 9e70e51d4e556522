"""Pipelines of passes: grammar, registry, recipe, and the driver that runs, checks and proves them."""
