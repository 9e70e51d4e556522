"""A few runs of a model of many nodes are not worth what rewriting it costs."""

from __future__ import annotations

import importlib

import onnx_ir as ir
import pytest

import graphprune
from graphprune.runtime import brief
from tests.proof.building import model

OPENERS = ("runtime.session", "runtime.inputs", "proof.prove")


def chain(relus: int) -> ir.Model:
    """Relu after Relu between two products."""
    body = "\n".join(f"a{at + 1} = Relu(a{at})" for at in range(relus))
    text = f"(float[n,4] x) => (float[n,4] y) {{ a0 = MatMul(x, w1)\n {body}\n y = MatMul(a{relus}, w2) }}"
    return model(text, w1=(4, 16), w2=(16, 4))


@pytest.mark.parametrize(("relus", "pays"), [(10, True), (brief.MANY_NODES, False)])
def test_rewriting_pays_for_few_nodes(relus: int, pays: bool) -> None:
    assert brief.rewriting_pays(chain(relus)) is pays


def test_rewriting_always_pays_where_bytes_are_multiplied() -> None:
    dense = chain(brief.MANY_NODES)
    dense.graph.append(ir.node("MatMulInteger", [dense.graph.inputs[0]] * 2))
    assert brief.rewriting_pays(dense)


@pytest.mark.parametrize(("many", "rewritten"), [(5, False), (2_000, True)])
def test_no_session_of_a_compile_without_samples_is_rewritten_then(
    many: int, rewritten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    for name in OPENERS:
        module = importlib.import_module(f"graphprune.{name}")
        opened = module.open_session

        def note(source: object, opened: object = opened, **options: object) -> object:
            asked.append(options.get("optimise", True))
            assert callable(opened)
            return opened(source, **options)

        monkeypatch.setattr(module, "open_session", note)
    monkeypatch.setattr(brief, "MANY_NODES", many)
    proof = graphprune.compile(chain(10), "prune(ratio=0.5)").report.passes[0].proof
    assert proof.ok
    assert (
        asked == [rewritten] * 6
    )  # inputs; M_R and result; the file; its normal form, also for the agreement of two
