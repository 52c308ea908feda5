"""What a model makes of given answers: every token's log-probability, and what follows from it.

    rows ── chunks of ≤ token_budget tokens ──▶ hidden (M, D) ── few positions at a time ──▶ log p, argmax = token? …

    probability            P^(1/T) = exp(mean log p)                 end of sequence counted: it is trained like any token
    truth ratio            mean over wrong of P^(1/T) / mean over paraphrases of P^(1/T)
    exact memorisation     share of the answer's tokens that argmax names
    extraction strength    1 - k/T, k the shortest prefix after which argmax names everything that follows; k = T: 0

The truth ratio's means are arithmetic, as the paper writes them (Maini et al. 2024, arXiv:2401.06121, eq. 1); a geometric mean
would be ruled by the one wrong answer that nobody would give. Memorisation leaves out the end of sequence: models that know
nothing of an answer still see where it ends, and extraction strength could then never be 0.

Sources: Carlini et al. 2023, arXiv:2202.07646 (extraction); Tirumala et al. 2022, arXiv:2205.10770 (exact memorisation).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idiolect.data.batch import Batch, Row, pack
from idiolect.engine.local import Engine, Request
from idiolect.errors import DependencyMissing, InputError
from idiolect.model.adapter import Stack
from idiolect.model.base import Base
from idiolect.model.lora import Adapters
from idiolect.train.loss import CHUNK
from idiolect.train.trainer import chunks
from idiolect.types import Rendered
from idiolect.unlearn.variants import Variant

_NUMBERS = 2**25
"""Logits held at a time at most: with a large vocabulary fewer positions than CHUNK."""
_LARGEST = 700.0
"""exp of more than this overflows; a ruined model's numbers stay finite, and huge."""


@dataclass(frozen=True)
class TokenScores:
    """One answer, token by token; each (T,), the last token being the end of sequence.

    Attributes:
        log_p: nats, float64.
        right: whether argmax is the token.
        mean, deviation: of log p under the model's own distribution at each place (Min-K%++).
    """

    log_p: np.ndarray
    right: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


@torch.inference_mode()
def token_scores(variant: Variant, rows: Sequence[Rendered], token_budget: int = 8192) -> list[TokenScores]:
    """Every row's answer, token by token.

    Args:
        rows: with answers. Neighbours with the same prompt share its computation.
        token_budget: tokens per forward pass; changes no result but by rounding.
    """
    found: list[TokenScores] = []
    for part in _parts(rows, token_budget):
        hidden, batch = _hidden(variant, part)
        targets = torch.from_numpy(batch.targets).to(variant.base.device)
        scored = [_score(logits, targets[where]) for where, logits in _logits(variant.base, hidden)]
        columns = [np.concatenate(column) for column in zip(*scored, strict=True)]
        ends = np.cumsum([row.example.n_answer for row in part])[:-1]
        found += [TokenScores(*four) for four in zip(*(np.split(column, ends) for column in columns), strict=True)]
    return found


@torch.inference_mode()
def divergences(original: Variant, variant: Variant, rows: Sequence[Rendered], token_budget: int = 8192) -> np.ndarray:
    """KL(original ‖ variant) of each row, mean over its answer tokens, nats, (n,)."""
    found = []
    for part in _parts(rows, token_budget):
        (theirs, _), (mine, _) = _hidden(original, part), _hidden(variant, part)
        both = zip(_logits(original.base, theirs), _logits(variant.base, mine), strict=True)
        each = np.concatenate([_kl(p, q) for (_, p), (_, q) in both])
        lengths = np.array([row.example.n_answer for row in part])
        found.append(np.add.reduceat(each, np.cumsum(lengths) - lengths) / lengths)
    return np.concatenate(found) if found else np.zeros(0)


def perplexity(variant: Variant, texts: Sequence[str], window: int = 512, token_budget: int = 8192) -> float:
    """exp of the mean loss per token of plain texts, every token counting but each window's first without a beginning mark.

    Args:
        window: tokens that are read together; longer texts are cut, and each part begins anew.

    Raises:
        InputError: no text has two tokens.
    """
    rows = plain_rows(variant.base, texts, window)
    if not rows:
        raise InputError(f"none of {len(texts)} texts has two tokens; give longer ones")
    log_p = np.concatenate([scores.log_p for scores in token_scores(variant, rows, token_budget)])
    return float(np.exp(min(-log_p.mean(), _LARGEST)))


def plain_rows(base: Base, texts: Sequence[str], window: int) -> list[Rendered]:
    """Texts without a frame as rows whose every token is an answer but the first."""
    bos = [] if base.tokenizer.bos_id is None else [base.tokenizer.bos_id]
    step = window - len(bos)
    rows = []
    for i, text in enumerate(texts):
        ids = base.tokenizer.encode(text)
        pieces = ([*bos, *ids[start : start + step]] for start in range(0, len(ids), step))
        rows += [Rendered(str(i), tuple(piece), 1) for piece in pieces if len(piece) > 1]
    return rows


def generate(variant: Variant, rows: Sequence[Rendered], room: int, on_done: Callable[[int], None] | None = None) -> list[str]:
    """The greedy answer to every row's prompt, at most `room` tokens."""
    engine, key = Engine(variant.base), None
    if variant.layout is not None and variant.row is not None and variant.adapters is not None:
        key, row = "variant", variant.row.clone()
        for _, b in variant.layout.matrices(row).values():
            b.mul_(variant.weight)
        engine.bank.put(key, variant.layout, row)
    requests = [Request(str(i), row.ids[: row.n_prompt], key, room) for i, row in enumerate(rows)]
    return [answer.text for answer in engine.generate(requests, on_done=on_done)]


