"""What happened to a player while they were away, in sentences."""

from __future__ import annotations

from idiolect.serve.pages import Visit
from idiolect.store.game.books import Books
from idiolect.store.game.records import NoticeRow


def taken(here: Visit) -> tuple[str, ...]:
    """What the player has not read yet; from now on they have."""
    if here.player is None:
        return ()
    with here.game.books.read() as books:
        if not books.has_notices(here.player.key):
            return ()
    with here.game.books.write() as books:
        rows = books.take_notices(here.player.key, here.game.clock())
        prompts = {row.key: _prompt(books, row) for row in rows}
    return tuple(text for text in (_sentence(here, row, prompts[row.key]) for row in rows) if text)


def _prompt(books: Books, row: NoticeRow) -> str:
    """The base word that a notice is about, as an id; "" where it is gone."""
    if "prompt" in row.body:
        return str(row.body["prompt"])
    pair = books.pair(int(row.body.get("pair", 0)))
    return "" if pair is None else books.prompt(pair.prompt).prompt


def _sentence(here: Visit, row: NoticeRow, prompt: str) -> str | None:
    word = here.game.words.words.get(prompt)
    about = f" on “{word.display}”" if word is not None else ""
    if row.kind == "settled":
        n, gained = int(row.body["n_agreed"]), int(row.body["gained"])
        who = f"{n} player{'s' if n != 1 else ''} agreed with you{about}" if n else f"your round{about} was settled"
        return f"{who[:1].upper()}{who[1:]}: {gained} more points."
    if row.kind == "bonus":
        return f"An answer of yours{about} was found to be right: {int(row.body['points'])} more points."
    if row.kind == "challenge":
        outcome = "accepted" if row.body.get("accepted") else "looked at, and not accepted"
        return f"Your challenge{about} was {outcome}."
    return None
