"""Execution providers: what ONNX Runtime can run models on, and plug-ins that other packages add to it.

A plug-in is an installed package named `onnxruntime-ep-...` whose module has `get_library_path()`, which is
what ONNX Runtime's guide to packaging them asks for. It is imported when somebody asks for what it provides.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, distributions

from graphprune.doors import Origin
from graphprune.errors import ArgumentError, ModelError, PluginError, did_you_mean
from graphprune.ir.names import escape
from graphprune.run import CPU_ALONE, short
from graphprune.runtime.silent import ort

CPU = "CPUExecutionProvider"
PLUGINS = "onnxruntime-ep-"
OPENVINO = "OpenVINOExecutionProvider"
INSTALL = f"packages bring more, such as onnxruntime-gpu, onnxruntime-openvino or {PLUGINS}openvino"
NO_FALLBACK, ASSIGNED = "session.disable_cpu_ep_fallback", "session.record_ep_graph_assignment_info"


@dataclass(frozen=True)
class Providers:
    """Providers that are installed, in the order in which they are offered a node.

    Attributes:
        asked: their short names.
        names: as ONNX Runtime calls them.
        devices: what each plug-in among them runs on.
    """

    asked: tuple[str, ...] = CPU_ALONE
    names: tuple[str, ...] = (CPU,)
    devices: dict[str, ort.OrtEpDevice] = field(default_factory=dict)

    def opened(self, source: str | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
        """A session on them, which never falls back to others in silence.

        Raises:
            ModelError: one did not start, or without the CPU not every operator has a kernel.
        """
        if self.names == (CPU,):
            return ort.InferenceSession(source, options, providers=[CPU])
        options.add_session_config_entry(ASSIGNED, "1")
        if CPU not in self.names:
            options.add_session_config_entry(NO_FALLBACK, "1")
        try:
            session = ort.InferenceSession(source, options, enable_fallback=0, **self._arguments(options))
        except Exception as error:  # ONNX Runtime raises a dozen types that share no base
            if "fallback to CPU EP" not in str(error):
                raise
            raise ModelError(self._partial, f"--providers {','.join(self.asked)},cpu") from error
        idle = [name for name in self.names if name not in session.get_providers()]
        if idle:
            hint = "its libraries or its device are missing; ONNX Runtime's own log says more"
            raise ModelError(f"ONNX Runtime could not start the execution provider {idle[0]}", hint)
        return session

    @property
    def _partial(self) -> str:
        verb = "has" if len(self.asked) == 1 else "have"
        return f"{', '.join(self.asked)} {verb} no kernels for some operators of the model"

    def _arguments(self, options: ort.SessionOptions) -> dict[str, object]:
        """What a session takes beside options, which alone can name plug-ins."""
        threads = options.intra_op_num_threads
        if not self.devices:
            return {"providers": [(name, _own_options(name, threads)) for name in self.names]}
        for name in self.names:
            if name in self.devices:
                options.add_provider_for_devices([self.devices[name]], _own_options(name, threads))
            elif name != CPU:  # which is always there, last
                options.add_provider(name, _own_options(name, threads))
        return {}


def _own_options(name: str, threads: int) -> dict[str, str]:
    """What a provider wants to be told again: OpenVINO does not heed ONNX Runtime's number of threads."""
    if name != OPENVINO:
        return {}
    return {"load_config": json.dumps({"CPU": {"INFERENCE_NUM_THREADS": str(threads)}})}


def ran(session: ort.InferenceSession, providers: Providers) -> tuple[str, ...]:
    """Names of the providers that run at least one node of a session's model.

    ONNX Runtime before 1.24 does not tell; it is all that started then.
    """
    if providers.names == (CPU,):
        return providers.names
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return tuple(session.get_providers())
    busy = {part.ep_name for part in session.get_provider_graph_assignment_info() if part.get_nodes()}
    return tuple(name for name in session.get_providers() if name in busy)


