"""Company for whoever comes first: simulated players who have played the words that everybody meets.

    cast(40, words) ──▶ minds ──▶ a past of two weeks, in memory ──▶ one transaction

They are marked as what they are. Others are compared with them only until there are five people, and are told so; nothing of
theirs is on a board, in a release, or speaks for a pair. Their rounds are as the desks would have left them, but final at
once: nobody waits for their scores, and settling all of them would fall on the fifth person.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from idiolect.game import trust
from idiolect.game.choosing import N_FEATURED
from idiolect.game.minds import Mind, MindKind
from idiolect.game.normalise import RELATIONS
from idiolect.game.replaying import READY_S, Play, Played, Replay, beyond_share
from idiolect.game.rules import DAY_S, SECONDS
from idiolect.game.vocabulary import Vocabulary
from idiolect.store.game.records import PromptRow
from idiolect.types import seed_of

if TYPE_CHECKING:
    from idiolect.game.desk import Game

N_LISTS, N_LISTS_LATER = 14, 9
"""Simulated players who answer each of the words that everybody meets, and each of the ones after those."""
PAST_S = 14 * DAY_S
_LEAST_GAP_S = 60.0
CROWD_HEADER: Final = "x-simulated"
"""Of the request for a seat; holds the server's `crowd_key`."""
_PURPOSE: Final = b"simulated"


@dataclass(frozen=True)
class Populated:
    """Who was made, with the mind of each, and what they played; nothing where there was company already.

    Attributes:
        players: keys of their rows.
    """

    players: tuple[int, ...] = ()
    minds: tuple[Mind, ...] = ()
    n_words: int = 0
    n_rounds: int = 0
    n_answers: int = 0


def crowd_key(secret: str) -> str:
    """What a program shows a server so that its players are made as simulated ones; only who has the store can tell it.

    Args:
        secret: the server's.
    """
    return hmac.new(secret.encode(), _PURPOSE, hashlib.sha256).hexdigest()


def cast_of(n: int, words: Vocabulary, shares: Mapping[MindKind, float], seed: int = 0, noise: float = 0.1) -> list[Mind]:
    """So many minds, of each kind its share; the first kind takes what rounding leaves.

    Args:
        shares: kind → weight.
    """
    kinds: list[MindKind] = list(shares)
    total = sum(shares.values())
    counts = {kind: int(n * shares[kind] / total) for kind in kinds}
    counts[kinds[0]] += n - sum(counts.values())
    made: list[tuple[MindKind, int]] = [(kind, number) for kind in kinds for number in range(counts[kind])]
    return [Mind(kind, seed_of("crowd", seed, kind, number) % 2**31, words, noise) for kind, number in made]


COMPANY: Mapping[MindKind, float] = {"honest": 3, "stylised": 1}
"""Whom newcomers meet: mostly what most people would say."""
STYLISED: Mapping[MindKind, float] = {"stylised": 8, "spammer": 1, "bot": 1}
"""Individuals, and those against whom trust is there: to try rules on."""


