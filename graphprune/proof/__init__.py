"""Proves that a pruned model is what its Plan says, with no code in common with the rewriter."""

from graphprune.proof.certificate import Certificate
from graphprune.proof.prove import Proof, prove

__all__ = ["Certificate", "Proof", "prove"]
