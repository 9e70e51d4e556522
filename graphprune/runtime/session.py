"""An ONNX Runtime session over a Model in memory: weights go by pointer, nothing is written."""

from __future__ import annotations

import ctypes
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError, ModelError, did_you_mean
from graphprune.ir.graphs import graphs_of
from graphprune.ir.serialise import INLINE_BYTES, Weight, Weightless, loose_bytes, weightless
from graphprune.ir.spill import SpillError, spill
from graphprune.ops.door import PLAIN, foreign
from graphprune.run import CPU_ALONE, USUAL, Run
from graphprune.runtime.customs import NONE, Customs
from graphprune.runtime.exact import IN_FLOATS, unsaturated
from graphprune.runtime.opening import FATAL, LONGEST_SECONDS, session_options, utf8
from graphprune.runtime.providers import Providers, ran
from graphprune.runtime.providers import providers as installed
from graphprune.runtime.silent import ort

Feeds = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]

# Types of ONNX Runtime that numpy lacks; ml_dtypes (through onnx_ir) has them.
EXOTIC = {
    "tensor(bfloat16)": ir.DataType.BFLOAT16,
    "tensor(float8e4m3fn)": ir.DataType.FLOAT8E4M3FN,
    "tensor(float8e4m3fnuz)": ir.DataType.FLOAT8E4M3FNUZ,
    "tensor(float8e5m2)": ir.DataType.FLOAT8E5M2,
    "tensor(float8e5m2fnuz)": ir.DataType.FLOAT8E5M2FNUZ,
}
MESSAGE_LIMIT = 400
UNKNOWN = "ONNX Runtime knows no operator"
GRACE_SECONDS = 5.0
abandoned = threading.Event()
"""Set once a run could not be stopped; tearing ONNX Runtime down below it would abort the process."""
LARGE = 2**26
"""Bytes of weights below which it does not matter whether ONNX Runtime rearranges them."""
TEXT_LIMIT = 8000  # names in a hostile model, and so in its errors, may be very long


class RunTimeoutError(ModelError):
    """A run was stopped because it took longer than it was allowed."""


