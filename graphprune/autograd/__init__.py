"""The graph as a differentiable function (extra `[torch]`)."""

from __future__ import annotations

from graphprune.autograd.differentiable import Differentiable

__all__ = ["Differentiable"]
