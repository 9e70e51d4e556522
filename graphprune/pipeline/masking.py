"""The base of every pass that sets single weights to zero; shapes stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np

from graphprune.errors import ArgumentError, PromiseError
from graphprune.ir.names import quote
from graphprune.ops import record_of
from graphprune.pipeline.passes import Context, Pass, Subject, Turn, argument
from graphprune.prune.masks.patterns import Keep, Pattern, Scores, keep_groups, keep_rows, read_pattern
from graphprune.prune.plan import Plan

if TYPE_CHECKING:
    from graphprune.ir.arrays import Doubles, Singles
    from graphprune.pipeline.passes import Feed
    from graphprune.prune.gradients import Reading
    from graphprune.prune.masks.drive import Needed
    from graphprune.prune.masks.layers import Layer, Left
    from graphprune.prune.masks.treat import Masked, Moments
    from graphprune.run import Run
    from graphprune.statistics.measures import Statistics
    from graphprune.statistics.sites import Site
    from graphprune.statistics.stream import Stream

DEFAULT_RATIO = 0.5
Needs = Literal["nothing", "vectors", "grams"]
Fields: TypeAlias = "Callable[[Layer], Mapping[str, Singles]]"
"""Of a Layer, by what was measured: [blocks, rows, columns]."""


@dataclass(frozen=True)
class Masking(Pass):
    """Arguments and stages that mask passes share: find, allocate, score, select, repair.

    A subclass says what it needs to know of the inputs and how a weight is scored; `select` and `solve` have
    defaults.
    """

    turn: ClassVar[Turn | None] = "masks"
    needs: ClassVar[Needs] = "vectors"

    ratio: float | None = argument(
        None, f"share of the masked weights to remove (default {DEFAULT_RATIO}); n:m says itself"
    )
    pattern: str = argument("unstructured", "unstructured, or n:m: n of every m inputs stay")
    budget: Literal["global", "uniform", "owl"] = argument(
        "global", "the least of all layers, every layer the same share, or less where outliers are"
    )
    ratios: Mapping[str, float] = field(
        default_factory=dict, metadata={"help": "ratios of their own for some weights, by glob"}
    )
    only: tuple[str, ...] = argument((), "globs: weights or nodes to mask")
    ignore: tuple[str, ...] = argument((), "globs: weights or nodes to leave alone")
    head: bool = argument(False, "also mask layers that no other layer follows")
    embeddings: bool = argument(False, "also mask weights that are looked up by index")
    repair: Literal["none", "refit"] = argument(
        "none", "refit: the best weights under the mask for the calibration data"
    )
    driver: Literal["sequential", "oneshot"] = argument(
        "sequential", "measure behind what is masked already, or everything in the dense model"
    )
    damping: float = argument(0.01, "share of the mean diagonal added to second moments")

    def __post_init__(self) -> None:
        pattern = read_pattern(self.pattern)
        ratios = (("ratio", self.ratio), *((f"ratios['{k}']", v) for k, v in self.ratios.items()))
        for label, value in ratios:
            if value is not None and not 0 <= value < 1:
                raise ArgumentError(f"{label} must be in [0, 1), got {value}")
            if value is not None and pattern.structured:
                raise ArgumentError(f"{label} says nothing under pattern={pattern}, which removes as it says")
        if pattern.structured and self.budget == "owl":
            raise ArgumentError(f"budget: pattern={pattern} removes the same share of every layer")
        if not 0 <= self.damping < np.inf:
            raise ArgumentError(f"damping must be at least 0, got {self.damping}")

    @property
    def measured(self) -> Needs:
        """What has to be known of the inputs under these arguments."""
        return "grams" if self.repair == "refit" else self.needs

    def score(self, weight: Singles, squares: Doubles) -> Scores:
        """What every weight of a matrix [rows, columns] is worth; higher stays."""
        raise NotImplementedError

    def scores(self, matrix: Singles, known: Moments) -> Scores:
        """Scores of all blocks [blocks, rows, columns] as one matrix; none is negative."""
        from graphprune.prune.masks.treat import by_block

        return by_block(matrix, known.squares, self.score)

    def fields(self, subject: Subject, layers: Sequence[Layer], context: Context) -> Fields | None:
        """What else is known of every weight of a Layer, measured before anything is masked."""
        return None

    def select(self, scores: Scores, ratio: float) -> Keep:
        """Which weights of an unstructured matrix stay."""
        return keep_rows(scores, ratio)

    def solve(self, layer: Layer, matrix: Singles, known: Moments, ratio: float) -> tuple[Singles, Keep]:
        """Weights and mask of a Layer, [blocks, rows, columns]."""
        from graphprune.prune.masks.treat import zeros_first

        scores = zeros_first(self.scores(matrix, known), matrix)
        pattern = read_pattern(self.pattern)
        keep = keep_groups(scores, pattern) if pattern.structured else self.select(scores, ratio)
        return matrix, keep.reshape(matrix.shape)

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find, allocate, then mask and repair layer by layer."""
        from graphprune.statistics.sites import find_maskable

        sites = find_maskable(subject.model, subject.sizes)
        layers = self._layers(subject, sites, context)
        work = _Work(self, subject, context, sites, layers)
        masks, replaced = {}, {}
        silent: list[str] = []
        for layer, masked in work.run(silent):
            if not masked.keep.all():
                masks[layer.name] = masked.keep
                if masked.weights is not None:
                    replaced[layer.name] = masked.weights
        if silent:
            more = f" and {len(silent) - 6} more" if len(silent) > 6 else ""
            context.warn(
                f"what {', '.join(map(quote, silent[:6]))}{more} read is zero on the calibration data, "
                "so their weights were chosen without it"
            )
        if not masks and self.ratio != 0:
            raise PromiseError("nothing was removed: no layer has enough weights", "raise the ratio")
        return Plan(options=self.options(), masks=masks, replaced=replaced)

    def fixed(
        self, layers: Sequence[Layer], ratio: float, context: Context, fields: Fields | None
    ) -> dict[str, Keep]:
        """Masks that are decided over all layers at once, in the order of the pattern."""
        return {}

    def _layers(self, subject: Subject, sites: Sequence[Site], context: Context) -> tuple[Layer, ...]:
        from graphprune.prune.masks.layers import Choice, find_layers, matches

        pattern = read_pattern(self.pattern)
        everything, _ = find_layers(subject.model, sites, Choice(Pattern(), True, True))
        for glob in (*self.only, *self.ignore, *self.ratios):
            if not any(matches(layer, glob) for layer in everything):
                names = ", ".join(quote(layer.name) for layer in everything[:8])
                raise ArgumentError(
                    f"no weight or node that can be masked is called '{glob}'", f"weights: {names}"
                )
        choice = Choice(pattern, self.head, self.embeddings, self.only, self.ignore)
        layers, left = find_layers(subject.model, sites, choice)
        if not layers:
            raise PromiseError("nothing to mask" + "".join(f"\n  {line}" for line in _told(left, 20)))
        for line in _told(left, 6):
            context.warn(f"left alone: {line}")
        return layers


