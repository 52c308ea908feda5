"""What players' pairs are worth: the same model trained with them and without, asked the same questions.

Both learn from the benchmarks' train parts with negatives of them; one also learns from pairs of 70 % of the game's base words,
with negatives. Asked: the benchmarks' test rows, and the pairs of the other base words among pairs that do not hold. Seeds vary
model, draws and negatives; differences are of means over seeds, and intervals draw base words with all their pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from idiolect.errors import InputError
from idiolect.relations.classifier import SHARED, Arm, RelationModel
from idiolect.relations.links import Link, ends
from idiolect.relations.metrics import f1_by_label
from idiolect.relations.readers import Benchmark
from idiolect.relations.sampling import negatives
from idiolect.relations.splits import published
from idiolect.relations.study import OnStage, StudySettings, Workshop, drawn
from idiolect.types import seed_of

HELD_OUT = 0.3
"""Share of the game's base words that no model learns from."""

N_RESAMPLES = 2_000
_MERO = SHARED.index("mero")


@dataclass(frozen=True)
class Material:
    """What is learnt from and asked.

    Attributes:
        game: players' pairs to learn from; none is in a test, in either direction.
        tests: name → links with their true label.
        left_out: players' pairs that are in a benchmark's test, or, of those held out, in its train part.
    """

    train: tuple[Link, ...]
    val: tuple[Link, ...]
    game: tuple[Link, ...]
    tests: Mapping[str, tuple[Link, ...]]
    left_out: int


def material(benchmarks: Mapping[str, Benchmark], game: Sequence[Link], n_links: int) -> Material:
    """Cut the game's pairs by base word, and keep what is asked apart from what is learnt.

    Args:
        n_links: taken of each benchmark's train part at most.

    Raises:
        InputError: no pairs of players on either side.
    """
    parts = {name: published(benchmark) for name, benchmark in benchmarks.items()}
    asked = ends(link for part in parts.values() for link in part.test)
    learnt = ends(link for part in parts.values() for link in (*part.train, *part.val))
    held = [link for link in game if is_held_out(link.base)]
    kept = [link for link in held if frozenset(link.words) not in learnt | asked]
    own = ends(kept)
    mine = [link for link in game if not is_held_out(link.base) and frozenset(link.words) not in asked | own]
    if not mine or not kept:
        raise InputError("players' pairs of too few base words to learn from some and ask about others; give more")
    true = [link for link in kept if link.label != "none"]
    doubted = negatives(true, 0, known=game, kinds=("elsewhere", "reversed", "random"))
    tests = {name: part.test for name, part in parts.items()} | {"game": (*kept, *doubted)}
    return Material(
        train=tuple(link for part in parts.values() for link in drawn(part.train, n_links, 0)),
        val=tuple(link for part in parts.values() for link in drawn(part.val, n_links, 0)),
        game=tuple(mine),
        tests=tests,
        left_out=len(game) - len(kept) - len(mine),
    )


def is_held_out(base: str) -> bool:
    """Whether a base word of the game is kept for asking."""
    return seed_of("relations", "held out", base) / 2**63 < HELD_OUT


def gain(
    benchmarks: Mapping[str, Benchmark],
    game: Sequence[Link],
    workshop: Workshop,
    settings: StudySettings,
    on_stage: OnStage,
) -> dict[str, Any]:
    """Figures with and without players' pairs, and their differences.

    Raises:
        InputError: too few pairs.
    """
    given = material(benchmarks, game, settings.gain_links)
    arms = {}
    for arm in settings.gain_arms:
        step = on_stage(f"gain from players · {arm}", len(settings.gain_seeds))
        said: dict[str, list[list[np.ndarray]]] = {name: [[], []] for name in given.tests}
        for number, seed in enumerate(settings.gain_seeds, 1):
            for side, model in enumerate(_two(arm, given, workshop, seed)):
                for name, links in given.tests.items():
                    said[name][side].append(model.probabilities([link.words for link in links]))
            step(number, "", None)
        arms[arm] = {name: _compared(given.tests[name], *both) for name, both in said.items()}
    return {
        "n_train": len(given.train),
        "n_game_train": len(given.game),
        "n_left_out": given.left_out,
        "held_out_bases": HELD_OUT,
        "n_tests": {name: len(links) for name, links in given.tests.items()},
        "seeds": list(settings.gain_seeds),
        "n_resamples": N_RESAMPLES,
        "arms": arms,
    }


