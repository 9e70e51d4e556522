"""Whatever a package of somebody else does wrong is one error that names it, and nothing else breaks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import pytest

import graphprune
from graphprune.cli.main import main
from graphprune.errors import ArgumentError, PluginError, PromiseError
from tests.axes.claims import sketch

from .installed import install, mlp, samples

CRITERION = """
import numpy as np
from graphprune.plugin import Criterion, Wanted, inputs
def score(group, evidence):
    {body}
FOUND = Criterion(score, "mine"{more})
"""
PASS = """
from dataclasses import dataclass
from typing import ClassVar
from graphprune.plugin import ArgumentError, Pass, Plan, PromiseError
@dataclass(frozen=True)
class Found(Pass):
    name: ClassVar[str] = "theirs"
    width: int = 3
    {body}
"""


def criterion(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, body: str, more: str = "") -> None:
    source = CRITERION.format(body=body, more=more)
    install(monkeypatch, folder, package, {"criteria theirs": "FOUND"}, source)


def failed(passes: str, calibrated: bool = False) -> PluginError:
    """The error that a compile ends in."""
    with pytest.raises(PluginError) as caught:
        graphprune.compile(mlp(), passes, calibration=samples() if calibrated else None)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    ("at", "body", "more", "says"),
    [
        (0, "return 1 / 0", "", r"fails: ZeroDivisionError: division by zero \(in bad_0\.py:5\)"),
        (1, "return np.ones(group.size + 1)", "", "gives 17 for group 'up:1', which has 16 Units"),
        (2, "return np.ones((2, group.size))", "", "gives 2x16 for group"),
        (3, "return 1.0", "", "gives one number for group"),
        (4, "return np.full(group.size, np.nan)", "", "gives numbers that are not finite for group 'up:1'"),
        (5, "return ['a'] * group.size", "", "fails: ValueError: could not convert"),
        (6, "return evidence.statistics.vector('b').norm2", "", "fails: LookupError: sums of value 'b' were"),
        (7, "return None", ", needs=lambda g, p: {'vectors'}", "has needs that give set, not Wanted"),
        (8, "return None", ", needs=lambda g, p: p.nothing", r"fails: AttributeError: .*\(in bad_8\.py:6\)"),
        (9, "return None", ", normaliser='most'", "names the normaliser 'most': known: mean, "),
        (10, "return None", ", needs=inputs, gone=1", "does not load: TypeError: .*gone"),
        (12, "return np.linalg.inv(np.zeros((2, 2)))", "", r"fails: LinAlgError: .*\(in bad_12\.py:5\)"),
        (13, "return np.ones(group.size) * 1j", "", "scores of group 'up:1' are complex numbers"),
        (
            14,
            "return None",
            "); FOUND = Criterion(lambda g: None",
            r"has score\(g\): .* score\(group, evidence\)",
        ),
        (15, "return None", ", needs=lambda: None", r"has needs\(\): it is called as needs\(group, places\)"),
        (11, "return None", "); FOUND = score; print(''", "is not a graphprune.plugin.Criterion"),
    ],
)
def test_criteria(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: int, body: str, more: str, says: str
) -> None:
    criterion(monkeypatch, tmp_path, f"bad_{at}", body, more)
    error = failed("prune(criterion=theirs)", calibrated=True)
    assert error.message.startswith(f"criterion 'theirs' from 'bad_{at}:FOUND' ")
    assert re.search(says, error.message), error.message
    assert error.hint == f"update or uninstall the package 'bad_{at}'"


@pytest.mark.parametrize(
    ("at", "body", "says"),
    [
        (0, "def decide(self, subject, context): return {}[0]", r"fails: KeyError: 0 \(in wrong_0\.py:9\)"),
        (1, "def decide(self, subject, context): pass", "decides NoneType, not a Plan"),
        (2, "def transform(self, model, context): pass", "makes NoneType, not an onnx_ir.Model"),
        (
            3,
            "def decide(self, s, c): return Plan(cuts={'up:1': (1,)}, widths={'up:1': 9})",
            "16 units, not 9",
        ),
        (4, "def decide(self, s, c): return Plan(cuts={'up:1': (99,)}, widths={'up:1': 16})", "does not fit"),
        (
            5,
            "def decide(self, s, c): return Plan(cuts={'up:1': (0, 'a')}, widths={'up:1': 16})",
            "of type <U21: give",
        ),
        (6, "def decide(self, s, c): return Plan(cuts={'up:1': ()}, widths={'up:1': 16})", "keeps nothing"),
        (7, "pass", "must implement exactly one of decide and transform"),
        (
            8,
            "def decide(self, s, c): pass\n    taken: 'Nobody' = None",
            "cannot be read: name 'Nobody'",
        ),
        (11, "def decide(self, s, c): pass\n    at: object = print", "no pipeline text"),
        (12, "def decide(self, s, c): pass\n    name = 'other'", "calls itself 'other'"),
        (
            13,
            "def decide(self, subject): pass",
            r"has decide\(self, subject\): .* decide\(self, subject, context\)",
        ),
        (14, "def decide(self, s, c): pass\n    def options(self, s): pass", r"has options\(self, s\): "),
        (15, "def decide(self, s, c): return Plan({'up:1': (1,)})", "Plan of options dict: write Plan"),
        (
            16,
            "def decide(self, s, c): return Plan(cuts={'up:1': (1, 3, 3)})",
            "keeps unit 3 .* more than once",
        ),
        (
            17,
            "def decide(self, s, c): return Plan(cuts={'up:1': (1.0, 2.5)})",
            "of type float64: give indices",
        ),
        (18, "def decide(self, s, c): return Plan(cuts={'up:1': [True] * 16})", "of type bool: give indices"),
        (9, "def decide(self, s, c): pass\n    def __post_init__(self): self.no", "fails: AttributeError"),
        (10, "def decide(self, s, c): pass\n    def options(self): self.no", "fails: AttributeError"),
    ],
)
def test_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: int, body: str, says: str) -> None:
    install(monkeypatch, tmp_path, f"wrong_{at}", {"passes theirs": "Found"}, PASS.format(body=body))
    error = failed("theirs")
    assert error.message.startswith(f"pass 'theirs' from 'wrong_{at}:Found' ")
    assert re.search(says, error.message), error.message
    assert error.hint == f"update or uninstall the package 'wrong_{at}'"


@pytest.mark.parametrize(
    ("at", "kind", "error"), [(0, "ArgumentError", ArgumentError), (1, "PromiseError", PromiseError)]
)
def test_what_a_pass_tells_its_user_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: int, kind: str, error: type[Exception]
) -> None:
    body = f"def decide(self, subject, context): raise {kind}('width must be even')"
    install(monkeypatch, tmp_path, f"right_{at}", {"passes theirs": "Found"}, PASS.format(body=body))
    with pytest.raises(error, match="width must be even"):
        graphprune.compile(mlp(), "theirs")


def test_a_plan_may_hold_arrays_in_any_order_and_leave_out_widths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = "def decide(self, subject, context):\n        import numpy as np\n"
    body += "        kept, worth = np.array([9, 2, 4]), np.arange(16)\n"
    body += "        return Plan(cuts={'up:1': kept}, scores={'up:1': worth})"
    install(monkeypatch, tmp_path, "arrays_1", {"passes theirs": "Found"}, PASS.format(body=body))
    result = graphprune.compile(mlp(), "theirs", tmp_path / "small.onnx")
    assert (result.plans[0].cuts, result.plans[0].widths) == ({"up:1": (2, 4, 9)}, {"up:1": 16})
    up = ir.load(tmp_path / "small.onnx").graph.initializers["up"].const_value
    dense = mlp().graph.initializers["up"].const_value
    assert up is not None and dense is not None
    assert (up.numpy() == dense.numpy()[:, [2, 4, 9]]).all()


def test_a_bug_of_ours_in_a_preset_of_theirs_stays_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = "pass\nfrom graphprune.plugin import Structured\n"
    body += "@dataclass(frozen=True)\nclass Preset(Structured, scope='local'):\n    name = 'theirs'"
    install(monkeypatch, tmp_path, "preset_1", {"passes theirs": "Preset"}, PASS.format(body=body))
    monkeypatch.setattr("graphprune.pipeline.decision.choose", lambda *arguments: {}[1])
    with pytest.raises(KeyError):
        graphprune.compile(mlp(), "theirs")


def test_a_pass_that_is_not_installed_is_named_by_its_class() -> None:
    from graphprune.plugin import Context, Pass, Plan, Subject

    @dataclass(frozen=True)
    class Loose(Pass):
        name = "loose"

        def decide(self, subject: Subject, context: Context) -> Plan:
            raise OSError("no such thing")

    with pytest.raises(PluginError, match=r"^pass 'loose' from 'tests\..*Loose' fails: OSError"):
        graphprune.compile(mlp(), Loose())


def test_a_pass_that_is_not_installed_is_looked_at_before_it_is_called() -> None:
    from graphprune.plugin import Pass, Plan, Subject

    @dataclass(frozen=True)
    class Loose(Pass):
        name = "loose"

        def decide(self, subject: Subject) -> Plan:  # type: ignore[override]
            raise AssertionError("it was called")

    for passes in (Loose(), [Loose()]):
        with pytest.raises(
            PluginError, match=r"^pass 'loose' from 'tests\..*Loose' has decide\(self, subject\): "
        ):
            graphprune.compile(mlp(), passes)


def test_a_name_that_two_packages_claim_is_refused_and_one_of_ours_stays_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = CRITERION.format(body="return np.arange(group.size)", more="")
    for package in ("twin_a", "twin_b"):
        install(monkeypatch, tmp_path, package, {"criteria theirs": "FOUND", "criteria l2": "FOUND"}, source)
    error = failed("prune(criterion=theirs)")
    assert "'twin_a:FOUND' has the same name as 'twin_b:FOUND'" in error.message
    ours = graphprune.compile(mlp(), "prune(criterion=l2)").plans[0]
    assert ours == graphprune.compile(mlp(), "prune").plans[0]
    assert main(["passes"]) == 0
    listed = capsys.readouterr().out
    for package in ("twin_a", "twin_b"):
        assert re.search(rf"^ +l2 +{package} +has the name of one of ours", listed, re.MULTILINE)
        assert re.search(rf"^ +theirs +{package} +has the same name as", listed, re.MULTILINE)


def test_a_group_that_nothing_reads_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path, "stray_1", {"pases theirs": "Found"}, "")
    assert main(["passes"]) == 0
    listed = capsys.readouterr().out
    assert re.search(
        r"^ +theirs +stray_1 +is in the unknown group 'graphprune\.pases': ", listed, re.MULTILINE
    )
    assert "did you mean 'graphprune.passes'?" in listed


def test_a_pass_cannot_cut_what_is_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = "def decide(self, s, c):\n        g = next(g for g in s.analysis.groups if g.pin)\n"
    body += "        return Plan(s.options, {g.id: (0,)}, {g.id: g.size})"
    install(monkeypatch, tmp_path, "pins_1", {"passes theirs": "Found"}, PASS.format(body=body))
    assert "cuts group 'up:0', which is pinned" in failed("theirs").message


def test_every_block_keeps_as_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "(float[n,4,6,6] x) => (float[n,4,6,6] y) "
    text += "{ a = Conv(x, one)\n b = Conv <group = 2> (a, two)\n y = Conv(b, three) }"
    weights = {"one": (8, 4, 1, 1), "two": (8, 4, 1, 1), "three": (4, 8, 1, 1)}
    body = "kept: str = ''\n    def decide(self, s, c):\n"
    body += "        return Plan(cuts={'two:0': tuple(map(int, self.kept))})"
    install(monkeypatch, tmp_path, "blocks_1", {"passes theirs": "Found"}, PASS.format(body=body))
    even = graphprune.compile(sketch(text, **weights).model, 'theirs(kept="0147")').plans[0]
    assert even.cuts == {"two:0": (0, 1, 4, 7)}
    says = r"keeps 3 and 1 units in blocks 0 and 1 of group 'two:0'; keep as many in each \(group\.block\)"
    with pytest.raises(PluginError, match=f"^pass 'theirs' from 'blocks_1:Found' .*{says}"):
        graphprune.compile(sketch(text, **weights).model, 'theirs(kept="0124")')


def test_a_plan_replays_whatever_became_of_the_package_that_made_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = graphprune.compile(mlp(), "prune", tmp_path / "small.onnx")
    file = tmp_path / "small.plan.json"
    file.write_text(file.read_text().replace('"prune"', '"theirs"'))
    for package, source in (("", ""), ("lost_1", "import nothing_of_this_name")):
        if package:
            install(monkeypatch, tmp_path, package, {"passes theirs": "Found"}, source)
        assert graphprune.compile(mlp(), plan=file).plans[0].cuts == made.plans[0].cuts


def test_lines_of_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    criterion(monkeypatch, tmp_path, "line_1", "return group.nothing")
    ir.save(mlp(), tmp_path / "model.onnx")
    out = tmp_path / "small.onnx"
    made = ["compile", str(tmp_path / "model.onnx"), "--passes", "prune(criterion=theirs)", "-o", str(out)]
    assert main(made) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: criterion 'theirs' from 'line_1:FOUND' fails: AttributeError: ")
    assert second == "hint: update or uninstall the package 'line_1'"
    assert not out.exists()
    assert main(["--debug", *made]) == 2
    traced = capsys.readouterr().err
    assert 'line_1.py", line 5, in score' in traced and traced.count(first) == 1


@pytest.mark.parametrize(
    ("package", "weight", "what"),
    [
        ("doubles", "np.full((8, 16), 2)", "changed the function"),
        ("shrinks", "np.zeros((5, 5))", "left an invalid model"),
    ],
)
def test_a_wrong_model_is_the_fault_of_the_pass_that_made_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, weight: str, what: str
) -> None:
    body = "def transform(self, model, context):\n        import numpy as np, onnx_ir as ir\n"
    body += f"        wrong = ir.tensor({weight}.astype(np.float32), name='up')\n"
    body += "        model.graph.initializers['up'].const_value = wrong\n        return model"
    install(monkeypatch, tmp_path, package, {"passes theirs": "Found"}, PASS.format(body=body))
    with pytest.raises(PromiseError, match=what) as caught:
        graphprune.compile(mlp(), "theirs")
    assert f"a bug in the pass 'theirs' from '{package}:Found', not in graphprune" in caught.value.hint
    assert f"update or uninstall the package '{package}'" in caught.value.hint
