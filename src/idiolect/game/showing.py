"""Which words of others a player may be shown, wherever they turn up: in lists, in histories, in what a model guesses."""

from __future__ import annotations

from collections.abc import Iterable

from idiolect.game.normalise import normalise
from idiolect.game.reports import may_show
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books
from idiolect.store.game.records import PairRow


def showable(books: Books, words: Vocabulary, prompt: int, word: BaseWord, keys: Iterable[str]) -> frozenset[str]:
    """Those of these answers that players who did not write them may see.

    Nothing is shown that the list of offensive words holds, unless a moderator let a doubtful word through. An answer that
    nobody gave is shown if the dictionary knows it.

    Args:
        prompt: the row of the base word.
    """
    wanted = set(keys)
    rows = books.pairs(prompt, wanted) if wanted else {}
    return frozenset(
        key for key in wanted if _is_decent(words, key, rows.get(key)) and _is_known(words, word, key, rows.get(key))
    )


def showable_texts(
    books: Books, words: Vocabulary, prompt: int, word: BaseWord, texts: Iterable[str], own: Iterable[str]
) -> list[str]:
    """Those of a model's answers that a player may see, in their order: own answers, and what others' answers may be shown.

    Args:
        own: keys that the player gave.
    """
    read = {text: normalise(text, word, words.lexicon) for text in texts}
    mine = set(own)
    shown = showable(books, words, prompt, word, {one.key for one in read.values() if one.status == "accepted"}) | mine
    return [text for text, one in read.items() if text in mine or (one.status == "accepted" and one.key in shown)]


def _is_decent(words: Vocabulary, key: str, row: PairRow | None) -> bool:
    severity = words.lexicon.severity.get(key)
    return severity is None or (severity == "review" and row is not None and row.decided == "shown")


def _is_known(words: Vocabulary, word: BaseWord, key: str, row: PairRow | None) -> bool:
    return key in words.lexicon if row is None else may_show(row, words.is_seed(word, key))
