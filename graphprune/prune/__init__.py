"""Decides what to remove and removes it: saliency, budget, selection, plan, rewrite."""
