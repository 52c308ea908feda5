"""Pairs that a player may be asked about, by kind, the most wanted first.

Never one that the player was asked about or made, and nothing that may not be shown: a player's words are seen by others once
three players gave them, WordNet knows them, or a moderator let them; offensive words never, whoever wrote them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from random import Random

from idiolect.game import gold
from idiolect.game.choosing import featured
from idiolect.game.mixing import Item, Pool
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

N_WORDS, N_SEEDS, N_MODEL = 12, 3, 3
"""Base words of one round beside those of players' pairs, and how many seeds and candidates of each."""
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
    shown = _words(list(prompts.values()), asked, rng)
    found: dict[Pool, list[Item]] = {
        "game": _of_players([row for row in rows if row.n_players], words, prompts),
        "seed": _of_players([row for row in rows if not row.n_players], words, prompts) + _seeds(shown, words),
        "model": list(_of_model(shown, words, candidates)) if candidates is not None else [],
        "distractor": list(_far(shown, words)),
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
    """Base words of the round: those that everybody meets, so that votes meet too, and of these the ones that the player was
    asked least about; others once nothing is left of them.
    """
    n_asked = Counter(prompt for prompt, _ in asked)
    met = {row.key for row in featured(prompts)}

    def order(row: PromptRow) -> tuple[bool, bool, int]:
        return n_asked[row.key] >= N_SEEDS + gold.N_FAR, row.key not in met, n_asked[row.key]

    return sorted(rng.sample(prompts, len(prompts)), key=order)[:N_WORDS]


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


def _seeds(prompts: Sequence[PromptRow], words: Vocabulary) -> list[Item]:
    """The best known seed of each base word, then the second best of each, and so on."""
    known = [(row.key, gold.known_seeds(words.words[row.prompt], words, N_SEEDS)) for row in prompts]
    return [
        Item(prompt, keys[place], keys[place], "seed", _P_SEED)
        for place in range(N_SEEDS)
        for prompt, keys in known
        if place < len(keys)
    ]


def _far(prompts: Sequence[PromptRow], words: Vocabulary) -> Iterator[Item]:
    for row in prompts:
        for key in gold.far_answers(words.words[row.prompt], words):
            yield Item(row.key, key, key, "distractor", _P_FAR)


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
