"""Where an output may not go, and that refusing costs nothing."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import pytest

import graphprune
from graphprune.errors import OutputError
from tests.safety.conftest import PRUNE, Run, names, state


def refused(run: Run, folder: Path, *arguments: str) -> str:
    before = state(folder)
    outcome = run("compile", *arguments)
    assert outcome.code == 2 and len(outcome.errors) == 1 and outcome.out == ""
    assert state(folder) == before
    return outcome.err


@pytest.mark.parametrize("passes", ["prune(ratio=0.5)", ""])
@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize(
    "name", ["in.onnx", "./in.onnx", "soft.onnx", "hard.onnx", "through/in.onnx", "chain.onnx"]
)
def test_no_name_of_the_input_is_an_output(
    name: str, force: tuple[str, ...], passes: str, folder: Path, run: Run
) -> None:
    (folder / "soft.onnx").symlink_to("in.onnx")
    (folder / "chain.onnx").symlink_to("soft.onnx")
    (folder / "hard.onnx").hardlink_to(folder / "in.onnx")
    (folder / "through").symlink_to(".")
    error = refused(run, folder, "in.onnx", "--passes", passes, "--no-bench", "-o", name, *force)
    assert "is the input" in error


def test_the_input_may_be_a_link_and_is_still_safe(folder: Path, run: Run) -> None:
    (folder / "soft.onnx").symlink_to("in.onnx")
    assert "is the input" in refused(run, folder, "soft.onnx", *PRUNE, "-o", "in.onnx", "--force")


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("passes", ["prune(ratio=0.5)", ""])
def test_a_sidecar_never_replaces_the_weights_of_the_input(
    passes: str, force: tuple[str, ...], external: Path, run: Run
) -> None:
    (external / "in.onnx").rename(external / "model.onnx")
    before = state(external)
    assert run("compile", "model.onnx", "--passes", passes, "--no-bench", "-o", "in.onnx", *force).code == 0
    assert before.items() <= state(external).items()


def test_the_weights_of_the_input_are_no_output(external: Path, run: Run) -> None:
    for name in ("w.onnx", "link.onnx"):
        (external / name).unlink(missing_ok=True)
        (external / name).symlink_to("in.onnx.data")
        assert "is the input" in refused(run, external, "in.onnx", *PRUNE, "-o", name, "--force")


@pytest.mark.parametrize("name", ["out.onnx", "out.plan.json", "out.plan.safetensors"])
def test_what_exists_is_replaced_only_when_asked(name: str, folder: Path, run: Run) -> None:
    (folder / name).write_bytes(b"of someone else")
    error = refused(run, folder, "in.onnx", *PRUNE, "-o", "out.onnx")
    assert f"{name}' exists" in error and "--force" in error
    assert run("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--force").code == 0


def test_a_dangling_link_is_not_followed_unasked(folder: Path, run: Run) -> None:
    (folder / "out.onnx").symlink_to("elsewhere.onnx")
    assert "exists" in refused(run, folder, "in.onnx", *PRUNE, "-o", "out.onnx")


def test_a_plan_a_recipe_and_samples_are_inputs(folder: Path, run: Run) -> None:
    assert run("compile", "in.onnx", *PRUNE, "-o", "out.onnx").code == 0
    (folder / "out.onnx").unlink()
    arguments = ("in.onnx", "--plan", "out.plan.json", "-o", "out.onnx", "--no-bench", "--force")
    assert "is an input" in refused(run, folder, *arguments)
    assert "is an input" in refused(run, folder, *arguments[:3], "-o", "b.onnx", "--report", "out.plan.json")
    (folder / "recipe.txt").write_text('pipeline = "prune(ratio=0.5)"\n')
    arguments = ("in.onnx", "--recipe", "recipe.txt", "--no-bench", "--force", "-o")
    assert "is the input" in refused(run, folder, *arguments, "recipe.txt")
    assert run("compile", *arguments[:3], "--no-bench", "-o", "b.onnx").code == 0


def test_a_report_is_refused_before_the_work(folder: Path, run: Run) -> None:
    wrong = {"r.txt": "ends neither", "no/r.html": "no folder", "out.plan.json": "where the plan goes"}
    for name, why in wrong.items():
        assert why in refused(run, folder, "in.onnx", *PRUNE, "-o", "out.onnx", "--report", name)


@pytest.mark.parametrize(
    "name", ["missing/out.onnx", "/proc/out.onnx", "sub", "in.onnx/out.onnx", "n" * 300 + ".onnx"]
)
def test_a_place_that_cannot_be_written(name: str, folder: Path, run: Run) -> None:
    (folder / "sub").mkdir()
    refused(run, folder, "in.onnx", *PRUNE, "-o", name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(folder: Path, run: Run) -> None:
    (folder / "locked").mkdir(mode=0o500)
    assert "permission denied" in refused(run, folder, "in.onnx", *PRUNE, "-o", "locked/out.onnx")


@pytest.mark.parametrize("name", ["out.onnx", "out.plan.json"])
def test_what_is_no_file_is_not_replaced(name: str, external: Path, run: Run) -> None:
    os.mkfifo(external / name)
    refused(run, external, "in.onnx", *PRUNE, "-o", "out.onnx", "--force")


def test_a_link_under_a_temporary_name_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where somebody guessed the name."""
    monkeypatch.setattr(secrets, "token_hex", lambda length: "0" * 2 * length)
    (folder / "victim").write_bytes(b"precious")
    for name in ("out.onnx", "out.plan.json"):
        (folder / f"{name}.tmp.{'0' * 16}").symlink_to("victim")
    with pytest.raises(OutputError, match="exists"):
        graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx")
    assert (folder / "victim").read_bytes() == b"precious"
    assert "out.onnx" not in names(folder)


def test_a_failed_rename_keeps_the_old_output(folder: Path) -> None:
    graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx")
    (folder / "out.plan.json").unlink()
    (folder / "out.plan.json").mkdir()
    before = state(folder)
    with pytest.raises(OutputError):
        graphprune.compile("in.onnx", "prune(ratio=0.25)", "out.onnx", force=True)
    assert state(folder) == before


def test_the_reproducer_does_not_write_into_a_folder_in_use(folder: Path, run: Run) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "README.txt").write_text("mine")
    shutil.copy(folder / "in.onnx", folder / "broken.onnx")
    (folder / "broken.onnx").write_bytes(b"\x08")
    error = refused(run, folder, "broken.onnx", *PRUNE, "-o", "out.onnx", "--reproducer", "notes")
    assert "not empty" in error
    for _ in range(2):
        assert run("compile", "broken.onnx", *PRUNE, "-o", "out.onnx", "--reproducer", "fresh").code == 2
    assert "error.txt" in names(folder / "fresh")
