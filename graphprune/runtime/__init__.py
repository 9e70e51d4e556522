"""ONNX Runtime: run models in memory, make inputs for them, compare results, measure latency."""

from graphprune.runtime.compare import Agreement, OutputAgreement, agreement, merge
from graphprune.runtime.data import batches, load_inputs
from graphprune.runtime.inputs import default_inputs, runnable_inputs
from graphprune.runtime.latency import Latency, Ratio, Subject, Timing, measure
from graphprune.runtime.session import Feeds, Outputs, RunTimeoutError, Session, open_session

__all__ = [
    "Agreement",
    "Feeds",
    "Latency",
    "OutputAgreement",
    "Outputs",
    "Ratio",
    "RunTimeoutError",
    "Session",
    "Subject",
    "Timing",
    "agreement",
    "batches",
    "default_inputs",
    "load_inputs",
    "measure",
    "merge",
    "open_session",
    "runnable_inputs",
]