def _two(arm: Arm, given: Material, workshop: Workshop, seed: int) -> tuple[RelationModel, RelationModel]:
    """The model without players' pairs, and the one with them."""
    known = (*given.train, *given.game)
    parts = [link for link in given.train if link.label == "mero"]
    # As many of the benchmarks' own parts get negatives as there are players' pairs, so that both models know what none is.
    common = [*given.train, *negatives(drawn(parts, len(given.game), seed), seed, known, ("elsewhere", "random"))]
    more = [*given.game, *negatives([link for link in given.game if link.label != "none"], seed, known)]
    without = workshop.fit(arm, common, given.val, SHARED, seed)
    return without, workshop.fit(arm, [*common, *more], given.val, SHARED, seed)


def _compared(links: Sequence[Link], without: Sequence[np.ndarray], with_: Sequence[np.ndarray]) -> dict[str, Any]:
    true = np.array([SHARED.index(link.label) for link in links])
    groups = np.unique([link.base for link in links], return_inverse=True)[1]
    one, two = (np.stack([p.argmax(1) for p in side]) for side in (without, with_))
    made: dict[str, Any] = {
        "without": _figures(links, true, without),
        "with": _figures(links, true, with_),
        "mero_f1": paired_f1(true, one, two, groups, _MERO),
    }
    return made


def _figures(links: Sequence[Link], true: np.ndarray, said: Sequence[np.ndarray]) -> dict[str, Any]:
    """Means over seeds: F1 of parts, macro-F1, recall of parts, log loss of "is a part", and agreement with votes."""
    present = np.unique(true)
    scores = np.array([f1_by_label(true, p.argmax(1), len(SHARED)) for p in said])
    is_part = true == _MERO
    p_part = np.array([p[:, _MERO] for p in said])
    loss = -np.log(np.clip(np.where(is_part, p_part, 1 - p_part), 1e-12, None)).mean(1)
    votes = np.array([link.votes if link.label == "mero" else 0 for link in links])  # a mirror keeps its votes
    made = {
        "mero_f1": float(scores[:, _MERO].mean()),
        "macro_f1": float(scores[:, present].mean()),
        "mero_recall": float(np.mean([(p.argmax(1) == _MERO)[is_part].mean() for p in said])),
        "mero_log_loss": float(loss.mean()),
        "by_seed": scores[:, _MERO].tolist(),
    }
    counted = votes > 0
    if len(np.unique(votes[counted])) > 1:
        made["spearman_votes"] = float(np.mean([rank_agreement(p[counted], votes[counted]) for p in p_part]))
        made["n_votes"] = int(counted.sum())
    return made


def rank_agreement(said: np.ndarray, votes: np.ndarray) -> float:
    """Spearman's correlation of two rows of numbers; 0 where one of them is all the same, which tells no order."""
    from scipy.stats import spearmanr

    if np.ptp(said) == 0 or np.ptp(votes) == 0:
        return 0.0
    found: Any = spearmanr(said, votes)
    return float(found.statistic)


def paired_f1(
    true: np.ndarray, one: np.ndarray, two: np.ndarray, groups: np.ndarray, label: int, seed: int = 0, n: int = N_RESAMPLES
) -> dict[str, float]:
    """F1 of a label under `two` less that under `one`, mean over seeds, with a 95 % interval of a paired bootstrap.

    Args:
        true: index of each row's label, (N,).
        one, two: predictions, (seeds, N).
        groups: rows of a group are drawn together, (N,).
    """
    n_groups = int(groups.max()) + 1
    sides = [np.stack([_counts(true == label, row == label, groups, n_groups) for row in side]) for side in (one, two)]
    draws = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n).astype(float)
    drawn_f1 = [_f1(np.einsum("dg,sgc->dsc", draws, side)).mean(1) for side in sides]
    low, high = np.quantile(drawn_f1[1] - drawn_f1[0], [0.025, 0.975])
    whole = [float(_f1(side.sum(1)).mean()) for side in sides]
    return {"delta": whole[1] - whole[0], "low": float(low), "high": float(high), "n_groups": n_groups}


def _counts(true: np.ndarray, said: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """(G, 2): of each group, hits, and true plus said."""
    hits = np.bincount(groups, weights=true & said, minlength=n_groups)
    return np.stack([hits, np.bincount(groups, weights=true.astype(float) + said, minlength=n_groups)], axis=1)


def _f1(counts: np.ndarray) -> np.ndarray:
    return np.divide(2 * counts[..., 0], counts[..., 1], out=np.zeros(counts.shape[:-1]), where=counts[..., 1] > 0)
