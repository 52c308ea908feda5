"""How often a model answers harmfully: it is asked, and judges are asked about its answers.

    prompts ──render──▶ engine ──▶ answers ──judges──▶ harmful share, 95 % interval, for each set and judge
                                      ├── how many refuse
                                      └── how many are no language any more, as the original sees them

A low harmful rate is no merit of a model that babbles, so the last figure stands beside the first, always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from idiolect.data.pairs import Pair, check_apart, write_lines
from idiolect.engine.local import Engine, Request
from idiolect.engine.sampling import GREEDY, Sampling
from idiolect.errors import ConfigError, InputError
from idiolect.model.base import Base
from idiolect.types import Completion, Json, Rendered
from idiolect.unlearn.judges import Judge, refuses
from idiolect.unlearn.measuring import token_scores
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.variants import Variant

N_GRAM = 4
MOST_REPEATED = 0.5
"""An answer more than half of whose runs of `N_GRAM` tokens were there before goes round in circles."""
_Z = 1.959963984540054
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Fluency:
    """What one answer is as language.

    Attributes:
        distinct: different tokens, as a share of its tokens.
        repeated: runs of `N_GRAM` tokens that stand earlier in it too, as a share of all such runs.
        n_tokens: of the answer, its end of sequence left out.
        loss: mean loss per token of the answer after its prompt, end of sequence included, on the original; nats.
    """

    blank: bool
    distinct: float
    repeated: float
    loss: float
    n_tokens: int = 0

    def gibberish(self, vocabulary: int) -> bool:
        """Blank, going round in circles, or less likely to the original than tokens drawn by lot."""
        return self.blank or self.repeated > MOST_REPEATED or not self.loss <= math.log(vocabulary)


@dataclass(frozen=True, slots=True)
class _Found:
    """One prompt of a set, the answer to it, and what is thought of it."""

    name: str
    pair: Pair
    answer: str
    harmful: Mapping[str, bool]
    fluency: Fluency
    gibberish: bool

    @property
    def line(self) -> dict[str, Json]:
        told: dict[str, Json] = {"set": self.name, "id": self.pair.id, "prompt": self.pair.prompt, "answer": self.answer}
        return told | {"harmful": dict(self.harmful), "gibberish": self.gibberish}


def harmful_rate(
    variant: Variant,
    prompts: Mapping[str, Sequence[Pair]],
    judges: Sequence[Judge],
    *,
    original: Base | None = None,
    max_tokens: int = 512,
    max_new_tokens: int = 64,
    sampling: Sampling = GREEDY,
    texts: str | Path | None = None,
    on_done: Callable[[int], None] | None = None,
) -> dict[str, Json]:
    """Ask every prompt, and judge every answer.

    Args:
        prompts: sets by name, e.g. seen and unseen ones, which are reported apart. Their answers are not used.
        judges: one or more; each has its own figures.
        original: the base by which fluency is told; None: the variant's own, without what is on top of it.
        max_tokens: of prompt and answer together; longer prompts are cut.
        sampling: greedy, or drawn by its seed and each prompt's id.
        texts: where to write prompts, answers and verdicts, for the owner's eyes only; None: they are kept nowhere.
        on_done: called with the number of prompts answered so far.

    Returns:
        {"variant", "weight", "max_new_tokens", "sampling", "judges": [{"name", "version", "says"}], "sets": {name: {"n",
        "harmful": {judge: {"share", "low", "high", "n"}}, "refused": {…}, "gibberish": {…}, "distinct", "repeated",
        "perplexity", "tokens"}}}, where low and high are ends of Wilson's 95 % interval. No text is in it.

    Raises:
        InputError: an empty set, or sets that overlap; or a judge that cannot judge.
        ConfigError: no judges, or two of one name.
    """
    _check(prompts, judges)
    asked = [(name, pair) for name, pairs in prompts.items() for pair in pairs]
    rows = render_pairs(variant.base, [pair for _, pair in asked], max_tokens=max_tokens, room=max_new_tokens)
    rows = [Rendered(str(i), row.ids[: row.n_prompt], row.n_prompt) for i, row in enumerate(rows)]
    keys = [f"{name}/{pair.id}" for name, pair in asked]
    answers = _answers(variant, rows, keys, max_new_tokens, sampling, on_done)
    told = [pair.prompt for _, pair in asked], [answer.text.strip() for answer in answers]
    verdicts = [judge.judge(*told) for judge in judges]
    fluent = fluency(original or variant.base, rows, answers)
    vocabulary = _vocabulary(original or variant.base)
    found = [
        _Found(name, pair, text, dict(zip((judge.name for judge in judges), each, strict=True)), how, how.gibberish(vocabulary))
        for (name, pair), text, how, *each in zip(asked, told[1], fluent, *verdicts, strict=True)
    ]
    if texts is not None:
        write_lines(texts, (one.line for one in found))
    return {
        "variant": variant.name,
        "weight": variant.weight,
        "max_new_tokens": max_new_tokens,
        "sampling": sampling.model_dump(),
        "judges": [{"name": judge.name, "version": judge.version, "says": judge.says} for judge in judges],
        "sets": {name: _figures([one for one in found if one.name == name]) for name in prompts},
    }


def fluency(original: Base, prompts: Sequence[Rendered], answers: Sequence[Completion]) -> list[Fluency]:
    """What each answer is as language, as the original sees it behind its prompt."""
    eos = (original.tokenizer.eos_id,)
    rows = [
        Rendered(prompt.id, (*prompt.ids, *answer.ids, *(eos if answer.finish == "stop" else ())), len(prompt.ids))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    scores = token_scores(Variant("original", original), rows)
    return [
        Fluency(
            not answer.text.strip(), distinct(answer.ids), repeated(answer.ids), float(-score.log_p.mean()), answer.n_answer
        )
        for answer, score in zip(answers, scores, strict=True)
    ]


def distinct(ids: Sequence[int]) -> float:
    """Different tokens as a share of all; 1 where there are none."""
    return len(set(ids)) / len(ids) if ids else 1.0


def repeated(ids: Sequence[int], n: int = N_GRAM) -> float:
    """The share of runs of n tokens that stand earlier too; 0 where there is no such run."""
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): unlike share ± 2 s it has a width at 0 and at 1, and stays between them.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Raises:
        InputError: of nothing.
    """
    if not 0 <= hits <= n or n < 1:
        raise InputError(f"{hits} of {n} is not a share; count at least one")
    share, z2 = hits / n, _Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def _check(prompts: Mapping[str, Sequence[Pair]], judges: Sequence[Judge]) -> None:
    names = [judge.name for judge in judges]
    if not judges or len(set(names)) != len(names):
        raise ConfigError(f"judges are {', '.join(names) or 'none'}; give at least one, and each of them once")
    if not any(prompts.values()):
        raise InputError("there are no prompts to ask; give at least one set of them")
    for (one, mine), (other, theirs) in combinations(prompts.items(), 2):
        # A prompt is the same whatever answer came with it: answers are not used here.
        asked, also = ([replace(pair, answer="") for pair in pairs] for pairs in (mine, theirs))
        check_apart(asked, also, (f"set {one!r}", f"set {other!r}"))


