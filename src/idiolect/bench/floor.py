"""The least work that exact training can do, and how fast this machine does such work: the floor under every figure."""

from __future__ import annotations

from typing import Any

import torch

from idiolect.bench.bases import Shape
from idiolect.config import TrainConfig


def training_flop(shape: Shape, config: TrainConfig, tokens: int, answer_tokens: int) -> dict[str, float]:
    """Floating-point operations of training on `tokens`, of which `answer_tokens` have a loss.

    Per token 2·P forward and 2·P for the gradient of the input (frozen weights need no gradient of their own); the head,
    2·V·D each way, at answer tokens only; 6·R·(D + O) per adapted module. Left out, on both sides of the comparison, are
    attention's own products and what an exact trainer may still skip: padding, the gradient below the first adapted
    module, a prefix that rows share.
    """
    widths = sum(sum(shape.projections[target]) for target in config.targets if target in shape.projections)
    parts = {
        "base": 4.0 * shape.n_weights * tokens,
        "head": 4.0 * shape.vocab * shape.hidden * answer_tokens,
        "adapters": 6.0 * config.rank * widths * shape.layers * tokens,
    }
    return {**parts, "total": sum(parts.values())}


class Gemm:
    """The matrix products of one fused step at a base's own sizes, and nothing else; run it among the methods.

    Its rate is the machine's, in the minutes of the measurement, for this work.
    """

    def __init__(self, shape: Shape, tokens: int = 4096, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.pairs = []
        for d, o in shape.projections.values():
            weight = torch.randn(o, d, generator=draw)
            self.pairs.append((torch.randn(tokens, d, generator=draw), torch.randn(tokens, o, generator=draw), weight))
        self.layers = shape.layers
        self.flop = 4.0 * shape.n_weights * tokens

    def __call__(self) -> None:
        with torch.inference_mode():
            for _ in range(self.layers):
                for x, dy, weight in self.pairs:
                    torch.mm(x, weight.T)  # forward: x Wᵀ
                    torch.mm(dy, weight)  # backward: dL/dx = dL/dy W


def against_floor(flop_per_person: float, seconds_per_person: float, gemm_flop: float, gemm_s: float) -> dict[str, Any]:
    """The floor in seconds at the measured rate, and how far above it a method runs (1.0 would be the floor itself)."""
    rate = gemm_flop / gemm_s
    floor_s = flop_per_person / rate
    return {
        "flop_per_person": flop_per_person,
        "gemm_gflop_per_s": rate / 1e9,
        "floor_s_per_person": floor_s,
        "floor_people_per_minute": 60 / floor_s,
        "times_above_floor": seconds_per_person / floor_s,
        "useful_gflop_per_s": flop_per_person / seconds_per_person / 1e9,
    }
