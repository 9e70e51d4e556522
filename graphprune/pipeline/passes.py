"""A pass is a value: a frozen dataclass whose fields are its arguments, and which prints as pipeline text."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeVar, get_args

from graphprune.errors import ArgumentError, PromiseError, did_you_mean
from graphprune.pipeline.arguments import alike, convert, describe, fits, show
from graphprune.pipeline.collecting import Collector
from graphprune.pipeline.grammar import Stage, dashed
from graphprune.run import USUAL, Run

if TYPE_CHECKING:
    import numpy
    import onnx_ir

    from graphprune.axes import Analysis, Options
    from graphprune.ir.arrays import Scores
    from graphprune.ir.shapes import Sizes
    from graphprune.pipeline.differentiating import Differentiation
    from graphprune.pipeline.foresight import Foresight
    from graphprune.pipeline.ratios import Ratio
    from graphprune.pipeline.reference import Reference
    from graphprune.pipeline.report import RecoveryReport
    from graphprune.prune.plan import Plan
    from graphprune.prune.select import Align
    from graphprune.statistics.measures import Statistics, Wanted

    Feed = Mapping[str, numpy.ndarray]


Turn = Literal["normalise", "structure", "masks", "repair", "recover"]
"""What a pass does to a model, in the order in which passes may run."""
ORDER: tuple[Turn, ...] = get_args(Turn)


@dataclass(frozen=True)
class Subject:
    """What a pass looks at: a normalised model, and its analysis, made on first use and kept."""

    model: onnx_ir.Model
    options: Options
    sizes: Sizes | None = None
    phase: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()

    @cached_property
    def analysis(self) -> Analysis:
        """The groups of the model under the options of the pass."""
        from graphprune.axes import analyse

        with self.phase("analyse"):
            return analyse(self.model, self.options, self.sizes)


@dataclass(frozen=True)
class Context:
    """What a pass may use besides the model.

    Args:
        calibration: sample inputs, one mapping of input name to array per batch; empty when none were given.
        general: samples of all else, which a pass may weigh the domain of `calibration` against; as they are.
        shapes: concrete shapes that the user gave for graph inputs.
        counted: those that multiply-adds are counted at; sizes that these leave open are assumed.
        run: the seed, how long a run of the model may take, and whom to tell progress.
        allow_short: whether a missed budget is a warning (true) or ends the compile (false).
        warn: called with a line for the warnings of the report.
        note: called with a line on what the pass did.
        collector: keeps what was measured, for other passes and later compiles.
        given: parameters and multiply-adds of the model as given, of which budgets are shares, where known.
        forced: called with the reason, where a budget has to be left far behind.
        reference: the dense model and samples to learn from, for a pass that `learns`.
        settle: called with the pass that repeats this one, where it found some of its arguments itself.
        recovered: called with what a training came to.
        foresight: what a latency budget is solved by; None where no pass has one.
        step: channels by which a convolution has to be narrower to be cheaper on the target; None: not known.
        foretell: called with the nanoseconds that are foreseen for what a pass leaves.
    """

    calibration: tuple[Feed, ...] = ()
    general: tuple[Feed, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    counted: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    run: Run = USUAL
    allow_short: bool = False
    warn: Callable[[str], None] = lambda line: None
    note: Callable[[str], None] = lambda line: None
    collector: Collector = field(default_factory=Collector)
    given: Mapping[str, int] = field(default_factory=dict)
    forced: Callable[[str], None] = lambda why: None
    reference: Reference | None = None
    settle: Callable[[Pass], None] = lambda item: None
    recovered: Callable[[RecoveryReport], None] = lambda report: None
    foresight: Foresight | None = None
    foretell: Callable[[int], None] = lambda nanoseconds: None
    step: int | None = None

    @property
    def seed(self) -> int:
        """Of everything random in the pass."""
        return self.run.seed

    def aligned(self, align: Align) -> Align:
        """What a pass says of multiples, with `auto` as it is on the target."""
        from graphprune.prune.select import Auto

        return Auto(self.step) if align == "auto" and self.step is not None else align

    def collect(self, model: onnx_ir.Model, wanted: Wanted, what: str = "") -> Statistics:
        """Measures of a model on the calibration data; `what` is said to need them where there is none.

        Raises:
            ArgumentError: there is no calibration data.
        """
        self.require_calibration(what or "this pass")
        return self.collector.collect(model, self.calibration, wanted, self.run)

    def scores(
        self, model: onnx_ir.Model, about: object, find: Callable[[Callable[[str], None]], dict[str, Scores]]
    ) -> dict[str, Scores]:
        """Those that an earlier compile found of the same, or else what is found now.

        Args:
            model: that is scored.
            about: all that scores follow from besides the model and the samples, as `repr` tells it; None
                where that is not known.
            find: finds them, and is handed what its warnings are told to.
        """
        from graphprune.pipeline.report import installed_versions

        book = self.collector.scores
        if book is None or about is None or not self.calibration:
            return find(self.warn)
        key = self.collector.key(model, self.calibration, self.seed)
        return book.scores(f"{key} {about!r} {installed_versions()}", find, self.warn)

    def differentiation(self, what: str) -> Differentiation:
        """What measures gradients on the calibration data; `what` is said to need torch where it is missing.

        Raises:
            ArgumentError: torch is not installed.
        """
        from graphprune.pipeline.differentiating import differentiation

        return differentiation(what, self.calibration, self.shapes, self.run)

    def require_calibration(self, what: str, otherwise: str = "") -> None:
        """Say that something needs calibration data, and what to do without.

        Raises:
            ArgumentError: there is none.
        """
        if not self.calibration:
            message = f"{what} needs calibration data"
            raise ArgumentError(message, f"give some: --calibration FILE{otherwise and f'; or {otherwise}'}")

    def against_general(self, what: str) -> Context:
        """The same with the general samples as calibration data.

        Raises:
            ArgumentError: there are none.
        """
        if not self.general:
            message = f"{what} needs general samples besides those of the domain"
            raise ArgumentError(message, "give both: --calibration DOMAIN --general FILE")
        return replace(self, calibration=self.general, collector=Collector())

    def fall_short(self, message: str, hint: str = "") -> None:
        """Say that a budget cannot be met: an error, or a warning of the report under `--allow-short`.

        Raises:
            PromiseError: short results were not allowed.
        """
        if not self.allow_short:
            raise PromiseError(message, hint or "--allow-short writes the smallest model that was reached")
        self.warn(message)


T = TypeVar("T")
P = TypeVar("P")


def argument(default: T, help: str) -> T:
    """A field of a pass: what it is unless said otherwise, and what it means."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Pass:
    """Base of every pass.

    A subclass is a frozen dataclass with a `name`, whose fields are its arguments (`argument`, or a field of
    `metadata={"help": "..."}`), and implements one of `decide` and `transform`. A bad value or a combination
    is an `ArgumentError` raised in `__post_init__`; start its message with the argument's name and the caret
    finds it. A preset of another's arguments says them as it is made: `class Mine(Prune, criterion="l1")`.
    A pass that says when it is its `turn` runs then only. Where one `learns`, samples are split into a part
    for training and repair, one to choose by, and one for the report.
    """

    name: ClassVar[str]
    turn: ClassVar[Turn | None] = None
    learns: ClassVar[bool] = False

    def __new__(cls, *values: object, **named: object) -> Self:
        """Refuse arguments that pipeline text would refuse, before anything is made of them.

        Raises:
            ArgumentError: one has a name that is none, or holds what it cannot.
        """
        require_arguments(cls, values, named)
        return super().__new__(cls)

    def __init_subclass__(cls, **preset: object) -> None:
        super().__init_subclass__()
        if "__post_init__" in vars(cls):
            cls.__post_init__ = _sharing(vars(cls)["__post_init__"])  # type: ignore[attr-defined]
        if "__repr__" not in vars(cls):
            type.__setattr__(cls, "__repr__", Pass.__repr__)  # or dataclass makes one that says every default
        base = cls.__mro__[1]
        hints = typing.get_type_hints(base, include_extras=True) if preset else {}
        for name, value in preset.items():
            inherited = getattr(base, "__dataclass_fields__", {}).get(name)
            if inherited is None:
                raise TypeError(f"{cls.__name__} presets '{name}', which is no argument of {base.__name__}")
            setattr(cls, name, field(default=value, metadata=inherited.metadata))
            cls.__annotations__ = {**inspect.get_annotations(cls), name: hints[name]}

    @property
    def needs_torch(self) -> str:
        """What of this pass needs torch, as an error says it where torch is missing; empty for nothing."""
        return ""

    def options(self) -> Options:
        """How the model is to be analysed for this pass."""
        from graphprune.axes import Options

        return Options()

    def decide(self, subject: Subject, context: Context) -> Plan:
        """What to remove. The manager rewrites, checks and proves."""
        raise NotImplementedError

    def transform(self, model: onnx_ir.Model, context: Context) -> onnx_ir.Model:
        """A model that computes the same function. The manager hands over a copy and checks the claim."""
        raise NotImplementedError

    def ratio_taken(self, subject: Subject, plan: Plan, context: Context) -> Ratio | None:
        """What a `ratio` asks for, and what a plan removes of it: Units of all Groups that may shrink."""
        from graphprune.pipeline.ratios import of_units

        asked = getattr(self, "ratio", None)
        if not plan.cuts or isinstance(asked, bool) or not isinstance(asked, int | float):
            return None
        return of_units(float(asked), subject.analysis.prunable, plan.cuts)

    def __str__(self) -> str:
        return print_pass(self)

    def __repr__(self) -> str:
        said = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in _said(self))
        return f"{type(self).__name__}({said})"


