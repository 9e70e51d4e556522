"""Gradients for criteria and masks: calls autograd, which is loaded here and only where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphprune.axes import Analysis, Group
from graphprune.ir.arrays import Array, Arrays, Doubles
from graphprune.pipeline.extras import require_torch
from graphprune.prune.gradients import ELEMENTS, Gradients, Reading
from graphprune.run import Run

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.autograd.sensitivity import Data, Elements

PRECISION = "float32"


@dataclass(frozen=True)
class Differentiation:
    """Measures gradients on calibration data; torch is there.

    Attributes:
        calibration: batches of inputs; some are needed but for readings that are blind.
        shapes: of graph inputs, where the user gave them.
        run: the seed, and whom to tell progress.
    """

    calibration: Sequence[Arrays]
    shapes: Mapping[str, tuple[int, ...]]
    run: Run

    def of_groups(
        self, analysis: Analysis, groups: Sequence[Group], readings: Sequence[Reading]
    ) -> Gradients:
        """What gradients say of the Units of some Groups."""
        names = sorted({touched.initializer for group in groups for touched in group.slices})
        found: dict[str, Mapping[str, Array]] = {}
        gates: dict[str, Doubles] = {}
        relevance: dict[str, Doubles] = {}
        for reading in readings:
            if reading.what == "relevance":
                relevance |= self._relevance(analysis, groups, reading)
            elif reading.what == "gates":
                gates |= self._gates(analysis, groups, reading)
            elif reading.what not in found:
                together = [each for each in readings if _together(each, reading)]
                found |= self.of_elements(analysis.model, names, together)
        return Gradients(found, gates, relevance)

    def of_elements(
        self, model: ir.Model, names: Sequence[str], readings: Sequence[Reading]
    ) -> dict[str, Mapping[str, Array]]:
        """What readings with the same labels say of initializers, by what was asked for and by name.

        Initializers without gradients, such as codes, are left out.
        """
        from graphprune.autograd import Differentiable, sensitivity
        from graphprune.autograd.synflow import synaptic_flow
        from graphprune.autograd.threads import one_thread

        wanted = [reading.what for reading in readings]
        with one_thread():
            net = Differentiable(model, precision=PRECISION)
            # A name that nested graphs use again does not say which tensor is meant.
            known = [n for n in names if n in net.parameters and f"{n}@1" not in net.parameters]
            if readings[0].blind:
                return {"synflow": _arrays(synaptic_flow(model, self._sample(model), known))}
            data = self._data(model, readings[0])
            means = [what for what in wanted if what in sensitivity.CHANGES]
            found = sensitivity.moments(net, data, known, means) if means else {}
            if "flow" in wanted:
                found["flow"] = sensitivity.flow(net, data, known)
            if "curvature" in wanted:
                found["curvature"] = sensitivity.curvature(net, data, known)
        return {what: _arrays(elements) for what, elements in found.items()}

    def _gates(self, analysis: Analysis, groups: Sequence[Group], reading: Reading) -> dict[str, Doubles]:
        from graphprune.autograd import Differentiable
        from graphprune.autograd.sensitivity import gate_gradients
        from graphprune.autograd.threads import one_thread
        from graphprune.prune.gates import gated

        found = gated(analysis, groups)
        names = {gate: group for group, gate in found.groups.items()}
        if not names:
            return {}
        with one_thread():
            net = Differentiable(found.model, precision=PRECISION)
            rows = gate_gradients(net, self._data(analysis.model, reading), found.gates())
        return {names[gate]: values for gate, values in rows.items()}

    def _relevance(self, analysis: Analysis, groups: Sequence[Group], reading: Reading) -> dict[str, Doubles]:
        from graphprune.autograd import Differentiable
        from graphprune.autograd.relevance import channels
        from graphprune.autograd.threads import one_thread
        from graphprune.prune.evidence import SiteIndex

        places = SiteIndex(analysis)
        axes = {output.value: output.axis for group in groups for output in places.outputs(group)}
        with one_thread():
            net = Differentiable(analysis.model, precision=PRECISION)
            return channels(net, analysis.model.graph, self._data(analysis.model, reading), axes)

    def _data(self, model: ir.Model, reading: Reading) -> Data:
        """Calibration samples one by one, and their losses."""
        from graphprune.autograd.likelihood import Likelihood
        from graphprune.autograd.sensitivity import Data
        from graphprune.runtime.data import batches

        samples = [one for feeds in self.calibration for one in batches(feeds, model, size=1)]
        likelihood = Likelihood.of(model, reading.drawn, reading.temperature)
        return Data(samples, likelihood, self.run)

    def _sample(self, model: ir.Model) -> Arrays:
        """Any one sample: what lies in it matters only where it picks rows of a table."""
        from graphprune.runtime.data import batches
        from graphprune.runtime.inputs import runnable_inputs

        if self.calibration:
            return next(iter(batches(self.calibration[0], model, size=1)))
        return runnable_inputs(model, self.shapes, batch=1, run=self.run)


def differentiation(
    what: str, calibration: Sequence[Arrays], shapes: Mapping[str, tuple[int, ...]], run: Run
) -> Differentiation:
    """What measures gradients.

    Raises:
        ArgumentError: torch is not installed.
    """
    require_torch(what)
    return Differentiation(calibration, shapes, run)


def _arrays(elements: Elements) -> dict[str, Array]:
    return {name: tensor.numpy(force=True) for name, tensor in elements.items()}


def _together(one: Reading, other: Reading) -> bool:
    """Whether one pass over the samples serves both."""
    alike = (one.drawn, one.temperature, one.blind) == (other.drawn, other.temperature, other.blind)
    return alike and one.what in ELEMENTS
