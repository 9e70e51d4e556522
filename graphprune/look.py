"""Looking at a model and at what is installed, as functions: `graphprune.inspect` and so on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from graphprune.forms import Data, ModelLike, as_model, as_samples
from graphprune.labels.options import LayerNorm, Options
from graphprune.pipeline.calls import called_as
from graphprune.pipeline.option import Flag, Word
from graphprune.pipeline.settings import Looking

if TYPE_CHECKING:
    from graphprune.axes import Group
    from graphprune.pipeline.catalogue import Installed
    from graphprune.pipeline.explanation import Explained
    from graphprune.pipeline.inspection import Inspection


@dataclass(frozen=True)
class _Analysed(Looking):
    """What is said about a model that is looked at."""

    layernorm: LayerNorm = field(default="refuse", kw_only=True)
    allow_inexact: bool = field(default=False, kw_only=True)
    inputs: Data = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        Word(words=get_args(LayerNorm)).value("layernorm", self.layernorm)
        Flag().value("allow_inexact", self.allow_inexact)

    @property
    def assumed(self) -> Options:
        """What the analysis may assume."""
        return Options(layernorm=self.layernorm, allow_inexact=self.allow_inexact)


@dataclass(frozen=True)
class _Inspect(_Analysed):
    model: ModelLike


@called_as(_Inspect)
def inspect(asked: _Inspect) -> Inspection:
    """Size and operators of a model, its groups with what each would give, and what is pinned by which node.

    Args:
        model: what to look at.
        layernorm: widths under LayerNorm: refuse, expand or slice.
        allow_inexact: also show cuts that change what a normalisation computes.
        inputs: samples, for their shapes.

    Raises:
        GraphpruneError: the model is malformed or unsafe, or the samples do not fit it.

    Example:
        >>> import graphprune
        >>> found = graphprune.inspect("models/digits_cnn/model.onnx")
        >>> found.size.params, found.size.macs
        (307050, 29485632)
        >>> [group.id for group in found.groups if group.pin]
        ['classifier.weight:0']
    """
    from graphprune.pipeline import inspection

    model = as_model("model", asked.model)
    return inspection.inspect(model, asked, asked.assumed, as_samples("inputs", asked.inputs))


@dataclass(frozen=True)
class _Explain(_Analysed):
    model: ModelLike
    name: str
    other: str | None = None


@called_as(_Explain)
def explain(asked: _Explain) -> Explained:
    """What a group is removed together with or what pins it, or why two tensors shrink together.

    Args:
        model: what to look at.
        name: a group, an initializer or a node, or a glob like layer1.*.
        other: another one; the answer is the path that couples the two.
        layernorm: widths under LayerNorm: refuse, expand or slice.
        allow_inexact: also show cuts that change what a normalisation computes.
        inputs: samples, for their shapes.

    Raises:
        ArgumentError: nothing has that name.
        GraphpruneError: the model is malformed or unsafe.

    Example:
        >>> import graphprune
        >>> found = graphprune.explain("models/digits_cnn/model.onnx", "classifier.weight:0")
        >>> found[0].pin
        "graph output 'logits'"
    """
    from graphprune.pipeline import explanation

    model, inputs = as_model("model", asked.model), as_samples("inputs", asked.inputs)
    return explanation.explain(model, asked.name, asked.other, asked, asked.assumed, inputs)


@dataclass(frozen=True)
class _FindGroups(_Analysed):
    model: ModelLike


@called_as(_FindGroups)
def find_groups(asked: _FindGroups) -> tuple[Group, ...]:
    """Every group of a model, prunable or pinned, in the order of the file.

    Args:
        model: what to look at.
        layernorm: widths under LayerNorm: refuse, expand or slice.
        allow_inexact: also show cuts that change what a normalisation computes.
        inputs: samples, for their shapes.

    Raises:
        GraphpruneError: the model is malformed or unsafe, or the samples do not fit it.

    Example:
        >>> import graphprune
        >>> graphprune.find_groups("models/digits_cnn/model.onnx")[-1]
        <Group onnx::Conv_178:0: 384 units>
    """
    from graphprune.axes import analyse
    from graphprune.pipeline.opened import open_model

    opened = open_model(as_model("model", asked.model), asked, as_samples("inputs", asked.inputs), lift=True)
    return analyse(opened.model, asked.assumed, opened.sizes).groups


def list_passes() -> Installed:
    """Every installed pass, criterion and operator of other packages, in a line each.

    Iterating gives the passes; `list_passes()["prune"]` describes one in full, with its arguments. The
    classes are in `graphprune.passes`.

    Example:
        >>> import graphprune
        >>> "prune" in [each.name for each in graphprune.list_passes()]
        True
        >>> graphprune.list_passes()["magnitude"].arguments[0].name
        'ratio'
    """
    from graphprune.pipeline.catalogue import installed

    return installed()
