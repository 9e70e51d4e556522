"""Turns a row into a module and example inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from tools.zoo import shim, weights
from tools.zoo.entry import Entry

BATCH = 2
SEQUENCE = 16
PAST = 12
FRAMES = 8
SAMPLES = 3200


@dataclass(frozen=True)
class Example:
    """Named example inputs; axes with a symbolic name stay dynamic in the export."""

    tensors: Mapping[str, torch.Tensor]
    axes: Mapping[str, Mapping[int, str]]


class Configuration(Protocol):
    """The fields of a transformers config that shape example inputs."""

    vocab_size: int
    num_channels: int
    num_mel_bins: int
    max_source_positions: int
    num_hidden_layers: int


@dataclass(frozen=True)
class Built:
    """A module in eval mode with its example inputs."""

    module: nn.Module
    example: Example
    source: nn.Module
    """The library's own module; `module` may wrap it."""


class Positional(nn.Module):
    """Calls a transformers model by keyword; returns its first output, plus the cache if there is one."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...] | torch.Tensor:
        inputs = dict(zip(self.names, tensors, strict=True))
        past = [inputs.pop(name) for name in self.names if name.startswith("past_")]
        if not past:
            return self.model(**inputs, return_dict=False, **_no_cache(self.model))[0]  # type: ignore[no-any-return]
        outputs = self.model(**inputs, past_key_values=cache(past), use_cache=True, return_dict=True)
        present = [
            tensor for layer in outputs.past_key_values.layers for tensor in (layer.keys, layer.values)
        ]
        return (outputs.logits, *present)


class Detector(nn.Module):
    """Feeds one fixed-size image to a torchvision detector, which wants a list."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.model([image])[0].values())


class First(nn.Module):
    """Keeps the main output of a model that returns a mapping or a list."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        outputs = self.model(*tensors)
        if isinstance(outputs, dict):
            return outputs["out"]  # type: ignore[no-any-return]
        return outputs[-1] if isinstance(outputs, list) else outputs  # type: ignore[no-any-return]


def cache(past: list[torch.Tensor]) -> Any:
    """A transformers cache from alternating keys and values."""
    from transformers import DynamicCache

    return DynamicCache(list(zip(past[::2], past[1::2], strict=True)))


def _no_cache(model: nn.Module) -> dict[str, bool]:
    return {"use_cache": False} if hasattr(model.config, "use_cache") else {}


def _tokens(vocabulary: int, length: int = SEQUENCE) -> torch.Tensor:
    return torch.randint(3, vocabulary, (BATCH, length))


def _text(config: Configuration) -> Example:
    ids = _tokens(config.vocab_size)
    axes = {0: "batch", 1: "sequence"}
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Example(tensors, {"input_ids": axes, "attention_mask": axes})


def _seq2seq(config: Configuration) -> Example:
    text = _text(config)
    decoder = _tokens(config.vocab_size, SEQUENCE // 2)
    return Example(
        {**text.tensors, "decoder_input_ids": decoder},
        {**text.axes, "decoder_input_ids": {0: "batch", 1: "decoder_sequence"}},
    )


def _mel(config: Configuration) -> Example:
    features = torch.randn(BATCH, config.num_mel_bins, 2 * config.max_source_positions)
    decoder = _tokens(config.vocab_size, SEQUENCE // 2)
    return Example(
        {"input_features": features, "decoder_input_ids": decoder},
        {"input_features": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "decoder_sequence"}},
    )


def _pixels(size: int) -> Example:
    return Example({"pixel_values": torch.randn(BATCH, 3, size, size)}, {"pixel_values": {0: "batch"}})


def _image_text(config: Any, size: int) -> Example:
    text, pixels = _text(config.text_config), _pixels(size)
    return Example({**text.tensors, **pixels.tensors}, {**text.axes, **pixels.axes})


def _waveform() -> Example:
    return Example({"input_values": torch.randn(BATCH, SAMPLES)}, {"input_values": {0: "batch"}})


def _cached(model: nn.Module, config: Configuration) -> Example:
    """One new token after `PAST` cached ones; keys and values are graph inputs."""
    with torch.no_grad():
        layers = model(
            _tokens(config.vocab_size, PAST), use_cache=True, return_dict=True
        ).past_key_values.layers
    tensors: dict[str, torch.Tensor] = {
        "input_ids": _tokens(config.vocab_size, 1),
        "attention_mask": torch.ones(BATCH, PAST + 1, dtype=torch.int64),
    }
    axes = {"input_ids": {0: "batch"}, "attention_mask": {0: "batch", 1: "total_sequence"}}
    for index, layer in enumerate(layers):
        tensors[f"past_{index}_key"], tensors[f"past_{index}_value"] = layer.keys, layer.values
        axes[f"past_{index}_key"] = axes[f"past_{index}_value"] = {0: "batch", 2: "past_sequence"}
    return Example(tensors, axes)


def _image(entry: Entry) -> Example:
    size = entry.size
    if entry.inputs == "video":
        return Example({"input": torch.randn(BATCH, 3, 2 * FRAMES, size, size)}, {"input": {0: "batch"}})
    if entry.inputs == "detection":
        return Example({"input": torch.rand(3, size, size)}, {})
    if entry.inputs == "flow":
        frames = {name: torch.randn(BATCH, 3, size, size) for name in ("first", "second")}
        return Example(frames, {name: {0: "batch"} for name in frames})
    return Example({"input": torch.randn(BATCH, 3, size, size)}, {"input": {0: "batch"}})


def _torchvision(entry: Entry) -> tuple[nn.Module, nn.Module, Example]:
    import torchvision

    model = torchvision.models.get_model(entry.model, weights=None, **entry.options).eval()
    if entry.inputs == "detection":
        return model, Detector(model), _image(entry)
    return model, First(model), _image(entry)


def _timm(entry: Entry) -> tuple[nn.Module, nn.Module, Example]:
    import timm

    model = timm.create_model(entry.model, exportable=True, **entry.options).eval()
    return model, model, _image(entry)


def _transformers(entry: Entry) -> tuple[nn.Module, nn.Module, Example]:
    import transformers

    architecture = getattr(transformers, entry.model)
    options = dict(entry.options)
    attention = options.pop("attn_implementation", None)
    config = architecture.config_class(**options)
    if attention is not None:
        config._attn_implementation = attention
    model = architecture(config).eval()
    builders: dict[str, Callable[[], Example]] = {
        "text": lambda: _text(config),
        "causal": lambda: _text(config),
        "seq2seq": lambda: _seq2seq(config),
        "mel": lambda: _mel(config),
        "pixels": lambda: _pixels(entry.size),
        "image-text": lambda: _image_text(config, entry.size),
        "waveform": lambda: _waveform(),
        "cached": lambda: _cached(model, config),
    }
    example = builders[entry.inputs]()
    return model, Positional(model, tuple(example.tensors)), example


_BUILDERS = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}


def _settle(entry: Entry, module: nn.Module, source: nn.Module, example: Example) -> Callable[[], object]:
    """A forward pass over twice the batch, because BatchNorm after a global pool needs several items."""
    if entry.inputs == "detection":
        image = next(iter(example.tensors.values()))
        return lambda: source([image, image.flip(0)])
    inputs = [torch.cat([tensor, tensor.flip(0)]) for tensor in example.tensors.values()]
    return lambda: module(*inputs)


def build(entry: Entry) -> Built:
    """Builds the module with fixed random weights that leave no output constant."""
    shim.install()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(weights.SEED)
    source, module, example = _BUILDERS[entry.library](entry)
    module.eval()
    weights.randomise(source, _settle(entry, module, source, example))
    return Built(module, example, source)
