"""Forms that torch and its quantisers write: counted alike, cut to a budget, shared layers tied, and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

import graphprune
from graphprune.errors import PromiseError
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.zoo

SAMPLES = 64
Shapes = tuple[tuple[int, ...], ...]


def siamese() -> tuple[torch.nn.Module, Shapes]:
    """One encoder for two pictures."""
    import torch
    from torch import nn

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.f = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Linear(32, 16)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.f(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3))))

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return (self.encode(x) * self.encode(z)).sum(1, keepdim=True)

    return Siamese(), ((1, 3, 10, 10), (1, 3, 10, 10))


def normed() -> tuple[torch.nn.Module, Shapes]:
    """Weights that are computed: direction times length, and divided by the largest singular value."""
    import torch
    from torch import nn
    from torch.nn.utils import spectral_norm, weight_norm

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = weight_norm(nn.Conv1d(1, 32, 5, padding=2))
            self.b = spectral_norm(nn.Conv1d(32, 32, 3, padding=1))
            self.c = weight_norm(nn.Conv1d(32, 4, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))  # type: ignore[no-any-return]

    return Normed(), ((1, 1, 24),)


def plain() -> tuple[torch.nn.Module, Shapes]:
    """Convolutions with a head."""
    from torch import nn

    body = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(body, nn.Linear(32 * 36, 8)), ((1, 3, 10, 10),)


def mlp() -> tuple[torch.nn.Module, Shapes]:
    """Products alone."""
    from torch import nn

    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 4)), (
        (4, 16),
    )


Net = Callable[[], "tuple[torch.nn.Module, Shapes]"]


def _exported(net: Net, path: Path, **more: object) -> Shapes:
    import torch

    torch.manual_seed(0)
    module, shapes = net()
    names = [f"x{number}" for number in range(len(shapes))]
    given = tuple(torch.randn(shape) for shape in shapes)
    options = {"opset_version": 17, "dynamo": False, "input_names": names, "output_names": ["y"], **more}
    torch.onnx.export(module.eval(), given, str(path), **options)
    return shapes


def _as_inputs(path: Path) -> None:
    """What PyTorch wrote up to 1.2: IR 3, each initializer listed as an input."""
    proto = onnx.load(path)
    listed = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name not in listed:
            proto.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    proto.ir_version = 3
    onnx.save(proto, path)


def _old(path: Path) -> Shapes:
    shapes = _exported(plain, path, opset_version=8)
    _as_inputs(path)
    return shapes


def _dynamic(path: Path) -> Shapes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    dense = path.with_suffix(".float.onnx")
    shapes = _exported(mlp, dense)
    quantize_dynamic(dense, path, weight_type=QuantType.QInt8)
    return shapes


def _static(path: Path) -> Shapes:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    dense = path.with_suffix(".float.onnx")
    shapes = _exported(plain, dense)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter([_feed(shapes, seed) for seed in range(8)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    quantize_static(dense, path, Reader(), per_channel=True, weight_type=QuantType.QInt8)
    return shapes


FORMS: dict[str, Callable[[Path], Shapes]] = {
    "siamese": lambda path: _exported(siamese, path),
    "computed weights": lambda path: _exported(normed, path),
    "weights are inputs": lambda path: _exported(plain, path, keep_initializers_as_inputs=True),
    "IR 3": _old,
    "dynamic int8": _dynamic,
    "static QDQ": _static,
}


def _feed(shapes: Shapes, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {f"x{n}": draw.standard_normal(shape).astype(np.float32) for n, shape in enumerate(shapes)}


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shapes]:
    """A file and the shapes of its inputs."""
    path = tmp_path_factory.mktemp("form") / "model.onnx"
    return path, FORMS[request.param](path)


def _calibration(shapes: Shapes) -> dict[str, np.ndarray]:
    feeds = [_feed(shapes, 100 + seed) for seed in range(SAMPLES)]
    return {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}


def test_all_commands_count_alike(form: tuple[Path, Shapes]) -> None:
    counted = inspect(form[0], Settings()).size
    assert counted == graphprune.bench([form[0]]).models[0].size
    assert counted.macs and counted.params >= 3428  # of the smallest net, whose weights are computed
    assert graphprune.validate(form[0], form[0]).ok


@pytest.mark.parametrize("passes", ["prune(params=0.5)", "obspa(params=0.6)"])
def test_a_budget_is_kept_by_a_file_that_runs(form: tuple[Path, Shapes], passes: str, tmp_path: Path) -> None:
    path, shapes = form
    small = tmp_path / "small.onnx"
    report = graphprune.compile(path, passes, small, calibration=_calibration(shapes)).report
    assert report.passes[0].proof.ok and report.budgets[0].met
    assert report.after == inspect(small, Settings()).size
    onnx.checker.check_model(small)
    assert graphprune.validate(path, small).outputs
    drop = report.agreement and report.agreement.drop
    assert drop is not None and ("obspa" not in passes or drop.value < 0.5)


def test_masks_reach_weights_or_say_why_not(form: tuple[Path, Shapes], tmp_path: Path) -> None:
    path, shapes = form
    try:
        report = graphprune.compile(
            path, "wanda", tmp_path / "m.onnx", calibration=_calibration(shapes)
        ).report
    except PromiseError as error:
        assert "quantised" in str(error) or "computed by" in str(error)
    else:
        assert report.passes[0].zeros is not None and report.passes[0].zeros.zeros


def test_a_layer_applied_twice_stays_one_tensor(tmp_path: Path) -> None:
    path, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    shapes = _exported(siamese, path)
    graphprune.compile(path, "obspa(params=0.6)", small, calibration=_calibration(shapes))
    kept = {tensor.name for tensor in onnx.load(small).graph.initializer}
    assert {"a.weight", "b.weight", "f.weight"} <= kept
    assert sum(name.endswith("weight") or ".weight" in name for name in kept) == 3