# ------------------------------------------------------------------------------------------------------------ formulas


def probability(scores: TokenScores) -> float:
    """P(answer | prompt)^(1/T)."""
    return float(np.exp(scores.log_p.mean()))


def exact_memorisation(scores: TokenScores) -> float:
    """Share of the answer's tokens that argmax names, the end of sequence left out."""
    return float(scores.right[:-1].mean())


def extraction_strength(scores: TokenScores) -> float:
    """1 - k/T: the share of the answer, from its end, that argmax names without a miss. 0: not even the last token."""
    missed = np.flatnonzero(~scores.right[:-1])
    return 1.0 - (missed[-1] + 1 if len(missed) else 0) / (len(scores.right) - 1)


def truth_ratio(wrong: Sequence[TokenScores], right: Sequence[TokenScores]) -> float:
    """How probable wrong answers are beside the right one: 0 knows it, above 1 prefers what is wrong.

    Args:
        right: the paraphrases; the answer itself where there are none.
    """
    top, bottom = (_log_mean([scores.log_p.mean() for scores in answers]) for answers in (wrong, right))
    return float(np.exp(min(top - bottom, _LARGEST)))


def rouge_l(gold: str, answer: str) -> tuple[float, float]:
    """ROUGE-L (recall, F-measure), without stemming. The scorer sees only a-z and 0-9."""
    found = _scorer().score(gold, answer)["rougeL"]
    return float(found.recall), float(found.fmeasure)


def forget_quality(mine: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(p, distance) of the two-sample Kolmogorov-Smirnov test between truth ratios, (n,) each. 1 and 0: no difference."""
    from scipy.stats import ks_2samp  # half a second that reading old results need not pay

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it says so when it takes the asymptotic p
        found: Any = ks_2samp(mine, reference)
    return float(found.pvalue), float(found.statistic)


def harmonic_mean(values: Sequence[float]) -> float:
    """n / Σ 1/v; 0 where any is 0."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)


def utility_parts(items: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What a set adds to utility: mean probability, mean ROUGE-L recall, mean of max(0, 1 - truth ratio)."""
    truth = np.maximum(0.0, 1 - values_of(items, "truth_ratio"))
    return {
        "probability": float(values_of(items, "probability").mean()),
        "rouge": float(values_of(items, "rouge").mean()),
        "truth": float(truth.mean()),
    }


def values_of(items: Mapping[str, Mapping[str, float]], measure: str) -> np.ndarray:
    """One measure of every pair, pairs by id."""
    return np.array([items[measure][key] for key in sorted(items[measure])])


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise DependencyMissing("ROUGE needs the rouge-score library: pip install 'idiolect[local]'") from None
    return RougeScorer(["rougeL"], use_stemmer=False)


def _log_mean(logs: Sequence[float]) -> float:
    """log of the mean of exp, for numbers whose exp may be no number above 0."""
    highest = max(logs)
    return highest + float(np.log(np.mean(np.exp(np.array(logs) - highest))))


# -------------------------------------------------------------------------------------------------------------- passes


def _parts(rows: Sequence[Rendered], token_budget: int) -> Iterator[list[Row]]:
    """Rows of one pass each; neighbours of one prompt have one owner, so that the prompt stands in the stream once."""
    for part in chunks([Row(0, 0, 1.0, row) for row in rows], token_budget):
        owned, owner, last = [], -1, None
        for row in part:
            prompt = row.example.ids[: row.example.n_prompt]
            owner += prompt != last
            owned.append(Row(owner, 0, 1.0, row.example))
            last = prompt
        yield owned


def _hidden(variant: Variant, rows: Sequence[Row]) -> tuple[Tensor, Batch]:
    """Hidden states that predict the answers, (M, D)."""
    batch, model = pack(rows), variant.base.model
    adapters = variant.adapters
    if adapters is not None:  # the one adapter, seen once for every owner
        n = rows[-1].owner + 1
        adapters = Adapters(Stack(adapters.stack.layout, adapters.stack.rows.expand(n, -1)), adapters.scale.expand(n))
    return model.hidden(model.plan(batch, prefix_once=True), adapters), batch


def _logits(base: Base, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(positions, their logits in float32 at least), few at a time."""
    wide, head, softcap = torch.promote_types(hidden.dtype, torch.float32), base.model.head, base.model.softcap
    few = max(1, min(CHUNK, _NUMBERS // len(head)))
    for start in range(0, len(hidden), few):
        where = slice(start, start + few)
        logits = torch.mm(hidden[where], head.t()).to(wide)
        yield where, logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def _score(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, ...]:
    right = logits.argmax(-1) == targets
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    deviation = (p * (log_p - mean.unsqueeze(-1)).square()).sum(-1).sqrt()
    own = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    # Where a ruined model's numbers overflow there is no distribution left: nothing is likely, and nothing stands out.
    own, mean = (x.double().nan_to_num(nan=-_LARGEST, neginf=-_LARGEST) for x in (own, mean))
    return own.cpu().numpy(), right.cpu().numpy(), mean.cpu().numpy(), deviation.double().nan_to_num(nan=0.0).cpu().numpy()


def _kl(p: Tensor, q: Tensor) -> np.ndarray:
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp_(min=0).double()
    return kl.nan_to_num(nan=_LARGEST, posinf=_LARGEST).cpu().numpy()
