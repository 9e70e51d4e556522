"""What graphs of many nodes cost: `python -m tools.large_graphs [--rounds N]`.

Two graphs of 800 Groups are made here, whose weights are so small that nodes are all that costs: residual
blocks alone, and blocks of five kinds. Whole commands are timed, start included.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphprune.errors import ArgumentError
from tools.command import ended

CHANNELS, HIDDEN, SIDE = 16, 32, 8
HEADS = 2
BLOCKS = 800
ROUNDS = 75
COMMANDS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("residual", ("inspect",), 5.0),
    ("mixed", ("inspect",), 2.0),
    ("mixed", ("compile", "--passes", "prune(params=.5)", "--force", "-o", "small.onnx"), 15.0),
)
"""Graph, command, and the CPU seconds that it may take."""


class Net:
    """A graph in the making: nodes, weights, and the value that the next block reads."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.stream = "x"
        self._chance = np.random.default_rng(seed)

    def weight(self, *shape: int) -> str:
        """A random tensor."""
        scale = 1 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.constant((self._chance.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """A node; returns its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, inputs, [name], name=f"n{len(self.nodes)}", **attributes)
        )
        return name

    def conv(self, source: str, width: int, to: int, kernel: int = 1) -> str:
        """A convolution with a bias."""
        pads = [kernel // 2] * 4
        return self.add("Conv", source, self.weight(to, width, kernel, kernel), self.weight(to), pads=pads)

    def normed(self, source: str, width: int, to: int, kernel: int = 3, group: int = 1) -> str:
        """A convolution and its BatchNormalization."""
        weight = self.weight(to, width, kernel, kernel)
        name = self.add("Conv", source, weight, pads=[kernel // 2] * 4, group=group)
        ones = [self.constant(np.ones(to, np.float32)) for _ in range(2)]
        return self.add("BatchNormalization", name, ones[0], self.weight(to), self.weight(to), ones[1])

    def silu(self, source: str) -> str:
        """As exporters write it."""
        return self.add("Mul", source, self.add("Sigmoid", source))

    def gelu(self, source: str) -> str:
        """As exporters write it."""
        root, one, half = (self.constant(np.float32(number)) for number in (2**0.5, 1, 0.5))
        phi = self.add("Add", self.add("Erf", self.add("Div", source, root)), one)
        return self.add("Mul", self.add("Mul", source, phi), half)

    def residual(self) -> None:
        """Conv-BN-Relu-Conv-BN-Add-Relu: a group."""
        inner = self.add("Relu", self.normed(self.stream, CHANNELS, HIDDEN))
        self.stream = self.add("Relu", self.add("Add", self.normed(inner, HIDDEN, CHANNELS), self.stream))

    def squeezed(self) -> None:
        """A residual block with a gate on its inner channels: two groups."""
        inner = self.silu(self.normed(self.stream, CHANNELS, HIDDEN))
        gate = self.add("Relu", self.conv(self.add("GlobalAveragePool", inner), HIDDEN, CHANNELS))
        gate = self.add("Sigmoid", self.conv(gate, CHANNELS, HIDDEN))
        outer = self.normed(self.add("Mul", inner, gate), HIDDEN, CHANNELS)
        self.stream = self.silu(self.add("Add", outer, self.stream))

    def inverted(self) -> None:
        """Wide inside, with a convolution per channel: a group."""
        inner = self.clip(self.normed(self.stream, CHANNELS, HIDDEN, 1))
        inner = self.clip(self.normed(inner, 1, HIDDEN, group=HIDDEN))
        self.stream = self.add("Add", self.normed(inner, HIDDEN, CHANNELS, 1), self.stream)

    def parted(self) -> None:
        """Two halves of which one goes through a convolution, joined: three groups."""
        whole = self.silu(self.normed(self.stream, CHANNELS, HIDDEN, 1))
        halves = [f"{whole}.{name}" for name in "ab"]
        sizes = self.constant(np.array([HIDDEN // 2] * 2, np.int64))
        self.nodes.append(
            helper.make_node("Split", [whole, sizes], halves, axis=1, name=f"n{len(self.nodes)}")
        )
        inner = self.silu(self.normed(halves[1], HIDDEN // 2, HIDDEN // 2))
        joined = self.add("Concat", *halves, inner, axis=1)
        self.stream = self.add(
            "Relu", self.add("Add", self.normed(joined, HIDDEN * 3 // 2, CHANNELS, 1), self.stream)
        )

    def clip(self, source: str) -> str:
        """Relu6."""
        return self.add("Clip", source, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def tokens(self) -> None:
        """From maps to a sequence."""
        flat = self.add("Reshape", self.stream, self.constant(np.array([0, CHANNELS, -1], np.int64)))
        self.stream = self.add("Transpose", flat, perm=[0, 2, 1])

    def shaped(self, source: str, like: str, *last: int) -> str:
        """Reshaped to batch and tokens of a value and these sizes, computed as exporters do."""
        sizes = self.add("Shape", like)
        first = [self.add("Gather", sizes, self.constant(np.int64(at)), axis=0) for at in (0, 1)]
        zero = self.constant(np.array([0], np.int64))
        parts = [self.add("Unsqueeze", size, zero) for size in first]
        target = self.add("Concat", *parts, self.constant(np.array(last, np.int64)), axis=0)
        return self.add("Reshape", source, target)

    def linear(self, source: str, width: int, to: int) -> str:
        """A product with a matrix, and a bias."""
        return self.add("Add", self.add("MatMul", source, self.weight(width, to)), self.weight(to))

    def layernorm(self) -> str:
        """The stream, normalised."""
        return self.add("LayerNormalization", self.stream, self.weight(CHANNELS), self.weight(CHANNELS))

    def transformer(self) -> None:
        """Attention and a perceptron."""
        source = self.layernorm()
        split = self.constant(np.array([0, 0, HEADS, CHANNELS // HEADS], np.int64))
        parts = [self.add("Reshape", self.linear(source, CHANNELS, CHANNELS), split) for _ in "qkv"]
        query, key, value = (
            self.add("Transpose", part, perm=perm)
            for part, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        root = self.constant(np.float32((CHANNELS // HEADS) ** -0.25))
        scores = self.add("MatMul", self.add("Mul", query, root), self.add("Mul", key, root))
        mixed = self.add(
            "Transpose", self.add("MatMul", self.add("Softmax", scores), value), perm=[0, 2, 1, 3]
        )
        joined = self.shaped(mixed, source, CHANNELS)
        self.stream = self.add("Add", self.stream, self.linear(joined, CHANNELS, CHANNELS))
        inner = self.gelu(self.linear(self.layernorm(), CHANNELS, HIDDEN))
        self.stream = self.add("Add", self.stream, self.linear(inner, HIDDEN, CHANNELS))

    def model(self, *output: int | str) -> onnx.ModelProto:
        """The whole."""
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
        last = helper.make_tensor_value_info(self.stream, TensorProto.FLOAT, output)
        graph = helper.make_graph(self.nodes, "large", [image], [last], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual(blocks: int = BLOCKS) -> onnx.ModelProto:
    """Residual blocks alone, seven nodes each."""
    net = Net()
    net.stream = net.conv(net.stream, 3, CHANNELS)
    for _ in range(blocks):
        net.residual()
    net.stream = net.conv(net.stream, CHANNELS, 5)
    return net.model("n", 5, SIDE, SIDE)


def mixed(rounds: int = ROUNDS) -> onnx.ModelProto:
    """Blocks of five kinds, about eight nodes to a Group."""
    net = Net()
    net.stream = net.conv(net.stream, 3, CHANNELS)
    for _ in range(rounds):
        net.residual()
        net.squeezed()
        net.inverted()
        net.parted()
    net.tokens()
    for _ in range(rounds):
        net.transformer()
    net.stream = net.linear(net.stream, CHANNELS, 5)
    return net.model("n", SIDE * SIDE, 5)


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {"residual": residual, "mixed": mixed}


def seconds(command: tuple[str, ...], model: Path) -> float:
    """CPU seconds of one run of graphprune, children included.

    Raises:
        ArgumentError: it fails.
    """
    line = [sys.executable, "-m", "graphprune", command[0], model.name, *command[1:]]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, cwd=model.parent, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ArgumentError(f"{' '.join(line)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def body(rounds: int) -> None:
    """Makes the graphs, and times every command on its own."""
    with tempfile.TemporaryDirectory() as folder:
        for name, command, bound in COMMANDS:
            path = Path(folder, f"{name}.onnx")
            proto = GRAPHS[name]()
            onnx.save(proto, path)
            seconds(("inspect",), path)  # the first start compiles modules
            spent = statistics.median(seconds(command, path) for _ in range(rounds))
            kept = "kept" if spent <= bound else "missed"
            said = f"{name}, {len(proto.graph.node)} nodes: {' '.join(command[:3])}"
            print(f"{said}: {spent:.1f} CPU s, bound {bound:g}: {kept}", flush=True)


def main() -> int:
    """Runs the command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.large_graphs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    return ended(partial(body, parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
