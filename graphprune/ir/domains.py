"""The default operator set, whose domain has two spellings."""

from __future__ import annotations


def is_default(domain: str) -> bool:
    """Whether a domain is that of ONNX's own operators."""
    return domain in ("", "ai.onnx")


def canonical(domain: str) -> str:
    """The domain, with "" for both spellings of the default one."""
    return "" if is_default(domain) else domain
