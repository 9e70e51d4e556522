"""A model as a differentiable function of its inputs and of every floating initializer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
import torch

from graphprune.autograd.program import Plan, Program, Setting, placed
from graphprune.autograd.tensors import from_array, numpy_kind, to_array
from graphprune.errors import ArgumentError, DataError, did_you_mean
from graphprune.ir.arrays import Array
from graphprune.ir.clone import copy_model
from graphprune.ir.graphs import graphs_of
from graphprune.ir.inline import inline
from graphprune.ops.torch.call import PRECISIONS, Tensor

Fed: TypeAlias = "Tensor | Array | list[Tensor | Array] | None"
Feeds = Mapping[str, Fed]
"""By name: a tensor, a sequence of them, or None for an optional that is empty."""
Gates = Mapping[str, Tensor | Callable[[Tensor], Tensor]]
PRECISION = {"": None, "float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
DEVICES = ("cpu", "cuda")


class Differentiable:
    """A model that torch runs and differentiates.

    Args:
        model: any model; it is not changed.
        device: "cpu" or "cuda".
        precision: "float32", "float64" or "bfloat16" in place of every floating type; "" keeps each.
        segments: parts of the graph that are computed again on the way back instead of being kept; they are
            cut where few values are alive, along the residual stream. 0 keeps all.
        fused: whether runs of operators that torch computes at once, such as a written out Gelu, are computed
            so where nothing inside them is fed, gated or asked for. Numbers alone are constants then.

    Attributes:
        parameters: every floating initializer by name: leaves, with gradients once `trainable` names them.
            Where nested graphs use a name again, the second one is `name@1`.
        kinds: their types in the model, by the same names.

    Raises:
        ArgumentError: no such device or precision.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        device: str = "cpu",
        precision: str = "",
        segments: int = 0,
        fused: bool = False,
    ) -> None:
        self._source = model
        if model.functions:
            model = copy_model(model).model
            inline(model)
        setting = Setting(_device(device), _precision(precision), dict(model.opset_imports))
        self._setting, self._segments, self._fused = setting, segments, fused
        self._program = Program(model.graph, setting)
        self._graph = model.graph
        self.parameters: dict[str, Tensor] = {}
        self.kinds: dict[str, ir.DataType] = {}
        self._constants: dict[int, object] = {}
        self._named = {value.name or "": slot for value, slot in self._program.slots.items()}
        self._hosts = self._program.read_as_numbers()
        keys = {value: key for key, value in _initializers(model)}
        for value in self._program.sources:
            if value.const_value is not None:
                self._hold(value, keys.get(value, value.name or ""), value.const_value)
        self._plans: dict[tuple[frozenset[int], tuple[int, ...], bool], Plan] = {}

    def _hold(self, value: ir.Value, name: str, tensor: ir.TensorProtocol) -> None:
        slot = self._program.slots[value]
        self._named[name] = slot
        if tensor.dtype == ir.DataType.STRING:
            return
        held = from_array(tensor.numpy(), tensor.dtype, self._setting.precision)
        if slot not in self._hosts:
            held = placed(held, self._setting)
        if tensor.dtype in PRECISIONS:
            self.parameters[name] = held
            self.kinds[name] = tensor.dtype
        else:
            self._constants[slot] = held

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that must be fed."""
        return tuple(v.name or "" for v in self._graph.inputs if v.const_value is None)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(value.name or "" for value in self._graph.outputs)

    def trainable(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Chooses the parameters that get gradients; the others get none.

        Args:
            names: of initializers; all floating ones if None.

        Raises:
            ArgumentError: there is no such floating initializer.
        """
        chosen = list(self.parameters) if names is None else list(names)
        for name in chosen:
            if name not in self.parameters:
                raise ArgumentError(
                    f"no floating initializer is named {name!r}", did_you_mean(name, self.parameters)
                )
        wanted = set(chosen)
        for name, tensor in self.parameters.items():
            tensor.requires_grad_(name in wanted)
        return {name: self.parameters[name] for name in chosen}

    def run(
        self,
        feeds: Feeds,
        outputs: Sequence[str] | None = None,
        *,
        parameters: Mapping[str, Tensor] | None = None,
        gates: Gates | None = None,
    ) -> dict[str, Tensor]:
        """Computes outputs, or any values of the main graph.

        Args:
            feeds: inputs by name; any other value that is fed is taken as it is, and what only leads to it
                is not run.
            outputs: names of values to return; the model's outputs if None.
            parameters: other tensors in place of some parameters, as torch.func wants them.
            gates: by name of a value, a tensor that multiplies it, or a function of it.

        Raises:
            DataError: an input is missing, or a name is not known.
            UnsupportedError: an operator on the way does not run in torch.
            GraphpruneError: torch refuses; the message names the node.
        """
        wanted = tuple(self._slot(name) for name in (self.outputs if outputs is None else outputs))
        given = {self._slot(name): self._fed(array) for name, array in feeds.items()}
        plan = self._plan(frozenset(given), wanted, plain=bool(gates))
        values: list[object] = [None] * len(self._program.slots)
        for slot, value in self._constants.items():
            values[slot] = value
        for name, tensor in {**self.parameters, **(parameters or {})}.items():
            values[self._slot(name)] = tensor
        for slot, value in given.items():
            values[slot] = value
        self._complete(plan, given)
        hooks = {self._slot(name): _gate(gate) for name, gate in (gates or {}).items()}
        for slot, hook in hooks.items():
            values[slot] = hook(values[slot]) if values[slot] is not None else None
        plan.run(values, hooks)
        names = self.outputs if outputs is None else outputs
        return {name: values[slot] for name, slot in zip(names, wanted, strict=True)}

    def arrays(self, feeds: Feeds) -> dict[str, Array]:
        """The model's outputs without gradients, as numpy arrays of the types that it declares.

        Elements of a sequence have their place behind its name, as `y[0]`.
        """
        with torch.no_grad():
            found = self.run(feeds)
        arrays = {}
        for value in self._graph.outputs:
            name, result = value.name or "", found[value.name or ""]
            if isinstance(result, torch.Tensor):
                arrays[name] = to_array(result, value.dtype or numpy_kind(result))
            elif isinstance(result, list):
                arrays |= {
                    f"{name}[{at}]": to_array(each, numpy_kind(each)) for at, each in enumerate(result)
                }
        return arrays

    def written(self) -> ir.Model:
        """A copy of the model with the parameters as they are now; names and metadata stay."""
        model = copy_model(self._source).model
        for name, value in _initializers(model):
            old = value.const_value
            if name in self.parameters and old is not None:
                array = to_array(self.parameters[name], old.dtype).reshape(old.shape.numpy())
                value.const_value = ir.Tensor(
                    array, dtype=old.dtype, name=value.name, doc_string=old.doc_string
                )
        return model

    def _slot(self, name: str) -> int:
        if name not in self._named:
            raise DataError(f"the model has no value named {name!r}", did_you_mean(name, self._named))
        return self._named[name]

    def _fed(self, array: Fed) -> object:
        if array is None:
            return None
        if isinstance(array, list):
            return [self._fed(each) for each in array]
        if isinstance(array, np.ndarray):
            return self._fed(from_array(array, ir.DataType.from_numpy(array.dtype)))
        precision = self._setting.precision if array.is_floating_point() else None
        return array.to(self._setting.device, precision or array.dtype)

    def _plan(self, given: frozenset[int], wanted: tuple[int, ...], plain: bool) -> Plan:
        inputs = {self._program.slots[value] for value in self._program.sources}
        fused = self._fused and not plain and given <= inputs
        key = (given, wanted, fused)
        if key not in self._plans:
            self._plans[key] = self._program.plan(given, wanted, self._segments, fused)
        return self._plans[key]

    def _complete(self, plan: Plan, given: Mapping[int, object]) -> None:
        for value in self._graph.inputs:
            slot = self._program.slots[value]
            if slot in plan.reads and slot not in given and value.const_value is None:
                raise DataError(f"no value for the input {value.name!r}", "feed it by its name")


def _initializers(model: ir.Model) -> Iterator[tuple[str, ir.Value]]:
    """Every initializer, nested ones too, by a name of its own."""
    seen: Counter[str] = Counter()
    for graph in graphs_of(model):
        for name, value in graph.initializers.items():
            yield (f"{name}@{seen[name]}" if seen[name] else name), value
            seen[name] += 1


def _gate(gate: Tensor | Callable[[Tensor], Tensor]) -> Callable[[object], object]:
    if isinstance(gate, torch.Tensor):
        return lambda value: value * gate
    return gate


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise ArgumentError(f"no device is named {name!r}", did_you_mean(name, DEVICES))
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("torch sees no CUDA device", "use device='cpu', or install torch for CUDA")
    return torch.device(name)


def _precision(name: str) -> torch.dtype | None:
    if name not in PRECISION:
        raise ArgumentError(f"no precision is named {name!r}", did_you_mean(name, PRECISION))
    return PRECISION[name]
