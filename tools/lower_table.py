"""Measures the examples of rules and enters this machine's cells into the table: ``python -m
tools.lower_table [RULE...]``, by default of all rules.

Run it once for every ONNX Runtime that is supported, oldest and newest at least, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from graphprune.errors import ModelError
from graphprune.ir.normalise import normalise
from graphprune.ir.shapes import infer
from graphprune.lowering.engine import apply
from graphprune.lowering.rule import Rule
from graphprune.lowering.rules import BY_NAME
from graphprune.lowering.table import FILE, here
from graphprune.ops import record_of
from graphprune.runtime.latency import Subject, measure
from graphprune.runtime.session import open_session

PATH = Path(__file__).resolve().parents[1] / "graphprune" / "lowering" / FILE
SHAPE = (1, 32, 28, 28)
REPEATS = 3


def example(rule: Rule) -> ir.Model:
    """The graph that a rule's example stands for."""
    random = np.random.default_rng(0)
    weights = {
        "w1": 0.1 * random.standard_normal((32, 32, 3, 3)),
        "w2": 0.1 * random.standard_normal((32, 32, 3, 3)),
        "v": 0.1 * random.standard_normal((32, 32, 1, 1)),
        "c": random.uniform(0.05, 0.95, (32, 1, 1)),
        "less": -random.uniform(0.05, 0.95, (32, 1, 1)),
        "more": random.uniform(0.05, 1.95, (32, 1, 1)),
        "matrix": random.standard_normal((28, 32)),
        "b": random.standard_normal(32),
        **_squeezing(random, 88),
    }
    used = {name: array for name, array in weights.items() if _reads(rule.example, name)}
    weighted = "".join(f", float[{_dims(array)}] {name}" for name, array in used.items())
    text = (
        f'<ir_version: 8, opset_import: ["" : {rule.opset}]> '
        f"g (float[1,32,28,28] x{weighted}) "
        f"=> (float[] y) {{ {rule.example} }}"
    )
    proto = onnx.parser.parse_model(text)
    for name, array in used.items():
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    del proto.graph.input[1:]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    return ir.from_proto(proto)


def _squeezing(random: np.random.Generator, width: int) -> dict[str, np.ndarray]:
    """1×1 convolutions that widen, squeeze, excite and narrow again."""
    shapes = {
        "open": (width, 32),
        "down": (width // 4, width),
        "up": (width, width // 4),
        "close": (32, width),
    }
    return {name: 0.1 * random.standard_normal((*shape, 1, 1)) for name, shape in shapes.items()}


def _dims(array: np.ndarray) -> str:
    return ",".join(map(str, array.shape))


def _reads(text: str, name: str) -> bool:
    return re.search(rf"[(,]{name}[,)]", text) is not None


def node_ns() -> float:
    """Nanoseconds that a node on a few numbers takes: of a long chain, less those of a short one."""
    chains = []
    for length in (5, 30):
        steps = "".join(
            f"a{at} = Add(v{at},c) b{at} = Unsqueeze(a{at},z) d{at} = Slice(b{at},z,o,z) "
            f"v{at + 1} = Squeeze(d{at},z) "
            for at in range(length)
        )
        constants = "<float[1] c = {1}, int64[1] z = {0}, int64[1] o = {1}>"
        text = (
            '<ir_version: 8, opset_import: ["" : 14]> g (float[1,32] v0) '
            f"=> (float[1,32] v{length}) {constants} {{ {steps} }}"
        )
        chains.append(open_session(ir.from_proto(onnx.parser.parse_model(text))))
    feed = {"v0": np.zeros((1, 32), np.float32)}
    subjects = [Subject(str(at), chain, feed) for at, chain in enumerate(chains)]
    short, long = (each.cpu_median for each in measure(subjects, min_seconds=0.4, max_seconds=1.5).timings)
    return round(1e9 * (long - short) / 100)


def reads() -> int:
    """The latest opset that this ONNX Runtime reads."""
    text = "<ir_version: 8, opset_import: ['' : {}]> g (float[1] x) => (float[1] y) {{ y = Identity(x) }}"
    found = 7
    for opset in range(found, onnx.defs.onnx_opset_version() + 1):
        try:
            open_session(ir.from_proto(onnx.parser.parse_model(text.format(opset).replace("'", '"'))))
        except ModelError:
            return found
        found = opset
    return found


def cell(rule: Rule, node: float) -> tuple[float, float]:
    """Times as fast, and nanoseconds saved per element and use, beside what a node costs."""
    model = example(rule)
    normalise(model, record_of)
    after = model.clone()
    uses = apply(after, infer(after, record_of), [rule])
    assert uses, f"{rule.name} does not fit its own example"
    feed = {"x": np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)}
    subjects = [
        Subject(name, open_session(each), feed) for name, each in (("before", model), ("after", after))
    ]
    found = [measure(subjects, min_seconds=0.4, max_seconds=1.5) for _ in range(REPEATS)]
    middle = sorted(found, key=lambda each: each.ratios[0].value)[REPEATS // 2]
    ratio, before = middle.ratios[0].value, middle.timings[0].cpu_median
    elements = len(uses) * int(np.prod(SHAPE))
    saved = 1e9 * before * (1 - ratio) - node * sum(use.fewer for use in uses)
    return round(1 / ratio, 3), round(saved / elements, 3)


def main() -> None:
    """Measure, and write the table with this machine's cells in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules", nargs="*", choices=[[], *BY_NAME], metavar="RULE")
    wanted = parser.parse_args().rules or list(BY_NAME)
    stored = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"cells": {}}
    known = stored["cells"].get(here(), {})
    node = stored.setdefault("node_ns", {}).setdefault(here(), node_ns())
    for name in wanted:
        known[name] = cell(BY_NAME[name], node)
        print(here(), name, *known[name], flush=True)
    stored.setdefault("opsets", {})[here()] = reads()
    stored["cells"][here()] = {name: known[name] for name in BY_NAME if name in known}
    PATH.write_text(written(stored["cells"], stored["node_ns"], stored["opsets"]), encoding="utf-8")


def written(
    cells: Mapping[str, Mapping[str, Sequence[float]]],
    node_ns: Mapping[str, float],
    opsets: Mapping[str, int],
) -> str:
    """The table's text, with a line per rule."""
    places = []
    for place, rules in sorted(cells.items()):
        lines = ",\n".join(f"   {json.dumps(rule)}: {json.dumps(list(cell))}" for rule, cell in rules.items())
        places.append(f"  {json.dumps(place)}: {{\n{lines}\n  }}")
    joined = ",\n".join(places)
    costs, latest = (json.dumps(dict(sorted(each.items()))) for each in (node_ns, opsets))
    return f'{{\n "node_ns": {costs},\n "opsets": {latest},\n "cells": {{\n{joined}\n }}\n}}\n'


if __name__ == "__main__":
    main()
