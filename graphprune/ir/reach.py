"""What is computed only for some nodes."""

from __future__ import annotations

import onnx_ir as ir


def only_for(nodes: set[ir.Node], beyond: ir.Node | None) -> set[ir.Node]:
    """Adds every node whose results only these nodes read, but not `beyond`."""
    work = list(nodes)
    while work:
        for value in work.pop().inputs:
            producer = value.producer() if value is not None else None
            if producer is None or producer in nodes or producer is beyond or len(producer.outputs) > 1:
                continue
            out = producer.outputs[0]
            if out.is_graph_output() or any(user not in nodes for user, _ in out.uses()):
                continue
            nodes.add(producer)
            work.append(producer)
    return nodes
