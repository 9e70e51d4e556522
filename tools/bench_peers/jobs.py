"""One measurement per row: who does what to which model. Each runs in a process of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.bench_peers.measure import Sampler, best_of, memory_of
from tools.bench_peers.result import RATIO, Result

PIPELINE = f"prune(criterion=l1,scope=local,ratio={RATIO},align=1,layernorm=slice,allow-inexact=true)"
MODELS = ("resnet50", "densenet121", "vit_b_16", "mobilenet_v2")


def _parameters_in_file(path: Path) -> int:
    """Elements of floating initializers, each stored tensor once."""
    import onnx_ir as ir

    model = ir.load(path)
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    return sum(
        tensor.size for tensor in tensors.values() if tensor is not None and tensor.dtype.is_floating_point()
    )


def _onnx_runs(path: Path) -> bool:
    """Whether ONNX Runtime computes an output for a random image."""
    import numpy as np
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        shape = [size if isinstance(size, int) else 2 for size in session.get_inputs()[0].shape]
        session.run(None, {session.get_inputs()[0].name: np.zeros(shape, np.float32)})
    except Exception:
        return False
    return True


def graphprune_analyse(path: Path, repetitions: int) -> Result:
    """Load and find the groups, from the file."""
    import graphprune

    region = best_of(lambda: lambda: graphprune.find_groups(path), repetitions)
    return Result(region, groups=sum(group.pin is None for group in graphprune.find_groups(path)))


def _compile(path: Path, pipeline: str, repetitions: int) -> Result:
    """Compiles from file to file; CPU and memory of the phases from load to save, proof apart."""
    import graphprune

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        output = Path(folder) / "small.onnx"

        def seconds() -> tuple[float, float]:
            for earlier in Path(folder).iterdir():  # a compile does not usually have an old result to remove
                earlier.unlink()
            timings = graphprune.compile(path, pipeline, output, force=True, bench=False).timings
            return timings.compile_cpu, sum(timings.cpu.values())

        def watched(sampler: Sampler) -> None:
            def progress(done: int, total: int, what: str) -> None:
                sampler.paused = what.startswith("prove")

            graphprune.compile(path, pipeline, output, force=True, bench=False, progress=progress)

        runs = [seconds() for _ in range(repetitions)]
        region = memory_of(watched, min(compiled for compiled, _ in runs))
        whole = min(whole for _, whole in runs)
        kept = _parameters_in_file(output) / _parameters_in_file(path)
        return Result(region, kept=kept, runs=_onnx_runs(output), note=f"{whole:.2f} CPU s with the proof")


def graphprune_compile(path: Path, repetitions: int) -> Result:
    """The whole compile, from file to file; the proof is a separate phase."""
    return _compile(path, PIPELINE, repetitions)


def big_compile(path: Path, repetitions: int) -> Result:
    """`prune(criterion=l1)` with its defaults on the model with external data."""
    return _compile(path, "prune(criterion=l1)", repetitions)


def _onnxsim(path: Path, repetitions: int, suffix: str) -> Result:
    import onnx
    import onnxsim  # type: ignore[import-untyped]

    structured = getattr(onnxsim, f"apply_structured_pruning{suffix}")
    heads = getattr(onnxsim, f"apply_attention_head_pruning{suffix}")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        output = Path(folder) / "small.onnx"

        def work() -> None:
            onnx.save(heads(structured(onnx.load(path), RATIO, "l1"), RATIO, "l1"), output)

        region = best_of(lambda: work, repetitions)
        kept = _parameters_in_file(output) / _parameters_in_file(path)
        return Result(region, kept=kept, runs=_onnx_runs(output))


def onnxsim_python(path: Path, repetitions: int) -> Result:
    """Onnxsim's structured pruning in Python, plus its attention-head pruning; from file to file."""
    return _onnxsim(path, repetitions, "")


def onnxsim_native(path: Path, repetitions: int) -> Result:
    """The C++ port of the same two functions."""
    return _onnxsim(path, repetitions, "_cpp")


def floor(path: Path, repetitions: int) -> Result:
    """The least a magnitude pruner does to external data: copy the file, read every weight once."""
    import numpy as np

    data = path.with_name(path.name + ".data")
    block = 1 << 18

    def work() -> float:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            shutil.copyfile(data, Path(folder) / data.name)
            weights = np.memmap(data, np.float32, "r")
            return sum(float(np.abs(weights[at : at + block]).sum()) for at in range(0, weights.size, block))

    return Result(best_of(lambda: work, repetitions))


def _torch_jobs() -> dict[str, Callable[[Path, int], Result]]:
    from tools.bench_peers import torch_pruning_jobs as peer

    return {"torch-pruning trace+group": peer.trace_and_group, "torch-pruning prune": peer.prune}


def job(name: str) -> Callable[[Path, int], Result]:
    """The measurement called `name`; torch is imported only for the torch ones."""
    if name.startswith("torch-pruning"):
        return _torch_jobs()[name]
    return {
        "graphprune analyse": graphprune_analyse,
        "graphprune compile": graphprune_compile,
        "onnxsim (Python)": onnxsim_python,
        "onnxsim (C++)": onnxsim_native,
        "floor": floor,
        "graphprune 1 GB": big_compile,
    }[name]


ANALYSES = ("torch-pruning trace+group", "graphprune analyse")
PRUNERS = ("torch-pruning prune", "graphprune compile", "onnxsim (Python)", "onnxsim (C++)")
BIG = ("floor", "graphprune 1 GB")
