"""Which pairs a round of Nym or Not asks about.

    gold          25 % of a player's first 120 judgements, then 10 %: half right, half wrong
    game          of the rest 47 %: pairs of players
    model or seed             35 %: what a model is unsure of, or what WordNet knows
    distractor                18 %: an answer to a far base word

These are the shares 40 : 30 : 15 that are left beside gold. Where one kind is short, others stand in. Then wrong pairs change
places with right ones until between 45 and 55 % are expected to be right, so that hardly any round leaves 40 to 60 %: always
saying yes must not look good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from idiolect.store.game.judging import ItemKind

Pool = Literal["game", "model", "seed", "distractor", "gold_pos", "gold_neg"]

N_ITEMS, MIN_ITEMS = 25, 5
FIRST_JUDGED = 120
FIRST_GOLD, LATER_GOLD = 0.25, 0.10
WEIGHTS: Mapping[Pool, int] = {"game": 40, "model": 30, "distractor": 15}
LEAST_YES, MOST_YES = 0.45, 0.55
_STANDS_IN: Mapping[Pool, tuple[Pool, ...]] = {
    "game": ("game", "seed", "model"),
    "model": ("model", "game", "seed"),
    "distractor": ("distractor", "game", "seed"),
}


@dataclass(frozen=True)
class Item:
    """A pair that may be asked. `p_yes`: how likely it is to be right, as far as is known."""

    prompt: int
    key: str
    display: str
    kind: ItemKind
    p_yes: float

    @property
    def pair(self) -> tuple[int, str]:
        return self.prompt, self.key

    @property
    def is_gold(self) -> bool:
        return self.kind in ("gold_pos", "gold_neg")


def mix(pools: Mapping[Pool, Iterable[Item]], n_judged: int, rng: Random, n: int = N_ITEMS) -> list[Item]:
    """Up to `n` items, no pair twice, in a random order; fewer where one side has too few for the balance.

    Args:
        pools: items of each kind, the most wanted first.
        n_judged: how many pairs the player has judged.
    """
    hand = _Hand(pools)
    hand.draw_gold(_rounded(n * (FIRST_GOLD if n_judged < FIRST_JUDGED else LATER_GOLD), rng), rng)
    for kind, m in _quotas(n - len(hand.items)).items():
        hand.draw(_STANDS_IN[kind], m)
    hand.draw(("seed", "model", "game", "distractor"), n - len(hand.items))
    hand.balance()
    rng.shuffle(hand.items)
    return hand.items


def _rounded(wanted: float, rng: Random) -> int:
    """A whole number whose mean is the wanted one."""
    whole = math.floor(wanted)
    return whole + (rng.random() < wanted - whole)


def _quotas(n: int) -> dict[Pool, int]:
    """`n` by the weights; the largest remainders are rounded up."""
    total = sum(WEIGHTS.values())
    quotas: dict[Pool, int] = {kind: n * weight // total for kind, weight in WEIGHTS.items()}
    by_remainder = sorted(WEIGHTS, key=lambda kind: -(n * WEIGHTS[kind] % total))
    for kind in by_remainder[: n - sum(quotas.values())]:
        quotas[kind] += 1
    return quotas


class _Hand:
    """Items drawn so far, and what is left of each pool."""

    def __init__(self, pools: Mapping[Pool, Iterable[Item]]) -> None:
        self._left: dict[Pool, list[Item]] = {kind: list(pool)[::-1] for kind, pool in pools.items()}
        self.items: list[Item] = []
        self._taken: set[tuple[int, str]] = set()

    def next(self, kind: Pool) -> Item | None:
        left = self._left.get(kind, [])
        while left:
            item = left.pop()
            if item.pair not in self._taken:
                self._taken.add(item.pair)
                return item
        return None

    def draw(self, kinds: Sequence[Pool], m: int) -> None:
        """`m` items of the first of these kinds that has any left."""
        for kind in kinds:
            while m > 0 and (item := self.next(kind)) is not None:
                self.items.append(item)
                m -= 1

    def draw_gold(self, m: int, rng: Random) -> None:
        sides: list[Pool] = ["gold_pos", "gold_neg"]
        rng.shuffle(sides)
        for turn in range(m):
            self.draw((sides[turn % 2], sides[1 - turn % 2]), 1)

    def balance(self) -> None:
        """Exchange items of the side that is too frequent, players' pairs last; without others, drop them."""
        self._exchange(1, lambda share: share > MOST_YES, ("distractor",))
        self._exchange(-1, lambda share: share < LEAST_YES, ("seed", "game", "model"))

    def _exchange(self, sign: int, is_too_far: Callable[[float], bool], kinds: Sequence[Pool]) -> None:
        while self.items and is_too_far(math.fsum(item.p_yes for item in self.items) / len(self.items)):
            rest = [place for place, item in enumerate(self.items) if not item.is_gold]
            worst = max(rest, key=lambda place: _dispensable(self.items[place], sign), default=None)
            if worst is None or sign * self.items[worst].p_yes <= sign * 0.5:
                return
            found = next((item for kind in kinds if (item := self.next(kind)) is not None), None)
            self.items[worst : worst + 1] = [] if found is None or sign * found.p_yes >= sign * 0.5 else [found]


def _dispensable(item: Item, sign: int) -> tuple[bool, bool, float]:
    """Order in which items go: those of the frequent side, of these seeds and distractors, of these the surest."""
    return sign * item.p_yes > sign * 0.5, item.kind in ("seed", "distractor"), sign * item.p_yes