def together(*several: Iterable[str]) -> tuple[str, ...]:
    """Providers of several sessions, each once."""
    return tuple(dict.fromkeys(name for each in several for name in each))


@cache
def providers(asked: Sequence[str] = CPU_ALONE) -> Providers:
    """Providers by their short or full names; plug-ins among them are registered.

    Raises:
        ArgumentError: one is not installed, or stands behind the CPU, which takes every node.
        PluginError: a plug-in does not load.
    """
    if tuple(map(short, asked)) == CPU_ALONE:
        return Providers()
    found = [_provider(name) for name in asked]
    names = tuple(name for name, _ in found)
    called = tuple(map(short, names))
    if CPU in names[:-1]:
        others = ",".join(name for name in called if name != "cpu")
        message = f"cpu runs every operator, so that {called[names.index(CPU) + 1]} behind it would run none"
        raise ArgumentError(message, f"--providers {others},cpu")
    return Providers(called, names, {name: device for name, device in found if device is not None})


def _provider(asked: str) -> tuple[str, ort.OrtEpDevice | None]:
    """Its full name, and its device where it is a plug-in."""
    wanted = short(asked)
    built_in = _built_in()
    if wanted in built_in:
        return built_in[wanted], None
    device, plugins = _device((wanted,)), _plugins()
    if device is None and wanted in plugins:
        return _of_plugin(wanted)
    failed: list[str] = []
    for plugin in plugins if device is None else ():  # its provider may have another name than the package
        try:
            _registered(plugin)
        except PluginError as error:
            failed.append(error.message)
    device = device or _device((wanted,))
    if device is not None:
        return device.ep_name, device
    known = sorted({*built_in, *plugins})
    meant = did_you_mean(wanted, known)
    raise ArgumentError(
        f"no execution provider '{escape(asked)}' is installed; there are {', '.join(known)}",
        "; ".join([meant if meant.startswith("did") else INSTALL, *failed]),
    )


@cache
def _built_in() -> dict[str, str]:
    """What ONNX Runtime has without plug-ins; looked at before it lists those as well."""
    return {short(name): name for name in ort.get_available_providers()}


def _device(wanted: Sequence[str]) -> ort.OrtEpDevice | None:
    """The first device of a provider that is registered, by its short names."""
    if not hasattr(ort, "get_ep_devices"):  # before 1.23
        return None
    return next((each for each in ort.get_ep_devices() if short(each.ep_name) in wanted), None)


@cache
def _plugins() -> dict[str, Distribution]:
    """Installed packages that bring a provider, by what follows `onnxruntime-ep-`."""
    if not hasattr(ort, "register_execution_provider_library"):  # before 1.22
        return {}
    named = {re.sub(r"[-_.]+", "-", str(each.name)).lower(): each for each in distributions()}
    return {name.removeprefix(PLUGINS): named[name] for name in sorted(named) if name.startswith(PLUGINS)}


def _of_plugin(plugin: str) -> tuple[str, ort.OrtEpDevice]:
    """The provider of the package that is named like it.

    Raises:
        PluginError: it does not load, or finds no device here.
    """
    origin, names = _registered(plugin)
    device = _device(names)
    if device is None:
        raise origin.fault("finds no device that it could run on")
    return device.ep_name, device


@cache
def _registered(plugin: str) -> tuple[Origin, tuple[str, ...]]:
    """Makes ONNX Runtime load a plug-in, once in a process; whose it is, and what its providers are called.

    Raises:
        PluginError: it does not load.
    """
    package = _plugins()[plugin]
    lines = (package.read_text("top_level.txt") or "").split()
    name = lines[0] if lines else str(package.name).replace("-", "_")
    origin = Origin(f"execution provider '{plugin}' from '{name}'", str(package.name), name)
    with origin.blamed("does not load"):
        module = importlib.import_module(name)
        ort.register_execution_provider_library(f"graphprune.{plugin}", str(module.get_library_path()))
        told = module.get_ep_names() if hasattr(module, "get_ep_names") else [plugin]
    return origin, tuple(map(short, map(str, told)))
