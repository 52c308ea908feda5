"""What rows keep of players in sum, made again from the players who are there."""

from __future__ import annotations

from collections.abc import Collection

from idiolect.game.validity import refresh
from idiolect.store.game.books import Books, GameBooks


def recount(books: Books, prompts: Collection[int], now: float) -> None:
    """Make the counts of these base words and their pairs again, and states by today's trust."""
    books.count_again(prompts)
    refresh(books, {(prompt, key) for prompt in prompts for key in books.pairs(prompt)}, now)


def recount_all(games: GameBooks, now: float) -> int:
    """The same for every base word, one transaction each; how many there are."""
    with games.read() as books:
        prompts = [row.key for row in books.prompts()]
    for prompt in prompts:
        with games.write() as books:
            recount(books, [prompt], now)
    return len(prompts)


def finish(games: GameBooks, now: float) -> int:
    """See to base words whose players were forgotten with their histories; how many those were."""
    with games.read() as books:
        noted = books.noted_recounts()
    for prompt in noted:
        with games.write() as books:
            recount(books, [prompt], now)
            books.recounted(prompt)
    return len(noted)
