"""From logits to the next token: greedy, or sampled from each request's own random stream."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from idiolect.config import Settings
from idiolect.errors import ConfigError
from idiolect.types import seed_of


class Sampling(Settings):
    """How tokens are chosen. Temperature 0 is greedy. `top_k` 0 and `top_p` 1 leave nothing out."""

    temperature: float = Field(0.0, ge=0, le=10)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0)


GREEDY = Sampling.build()

PAPER = Sampling.build(temperature=0.1, top_k=10, top_p=0.9)
"""What the released code of OPPU decodes with, plus a seed."""

SAMPLINGS: Mapping[str, Sampling] = {"greedy": GREEDY, "paper": PAPER}


def sampling(name: str) -> Sampling:
    """The sampling of this name. Raises ConfigError if there is none."""
    if name not in SAMPLINGS:
        raise ConfigError(f"sampling {name!r} is not known; choose one of: {', '.join(SAMPLINGS)}")
    return SAMPLINGS[name]


class Sampler:
    """One request's choices: its own generator, so that they do not depend on the batch."""

    def __init__(self, sampling: Sampling, request_id: str) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(seed_of(sampling.seed, "sample", request_id))

    def choose(self, logits: Tensor) -> int:
        """The next token of one row, (V,)."""
        s = self._sampling
        scores = logits.detach().to("cpu", torch.float64) / s.temperature
        if s.top_k:
            scores[scores < torch.topk(scores, min(s.top_k, len(scores))).values[-1]] = float("-inf")
        p = torch.softmax(scores, -1)
        if s.top_p < 1:
            ordered, index = torch.sort(p, descending=True, stable=True)
            # A token stays if what stands before it is less than top_p: the smallest set that reaches it.
            p[index[ordered.cumsum(0) - ordered >= s.top_p]] = 0
        return int(torch.multinomial(p, 1, generator=self._generator))