@dataclass(frozen=True)
class Session:
    """A loaded model; `run` maps input names to arrays and returns output names to arrays.

    `outputs` are the names of the raw outputs. A sequence or map output appears in the result of a
    run as several arrays, `name[0]` or `name[key]`. `providers` are those that run at least one node.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    threads: int
    providers: tuple[str, ...]
    _required: tuple[str, ...]
    _exotic: bool
    _ort: ort.InferenceSession
    _customs: Customs = NONE

    def run(self, feeds: Feeds, timeout_s: float | None = None) -> Outputs:
        """Run once.

        Raises:
            DataError: a feed is missing or unknown.
            RunTimeoutError: the run took longer than `timeout_s` seconds and was stopped.
            ModelError: ONNX Runtime refused or failed; the message is one line.
        """
        return next(self.run_each([feeds], Run(timeout=timeout_s)))

    def run_each(self, feeds: Iterable[Feeds], run: Run = USUAL) -> Iterator[Outputs]:
        """Run several times; results in order. As many runs as there are jobs go on side by side.

        Raises:
            GraphpruneError: as `run` does; what still runs is stopped.
        """
        started: deque[_Run] = deque()
        try:
            for feed in feeds:
                self._check_names(feed)
                started.append(_Run(partial(self._call, feed)))
                if len(started) >= run.jobs:
                    yield self._finished(started, run.timeout)
            while started:
                yield self._finished(started, run.timeout)
        finally:  # a signal, too: without the main thread in ONNX Runtime it comes at once
            for each in started:
                each.stop()

    def _finished(self, started: deque[_Run], timeout_s: float | None) -> Outputs:
        run = started[0]
        if not run.wait(timeout_s):
            message = f"the model was still running after {timeout_s:.1f} s"
            raise RunTimeoutError(message, "use smaller inputs (--shape), or allow more (--timeout)")
        started.popleft()
        if run.error is not None:  # ONNX Runtime raises a dozen types that share no base
            reason = one_line(run.error)
            theirs = self._customs.failed(reason)
            raise (theirs or ModelError(f"the model does not run: {reason}")) from run.error
        return dict(_flat(self.outputs, run.values))

    def call(self, feeds: Feeds) -> None:
        """Run and drop the result: the bare call that a latency measurement times."""
        self._call(feeds, None)

    def end_trace(self) -> Path:
        """The file with what was traced, of a session that was opened with `trace`; it traces no further."""
        return Path(self._ort.end_profiling())

    def _check_names(self, feeds: Feeds) -> None:
        for name in feeds:
            if name not in self.inputs:
                raise DataError(f"the model has no input named {name!r}", did_you_mean(name, self.inputs))
        missing = [name for name in self._required if name not in feeds]
        if missing:
            raise DataError(f"no value for the input {missing[0]!r}", "give one with --inputs")

    def _call(self, feeds: Feeds, options: ort.RunOptions | None) -> list[object]:
        if not self._exotic:
            return list(self._ort.run(None, feeds, options))
        values = {name: _ort_value(array) for name, array in feeds.items()}
        return [_array(value) for value in self._ort.run_with_ort_values(None, values, options)]


def open_session(
    model: ir.Model | Path,
    *,
    threads: int = 1,
    optimise: bool = True,
    extra_outputs: Sequence[str] = (),
    deterministic: bool = True,
    flush_denormals: bool = False,
    exact: bool = False,
    rearrange: bool = True,
    providers: Sequence[str] = CPU_ALONE,
    trace: Path | None = None,
) -> Session:
    """Load a model into ONNX Runtime.

    A Model is not changed: its big weights are passed by pointer. ONNX Runtime makes one private copy
    of them while it loads, and refers to the originals no longer afterwards. Large weights that are still in
    the file that they were loaded from are mapped from there. Where ONNX Runtime rearranges nothing, it maps
    large weights that lie in no file as well, from one that is gone as soon as it has.

    Args:
        model: a Model, or the path of a model file.
        threads: threads of one operator; operators never run beside each other.
        optimise: let ONNX Runtime rewrite the graph; off, it runs node by node as written.
        extra_outputs: names of inner values of the main graph to return too. The nodes then run in
            priority order, which frees each value as soon as its last reader ran.
        deterministic: prefer kernels whose result does not depend on scheduling.
        flush_denormals: treat denormal floats as zero. ONNX Runtime heeds the flag only in the first
            session of a process, so a comparison with and without it needs two processes.
        exact: let products of bytes come out alike on every CPU, which is not what this one may make of them.
        rearrange: let ONNX Runtime hold large weights in the order in which its kernels want them: another
            copy, which pays where a session runs often. Of a file it is let or not, whatever it holds.
        providers: what runs it, each node on the first that has a kernel for it.
        trace: a folder for the time of every node in every run, and for the graph as it runs
            (`runtime.profile` reads both).

    Raises:
        ModelError: ONNX Runtime does not load the model; an unknown operator is named.
        ArgumentError: an extra output names no value, or a provider is not installed.
    """
    chosen = installed(tuple(providers))
    options = partial(session_options, threads, optimise, deterministic, flush_denormals, trace)
    if isinstance(model, Path) and not extra_outputs and not exact and (name := utf8(model)):
        try:
            given = options()
            if not rearrange:
                _as_they_lie(given)
            return _create(name, given, chosen)
        except ModelError as error:
            if UNKNOWN not in error.message or not foreign(ir.load(model)):
                raise
    if isinstance(model, Path):
        model = ir.load(model)
    customs = Customs(foreign(model))
    if exact:
        model = unsaturated(model, extra_outputs)
    spilled = not rearrange and loose_bytes(model) > LARGE
    written = partial(weightless, model, extra_outputs=extra_outputs, functions=customs.functions())
    for in_files in (True, False):
        with ExitStack() as files:
            try:
                room = files.enter_context(spill()) if spilled and in_files else None
                content = written(in_files=in_files, spill=room)
            except SpillError:  # of no consequence but for memory
                content = written(in_files=in_files)
            given = _for(content, customs.added(options()), extra_outputs, exact, rearrange)
            try:
                return _create(content.proto, given, chosen, customs)
            except ModelError as error:
                if content.folder is None:
                    raise customs.explained(error, model, open_session) from error
    raise AssertionError("without files there is nothing left to try")


def lie_well(model: ir.Model) -> bool:
    """Whether its weights are so large that nothing is to rearrange them for a few runs, and no bytes."""
    graphs = graphs_of(model)
    weights = [value.const_value for graph in graphs for value in graph.initializers.values()]
    large = [tensor for tensor in weights if tensor is not None and tensor.nbytes > INLINE_BYTES]
    return _large_floats(
        sum(tensor.nbytes for tensor in large), all(tensor.dtype.is_floating_point() for tensor in large)
    )


def _large_floats(nbytes: int, floating: bool) -> bool:
    return floating and nbytes > LARGE  # kernels of bytes may insist on their own order


def _as_they_lie(options: ort.SessionOptions) -> None:
    options.add_session_config_entry("session.disable_prepacking", "1")


def _for(
    content: Weightless, options: ort.SessionOptions, taps: Sequence[str], exact: bool, rearrange: bool
) -> ort.SessionOptions:
    """Options for a model whose weights are handed over."""
    if exact:
        # DequantizeLinear and MatMul fuse into MatMulNBits, which rounds activations to bytes by default.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", str(IN_FLOATS))
    if taps:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    if not rearrange and _large_floats(content.large, content.floating):
        _as_they_lie(options)
    if content.folder is not None:  # ONNX Runtime before 1.21 refuses files without a path of the model
        folder = str(content.folder)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    values = [_pointer(weight) for weight in content.weights.values()]
    if values:
        options.add_external_initializers(list(content.weights), values)
    return options


def one_line(error: Exception) -> str:
    """What ONNX Runtime says, without its own source paths, error codes and control characters."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)[:TEXT_LIMIT])
    text = re.sub(r"Load model from .*? failed:", "", text, flags=re.DOTALL)
    text = _without_sources(text)
    unknown = re.search(r"(?<!\S)(\S+)\(-?\d+\) is not a registered function/op", text)
    if unknown:
        domain, _, operator = unknown[1].rpartition(":")
        return f"{UNKNOWN} {operator!r} of domain {domain or 'ai.onnx'!r} at this opset"
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= MESSAGE_LIMIT else flat[: MESSAGE_LIMIT - 3] + "..."


