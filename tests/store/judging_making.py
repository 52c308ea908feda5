"""Nym or Not for tests: parts of things, and players who judge a round in one line."""

from __future__ import annotations

from collections.abc import Callable

from game_making import Table

from idiolect.game.judging import JudgeReport
from idiolect.game.score import Verdict
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.store.game.books import Books
from idiolect.store.game.judging import JudgementRow
from idiolect.store.game.records import PlayerRow, RoundRow


def parts() -> Vocabulary:
    """The shipped base words of parts."""
    shipped = vocabulary()
    words = {word.id: word for word in shipped.of("mero")}
    return Vocabulary("test", words, {id: shipped.seeds[id] for id in words}, shipped.lexicon)


PARTS = parts()
BARE = Vocabulary("test", {"mero:car": PARTS.words["mero:car"]}, {"mero:car": {}}, PARTS.lexicon)
"""One base word of which nothing is known but two gold pairs."""

Judged = Callable[[JudgementRow], Verdict | None]


def truthful(words: Vocabulary, table: Table) -> Judged:
    """Says what gold and WordNet say."""
    with table.game.books.read() as books:
        ids = {row.key: row.prompt for row in books.prompts()}

    def verdict(item: JudgementRow) -> Verdict:
        if item.kind in ("gold_pos", "gold_neg"):
            return "yes" if item.kind == "gold_pos" else "no"
        return "yes" if item.key in words.seeds[ids[item.prompt]] else "no"

    return verdict


def opened(table: Table, player: PlayerRow) -> tuple[RoundRow, list[JudgementRow]]:
    """A round of Nym or Not whose clock runs, and what it asks."""
    round = table.game.judging.start(player, ("mero",), "1x")
    table.game.rounds.start(player.key, round.round)
    return round, items_of(table, round)


def items_of(table: Table, round: RoundRow) -> list[JudgementRow]:
    with table.game.books.read() as books:
        return books.judgements(round.key)


def judged(table: Table, player: PlayerRow, verdict: Judged) -> JudgeReport:
    """A whole round; None leaves a pair out."""
    round, items = opened(table, player)
    for item in items:
        said = verdict(item)
        if said is not None:
            table.clock.tick(0.5)
            assert table.game.judging.judge(player.key, round.round, item.seq, said, 500)
    return table.game.judging.finish(player.key, round.round)


def ask(table: Table, player: PlayerRow, *pairs: tuple[str, str], kind: str = "game") -> RoundRow:
    """A running round about pairs of one's choice, each a base word's id and an answer."""
    at = table.clock()
    with table.game.books.write() as books:
        row = books.add_round(
            round=f"r-{player.key}-{at}-{len(books.asked(player.key))}",
            player=player.key,
            relation="mero",
            mode="judge",
            timing="1x",
            seconds=20.0,
            served_at=at,
            started_at=at,
            deadline_at=at + 20,
            rules="1",
        )
        books.add_judgements(
            row.key,
            player.key,
            [
                {"prompt": prompt_key(books, prompt), "key": key, "display": key, "seq": seq, "kind": kind}
                for seq, (prompt, key) in enumerate(pairs)
            ],
        )
    return row


def say(table: Table, player: PlayerRow, prompt: str, key: str, verdict: Verdict, kind: str = "game") -> JudgeReport:
    """One vote on one pair, in a round of its own."""
    round = ask(table, player, (prompt, key), kind=kind)
    table.game.judging.judge(player.key, round.round, 0, verdict, 700)
    return table.game.judging.finish(player.key, round.round)


def prompt_key(books: Books, prompt: str) -> int:
    row = books.prompt_named(prompt)
    assert row is not None
    return row.key
