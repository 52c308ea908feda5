"""Forgetting reaches the game: a person's player, and the rounds that items came from, go in the transaction of the person.

What players share is counted again by SQL at once. States of pairs follow rules that the store does not know; their base words
are noted, and `recounting.finish` sees to them.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from idiolect.store.game.books import Books


def erase_player(connection: Connection, user_id: str, at: float) -> None:
    """Delete the player who is this person, if any, with all that hangs on them."""
    books = Books(connection)
    if (player := books.player_of_person(user_id)) is not None:
        _recount(books, books.delete_player(player.key, at))


def erase_source(connection: Connection, user_id: str, item_id: str) -> None:
    """Delete the round or the judgement that an item is made of, or it would come back."""
    books = Books(connection)
    player = books.player_of_person(user_id)
    prompt = None if player is None else books.delete_source(player.key, item_id)
    if prompt is not None:
        _recount(books, [prompt])


def _recount(books: Books, prompts: Collection[int]) -> None:
    books.count_again(prompts)
    for prompt in sorted(prompts):
        books.note_recount(prompt)
