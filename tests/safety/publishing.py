"""A script: writes a compile's files over and over, and fails or kills it at every system call of that.

    python publishing.py FOLDER

Calls are counted by an audit hook (files opened, renamed, linked, removed, folders listed, locks) and by a
wrapper around what raises no event (fsync, stat). What is wrong is printed, one line each; a last line says
how many calls each scenario had.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import GraphpruneError, OutputError
from graphprune.ir.load import load
from graphprune.ir.publish import settle
from graphprune.pipeline.output import write
from graphprune.pipeline.planfile import PlanFile

EVENTS = {
    "open", "os.rename", "os.remove", "os.link", "os.chmod", "os.listdir", "os.scandir", "fcntl.flock",
    "os.mkdir", "os.rmdir", "os.truncate", "os.symlink",
}  # fmt: skip
CHANGES = EVENTS - {"open", "os.listdir", "os.scandir", "fcntl.flock"}
LEFT = re.compile(r".+\.tmp\.[0-9a-f]{16}")
ASIDE = re.compile(r"(.+)\.old\.[0-9a-f]{16}")
EMPTY = hashlib.sha256(b"").hexdigest()
State = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Decisions(PlanFile):
    """A plan that says nothing but has tensors beside it, or none."""

    beside: tuple[float, ...] = ()

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {"0/replaced/a": np.asarray(self.beside)} if self.beside else {}


@dataclass(frozen=True)
class Written:
    """A model with its plan, and whether its weights lie beside it."""

    model: ir.Model
    plan: PlanFile
    large: bool


@dataclass(frozen=True)
class Scenario:
    """What is there, what comes, and how."""

    name: str
    old: Written | None
    new: Written
    overwrite: bool
    kinds: tuple[str, ...]
    links: bool = True


@dataclass
class Fault:
    """What happens at which call of a child; calls in the folder only, so that imports do not count."""

    folder: Path
    at: int = -1
    kind: str = "count"
    links: bool = True
    seen: int = 0
    changing: list[bool] = field(default_factory=list)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in EVENTS or not self._here(arguments):
            return
        if event == "os.link" and not self.links:
            raise PermissionError(errno.EPERM, "no links here")
        opened = event == "open" and len(arguments) == 3 and bool(int(str(arguments[2] or 0)) & os.O_CREAT)
        self.changing.append(opened or event in CHANGES)
        self.count()

    def _here(self, arguments: tuple[object, ...]) -> bool:
        if isinstance(arguments[0], int):  # a descriptor, of a lock or of a file that was opened here
            return True
        return os.fsdecode(arguments[0]).startswith(str(self.folder))  # type: ignore[arg-type]

    def count(self) -> None:
        self.seen += 1
        if self.seen - 1 == self.at and self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.seen - 1 == self.at and self.kind == "once") or (
            self.seen > self.at >= 0 and self.kind == "from"
        ):
            raise OSError(errno.EIO, "injected")


def state(folder: Path) -> State:
    """Mode and digest of every file."""
    return {
        path.name: (
            stat.S_IMODE(path.stat().st_mode),
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.iterdir()
    }


FAULT: list[Fault] = []
"""The one that is heard, if any: a hook cannot be taken away again."""


def install() -> None:
    """Count from now on."""

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if FAULT:
            FAULT[0].hear(event, arguments)

    def wrap(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **keywords: object) -> object:
            if FAULT:
                FAULT[0].hear("open", arguments)
            return call(*arguments, **keywords)

        return counted

    sys.addaudithook(hear)
    for name in ("fsync", "stat", "lstat"):
        setattr(os, name, wrap(getattr(os, name)))


def tried(work: Callable[[], None], fault: Fault) -> tuple[str, str]:
    """How a call ended, and what it said."""
    FAULT.append(fault)
    try:
        work()
        return "done", ""
    except OutputError as error:
        return "refused", f"{error.message} {error.hint}"
    except BaseException as error:
        return "raised", repr(error)
    finally:
        FAULT.clear()


def killed(work: Callable[[], None], fault: Fault) -> tuple[str, str]:
    """The same in a process of its own, which dies on the way."""
    process = os.fork()
    if process == 0:
        tried(work, fault)
        os._exit(0)
    _, code = os.waitpid(process, 0)
    return ("killed", "") if code == signal.SIGKILL else ("raised", "was not killed")


class Trial:
    """One scenario with a folder of its own."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario = scenario
        self.folder = folder
        self.kept = folder.with_name("kept")
        self.output = folder / "out.onnx"
        folder.mkdir()
        if scenario.old is not None:
            self.put(scenario.old, overwrite=False)
            for path in folder.iterdir():
                path.chmod(0o640)
        shutil.copytree(folder, self.kept)
        self.old = state(folder)
        fault = self.run("count", -1)[2]
        self.calls = fault.seen
        # What a kill leaves differs only where the call before it changed something.
        changed = [0, *(at + 1 for at, changes in enumerate(fault.changing[:-1]) if changes)]
        self.moments = {"once": range(self.calls), "from": range(self.calls), "kill": changed}
        self.new = state(folder)

    def put(self, written: Written, *, overwrite: bool) -> None:
        source = replace(load(written.model), had_external=written.large)
        write(written.model, self.output, source, written.plan, overwrite=overwrite)

    def run(self, kind: str, at: int) -> tuple[str, str, Fault]:
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)
        fault = Fault(self.folder, at, kind, self.scenario.links)
        how, said = (killed if kind == "kill" else tried)(self.put_new, fault)
        return how, said, fault

    def put_new(self) -> None:
        self.put(self.scenario.new, overwrite=self.scenario.overwrite)

    def wrong(self) -> Iterator[str]:
        checks = {"once": self.once, "from": self.on, "kill": self.kill}
        for kind in self.scenario.kinds:
            for at in self.moments[kind]:
                how, said, _ = self.run(kind, at)
                for line in checks[kind](how, said):
                    yield f"{self.scenario.name}, {kind} {at}: {how}: {line}; {said}"

    def once(self, how: str, said: str) -> Iterator[str]:
        """One call fails: all is as before, or the set is there and a leftover waits for the next one."""
        found = state(self.folder)
        if how == "refused" and self.finals(found) != self.old:
            yield "the old set is not as it was"
        if how == "done" and not self.new.items() <= found.items():
            yield "the new set is not complete"
        if how not in ("refused", "done"):
            yield "no line"
        yield from self.settled()

    def on(self, how: str, said: str) -> Iterator[str]:
        """All calls from one on fail, the way back included: old files are whole, the message knows where."""
        found = state(self.folder)
        if how == "refused":
            yield from self.whole(found, said)
        if how == "done" and not self.new.items() <= found.items():
            yield "the new set is not complete"
        yield from self.settled()

    def kill(self, how: str, said: str) -> Iterator[str]:
        found = state(self.folder)
        if found.get("out.onnx") != self.new["out.onnx"]:
            yield from self.whole(found, None)
        yield from self.loads()
        yield from self.settled()

    def whole(self, found: State, said: str | None) -> Iterator[str]:
        """Every old file lies under its name or its set-aside one, which a message names."""
        for name, content in self.old.items():
            aside = [other for other, has in found.items() if has == content and ASIDE.fullmatch(other)]
            if found.get(name) != content and not any(said is None or other in said for other in aside):
                yield f"{name} is lost"

    def loads(self) -> Iterator[str]:
        """A model that is there has its weights beside it."""
        if not self.output.exists() or self.output.stat().st_size == 0:  # the claim of a name, without links
            return
        try:
            load(self.output)
        except GraphpruneError as error:
            yield f"does not load: {error.message}"

    def settled(self) -> Iterator[str]:
        """The next compile to this path finds the old set or the new one, and nothing else."""
        plan = self.folder / "out.plan.json"
        settle(self.output, (plan, plan.with_suffix(".safetensors")), ())
        found = self.finals(state(self.folder))
        if not self.scenario.links:  # a name may be claimed and nothing more
            found = {name: has for name, has in found.items() if has[1] != EMPTY}
        if found not in (self.old, self.new):
            yield "neither set after the next compile"
        yield from self.loads()

    @staticmethod
    def finals(found: State) -> State:
        """Without temporary files, which a kill or a failing removal leaves."""
        return {name: has for name, has in found.items() if not LEFT.fullmatch(name)}


