"""The default operator set has two spellings, '' and 'ai.onnx': one of them from here on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx

from graphprune.ir.domains import canonical
from graphprune.ir.preflight.structure import Contents, Nodes

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_OTHER = "ai.onnx"


def two_spellings(model: onnx.ModelProto) -> bool:
    """Whether anything says 'ai.onnx'."""
    named = any(entry.domain == _OTHER for imports in _imports(model) for entry in imports)
    return named or any(True for _ in _others(model))


def one_spelling(model: onnx.ModelProto) -> None:
    """Writes the default operator set as '', in place; what is imported twice was at one version."""
    for node in _others(model):
        node.domain = ""
    for imports in _imports(model):
        versions = {canonical(entry.domain): entry.version for entry in imports}
        del imports[:]
        imports.extend(onnx.helper.make_opsetid(*entry) for entry in versions.items())


def _imports(model: onnx.ModelProto) -> Iterator[RepeatedCompositeFieldContainer[onnx.OperatorSetIdProto]]:
    yield model.opset_import
    yield from (function.opset_import for function in model.functions)


def _others(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    bodies: list[Nodes] = [Contents.of(model.graph).nodes]
    bodies += [Contents.of_nodes(function.node).nodes for function in model.functions]
    return (node for nodes in bodies for node in nodes if node.domain == _OTHER)
