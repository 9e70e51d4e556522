"""What an operator is, in words that the rest of graphprune asks for instead of its name."""

from __future__ import annotations

from enum import Enum


class Trait(Enum):
    """A property that all operators of a record have, and what it means."""

    # -- elements stay what they are
    COPY = "hands its input on"
    DROPOUT = "hands its input on, except in training"
    CAST = "the same numbers in another type"
    RESHAPE = "the same elements, in the same order, in another shape"
    TRANSPOSE = "the same elements, with the axes in another order"
    LAYOUT = "every element of input 0 once, wherever it lies: copies, reshapes and transposes"
    PART = "stretches of input 0 along an axis"
    GATHER = "elements of input 0, at places that input 1 says"
    LOOKUP = "whole rows of a table, by number"
    PICK = "some of the elements of input 0, as they are"
    JOIN = "every element comes from one of several inputs"
    CONCAT = "its inputs, one after the other along an axis"
    REPEAT = "the elements of input 0 several times"
    RESIZE = "the same picture with another number of pixels"
    BLOCKS = "input 0 in another order in memory, with channels in blocks or no longer"
    SIZES = "reads sizes, and no element"
    QUANTISE = "numbers to codes"
    DEQUANTISE = "codes to numbers"

    # -- arithmetic
    SUM = "the sum of all inputs"
    ADDS = "a sum or difference of inputs is in its result, whatever else it does with it"
    MULTIPLY = "the product of two tensors, element by element"
    SCALE = "a product or quotient, element by element"
    AFFINE = "with a constant as the other operand it shifts or scales"
    CLIP = "cuts off what is beyond two bounds"
    ZERO = "zero at input 0 gives zero"
    ACTIVATION = "a function of one number at a time, as networks have between layers, and of its parameters"
    TANH = "squashes to (-1, 1); odd and monotone"
    SIGMOID = "squashes to (0, 1)"
    PROBABILITIES = "softmax along an axis"
    LOG_PROBABILITIES = "the logarithm of a softmax"
    BATCH_NORM = "scales and shifts every channel by stored statistics"
    CHANNEL_NORM = "normalises every channel by itself"
    WIDTH_NORM = "normalises over a width, and does nothing else"
    OTHER_NORM = "normalises over what is neither one channel nor a width"
    WINDOW = "sums up or picks from windows of input 0"

    # -- order
    SELECT = "finds the largest along an axis"
    ONE_HOT = "a one where a place is, among as many slots as input 1 says"

    # -- layers
    PRODUCT = "a matrix product of two inputs, with at most a bias behind it"
    EINSUM = "any product that an equation states"
    CONVOLUTION = "windows of the input times a weight, channels on axis 1"
    SPREAD = "a convolution turned round: every element of the input goes to a window of the output"
    RECURRENT = "runs along a sequence, with gates"
    ATTENTION = "queries, keys and values in one node"
    MIXTURE = "a router and all its experts in one node"
    CODES = "computes with stored codes of weights itself"
    CLASSIFIER = "a classical model; output 1 holds a score per class"

    # -- control flow
    BRANCHES = "runs one of two bodies"
    BODY = "runs a graph that is an attribute of it"


LAYERS = frozenset(
    [Trait.PRODUCT, Trait.EINSUM, Trait.CONVOLUTION, Trait.RECURRENT, Trait.ATTENTION, Trait.MIXTURE]
)
"""What takes multiply-adds."""
WEIGHTED = frozenset([Trait.PRODUCT, Trait.CONVOLUTION, Trait.RECURRENT])
"""Layers whose one weight stands at a known input."""
