"""Runs of operators that torch computes at once: the same results, and the same gradients."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
import torch

from graphprune.autograd import Differentiable
from tests.proof.building import model

pytestmark = pytest.mark.zoo
HARD = "three = Constant<value = float {3.0}>()\nsix = Constant<value = float {6.0}>()\n"
HARD += "zero = Constant<value = float {0.0}>()\na = Add(x, three)\nc = Clip(a, zero, six)\n"
HALF = "half = Constant<value = float {0.5}>()\none = Constant<value = float {1.0}>()\n"
TANH = "k = Constant<value = float {0.044715}>()\nr = Constant<value = float {0.7978845608}>()\n" + HALF
NORM = "e = Constant<value = float {0.001}>()\nm = ReduceMean<axes = [-1]>(x)\nd = Sub(x, m)\n"
NORM += "q = Mul(d, d)\nv = ReduceMean<axes = [-1]>(q)\nb = Add(v, e)\ns = Sqrt(b)\ny = Div(d, s)"
BODIES = {
    "hard swish": (HARD + "p = Mul(x, c)\ny = Div(p, six)", 1),
    "hard swish, the factor first": (HARD + "p = Div(c, six)\ny = Mul(p, x)", 1),
    "gelu": (
        HALF + "r = Constant<value = float {1.41421356}>()\nd = Div(x, r)\ne = Erf(d)\na = Add(e, one)\n"
        "p = Mul(x, a)\ny = Mul(p, half)",
        1,
    ),
    "gelu by tanh": (
        TANH + "i = Mul(k, x)\nj = Mul(x, i)\nc = Mul(x, j)\ns = Add(x, c)\nt = Mul(r, s)\nh = Tanh(t)\n"
        "a = Add(one, h)\np = Mul(half, a)\ny = Mul(x, p)",
        1,
    ),
    "swish": ("s = Sigmoid(x)\ny = Mul(s, x)", 1),
    "a norm": (NORM, 1),
    "a convolution, its norm, factor and shift": (
        "c = Conv<pads = [1, 1, 1, 1]>(x, W, B)\nn = BatchNormalization<epsilon = 0.01>(c, G, H, M, V)\n"
        "p = Mul(n, F)\ny = Add(p, T)",
        1,
    ),
    "a factor along another axis": ("c = Conv<pads = [1, 1, 1, 1]>(x, W, B)\ny = Mul(c, U)", 2),
    "a sum that is read twice": (
        HARD + "p = Mul(x, c)\ny = Div(p, six)\nz = Relu(a)",
        None,
    ),
}
SHAPES = {"W": (4, 4, 3, 3), "B": (4,), "G": (4,), "H": (4,), "M": (4,), "F": (4, 1, 1), "T": (1,), "U": (4,)}


def built(body: str) -> ir.Model:
    outputs = "float[2,4,4,4] y" + (", float[2,4,4,4] z" if "z = " in body else "")
    read: dict[str, object] = {
        name: shape for name, shape in SHAPES.items() if re.search(rf"\b{name}\b", body)
    }
    if "V)" in body:
        read["V"] = np.linspace(0.5, 2, 4).astype(np.float32)
    return model(f"(float[2,4,4,4] x) => ({outputs}) {{\n{body}\n}}", 17, **read)


def found(net: Differentiable, x: torch.Tensor) -> list[np.ndarray]:
    names = [name for name, each in net.parameters.items() if each.numel() > 1]
    leaves = {"x": x.clone().requires_grad_(), **net.trainable(names)}
    values = list(net.run({"x": leaves["x"]}).values())
    loss = sum((value * torch.linspace(-1, 1, value.numel()).reshape(value.shape)).sum() for value in values)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return [each.detach().numpy() for each in (*values, *(g for g in gradients if g is not None))]


@pytest.mark.parametrize("name", BODIES)
def test_a_run_has_the_results_and_gradients_of_its_nodes(name: str) -> None:
    body, steps = BODIES[name]
    given = built(body)
    x = 3 * torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, fused = Differentiable(given), Differentiable(given, fused=True)
    one, two = found(plain, x), found(fused, x)
    taken = next(plan.steps for plan in fused._plans.values())
    assert len(taken) == (steps or len(given.graph))
    for each, other in zip(one, two, strict=True):
        np.testing.assert_allclose(each, other, rtol=2e-4, atol=2e-4)


def test_values_inside_a_run_may_still_be_asked_for_fed_and_gated() -> None:
    net = Differentiable(built(BODIES["hard swish"][0]), fused=True)
    x = torch.linspace(-4, 4, 128).reshape(2, 4, 4, 4)
    assert torch.equal(net.run({"x": x}, ["c"])["c"], torch.clamp(x + 3, 0, 6))
    zero = torch.zeros(1)
    assert not net.run({"x": x}, gates={"c": zero})["y"].any()
    assert not net.run({"x": x, "c": torch.zeros(2, 4, 4, 4)})["y"].any()
