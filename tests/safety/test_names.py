"""Names in a model, and of files, reach a terminal, a page or a program only in escaped form."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import onnx
import pytest

from tests.ir.hostile_cases import cnn, node
from tests.safety.conftest import PRUNE, Outcome, Run

EVIL = "\x1b[2J\x07\r\n\u202e\u200b\x9b\u2028<script>alert(1)</script>"
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def hidden(text: str) -> list[str]:
    """Control and invisible characters, line breaks apart."""
    return [char for char in text if char != "\n" and unicodedata.category(char) in HIDDEN]


def evil() -> onnx.ModelProto:
    """The CNN with every name, text and label poisoned."""
    proto = cnn()
    graph = proto.graph
    renamed = {name: f"{EVIL}{name}" for n in graph.node for name in (*n.input, *n.output)}
    for item in graph.node:
        item.name, item.doc_string = f"{EVIL}{item.name}", EVIL
        for names in (item.input, item.output):
            old = list(names)
            del names[:]
            names.extend(renamed[name] for name in old)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name, value.doc_string = renamed[value.name], EVIL
    graph.name = graph.doc_string = proto.producer_name = proto.doc_string = proto.producer_version = EVIL
    proto.metadata_props.add(key=EVIL, value=EVIL)
    return proto


@pytest.fixture
def poisoned(folder: Path) -> Path:
    onnx.save(evil(), folder / "in.onnx")
    return folder


COMMANDS = (
    ("inspect", "in.onnx"),
    ("explain", "in.onnx", "*w1*"),
    ("explain", "in.onnx", "*w1*", "*w2*"),
    ("explain", "in.onnx", EVIL),
    ("explain", EVIL),
    ("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--verbose"),
    ("compile", "in.onnx", *PRUNE, "--print-plan"),
    ("compile", "in.onnx", "-o", "out.onnx", "--passes", f"prune(ignore=[{EVIL}])"),
    ("compile", "in.onnx", *PRUNE, "-o", f"no/{EVIL}.onnx"),
    ("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--shape", f"{EVIL}=1x2"),
    ("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--report", f"{EVIL}.txt"),
    ("compile", "in.onnx", "-o", "out.onnx", "--recipe", EVIL),
    ("compile", "in.onnx", "-o", "out.onnx", "--plan", EVIL),
    ("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--inputs", EVIL),
    ("compile", EVIL, *PRUNE, "-o", "out.onnx"),
    ("validate", "in.onnx", "in.onnx"),
    ("bench", "in.onnx"),
    ("passes", EVIL),
    (EVIL,),
    ("inspect", f"--{EVIL}"),
)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(command)[:40].encode("unicode_escape")
)
def test_nothing_hidden_is_printed(command: tuple[str, ...], form: str, poisoned: Path, run: Run) -> None:
    outcome = run(*command, *(("--format", form) if len(command) > 1 else ()))
    assert hidden(outcome.out + outcome.err) == []
    assert "Traceback" not in outcome.err and "internal error" not in outcome.err
    assert outcome.code in (0, 2)
    if outcome.code:
        assert len(outcome.errors) == 1
    elif form == "json":
        json.loads(outcome.out)


def compiled(run: Run, suffix: str) -> Outcome:
    return run("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--report", f"r{suffix}")


def test_a_page_shows_names_and_runs_nothing(poisoned: Path, run: Run) -> None:
    assert compiled(run, ".html").code == 0
    text = (poisoned / "r.html").read_text(encoding="utf-8")
    assert hidden(text) == []
    assert text.count("<script") == 1 and r"\x1b[2J" in text and "&lt;script&gt;" in text  # one is ours


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def test_a_json_report_and_a_plan_keep_the_names_as_data(poisoned: Path, run: Run) -> None:
    assert compiled(run, ".json").code == 0
    for name in ("r.json", "out.plan.json"):
        text = (poisoned / name).read_text(encoding="utf-8")
        assert hidden(text) == []
        assert EVIL in "".join(_strings(json.loads(text)))


def test_a_model_file_with_an_evil_name(poisoned: Path, run: Run) -> None:
    name = "\x1b[2J\u202e.onnx"
    (poisoned / name).write_bytes(cnn().SerializeToString())
    for command in (("inspect", name), ("compile", name, *PRUNE, "-o", "\x1b[3J.onnx", "--report", "r.html")):
        outcome = run(*command)
        assert outcome.code == 0 and hidden(outcome.out + outcome.err) == []
    assert hidden((poisoned / "r.html").read_text(encoding="utf-8")) == []


def test_a_name_in_an_error_of_a_check(folder: Path, run: Run) -> None:
    proto = evil()
    node(proto, f"{EVIL}conv2").input[0] = f"{EVIL}ghost"
    onnx.save(proto, folder / "in.onnx")
    outcome = run("inspect", "in.onnx")
    assert outcome.code == 2 and len(outcome.errors) == 1 and hidden(outcome.err) == []
