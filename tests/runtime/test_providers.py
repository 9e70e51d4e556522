"""Execution providers: a stub of ONNX Runtime stands for hardware; a real one where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graphprune.errors import ArgumentError, ModelError, PluginError
from graphprune.pipeline.profiling import profile_machine
from graphprune.pipeline.settings import Profiling, Timing
from graphprune.runtime import providers
from graphprune.runtime.device import DeviceProfile
from graphprune.runtime.latency import Subject, measure
from graphprune.runtime.providers import CPU, OPENVINO
from graphprune.runtime.session import open_session
from graphprune.runtime.silent import ort

NPU = "NpuExecutionProvider"
REAL = importlib.util.find_spec("onnxruntime_ep_openvino") or OPENVINO in ort.get_available_providers()


@dataclass
class Stub:
    """ONNX Runtime with providers that compute on the CPU and say otherwise."""

    built_in: list[str] = field(default_factory=lambda: ["CudaExecutionProvider", CPU])
    devices: list[SimpleNamespace] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    broken: frozenset[str] = frozenset()
    left: int = 0

    def get_available_providers(self) -> list[str]:
        return [*self.built_in, *(device.ep_name for device in self.devices)]

    def get_ep_devices(self) -> list[SimpleNamespace]:
        return self.devices

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append(name)
        if path.endswith("npu.so"):
            self.devices.append(SimpleNamespace(ep_name=NPU))

    def InferenceSession(self, source, options, providers=(), enable_fallback=1):  # noqa: N802
        names = [name if isinstance(name, str) else name[0] for name in providers] or options.asked
        if CPU not in names and self.left:
            raise RuntimeError("nodes on the default CPU EP, but fallback to CPU EP has been disabled")
        ran = [name for name in names if name not in self.broken]
        inner = ort.InferenceSession(source, options.real, providers=[CPU])
        parts = [SimpleNamespace(ep_name=name, get_nodes=lambda: [1]) for name in ran[:1]]
        parts += [SimpleNamespace(ep_name=CPU, get_nodes=lambda: [1])] * bool(self.left)
        inner.get_providers = lambda: [*ran, *([] if CPU in ran else [CPU])]
        inner.get_provider_graph_assignment_info = lambda: parts
        return inner


class Options:
    """Session options that write down which devices they get."""

    def __init__(self, real: object) -> None:
        self.real, self.asked = real, []
        self.intra_op_num_threads = real.intra_op_num_threads

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Which the CPU that stands for the hardware must not see."""

    def add_provider_for_devices(self, devices: list[SimpleNamespace], given: dict[str, str]) -> None:
        self.asked += [device.ep_name for device in devices]

    def add_provider(self, name: str, given: dict[str, str]) -> None:
        self.asked.append(name)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    found = Stub()
    monkeypatch.setattr(providers, "ort", found)
    real = providers.Providers.opened
    monkeypatch.setattr(
        providers.Providers, "opened", lambda self, source, options: real(self, source, Options(options))
    )
    yield from _forgetting(found)


