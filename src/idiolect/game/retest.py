"""Do players answer like themselves? Two rounds of one player on one base word, against rounds of two players on it.

    S_w   how alike a player's two answers to one base word are, mean Jaccard of their keys
    S_b   how alike the player's first answers and other players' first answers to that base word are, in the same mode

Both are taken over the same base words of the same players, so that easy words cannot tell the two apart. There is something
personal in the answers if S_w - S_b is above 0.05 and its 95 % interval, over players drawn with their words, is above 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from idiolect.evals.metrics import jaccard
from idiolect.evals.stats import mean_interval
from idiolect.game.rules import RETEST_S
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.reading import PlayedRow

MARGIN = 0.05
MIN_OTHERS = 1


@dataclass(frozen=True)
class Retest:
    """One base word that one player answered twice.

    Attributes:
        mode: of both rounds, or "mixed".
        within: likeness of the two.
        between: mean likeness of the first and each other player's first.
    """

    player: str
    prompt: str
    mode: str
    within: float
    between: float


@dataclass(frozen=True)
class Likeness:
    """S_w and S_b of a set of retests.

    Attributes:
        difference: S_w - S_b; `low` and `high` are its 95 % bootstrap interval over players, or, of one player, over base
            words; None where there is only one of them.
        clear: above the margin, and the interval above 0.
    """

    n_pairs: int
    n_players: int
    within: float
    between: float
    difference: float
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        return self.difference > MARGIN and self.low is not None and self.low > 0

    def verdict(self) -> str:
        """What it means, in a sentence."""
        pairs = f"{self.n_pairs} repeated base words of {self.n_players} players"
        if self.low is None:
            return f"Too little to tell: {pairs}."
        span = f"{self.difference:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f}; {pairs})"
        if self.clear:
            return f"Players answer like themselves: S_w - S_b is {span}."
        return f"No personal signal is shown: S_w - S_b is {span}, and has to be above {MARGIN} with its interval above 0."


def likeness(retests: Sequence[Retest], seed: int = 0) -> Likeness | None:
    """S_w, S_b and their difference; None without any retest."""
    if not retests:
        return None
    # Each player counts once, however many words; one player alone is judged by words.
    n_players = len({one.player for one in retests})
    groups: dict[str, list[Retest]] = {}
    for n, one in enumerate(retests):
        groups.setdefault(one.player if n_players > 1 else f"{n:06d}", []).append(one)
    within = fmean(fmean(one.within for one in group) for group in groups.values())
    between = fmean(fmean(one.between for one in group) for group in groups.values())
    apart = {name: fmean(one.within - one.between for one in group) for name, group in groups.items()}
    low, high = mean_interval(apart, seed) or (None, None)
    return Likeness(len(retests), n_players, within, between, within - between, low, high)


def by_mode(retests: Sequence[Retest], seed: int = 0) -> dict[str, Likeness]:
    """The same for each mode, where there is any."""
    modes = sorted({one.mode for one in retests})
    found = ((mode, likeness([one for one in retests if one.mode == mode], seed)) for mode in modes)
    return {mode: one for mode, one in found if one is not None}


def find(books: GameBooks, *, player: int | None = None, simulated: bool = False, apart_s: float = RETEST_S) -> list[Retest]:
    """All retests in the store, or those of one player.

    Args:
        simulated: of simulated players, held against simulated ones; real and simulated are never mixed.
        apart_s: least time between the two rounds, in seconds.
    """
    with books.read() as opened:
        if player is not None:
            simulated = not opened.player(player).is_real
        return list(_found(opened, player, simulated, apart_s))


def _found(books: Books, player: int | None, simulated: bool, apart_s: float) -> Iterator[Retest]:
    sets: dict[tuple[int, str], dict[int, frozenset[str]]] = {}
    seen: set[tuple[int, int]] = set()
    for key in books.repeats(simulated, player):
        pair = books.earlier(key)
        if pair is None:
            continue
        first, again = pair
        whose, prompt, mode = first.round.player, first.round.prompt, first.round.mode
        if prompt is None or (whose, prompt) in seen or _apart(first, again) < apart_s:
            continue
        if (prompt, mode) not in sets:
            sets[prompt, mode] = books.first_sets(prompt, mode, simulated)
        others = [given for other, given in sets[prompt, mode].items() if other != whose]
        own, later = _keys(first), _keys(again)
        if len(others) < MIN_OTHERS or not own or not later:
            continue
        seen.add((whose, prompt))
        between = fmean(jaccard(own, given) for given in others)
        shown = mode if again.round.mode == mode else "mixed"
        yield Retest(books.player(whose).player, first.prompt, shown, jaccard(own, later), between)


def _apart(first: PlayedRow, again: PlayedRow) -> float:
    return (again.round.closed_at or again.round.served_at) - (first.round.closed_at or first.round.served_at)


def _keys(played: PlayedRow) -> frozenset[str]:
    return frozenset(one.key for one in played.answers if one.status == "accepted" and not one.pasted)


def document(retests: Sequence[Retest], seed: int = 0) -> dict[str, Any]:
    """The report as plain values: all together, and by mode."""
    whole, modes = likeness(retests, seed), by_mode(retests, seed)
    return {
        "all": None if whole is None else _plain(whole),
        "modes": {mode: _plain(one) for mode, one in modes.items()},
        "rule": f"S_w - S_b > {MARGIN} with a 95 % bootstrap interval above 0",
        "seed": seed,
    }


def _plain(one: Likeness) -> dict[str, Any]:
    numbers = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(one).items()}
    return {**numbers, "clear": one.clear, "verdict": one.verdict()}
