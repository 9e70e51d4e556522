"""Layers of experts: where they are, what they do, which stay, and how several become one.

What a fused layer is stands with the operators (`ops/experts.py`), what routes is asked before there are
labels (`axes/routing.py`), and the pass is `graphprune_passes/experts.py`.
"""
