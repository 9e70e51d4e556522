"""A hostile file is refused in one clear line, at little cost, and nothing on disk changes."""

from __future__ import annotations

import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from graphprune.errors import ModelError
from graphprune.ir.load import load

from .hostile_cases import CASES, OK, REJECT, Case

ARCHIVE = Path(__file__).parents[3] / "shared" / "hostile"


def verdict(path: Path) -> str:
    """`ok`, or `reject` for a ModelError with a one-line printable message."""
    start = time.process_time()
    try:
        load(path)
    except ModelError as error:
        assert error.message.isprintable()
        assert error.exit_code == 2
        return REJECT
    finally:
        assert time.process_time() - start < 10
    return OK


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every entry below a folder, links not followed."""
    paths = [Path(top, name) for top, folders, files in os.walk(folder) for name in (*folders, *files)]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_class_of_hostile_file(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    case.build(folder)
    before = listing(tmp_path)
    assert verdict(folder / "model.onnx") == case.expect
    assert listing(tmp_path) == before


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the archive of cases is not here")
def test_the_archive_of_hostile_files(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE / "cases.tar.gz") as archive:
        archive.extraction_filter = lambda member, path: member  # links and devices are the point
        archive.extractall(tmp_path)
    wrong = {}
    for case in json.loads((ARCHIVE / "manifest.json").read_text()):
        found = verdict(tmp_path / case["id"] / "m" / "model.onnx")
        if case["expect"] not in (found, "policy"):
            wrong[case["id"]] = found
    assert wrong == {}


def test_control_characters_never_reach_a_message(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.id == "C09_dangling_input")
    case.build(tmp_path)
    data = (tmp_path / "model.onnx").read_bytes().replace(b"ghost", b"\x1b[2J\n")
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"\\x1b\[2J\\n"):
        load(tmp_path / "model.onnx")
