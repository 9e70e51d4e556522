"""Layers of experts: where they are, what they do, which stay, and how several become one.

What a fused layer is stands with the operators (`ops/experts.py`), and so does what routes
(`ops/forms/routing.py`); the pass is `graphprune_passes/experts.py`.
"""
