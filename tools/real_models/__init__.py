"""Real trained models with the metric of their task, to measure what pruning costs."""
