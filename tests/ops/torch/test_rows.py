"""Every operator either runs in torch or says why it does not; nothing that works without torch needs it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import GraphpruneError
from graphprune.ops import BY_OP
from tests.ops.exotic_graphs import Case, floats


def test_the_core_runs_where_torch_cannot_be_imported() -> None:
    blocked = "import sys; sys.modules['torch'] = None\n"
    everything = "import graphprune.api, graphprune.cli.main, graphprune.plugin, graphprune_passes.prune"
    subprocess.run([sys.executable, "-c", blocked + everything], check=True)


@pytest.mark.zoo
def test_every_operator_has_a_row_or_a_reason() -> None:
    from graphprune.ops.torch import TABLE
    from graphprune.ops.torch.absent import ABSENT

    assert TABLE.keys() | ABSENT.keys() == BY_OP.keys()
    assert not TABLE.keys() & ABSENT.keys()
    assert all(absence.why for absence in ABSENT.values())


def text() -> ir.Model:
    nodes = [("Relu", ["x"], ["h"], {}), ("StringConcat", ["s", "s"], ["t"], {}), ("Relu", ["h"], ["y"], {})]
    case = Case(
        "text", {"x": floats(2, 3), "s": np.array(["a"], object)}, {}, nodes, ["y", "t"], [], opset=20
    )
    return case.model()


@pytest.mark.zoo
def test_what_does_not_run_says_what_and_whether_it_may_be_a_constant() -> None:
    from graphprune.autograd import Differentiable
    from graphprune.ops.torch.call import UnsupportedError

    net = Differentiable(text())
    with pytest.raises(UnsupportedError, match="StringConcat 'StringConcat_1' has no gradient here") as error:
        net.run({"x": floats(2, 3)})
    assert error.value.constant and "no gradient passes through it anyway" in error.value.hint
    assert net.run({"x": floats(2, 3)}, ["y"])["y"].shape == (2, 3)


@pytest.mark.zoo
def test_an_operator_that_nobody_knows_is_named_and_is_no_constant() -> None:
    from graphprune.autograd import Differentiable
    from graphprune.ops.torch.call import UnsupportedError

    case = Case("own", {"x": floats(2)}, {}, [("own.ops:Twice", ["x"], ["y"], {})], ["y"], [])
    with pytest.raises(UnsupportedError, match=r"own\.ops:Twice 'Twice_0'") as error:
        Differentiable(case.model()).run({"x": floats(2)})
    assert not error.value.constant


@pytest.mark.zoo
def test_operands_that_do_not_fit_are_an_error_that_names_the_node() -> None:
    from graphprune.autograd import Differentiable

    case = Case("product", {"x": floats(2, 3)}, {"w": (3, 4)}, [("MatMul", ["x", "w"], ["y"], {})], ["y"], [])
    with pytest.raises(GraphpruneError, match="MatMul 'MatMul_0' does not run in torch"):
        Differentiable(case.model()).run({"x": floats(2, 5)})