def _forgetting(found: Stub) -> Iterator[Stub]:
    caches = (providers.providers, providers._built_in, providers._plugins, providers._registered)
    for cache in caches:
        cache.cache_clear()
    yield found
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a plug-in of this name, with this module."""

    def install(name: str, text: str) -> None:
        module = f"onnxruntime_ep_{name}"
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: onnxruntime-ep-{name}\nVersion: 1.0\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))
    return install


@pytest.fixture
def model(build):
    return build("(float[2,4] x) => (float[2,4] y) { y = Relu(x) }")


def test_nothing_asked_runs_on_the_cpu(model):
    assert open_session(model).providers == (CPU,)


@pytest.mark.parametrize("asked", ["cuda", "CUDA", "CudaExecutionProvider"])
def test_short_and_full_names_mean_the_same(stub, model, asked):
    (name,) = Timing(providers=[asked]).providers
    assert name == "cuda"
    assert open_session(model, providers=(asked,)).providers == ("CudaExecutionProvider",)


def test_what_is_not_installed_is_an_error_that_lists_what_is(stub, model):
    with pytest.raises(ArgumentError, match="'qnn' is installed; there are cpu, cuda") as caught:
        open_session(model, providers=("qnn", "cpu"))
    assert "onnxruntime-gpu" in caught.value.hint
    with pytest.raises(ArgumentError) as caught:
        open_session(model, providers=("cud",))
    assert caught.value.hint == "did you mean 'cuda'?"


def test_nothing_may_stand_behind_the_cpu(stub, model):
    with pytest.raises(ArgumentError, match="cuda behind it would run none") as caught:
        open_session(model, providers=("cpu", "cuda"))
    assert caught.value.hint == "--providers cuda,cpu"


def test_a_plugin_is_found_registered_once_and_named(stub, package, model):
    package("npu", "def get_library_path(): return '/lib/npu.so'\n")
    for _ in range(2):
        assert open_session(model, providers=("npu", "cpu")).providers == (NPU,)
        assert open_session(model, providers=(NPU,)).providers == (NPU,)
    assert stub.registered == ["graphprune.npu"]


def test_a_plugin_is_found_by_what_it_provides_too(stub, package, model):
    package(
        "vendor",
        "def get_library_path(): return '/lib/npu.so'\ndef get_ep_names(): return ['NpuExecutionProvider']\n",
    )
    assert open_session(model, providers=("npu",)).providers == (NPU,)


def test_a_plugin_that_does_not_load_is_named(stub, package, model):
    package("npu", "raise ImportError('libnpu.so.1 is missing')\n")
    with pytest.raises(
        PluginError, match=r"'npu' from 'onnxruntime_ep_npu' does not load: .*libnpu"
    ) as caught:
        open_session(model, providers=("npu",))
    assert "onnxruntime-ep-npu" in caught.value.hint
    with pytest.raises(ArgumentError) as caught:
        open_session(model, providers=("qnn",))
    assert "libnpu.so.1 is missing" in caught.value.hint
    assert open_session(model, providers=("cuda",)).providers == ("CudaExecutionProvider",)


def test_a_plugin_without_a_device_is_named(stub, package, model):
    package("npu", "def get_library_path(): return '/lib/other.so'\n")
    with pytest.raises(PluginError, match="finds no device"):
        open_session(model, providers=("npu",))


def test_nothing_falls_back_to_the_cpu_in_silence(stub, model):
    stub.left = 1
    with pytest.raises(ModelError, match="cuda has no kernels for some operators") as caught:
        open_session(model, providers=("cuda",))
    assert caught.value.hint == "--providers cuda,cpu"
    both = open_session(model, providers=("cuda", "cpu")).providers
    assert both == ("CudaExecutionProvider", CPU)


def test_a_provider_that_does_not_start_is_an_error(stub, model):
    stub.broken = frozenset({"CudaExecutionProvider"})
    with pytest.raises(ModelError, match="could not start the execution provider CudaExecutionProvider"):
        open_session(model, providers=("cuda", "cpu"))


@pytest.mark.timed
def test_other_providers_are_timed_by_the_wall(stub, model):
    feeds = {"x": np.ones((2, 4), np.float32)}
    other = Subject("other", open_session(model, providers=("cuda",)), feeds)
    assert measure([other], rounds=6, max_seconds=0.1).clock == "wall"
    assert (
        measure([Subject("cpu", open_session(model), feeds)], rounds=6, max_seconds=0.1).clock == "thread CPU"
    )


@pytest.mark.parametrize("wrong", ["", "cpu,", "cpu,CPU", [], ["cuda", "CUDAExecutionProvider"], 3, [3]])
def test_a_list_of_names_is_checked(wrong):
    with pytest.raises(ArgumentError, match="providers must be"):
        Timing(providers=wrong)


@pytest.mark.skipif(not REAL, reason="no OpenVINO is installed")
def test_openvino_runs_a_model(build):
    model = build("(float[2,64] x) => (float[2,8] y) { h = MatMul(x, w) y = Relu(h) }", w=(64, 8))
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)}
    session = open_session(model, providers=("openvino",))
    assert session.providers == (OPENVINO,)
    expected, found = (each.run(feeds)["y"] for each in (open_session(model), session))
    assert np.abs(expected - found).max() < 0.02 * np.abs(expected).max()  # it may compute in bfloat16


def test_nodes_are_measured_on_the_providers_that_are_asked(stub, model, tmp_path, monkeypatch):
    monkeypatch.setattr("graphprune.runtime.alone.SAMPLES", 1)
    file = tmp_path / "device.json"
    result = profile_machine([model], file, Profiling(providers=["cuda"]))
    assert result.providers == ("cuda",) and result.kinds == 1
    assert DeviceProfile.load(file).machine.providers == ("cuda",)
    with pytest.raises(ArgumentError, match="measured elsewhere"):
        profile_machine([model], file, Profiling())