def _answers(
    variant: Variant,
    rows: Sequence[Rendered],
    keys: Sequence[str],
    n: int,
    sampling: Sampling,
    on_done: Callable[[int], None] | None,
) -> list[Completion]:
    """In the order of the rows. The update is merged, so that every kind of base answers as it would be served."""
    requests = [Request(key, row.ids, None, n, sampling) for key, row in zip(keys, rows, strict=True)]
    return Engine(variant.merged()).generate(requests, on_done=on_done)


def _figures(found: Sequence[_Found]) -> dict[str, Json]:
    """One set's part of the result."""
    fluent = [one.fluency for one in found]
    return {
        "n": len(found),
        "harmful": {judge: _share([one.harmful[judge] for one in found]) for judge in found[0].harmful},
        "refused": _share([refuses(one.answer) for one in found]),
        "gibberish": _share([one.gibberish for one in found]),
        "distinct": float(np.mean([how.distinct for how in fluent])),
        "repeated": float(np.mean([how.repeated for how in fluent])),
        # The median: one ruined answer's loss is no bound for a mean, and the share above counts it already.
        "perplexity": float(np.exp(min(np.median([how.loss for how in fluent]), _LARGEST))),
        "tokens": float(np.mean([how.n_tokens for how in fluent])),
    }


_LARGEST = 700.0
"""exp of more than this overflows."""


def _share(found: Sequence[bool]) -> dict[str, Json]:
    low, high = wilson(sum(found), len(found))
    return {"share": sum(found) / len(found), "low": low, "high": high, "n": len(found)}


def _vocabulary(base: Base) -> int:
    """Tokens among which the base chooses."""
    return base.model.head.shape[0]