def populate(
    game: Game,
    n_players: int = 24,
    n_words: int = 60,
    *,
    seed: int = 0,
    shares: Mapping[MindKind, float] = COMPANY,
    again: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Populated:
    """Make simulated players, and have them play the first words of each relation, in the two weeks until now.

    The same seed, clock and words give the same players, rounds and answers. Nothing happens if there are simulated players.

    Args:
        n_words: of each relation, in the vocabulary's order.
        shares: kinds of minds, by weight.
        again: make more of them, whoever is there; with another seed, for one seed's players can be there once only.
        on_progress: called with how many base words are played, of how many.
    """
    game.prepare()
    with game.books.read() as books:
        if n_players < 1 or (books.has_simulated() and not again):
            return Populated()
        asked = [p for relation in RELATIONS for p in books.prompts(relation)[:n_words] if p.status == "active"]
    minds = cast_of(n_players, game.words, shares, seed)
    plays = dict(_plays(game.words, asked, minds, game.clock(), Random(seed_of("crowd", seed))))
    replays = {}
    for done, prompt in enumerate(asked, start=1):
        replays[prompt.key] = _replayed(game.words, prompt, plays[prompt.key])
        on_progress(done, len(asked))
    return _write(game, seed, minds, replays)


def _plays(
    words: Vocabulary, asked: Sequence[PromptRow], minds: Sequence[Mind], now: float, rng: Random
) -> Iterator[tuple[int, list[Play]]]:
    """Who plays each base word, when, and what they type: by base word, in time."""
    hands = _deal(asked, len(minds), rng)
    n = sum(map(len, hands.values()))
    gap = max(PAST_S / max(n, 1), _LEAST_GAP_S)
    order = list(range(n))
    rng.shuffle(order)
    slots = iter(order)
    for prompt in asked:
        word = words.words[prompt.prompt]
        seconds = float(SECONDS[word.relation])
        # The last of them is over before now.
        times = sorted(now - gap * (next(slots) + 1) for _ in hands[prompt.key])
        typed = [minds[player].answers(word, seconds) for player in hands[prompt.key]]
        yield prompt.key, [Play(*play) for play in zip(hands[prompt.key], times, typed, strict=True)]


def _deal(asked: Sequence[PromptRow], n_players: int, rng: Random) -> dict[int, list[int]]:
    """Base word → players, each about as often as any other."""
    deck: list[int] = []
    hands: dict[int, list[int]] = {}
    for prompt in asked:
        n = min(n_players, N_LISTS if prompt.place < N_FEATURED else N_LISTS_LATER)
        hand: list[int] = []
        while len(hand) < n:
            if not deck:
                deck = rng.sample(range(n_players), n_players)
            place = next((i for i, player in enumerate(deck) if player not in hand), None)
            if place is None:  # all that are left have this word already
                deck = rng.sample(range(n_players), n_players) + deck
                continue
            hand.append(deck.pop(place))
        hands[prompt.key] = hand
    return hands


def _replayed(words: Vocabulary, prompt: PromptRow, plays: Sequence[Play]) -> Replay:
    replay = Replay(words.words[prompt.prompt], words, real=False)
    for play in plays:
        made = replay.play(play)
        made.values |= {"prompt": prompt.key, "score_final": made.values["score_provisional"]}
    return replay


def _write(game: Game, seed: int, minds: Sequence[Mind], replays: Mapping[int, Replay]) -> Populated:
    """All of it, or nothing."""
    rng = Random(seed_of("crowd-names", seed))
    played = [made for replay in replays.values() for made in replay.rounds]
    times: dict[int, list[float]] = {player: [] for player in range(len(minds))}
    for made in played:
        times[made.values["player"]].append(made.values["closed_at"])
    beyond = beyond_share(times)
    with game.books.write() as books:
        keys = books.fill_players([_player(times[player], game.clock(), rng) for player in range(len(minds))])
        n_answers = 0
        for prompt, replay in replays.items():
            books.fill_pairs(prompt, [{**row, "n_players": 0} for row in replay.pairs()])
            n_answers += books.fill_rounds([_round(made, keys, beyond, rng) for made in replay.rounds])
            for player, n in replay.n_slurs.items():
                trust.earn(books, keys[player], trust.SLUR * n, game.clock())
    return Populated(tuple(keys), tuple(minds), len(replays), len(played), n_answers)


def _player(closed: Sequence[float], now: float, rng: Random) -> dict[str, Any]:
    last = max(closed, default=None)
    created = min(closed) - READY_S - max(SECONDS.values()) if closed else now
    return {"player": f"{rng.getrandbits(128):032x}", "kind": "simulated", "created": created, "last_played": last}


def _round(
    made: Played, keys: Sequence[int], beyond: Mapping[int, set[float]], rng: Random
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    player = cast(int, made.values["player"])
    late = made.values["closed_at"] in beyond.get(player, ())
    name = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return {**made.values, "round": name, "player": keys[player], "beyond": late}, made.answers
