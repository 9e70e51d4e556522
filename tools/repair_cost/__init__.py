"""What scoring and repair by data cost: `python -m tools.repair_cost` holds it against the bars."""