def decides(item: Pass) -> bool:
    """Whether a pass makes a Plan (rather than transforming the model itself)."""
    return type(item).decide is not Pass.decide


def from_stage(kind: type[Pass], stage: Stage) -> Pass:
    """The pass that a stage of pipeline text stands for.

    Raises:
        ArgumentError: an unknown argument or a bad value; the message points at it.
    """
    fields = {dashed(item.name): item.name for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind, include_extras=True)
    values: dict[str, object] = {}
    for argument in stage.arguments:
        if argument.name not in fields:
            message = f"pass '{stage.name}' has no argument '{argument.name}'"
            raise argument.span.error(message, did_you_mean(argument.name, fields))
        name = fields[argument.name]
        try:
            values[name] = convert(argument.value, hints[name])
        except ArgumentError as error:
            raise ArgumentError(f"{argument.name}: {error.message}", error.hint) from None
    return _construct(kind, stage, values)


def _construct(kind: type[Pass], stage: Stage, values: dict[str, object]) -> Pass:
    required = [item.name for item in dataclasses.fields(kind) if _required(item)]
    for name in required:
        if name not in values:
            raise stage.span.error(f"pass '{stage.name}' needs the argument '{dashed(name)}'")
    try:
        return kind(**values)
    except ArgumentError as error:
        first = dashed(error.message.split(maxsplit=1)[0].rstrip(":")) if error.message else ""
        spans = {argument.name: argument.value.span for argument in stage.arguments}
        raise spans.get(first, stage.span).error(error.message, error.hint) from None


