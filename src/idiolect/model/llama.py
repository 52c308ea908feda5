"""From Hugging Face weights of the Llama family to the lean decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from idiolect.errors import BaseNotFound
from idiolect.model.decoder import Decoder, Layer, Shape

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types the lean decoder computes. SmolLM 1 and 2 are "llama"; SmolLM3 has no rotary embedding in every fourth layer."""


def is_lean(config: Any) -> bool:
    """Whether the lean decoder computes what this config describes."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and getattr(config, "hidden_act", "silu") == "silu"
        and not getattr(config, "mlp_bias", False)
        # Llama and Qwen3 put a bias on the output projection too, then; Qwen2's q, k and v have theirs without this setting.
        and not getattr(config, "attention_bias", False)
        and rope.get("rope_type", "default") in ("default", "linear", "llama3", "yarn")
        and float(rope.get("partial_rotary_factor", 1.0)) == 1.0
    )


def context_of(config: Any, lean: bool = True) -> int:
    """Tokens the base can see: its positions; on the lean path no more than its sliding window, within which attention is full.

    Raises:
        BaseNotFound: the config does not say.
    """
    known = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"))
    positions = next((int(n) for n in known if n), None)
    if positions is None:
        raise BaseNotFound(f"the base's config (model type {config.model_type!r}) does not say how many tokens it can see")
    window = getattr(config, "sliding_window", None)
    if not lean or not window or getattr(config, "use_sliding_window", True) is False:
        return positions
    return min(positions, int(window))


def decoder_from(weights: Mapping[str, Tensor], config: Any, rotary: tuple[Tensor, Tensor]) -> Decoder:
    """A decoder from weights by their Hugging Face names. rotary: cos and sin, (context, head / 2)."""
    shape = Shape(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        inner=config.intermediate_size,
        eps=config.rms_norm_eps,
    )
    layers = tuple(_layer(weights, f"model.layers.{i}.") for i in range(shape.layers))
    embedding = weights["model.embed_tokens.weight"]
    tied = getattr(config, "tie_word_embeddings", False) or "lm_head.weight" not in weights
    head = embedding if tied else weights["lm_head.weight"]
    return Decoder(shape, embedding, layers, weights["model.norm.weight"], head, *rotary)


def rotary_of(config: Any, context: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of every position, (context, head / 2), by transformers' own rules for scaled embeddings."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rotary = LlamaRotaryEmbedding(config)
    angles = torch.outer(torch.arange(context, dtype=torch.float32), rotary.inv_freq.float())
    scaling = rotary.attention_scaling
    return (angles.cos() * scaling).to(device, dtype), (angles.sin() * scaling).to(device, dtype)


def _layer(weights: Mapping[str, Tensor], prefix: str) -> Layer:
    def fused(*names: str) -> Tensor:
        return torch.cat([weights[f"{prefix}{name}.weight"] for name in names]).t().contiguous()

    attention = [f"self_attn.{p}_proj" for p in "qkv"]
    biases = [b for b in (weights.get(f"{prefix}{name}.bias") for name in attention) if b is not None]
    return Layer(
        norm_1=weights[f"{prefix}input_layernorm.weight"],
        qkv=fused(*attention),
        qkv_bias=torch.cat(biases) if biases else None,
        o=fused("self_attn.o_proj"),
        norm_2=weights[f"{prefix}post_attention_layernorm.weight"],
        gate_up=fused("mlp.gate_proj", "mlp.up_proj"),
        down=fused("mlp.down_proj"),
        q_norm=weights.get(f"{prefix}self_attn.q_norm.weight"),
        k_norm=weights.get(f"{prefix}self_attn.k_norm.weight"),
    )
