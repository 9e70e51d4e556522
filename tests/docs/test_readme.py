"""README.md: every command and every piece of Python works as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphprune.cli.main import main

from .pages import ROOT, blocks, commands, section

PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
PLUGIN = ROOT / "tests" / "plugin" / "package"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped models, as a reader of the tour has it before him."""
    shutil.copytree(ROOT / "models" / "digits_cnn", tmp_path / "models" / "digits_cnn")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("time", ["10s", pytest.param(r"\g<0>", marks=pytest.mark.full, id="as it stands")])
def test_every_command_of_the_tour_succeeds(
    time: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What searches for a minute does so in brief."""
    for line in commands(section("README.md", "Five minutes")):
        program, *arguments = shlex.split(re.sub(r"(?<=--time )\w+", time, line))
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True, timeout=300)
        else:
            assert program == "graphprune"
            assert main(arguments) == 0, capsys.readouterr().err
    assert (checkout / "small.onnx").read_bytes() == (checkout / "again.onnx").read_bytes()


def test_the_api_example_runs(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api, _ = blocks(section("README.md", "Five minutes"), "python")
    exec(compile(api, "README.md", "exec"), {"__name__": "readme"})
    assert "logits" in capsys.readouterr().out


def test_the_pass_is_the_one_that_is_tested() -> None:
    _, plugin = blocks(section("README.md", "Five minutes"), "python")
    assert plugin == (PLUGIN / "graphprune_every_other.py").read_text(encoding="utf-8")
    (entry,) = blocks(section("README.md", "Five minutes"), "toml")
    package = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert set(entry.splitlines()) <= set(package)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    for link in links:
        target, _, anchor = link.partition("#")
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(file), f"{page} links to {link}"


def anchors(page: Path) -> set[str]:
    """Anchors that hosts make of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
