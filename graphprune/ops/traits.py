"""What an operator is, in words that the rest of graphprune asks for instead of its name."""

from __future__ import annotations

from enum import Enum, auto


class Trait(Enum):
    """A property that all operators of a record have."""

    # -- elements stay what they are
    COPY = auto()
    """Hands its input on."""
    DROPOUT = auto()
    """Hands its input on, except in training."""
    CAST = auto()
    """The same numbers in another type."""
    RESHAPE = auto()
    """The same elements, in the same order, in another shape."""
    TRANSPOSE = auto()
    """The same elements, with the axes in another order."""
    LAYOUT = auto()
    """Every element of input 0 once, wherever it lies: copies, reshapes and transposes."""
    PART = auto()
    """Stretches of input 0 along an axis."""
    GATHER = auto()
    """Elements of input 0, at places that input 1 says."""
    LOOKUP = auto()
    """Whole rows of a table, by number."""
    PICK = auto()
    """Some of the elements of input 0, as they are."""
    JOIN = auto()
    """Every element comes from one of several inputs."""
    CONCAT = auto()
    """Its inputs, one after the other along an axis."""
    REPEAT = auto()
    """The elements of input 0 several times."""
    RESIZE = auto()
    """The same picture with another number of pixels."""
    SIZES = auto()
    """Reads sizes, and no element."""
    QUANTISE = auto()
    """Numbers to codes."""
    DEQUANTISE = auto()
    """Codes to numbers."""

    # -- arithmetic
    SUM = auto()
    """The sum of all inputs."""
    ADDS = auto()
    """A sum or difference of inputs is in its result, whatever else it does with it."""
    MULTIPLY = auto()
    """The product of two tensors, element by element."""
    SCALE = auto()
    """A product or quotient, element by element."""
    AFFINE = auto()
    """With a constant as the other operand it shifts or scales."""
    CLIP = auto()
    """Cuts off what is beyond two bounds."""
    ZERO = auto()
    """Zero at input 0 gives zero."""
    ACTIVATION = auto()
    """A function of one number at a time, as networks have between layers, and of its parameters."""
    TANH = auto()
    """Squashes to (-1, 1); odd and monotone."""
    SIGMOID = auto()
    """Squashes to (0, 1)."""
    PROBABILITIES = auto()
    """Softmax along an axis."""
    LOG_PROBABILITIES = auto()
    """The logarithm of a softmax."""
    BATCH_NORM = auto()
    """Scales and shifts every channel by stored statistics."""
    CHANNEL_NORM = auto()
    """Normalises every channel by itself."""
    WIDTH_NORM = auto()
    """Normalises over a width, and does nothing else."""

    # -- order
    SELECT = auto()
    """Finds the largest along an axis."""

    ONE_HOT = auto()
    """A one where a place is, among as many slots as input 1 says."""

    # -- layers
    PRODUCT = auto()
    """A matrix product of two inputs, with at most a bias behind it."""
    EINSUM = auto()
    """Any product that an equation states."""
    CONVOLUTION = auto()
    """Windows of the input times a weight, channels on axis 1."""
    SPREAD = auto()
    """A convolution turned round: every element of the input goes to a window of the output."""
    RECURRENT = auto()
    """Runs along a sequence, with gates."""
    ATTENTION = auto()
    """Queries, keys and values in one node."""
    MIXTURE = auto()
    """A router and all its experts in one node."""
    CODES = auto()
    """Computes with stored codes of weights itself."""
    CLASSIFIER = auto()
    """A classical model; output 1 holds a score per class."""

    # -- control flow
    BRANCHES = auto()
    """Runs one of two bodies."""
    BODY = auto()
    """Runs a graph that is an attribute of it."""


LAYERS = frozenset(
    [Trait.PRODUCT, Trait.EINSUM, Trait.CONVOLUTION, Trait.RECURRENT, Trait.ATTENTION, Trait.MIXTURE]
)
"""What takes multiply-adds."""
WEIGHTED = frozenset([Trait.PRODUCT, Trait.CONVOLUTION, Trait.RECURRENT])
"""Layers whose one weight stands at a known input."""