def gradient_fields(
    subject: Subject, layers: Sequence[Layer], context: Context, readings: Sequence[Reading], what: str
) -> Fields:
    """What gradients of the calibration data say of every weight.

    Raises:
        ArgumentError: there is no calibration data, or torch is not installed.
        PromiseError: a weight is stored as codes, which have no gradients.
    """
    context.require_calibration(what)
    names = sorted(layer.name for layer in layers)
    found = context.differentiation(what).of_elements(subject.model, names, readings)
    blind = [name for table in found.values() for name in names if name not in table]
    if blind:
        raise PromiseError(
            f"{what}: no gradient reaches {', '.join(map(quote, blind[:6]))}, stored as codes",
            "leave them out with ignore=",
        )
    return lambda layer: {name: layer.slopes(table[layer.name], name) for name, table in found.items()}


def _told(left: Sequence[Left], names: int) -> Iterator[str]:
    """One line per reason."""
    for why, count in Counter(item.why for item in left).items():
        if why == "not asked for":
            continue
        found = [quote(item.name) for item in left if item.why == why]
        more = f" and {count - names} more" if count > names else ""
        yield f"{', '.join(found[:names])}{more}: {why}"


@dataclass(frozen=True)
class Calibrated(Masking):
    """A mask pass whose scores depend on the inputs of a layer, and so compare within it only."""

    budget: Literal["uniform", "owl"] = argument(
        "uniform", "every layer the same share, or less where outliers are (OWL)"
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """One run of a mask pass."""

    item: Masking
    subject: Subject
    context: Context
    sites: tuple[Site, ...]
    layers: tuple[Layer, ...]

    def run(self, silent: list[str]) -> Iterator[tuple[Layer, Masked]]:
        """Every Layer with its mask; Layers whose input is always zero are added to `silent`."""
        from graphprune.prune.masks.drive import oneshot, sequential, wanted
        from graphprune.prune.masks.treat import no_moments

        needed = self._needed()
        ratios, fixed = self._budget()
        treat = partial(self._treat, ratios, fixed, silent)
        if self.item.measured == "nothing":
            return ((layer, treat(layer, no_moments(layer))) for layer in self.layers)
        own = [site for layer in self.layers for site in layer.sites]
        if self.item.driver == "oneshot":
            found = self.context.collect(self.subject.model, wanted(own, needed), str(self.item))
            return oneshot(self.layers, found, treat, needed)
        return sequential(self.layers, self._stream(), treat, needed, self.context.run.progress)

    @cached_property
    def _measured(self) -> Fields | None:
        return self.item.fields(self.subject, self.layers, self.context)

    def _with_fields(self, layer: Layer, known: Moments) -> Moments:
        return known if self._measured is None else replace(known, fields=self._measured(layer))

    def _needed(self) -> Needed:
        from graphprune.prune.masks.drive import Needed

        return Needed(squares=self.item.needs == "vectors", grams=self.item.measured == "grams")

    def _treat(
        self,
        ratios: Mapping[str, float],
        fixed: Mapping[str, Keep],
        silent: list[str],
        layer: Layer,
        known: Moments,
    ) -> Masked:
        from graphprune.prune.masks.treat import Masked, alike, refitted

        if not known.squares.any():
            silent.append(layer.name)
            known = alike(known)

        known, matrix = self._with_fields(layer, known), layer.matrix()
        if layer.name in fixed:
            value, keep = matrix, fixed[layer.name]
        else:
            value, keep = self.item.solve(layer, matrix, known, ratios[layer.name])
        keep = keep & (matrix != 0)
        if self.item.repair == "refit":
            value = refitted(matrix, value, keep, known.gram, self.item.damping)
        weights = None if value is matrix else layer.restore(value)
        return Masked(layer.stored(keep), weights)

    def _budget(self) -> tuple[dict[str, float], dict[str, Keep]]:
        """The share of every layer that goes, or where all layers were ranked together, its mask."""
        from graphprune.prune.masks.layers import matches

        ratio = DEFAULT_RATIO if self.item.ratio is None else self.item.ratio
        own = {
            layer.name: share
            for glob, share in reversed(list(self.item.ratios.items()))
            for layer in self.layers
            if matches(layer, glob)
        }
        rest = [layer for layer in self.layers if layer.name not in own]
        if self.item.budget == "owl" and rest:
            return self._owl(rest, ratio) | own, {}
        structured = read_pattern(self.item.pattern).structured
        fixed = {} if structured else self.item.fixed(rest, ratio, self.context, self._measured)
        return {layer.name: ratio for layer in rest} | own, fixed

    def _owl(self, layers: Sequence[Layer], ratio: float) -> dict[str, float]:
        from graphprune.prune.masks.allocate import outlier_share, owl
        from graphprune.prune.masks.drive import Needed, wanted

        blocks, known = self._blocks(layers), None
        if self.item.needs != "nothing":
            every = [site for layer in self.layers for site in layer.sites]
            known = self.context.collect(
                self.subject.model, wanted(every, Needed(squares=True, grams=False)), str(self.item)
            )
        shares = [outlier_share(self._fields(block, known)) for block in blocks]
        sizes = [sum(layer.size for layer in block) for block in blocks]
        found = owl(shares, sizes, ratio)
        return {
            layer.name: float(share) for block, share in zip(blocks, found, strict=True) for layer in block
        }

    def _fields(self, layers: Sequence[Layer], known: Statistics | None) -> Iterator[Scores]:
        from graphprune.prune.masks.drive import Needed
        from graphprune.prune.masks.drive import known as known_of
        from graphprune.prune.masks.treat import no_moments

        needed = Needed(squares=True, grams=False)
        for layer in layers:
            own = no_moments(layer) if known is None else known_of(layer, known, needed)
            for matrix, squares in zip(layer.matrix(), own.squares, strict=True):
                yield self.item.score(matrix, squares)

    def _blocks(self, layers: Sequence[Layer]) -> list[list[Layer]]:
        """Layers by the segment of the model in which their first Site is: a decoder's block."""
        from graphprune.ir.shapes import infer
        from graphprune.statistics.segments import Layout

        layout = Layout(self.subject.model, self.subject.sizes or infer(self.subject.model, record_of))
        by_site = {layer.sites[0].name: layer for layer in layers}
        found = [
            [by_site[site.name] for site in segment.sites if site.name in by_site]
            for segment in layout.segments(layout.cuts(self.sites), self.sites)
        ]
        return [block for block in found if block]

    def _stream(self) -> Stream:
        given = self.context
        if not given.calibration:
            raise ArgumentError(
                f"{self.item} needs calibration data", "--calibration FILE gives samples of the inputs"
            )
        return streamed(self.subject, self.sites, given.calibration, given.run)


def streamed(subject: Subject, sites: Sequence[Site], batches: Sequence[Feed], run: Run) -> Stream:
    """A model in stages, each of which makes what the Sites behind it read."""
    from graphprune.ir.shapes import infer
    from graphprune.prune.masks.drive import stages
    from graphprune.statistics.segments import Layout
    from graphprune.statistics.stream import Stream

    sizes = subject.sizes or infer(subject.model, record_of)
    cuts = stages(Layout(subject.model, sizes), sites)
    return Stream(subject.model, tuple(batches), tuple(sites), sizes=sizes, cuts=cuts, run=run)
