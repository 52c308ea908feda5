"""Tier 2: what the frozen base makes of the two words.

    word ─ a question about it ─▶ last hidden state at the cue, where the answer would begin     e (D,)
    pair ─▶ [e1; e2; e1 - e2; e1 ∘ e2], and for each relation how likely the other word begins the answer, from both sides

A word is read once, whatever number of pairs it stands in. States are kept as long as the encoder lives:
five questions of D numbers a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from idiolect.data.batch import pack_prompts
from idiolect.data.prompts import answer_ids, render
from idiolect.model.base import Base
from idiolect.train.loss import answer_loss
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

    name = "encoder"

    def __init__(self, base: Base) -> None:
        self.base = base
        self._states: dict[str, NDArray[np.float32]] = {}
        self._first: dict[str, tuple[int, ...]] = {}
        self._odds: dict[tuple[str, str], NDArray[np.float32]] = {}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """(N, 4 D + 8) for N pairs."""
        self.read(word for pair in pairs for word in pair)
        one, two = (np.stack([self._states[pair[i]][0] for pair in pairs]) for i in (0, 1))
        return np.concatenate([one, two, one - two, one * two, self._likely(pairs)], axis=1)

    def read(self, words: Iterable[str]) -> None:
        """Compute the states of words that were not read yet."""
        new = sorted(set(words) - self._states.keys())
        for start in range(0, len(new), _ROWS):
            part = new[start : start + _ROWS]
            states = np.stack([self._hidden([question.format(word) for word in part]) for question in _QUESTIONS], axis=1)
            self._states.update(zip(part, states, strict=True))
        self._first |= {word: answer_ids(word, self.base.tokenizer)[:1] for word in new}

    def _hidden(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """(N, D): the state that would say the first token of an answer."""
        tokenizer = self.base.tokenizer
        room = min(_MAX_TOKENS, self.base.context)
        prompts = [render(Example("", "", "", text), tokenizer, room, reserve=1, answer=False).ids for text in questions]
        model = self.base.model
        with torch.no_grad():
            return model.hidden(model.plan(pack_prompts(prompts))).float().cpu().numpy()

    def _likely(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """(N, 8): log-probability, over 10, that the other word's first token begins the answer to each relation's question."""
        new = list(dict.fromkeys(pair for pair in pairs if pair not in self._odds))
        if new:
            self._odds |= zip(new, np.stack(list(self._columns(new)), axis=1), strict=True)
        return np.stack([self._odds[pair] for pair in pairs])

    def _columns(self, pairs: Sequence[tuple[str, str]]) -> Iterator[NDArray[np.float32]]:
        for about, said in ((0, 1), (1, 0)):
            tokens = torch.tensor([self._first[pair[said]][0] for pair in pairs])
            for question in range(1, len(_QUESTIONS)):
                asked = torch.from_numpy(np.stack([self._states[pair[about]][question] for pair in pairs]))
                yield self._log_probability(asked, tokens)

    def _log_probability(self, hidden: torch.Tensor, tokens: torch.Tensor) -> NDArray[np.float32]:
        model = self.base.model
        hidden = hidden.to(model.head)
        losses, _ = answer_loss(hidden, model.head, tokens.to(hidden.device), hidden.new_zeros(len(tokens)), model.softcap)
        return (losses.float() / -10).cpu().numpy()
