"""What the rules of trust and validity make of a simulated crowd: does it validate what holds, and see who is not serious?

Four in five are honest and wrong in a tenth of their judgements; of the rest one half always says yes, the other half throws a
coin. They judge rounds mixed like real ones, on shipped gold and on pairs that exist in the trial only.

    python -m idiolect.game.trial
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from idiolect.game.gold import gold
from idiolect.game.minds import Mind
from idiolect.game.mixing import FIRST_JUDGED, Item, Pool, mix
from idiolect.game.normalise import RELATIONS
from idiolect.game.score import MIN_TRUST, Verdict
from idiolect.game.trust import START, Evidence, of_gold
from idiolect.game.validity import Tally
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.store.game.judging import ItemKind

SHARE_HONEST = 0.8
PAIRS_PER_PLAYER = 12
_TRUE_OF_GAME = 0.6
_OFFERED = 40


@dataclass(frozen=True)
class Figures:
    """What came of it.

    Attributes:
        precision: of the validated pairs, how many hold.
        recall: of the pairs that hold, how many are validated.
        rejected_right: of the rejected pairs, how many do not hold.
        caught: of those who are not serious, how many are below trust one half after 120 judgements.
        wronged: of the honest, how many are.
    """

    n_players: int
    n_judgements: int
    n_validated: int
    precision: float
    recall: float
    rejected_right: float
    caught: float
    wronged: float

    def __str__(self) -> str:
        return (
            f"{self.n_players} players, {self.n_judgements} judgements: {self.n_validated} pairs validated, "
            f"precision {self.precision:.3f}, recall {self.recall:.3f}; rejected rightly {self.rejected_right:.3f}; "
            f"below trust {MIN_TRUST} after {FIRST_JUDGED} judgements: {self.caught:.1%} of the unserious, "
            f"{self.wronged:.2%} of the honest"
        )


@dataclass
class _Player:
    mind: Mind
    evidence: Evidence
    n_judged: int = 0
    after: float = 1.0
    """Trust after 120 judgements."""


@dataclass(frozen=True)
class _Pair:
    relation: int
    holds: bool
    votes: list[tuple[int, Verdict]]
    """(player, verdict)."""


def crowd_trial(n_players: int, seed: int, n_judgements: int = FIRST_JUDGED) -> Figures:
    """Let a crowd judge until everybody has judged at least so many pairs."""
    words, rng = vocabulary(), Random(seed)
    n_honest = round(SHARE_HONEST * n_players)
    players = [
        _Player(Mind("honest" if n < n_honest else "spammer", seed * 1_000_003 + n, words), START) for n in range(n_players)
    ]
    pairs = [_Pair(n % len(RELATIONS), rng.random() < _TRUE_OF_GAME, []) for n in range(PAIRS_PER_PLAYER * n_players)]
    while waiting := [n for n, player in enumerate(players) if player.n_judged < n_judgements]:
        rng.shuffle(waiting)
        for n in waiting:
            _play(n, players[n], pairs, words, rng)
    return _figures(players, n_honest, pairs)


def _play(n: int, player: _Player, pairs: Sequence[_Pair], words: Vocabulary, rng: Random) -> None:
    """One round of Nym or Not; trust moves when it is over, and is looked at when the player has judged 120."""
    place = rng.randrange(len(RELATIONS))
    relation = RELATIONS[place]
    fixed = [(at, pair) for at, pair in enumerate(gold()) if pair.relation == relation]
    mine = [at for at in rng.sample(range(len(pairs)), min(len(pairs), 6 * _OFFERED)) if pairs[at].relation == place]
    met = [at for at in sorted(mine, key=lambda at: len(pairs[at].votes)) if all(who != n for who, _ in pairs[at].votes)]
    rng.shuffle(fixed)
    pools: dict[Pool, list[Item]] = {
        "game": [_item(at, "game", 0.6) for at in met[:_OFFERED]],
        "distractor": [Item(-1, f"far {rng.getrandbits(60)}", "", "distractor", 0.05) for _ in range(_OFFERED)],
        "gold_pos": [_item(at, "gold_pos", 1.0) for at, pair in fixed if pair.verdict == "yes"],
        "gold_neg": [_item(at, "gold_neg", 0.0) for at, pair in fixed if pair.verdict == "no"],
    }
    judged: list[tuple[Verdict, Verdict]] = []
    for item in mix(pools, player.n_judged, rng):
        if player.n_judged == FIRST_JUDGED:
            player.after = (player.evidence + of_gold(judged)).trust
        player.n_judged += 1
        holds = pairs[item.prompt].holds if item.kind == "game" else item.kind == "gold_pos"
        verdict, _ = player.mind.verdict(relation, str(item.prompt), f"{item.key} {player.n_judged}", holds)
        if item.is_gold:
            judged.append((verdict, "yes" if holds else "no"))
        elif item.kind == "game":
            pairs[item.prompt].votes.append((n, verdict))
    player.evidence += of_gold(judged)
    if player.n_judged == FIRST_JUDGED:
        player.after = player.evidence.trust


def _item(at: int, kind: ItemKind, p_yes: float) -> Item:
    return Item(at, kind, "", kind, p_yes)


def _figures(players: Sequence[_Player], n_honest: int, pairs: Sequence[_Pair]) -> Figures:
    trust = [player.evidence.trust for player in players]
    states = [Tally(votes=[(verdict, trust[n]) for n, verdict in pair.votes]).state for pair in pairs]
    validated = [pair.holds for pair, state in zip(pairs, states, strict=True) if state == "validated"]
    rejected = [not pair.holds for pair, state in zip(pairs, states, strict=True) if state == "rejected"]
    low = [player.after < MIN_TRUST for player in players]
    return Figures(
        len(players),
        sum(player.n_judged for player in players),
        len(validated),
        sum(validated) / max(len(validated), 1),
        sum(validated) / max(sum(pair.holds for pair in pairs), 1),
        sum(rejected) / max(len(rejected), 1),
        sum(low[n_honest:]) / max(len(players) - n_honest, 1),
        sum(low[:n_honest]) / max(n_honest, 1),
    )


if __name__ == "__main__":
    print(crowd_trial(1000, seed=1))