def _sharing(checks: Callable[[P], None]) -> Callable[[P], None]:
    """The same checks of a pass; what they say of a share that was given in percent has a hint."""

    @wraps(checks)
    def checked(item: P) -> None:
        try:
            checks(item)
        except ArgumentError as error:
            name = error.message.split(maxsplit=1)[0] if error.message else ""
            value = getattr(item, name.replace("-", "_"), None)
            error.hint = error.hint or _as_share(value, name, error.message)
            raise

    return checked


def _as_share(value: object, name: str, message: str) -> str:
    """How a share is written that was given in percent."""
    if isinstance(value, bool) or not isinstance(value, int | float) or "[0, 1" not in message:
        return ""
    return f"did you mean {name}={value / 100:g}?" if 2 <= value < 100 else ""


def _required(item: dataclasses.Field[object]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _default(item: dataclasses.Field[object]) -> object:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def print_pass(item: Pass) -> str:
    """Pipeline text of a pass: its name and the arguments that differ from their defaults."""
    shown = [f"{dashed(each.name)}={_shown(item, each.name)}" for each in _said(item)]
    return dashed(item.name) + (f"({', '.join(shown)})" if shown else "")


def _said(item: Pass) -> Iterator[dataclasses.Field[object]]:
    """The arguments that differ from their defaults."""
    for each in dataclasses.fields(item):
        if _required(each) or getattr(item, each.name) != _default(each):
            yield each


def _shown(item: Pass, name: str) -> str:
    try:
        return show(getattr(item, name))
    except TypeError as error:
        raise ArgumentError(f"{item.name}: {name}: {error}") from None


def require_arguments(kind: type[Pass], values: Sequence[object], named: Mapping[str, object]) -> None:
    """Refuse arguments of a pass that its pipeline text would refuse.

    Raises:
        ArgumentError: one has a name that is none, or holds what it cannot.
    """
    if not dataclasses.is_dataclass(kind):
        return
    known = [each.name for each in dataclasses.fields(kind)]
    for name in named:
        if name not in known:
            raise ArgumentError(f"pass '{kind.name}' has no argument '{name}'", did_you_mean(name, known))
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # whatever a name in an annotation leads to: said where the pass is used
        return
    for name, value in {**dict(zip(known, values, strict=False)), **named}.items():
        if not fits(value, hints[name]):
            wanted = f"expected {describe(hints[name])}, got {value!r}"
            raise ArgumentError(f"{dashed(name)}: {wanted}", alike(value, hints[name]))


@dataclass(frozen=True)
class ArgumentHelp:
    """One argument of a pass, for people."""

    name: str
    type: str
    default: str
    help: str


def arguments(kind: type[Pass]) -> tuple[ArgumentHelp, ...]:
    """The arguments of a pass, in the order of its fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        ArgumentHelp(
            name=dashed(item.name),
            type=describe(hints[item.name]),
            default="required" if _required(item) else show(_default(item)),
            help=str(item.metadata.get("help", "")),
        )
        for item in dataclasses.fields(kind)
    )
