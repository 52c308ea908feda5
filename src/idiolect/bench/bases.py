"""Bases for measuring: random weights, real shapes, one folder that both we and the peers load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, tuple["Tensor", "Tensor"]]
"""An adapter by module: {"model.layers.0.self_attn.q_proj": (A (D, R), B (R, O))}."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's sizes; `intermediate` is the width of its MLP."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(D, O) of each linear module in a layer."""
        kv = self.hidden // self.heads * self.kv_heads
        return {
            "q_proj": (self.hidden, self.hidden),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (self.hidden, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def n_weights(self) -> int:
        """Weights in the layers' matrices; embeddings do not count, for a look-up costs no products."""
        return self.layers * sum(d * o for d, o in self.projections.values())


SHAPES = {
    s.name: s
    for s in (
        Shape("tiny", hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64, vocab=128),
        Shape("small", hidden=256, layers=6, heads=8, kv_heads=4, intermediate=688, vocab=4096),
        Shape("135m", hidden=576, layers=30, heads=9, kv_heads=3, intermediate=1536, vocab=49152),
    )
}


def random_llama(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """Save a Llama with random float32 weights as safetensors, and a tokenizer of as many words; returns the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    settings: dict[str, Any] = {
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**settings))
    model.save_pretrained(folder)
    _tokenizer(shape.vocab).save_pretrained(folder)
    return folder


def _tokenizer(vocab: int) -> Any:
    """A word for each id: a base without a tokenizer is no base, though only ids are measured."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{n}": n for n in range(3, vocab)} | {"<pad>": 0, "<s>": 1, "</s>": 2}
    backend = Tokenizer(WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def random_adapter(shape: Shape, rank: int, targets: tuple[str, ...], seed: int, std: float = 0.05) -> State:
    """An adapter whose every part is random, unlike a fresh one, so that it changes what the base says."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    state: State = {}
    for layer in range(shape.layers):
        for name, (d, o) in shape.projections.items():
            if name in targets:
                a, b = torch.randn(d, rank, generator=draw) * std, torch.randn(rank, o, generator=draw) * std
                state[module_path(layer, name)] = (a, b)
    return state


def module_path(layer: int, name: str) -> str:
    """Where a Llama keeps a linear module."""
    block = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    return f"model.layers.{layer}.{block}.{name}"


def relative_difference(mine: State, theirs: State, start: State | None = None) -> float:
    """‖mine − theirs‖ ÷ ‖theirs − start‖ over all parts at once; without `start`, over the whole of `theirs`."""
    gap = moved = 0.0
    for module, parts in theirs.items():
        for k, part in enumerate(parts):
            origin = start[module][k] if start else part * 0
            gap += float((mine[module][k].double() - part.double()).square().sum())
            moved += float((part.double() - origin.double()).square().sum())
    return (gap / moved) ** 0.5 if moved else float(gap > 0)
