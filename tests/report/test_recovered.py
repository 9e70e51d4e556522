"""What a training won back is told in lines and as a curve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphprune.pipeline.report import CurvePoint, Interval, RecoveredOutput, RecoveryReport, Report
from graphprune.report.agreed import headline
from graphprune.report.compiled import tables
from graphprune.report.html import pictures, render

from .conftest import of_pass

FOUND = RecoveryReport(
    goals=("logits",),
    tensors=32,
    weights=90_700,
    samples=256,
    selection=128,
    steps=400,
    batch=8,
    rate=0.0005,
    best=200,
    accepted=True,
    together=True,
    seconds=41.0,
    curve=(CurvePoint(0, None, 0.5), CurvePoint(200, 0.4, 0.2), CurvePoint(400, 0.1, 0.3)),
    outputs=(RecoveredOutput("logits", "classes", Interval(0.1, 0.05, 0.15), Interval(0.02, 0.0, 0.04)),),
)
LINES = (
    "trained 90.7 K weights in 32 tensors on 256 samples: 400 steps of 8, rate 0.0005, 41 s",
    "towards the dense model's 'logits'",
    "loss on 128 other samples 0.5 before, 0.2 at best, after step 200 (1: the best constant answer)",
    "output 'logits': drop 0.100 (95 % interval 0.050 to 0.150) before, "
    "0.020 (95 % interval 0.000 to 0.040) after on these",
)


def said(report: Report) -> list[str]:
    return [cell for table in tables(report) for row in table.rows for cell in row]


def test_the_terminal_says_what_was_trained_on_what(compiled: Report) -> None:
    lines = said(of_pass(compiled, recovery=FOUND))
    assert set(LINES) <= set(lines) and "not taken: the model is what it was" not in lines
    refused = replace(FOUND, accepted=False, together=False)
    lines = said(of_pass(compiled, recovery=refused))
    assert "not taken: the model is what it was" in lines
    assert any("400 steps of 8, one sample at a time" in line for line in lines)


def test_the_headline_says_the_drop_before(compiled: Report) -> None:
    agreement = compiled.agreement
    assert agreement is not None and "before recover" not in headline(agreement)
    assert "(0.321 before recover)" in headline(replace(agreement, before=Interval(0.321, 0.3, 0.4)))


def test_the_page_shows_the_curve(compiled: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    report = of_pass(compiled, recovery=FOUND)
    page = render(report)
    assert "Loss of the training" in page
    assert "Line chart of the loss over 400 steps: 0.5 before, 0.2 at best" in page
    monkeypatch.setattr(pictures, "can_draw", lambda: False)
    page = render(report)
    assert "Loss of the training" not in page and "after step 200" in page