def written(seed: int, *, large: bool, tensors: bool) -> Written:
    """A model of two layers; a large one has its weights beside it."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (64, 64), "b": (64, 4)}
    x = ir.Value(name="x", shape=ir.Shape([1, 64]), type=ir.TensorType(ir.DataType.FLOAT))
    weights = [
        ir.Value(name=name, const_value=ir.tensor(rng.normal(size=shape).astype(np.float32), name=name))
        for name, shape in shapes.items()
    ]
    nodes = [ir.node("MatMul", [x, weights[0]], name="first")]
    nodes.append(ir.node("MatMul", [nodes[0].outputs[0], weights[1]], name="second"))
    y = nodes[1].outputs[0]
    y.name, y.shape, y.type = "y", ir.Shape([1, 4]), ir.TensorType(ir.DataType.FLOAT)
    nodes[0].outputs[0].name = "h"
    graph = ir.Graph([x], [y], nodes=nodes, initializers=weights, opset_imports={"": 17}, name="g")
    model = ir.Model(graph, ir_version=8)
    plan = Decisions(f"prune(ratio=0.{seed})", "", "", (), {}, beside=(float(seed),) if tensors else ())
    return Written(model, plan, large)


def main(folder: str) -> None:
    first = written(1, large=True, tensors=True)
    second, small = written(2, large=True, tensors=True), written(3, large=False, tensors=False)
    every = ("once", "from", "kill")
    scenarios = [
        Scenario("over", first, second, overwrite=True, kinds=every),
        Scenario("fewer", first, small, overwrite=True, kinds=("once", "kill")),
        Scenario("fresh", None, second, overwrite=False, kinds=("once", "kill")),
        Scenario("over, no links", first, second, overwrite=True, kinds=("from", "kill"), links=False),
        Scenario("fresh, no links", None, second, overwrite=False, kinds=("once",), links=False),
    ]
    calls = []
    install()
    for number, scenario in enumerate(scenarios):
        (Path(folder) / str(number)).mkdir()
        trial = Trial(scenario, Path(folder).resolve() / str(number) / "set")
        for line in trial.wrong():
            print(line)
        calls.append(f"{scenario.name} {trial.calls} ({len(trial.moments['kill'])} that change)")
    print("calls:", ", ".join(calls))


if __name__ == "__main__":
    main(sys.argv[1])