def _unknown(reason: str) -> str:
    """What to do about an operator that is not ONNX Runtime's own."""
    own = any(f"of domain {domain!r} " in reason for domain in PLAIN)
    return (
        "" if own or UNKNOWN not in reason else "a package can give it a body or a library (docs/plugins.md)"
    )


def _without_sources(text: str) -> str:
    """Drop `/path/file.cc:12 Type name::space::function(argument types) [with T = U] ` wherever it occurs."""
    parts = re.split(r"(?<!\S)\S*\.(?:cc|h):\d+ ", text)
    return parts[0] + "".join(map(_without_signature, parts[1:]))


def _without_signature(text: str) -> str:
    opening = re.match(r"[\w:<>~,&* ]*?[\w>]\(", text)
    if opening is None or "::" not in opening[0]:
        return re.sub(r"^\w+ ", "", text)  # a bare function name
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0 and char == ")":
            return re.sub(r"^( const)?( \[with [^\]]*\])?:? *", "", text[position + 1 :])
    return text


def _create(
    source: str | bytes, options: ort.SessionOptions, providers: Providers, customs: Customs = NONE
) -> Session:
    threads = options.intra_op_num_threads
    try:
        inner = providers.opened(source, options)
    except ModelError:
        raise
    except Exception as error:  # ONNX Runtime raises a dozen types that share no base
        reason = one_line(error)
        raise ModelError(f"ONNX Runtime does not load the model: {reason}", _unknown(reason)) from error
    required = tuple(value.name for value in inner.get_inputs())
    optional = tuple(value.name for value in inner.get_overridable_initializers())
    outputs = tuple(value.name for value in inner.get_outputs())
    exotic = any(value.type in EXOTIC for value in (*inner.get_inputs(), *inner.get_outputs()))
    names = ran(inner, providers)
    return Session(required + optional, outputs, threads, names, required, exotic, inner, customs)


def _pointer(weight: Weight) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weight.array, weight.dtype.value)


class _Run:
    """A call in a thread of its own, so that waiting for it has an end and signals are heard."""

    def __init__(self, call: Callable[[ort.RunOptions], list[object]]) -> None:
        self.values: list[object] = []
        self.error: Exception | None = None
        self._call = call
        self._options = ort.RunOptions()
        self._options.log_severity_level = FATAL
        self._done = threading.Event()
        self._start = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.values = self._call(self._options)
        except Exception as error:  # handed to the thread that waits
            self.error = error
        finally:
            self._done.set()

    def wait(self, seconds: float | None) -> bool:
        """Whether the call ended within this time of its start."""
        # Not by join: where a signal's exception leaves it, Python 3.11 takes the thread for ended.
        left = None if seconds is None else self._start + min(seconds, LONGEST_SECONDS) - time.monotonic()
        if not self._done.wait(left):
            return False
        self._thread.join()
        return True

    def stop(self) -> None:
        """Ask ONNX Runtime to stop. It looks between two nodes: a single endless one is left behind."""
        self._options.terminate = True
        if self._done.wait(GRACE_SECONDS):
            self._thread.join()
        else:
            abandoned.set()


def _ort_value(array: np.ndarray) -> ort.OrtValue:
    dtype = ir.DataType.from_numpy(array.dtype)
    if f"tensor({dtype.name.lower()})" not in EXOTIC:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, dtype.value)


def _array(value: ort.OrtValue) -> object:
    dtype = EXOTIC.get(value.data_type())
    if dtype is None:
        return value.numpy()
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), math.prod(shape) * dtype.numpy().itemsize)
    return np.frombuffer(raw, dtype=dtype.numpy()).reshape(shape)


def _flat(names: Sequence[str], values: Sequence[object]) -> Iterator[tuple[str, np.ndarray]]:
    """Sequences and maps (classifiers of scikit-learn end in them) as single arrays."""
    for name, value in zip(names, values, strict=True):
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, list):
            yield from _flat([f"{name}[{index}]" for index in range(len(value))], value)
        elif isinstance(value, dict):
            yield from _flat([f"{name}[{key}]" for key in value], list(value.values()))
        elif value is not None:
            yield name, np.asarray(value)
