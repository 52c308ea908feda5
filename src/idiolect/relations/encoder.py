"""Tier 2: what the frozen base makes of the two words.

    word ─ a question about it ─▶ last hidden state at the cue, where the answer would begin     e (D,)
    pair ─▶ [e1; e2; e1 - e2; e1 ∘ e2], and for each relation how likely the other word begins the answer, from both sides

A word is read once, whatever number of pairs it stands in. What was read is kept as long as the encoder lives:
six rows of D numbers a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from idiolect.data.batch import pack_prompts
from idiolect.data.prompts import answer_ids, render
from idiolect.model.base import Base
from idiolect.types import Example

WHAT = "what is {}"
CUES = {"syn": "synonyms of {}", "ant": "antonyms of {}", "hypo": "kinds of {}", "mero": "parts of {}"}
"""The words that the embedded base's questions about WordNet are put in."""

_QUESTIONS = (WHAT, *CUES.values())
_ROWS = 256
"""Prompts computed together."""
_MAX_TOKENS = 64


class Encoder:
    """Features of tier 2, on one base."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._words: dict[str, _Word] = {}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """(N, 4 D + 8) for N pairs."""
        self.read(word for pair in pairs for word in pair)
        bases, answers = ([self._words[pair[i]] for pair in pairs] for i in (0, 1))
        one, two = (np.stack([word.states[0] for word in side]) for side in (bases, answers))
        likely = [_log_probability(*sides, self._softcap) for sides in ((bases, answers), (answers, bases))]
        return np.concatenate([one, two, one - two, one * two, *likely], axis=1)

    @property
    def _softcap(self) -> float | None:
        return self.base.model.softcap

    def read(self, words: Iterable[str]) -> None:
        """Compute what is to be known of words that were not read yet."""
        new = sorted(set(words) - self._words.keys())
        for start in range(0, len(new), _ROWS):
            part = new[start : start + _ROWS]
            states = torch.stack([self._hidden([question.format(word) for word in part]) for question in _QUESTIONS], dim=1)
            norms = [self._normaliser(states[:, question]) for question in range(1, len(_QUESTIONS))]
            rows = zip(states.numpy(), torch.stack(norms, dim=1).numpy(), self._openings(part), strict=True)
            self._words.update(zip(part, (_Word(*row) for row in rows), strict=True))

    def _hidden(self, questions: Sequence[str]) -> torch.Tensor:
        """(N, D): the state that would say the first token of an answer."""
        tokenizer = self.base.tokenizer
        room = min(_MAX_TOKENS, self.base.context)
        prompts = [render(Example("", "", "", text), tokenizer, room, reserve=1, answer=False).ids for text in questions]
        model = self.base.model
        with torch.no_grad():
            return model.hidden(model.plan(pack_prompts(prompts))).float().cpu()

    def _normaliser(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N,): log of the sum over all tokens, computed once a word, so that a pair costs one row of the head."""
        head = self.base.model.head
        logits = (hidden.to(head) @ head.t()).float().cpu()
        return _capped(logits, self._softcap).logsumexp(-1)

    def _openings(self, words: Sequence[str]) -> NDArray[np.float32]:
        """(N, D): the head's row of each word's first token, as an answer."""
        first = [answer_ids(word, self.base.tokenizer)[0] for word in words]
        return self.base.model.head[first].float().cpu().numpy()


class _Word(NamedTuple):
    """A word as the base knows it: states of the questions about it, (5, D), normalisers of the relations' questions, (4,), and
    the head's row of its first token, (D,).
    """

    states: NDArray[np.float32]
    norms: NDArray[np.float32]
    opening: NDArray[np.float32]


def _log_probability(about: Sequence[_Word], said: Sequence[_Word], softcap: float | None) -> NDArray[np.float32]:
    """(N, 4): log-probability, over 10, that a word's first token begins the answer to each relation's question."""
    logits = np.stack([one.states[1:] @ two.opening for one, two in zip(about, said, strict=True)])
    norms = np.stack([one.norms for one in about])
    return (_capped(torch.from_numpy(logits), softcap).numpy() - norms) / np.float32(10)


def _capped(logits: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)
