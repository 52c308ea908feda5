"""Pairs that a player may be asked about, by kind, the most wanted first.

Never one that the player was asked about or made, and nothing that may not be shown: a player's words are seen by others once
three players gave them, WordNet knows them, or a moderator let them; offensive words never, whoever wrote them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from random import Random

from idiolect.game import gold
from idiolect.game.choosing import featured
from idiolect.game.mixing import N_ITEMS, Item, Pool
from idiolect.game.normalise import Relation, normalise
from idiolect.game.reports import SHOWN_FROM, may_show
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books
from idiolect.store.game.judging import Pair
from idiolect.store.game.records import PairRow, PromptRow

Candidates = Callable[[BaseWord], Sequence[tuple[str, float]]]
"""A model's answers to a base word, each with the probability that it holds."""

MIN_P, MAX_P = 0.3, 0.9
"""A model is asked about what it is unsure of."""

N_WORDS, MAX_WORDS, N_SEEDS, N_MODEL = 12, 60, 3, 3
"""Base words of one round beside those of players' pairs, as many as that if need be, and seeds and candidates of each."""
_N_ROWS = 400
_P_GIVEN, _P_VALIDATED, _P_SEED, _P_FAR = 0.7, 0.9, 0.9, 0.05
"""How likely a pair is to be right, before anybody judged it."""
_FEW_JUDGES = 3


def pools(
    books: Books, words: Vocabulary, player: int, relation: Relation, rng: Random, candidates: Candidates | None
) -> dict[Pool, list[Item]]:
    """What the player may be asked about in this relation."""
    prompts = {row.key: row for row in books.prompts(relation) if row.status == "active" and row.prompt in words.words}
    rows = [row for row in books.to_judge(relation, _N_ROWS, rng.randrange(10007), SHOWN_FROM) if row.prompt in prompts]
    asked = books.asked(player)
    ordered = _words(list(prompts.values()), asked, rng)
    seeds, far = _known_and_far(ordered, words, asked)
    found: dict[Pool, list[Item]] = {
        "game": _of_players([row for row in rows if row.n_players], words, prompts),
        "seed": _of_players([row for row in rows if not row.n_players], words, prompts) + seeds,
        "model": list(_of_model(ordered[:N_WORDS], words, candidates)) if candidates is not None else [],
        "distractor": far,
        "gold_pos": _right(books, words, relation, prompts, rng),
        "gold_neg": _wrong(books, words, relation, prompts, rng),
    }
    closed = books.closed_pairs({item.pair for items in found.values() for item in items})
    closed |= asked | books.own_pairs(player, relation)
    return {kind: [i for i in items if i.pair not in closed and _is_decent(i, words)] for kind, items in found.items()}


def _is_decent(item: Item, words: Vocabulary) -> bool:
    """Whether it is on no list of offensive words; one that waits for a moderator may have had one."""
    severity = words.lexicon.severity.get(item.key)
    return severity is None or (severity == "review" and item.kind == "game")


def _words(prompts: Sequence[PromptRow], asked: Collection[Pair], rng: Random) -> list[PromptRow]:
    """Base words in the order in which they are gone through: first those that everybody meets, so that votes meet too, and of
    these the ones that the player was asked least about.
    """
    n_asked = Counter(prompt for prompt, _ in asked)
    met = {row.key for row in featured(prompts)}
    return sorted(rng.sample(prompts, len(prompts)), key=lambda row: (row.key not in met, n_asked[row.key]))


def _known_and_far(ordered: Sequence[PromptRow], words: Vocabulary, asked: Collection[Pair]) -> tuple[list[Item], list[Item]]:
    """What WordNet knows of base words, and what is far from them: the best of each base word first, then the second best."""
    seeds: list[tuple[int, Item]] = []
    far: list[tuple[int, Item]] = []
    for n, row in enumerate(ordered[:MAX_WORDS]):
        if n >= N_WORDS and min(len(seeds), len(far)) >= N_ITEMS:
            break
        word = words.words[row.prompt]
        right = [key for key in gold.known_seeds(word, words, N_SEEDS) if (row.key, key) not in asked]
        wrong = [key for key in gold.far_answers(word, words) if (row.key, key) not in asked]
        seeds += [(place, Item(row.key, key, key, "seed", _P_SEED)) for place, key in enumerate(right)]
        far += [(place, Item(row.key, key, key, "distractor", _P_FAR)) for place, key in enumerate(wrong)]
    return [item for _, item in sorted(seeds, key=itemgetter(0))], [item for _, item in sorted(far, key=itemgetter(0))]


def _of_players(rows: Sequence[PairRow], words: Vocabulary, prompts: Mapping[int, PromptRow]) -> list[Item]:
    """Pairs that have a row, and may be shown."""
    found: list[Item] = []
    for row in rows:
        is_seed = words.is_seed(words.words[prompts[row.prompt].prompt], row.key)
        if may_show(row, is_seed):
            kind = "game" if row.n_players else "seed"
            found.append(Item(row.prompt, row.key, row.display, kind, _p_yes(row, is_seed)))
    return found


def _p_yes(row: PairRow, is_seed: bool) -> float:
    if row.n_judges >= _FEW_JUDGES:
        return row.p_valid
    return _P_VALIDATED if row.state == "validated" else _P_SEED if is_seed else _P_GIVEN


def _of_model(prompts: Sequence[PromptRow], words: Vocabulary, candidates: Candidates) -> Iterator[Item]:
    """What a model is unsure of, where it is a word, and nothing that a moderator would have to see first."""
    for row in prompts:
        word = words.words[row.prompt]
        unsure = [(text, p) for text, p in candidates(word) if MIN_P <= p <= MAX_P]
        for text, p in unsure[:N_MODEL]:
            read = normalise(text, word, words.lexicon)
            if read.status == "accepted" and not read.oov and not read.review:
                yield Item(row.key, read.key, read.display, "model", p)


def _right(books: Books, words: Vocabulary, relation: Relation, prompts: Mapping[int, PromptRow], rng: Random) -> list[Item]:
    """Gold that holds, in a random order: what ships and what play has made take turns by chance."""
    found = _shipped(relation, prompts, "yes")
    common = books.common(relation, gold.FROM_PLAYERS, gold.FROM_PERCENT, _N_ROWS, rng.randrange(10007))
    found += gold.common_answers([row for row in common if row.prompt in prompts], prompts, words)
    rng.shuffle(found)
    return [Item(prompt, pair.key, pair.display, "gold_pos", 1.0) for prompt, pair in found]


def _wrong(books: Books, words: Vocabulary, relation: Relation, prompts: Mapping[int, PromptRow], rng: Random) -> list[Item]:
    """Gold that does not hold, in a random order."""
    found = _shipped(relation, prompts, "no")
    settled = [row for row in prompts.values() if row.n_players >= gold.FROM_PLAYERS]
    foreign = list(gold.foreign_answers(rng.sample(settled, min(N_WORDS, len(settled))), words))
    given = books.pair_rows({(prompt, pair.key) for prompt, pair in foreign})
    found += [(prompt, pair) for prompt, pair in foreign if (prompt, pair.key) not in given]
    rng.shuffle(found)
    return [Item(prompt, pair.key, pair.display, "gold_neg", 0.0) for prompt, pair in found]


def _shipped(relation: Relation, prompts: Mapping[int, PromptRow], verdict: str) -> list[tuple[int, gold.GoldPair]]:
    rows = {row.prompt: row.key for row in prompts.values()}
    pairs = [pair for pair in gold.gold() if pair.relation == relation and pair.verdict == verdict]
    return [(rows[pair.prompt], pair) for pair in pairs if pair.prompt in rows]
