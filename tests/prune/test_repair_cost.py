"""What repair does not do: run what is the same, run data it does not look at, sum a few rows at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from graphprune.prune.repair import Change, observe, repair
from graphprune.runtime.holding import divide, some
from graphprune.statistics import calibration, rows, stream
from graphprune.statistics.calibration import sufficient
from graphprune.statistics.sites import find_sites
from tests.axes.claims import sketch
from tests.prune.test_repair import batches, mlp

Array = np.ndarray


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often pieces of each stretch of a model run, by the first value that it makes."""
    found: Counter[str] = Counter()
    opened = stream.open_piece

    def counted(model, sizes, segment, **options):
        found[segment.nodes[0].outputs[0].name or ""] += 1
        return opened(model, sizes, segment, **options)

    monkeypatch.setattr(stream, "open_piece", counted)
    yield found


def test_the_cut_model_runs_from_where_it_is_cut(runs: Counter[str]) -> None:
    """Before that both models are one."""
    analysis = mlp()
    groups = {s.initializer: group for group in analysis.prunable for s in group.slices if s.role == "sink"}
    counts = {}
    for sink in ("w2", "w4"):
        runs.clear()
        group = groups[sink]
        made = repair(analysis, Change({group.id: range(1, group.size)}), batches=batches(analysis))
        assert sink in made.replaced
        counts[sink] = runs["a"]
    assert counts["w4"] == 1 < counts["w2"]


def test_a_cut_layer_needs_rows_for_the_columns_that_are_left() -> None:
    text = "(float[n,64,6,6] x) => (float[n,4,6,6] y) { h = Conv <pads=[1,1,1,1]> (x, a)\n y = Conv(h, b) }"
    model = sketch(text, a=(64, 64, 3, 3), b=(4, 64, 1, 1)).model
    data = [{"x": np.zeros((16, 64, 6, 6), np.float32)}] * 24
    (wide, _), columns = find_sites(model), 64 * 9
    counts = [len(sufficient(model, data, [(wide, count)], 16)) for count in (columns, columns // 2)]
    assert counts[0] == int(np.ceil(calibration.SPREAD * 16 * columns / (16 * 36))) > counts[1]


@pytest.mark.parametrize("sizes", [(1, 700, 3, 96, 5000), (64,) * 40, (4096, 1)])
def test_rows_are_multiplied_many_at_a_time(sizes: tuple[int, ...]) -> None:
    """A product passes over sums of columns x columns, however few rows it has; their order stays."""
    waiting = observe._Waiting(rows.CHUNK_ELEMENTS // 1000)
    draw = np.random.default_rng(0)
    given = [draw.standard_normal((1, size, 2)) for size in sizes]
    taken = [part for each in given for part in waiting.add(each, -each)]
    taken.extend(waiting.rest())
    assert not list(waiting.rest())
    assert np.array_equal(np.concatenate([one for one, _ in taken], axis=1), np.concatenate(given, axis=1))
    assert all(np.array_equal(two, -one) for one, two in taken)
    assert len(taken) <= 2 + 2 * sum(sizes) / 1000


def test_products_of_a_batch_are_of_about_equal_parts() -> None:
    """A few rows that are left over would cost as much as all others."""
    (site, *_) = find_sites(mlp().model)
    for count in (1, rows.CHUNK_ROWS - 1, rows.CHUNK_ROWS + 23, 3 * rows.CHUNK_ROWS):
        parts = [len(part) for part in rows._chunks(site, np.arange(count))]
        assert sum(parts) == count and max(parts) - min(parts) <= 1 and max(parts) <= 1.5 * rows.CHUNK_ROWS


def test_a_choice_of_samples_is_the_one_that_a_division_makes() -> None:
    analysis = mlp()
    whole = np.arange(35 * 8, dtype=np.float32).reshape(35, 8)
    sets = [{"x": whole[:5]}, {"x": whole[5:]}]
    chosen, rest = divide(sets, analysis.model, 12, 3)
    again = some(sets, analysis.model, 12, 3)
    assert all(np.array_equal(one["x"], two["x"]) for one, two in zip(chosen, again, strict=True))
    assert sum(len(part["x"]) for part in chosen) == 12
    everything = np.concatenate([part["x"] for part in (*chosen, *rest)])
    assert len(np.unique(everything)) == 35 * 8
