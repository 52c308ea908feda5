"""A simulated crowd at the real desks, on a store: they play words, then judge until everybody has judged 120 pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from game_making import Table
from judging_making import PARTS, opened

from idiolect.game import validity
from idiolect.game.minds import Mind
from idiolect.game.mixing import FIRST_JUDGED
from idiolect.game.score import MIN_TRUST
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store

N_HONEST, N_OTHERS = 16, 4


@dataclass
class Seat:
    player: PlayerRow
    mind: Mind


@pytest.mark.slow
def test_the_desks_validate_what_holds_and_see_who_is_not_serious(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        table = Table(store, words=PARTS, seed=4)
        seats = [
            Seat(table.player(f"p{n}"), Mind("honest" if n < N_HONEST else "spammer", n, PARTS))
            for n in range(N_HONEST + N_OTHERS)
        ]
        for seat in seats:
            _play(table, seat)
        while waiting := [seat for seat in seats if _n_judged(table, seat) < FIRST_JUDGED]:
            for seat in waiting:
                _judge(table, seat)
        with table.game.books.write() as books:
            wanted = {(prompt.key, key) for prompt in books.prompts() for key in books.pairs(prompt.key)}
            validity.refresh(books, wanted, table.clock())  # by what everybody is trusted now
            assert validity.refresh(books, wanted, table.clock()) == []
            trust = [books.player(seat.player.key).trust for seat in seats]
            pairs = [(row.prompt, pair) for row in books.prompts() for pair in books.pairs(row.key).values()]
    validated = [pair.key in PARTS.seeds[prompt] for prompt, pair in pairs if pair.state == "validated" and pair.n_judges]
    rejected = [pair.key in PARTS.seeds[prompt] for prompt, pair in pairs if pair.state == "rejected"]
    assert len(validated) > 50
    assert sum(validated) / len(validated) >= 0.95
    assert sum(rejected) <= 0.05 * len(rejected)
    assert len(rejected) >= 10
    assert sum(value < MIN_TRUST for value in trust[N_HONEST:]) >= 0.88 * N_OTHERS
    assert not [value for value in trust[:N_HONEST] if value < MIN_TRUST]


def _play(table: Table, seat: Seat) -> None:
    """A round of words."""
    round = table.game.rounds.issue(seat.player.key, ("mero",), "classic", "1x")
    table.game.rounds.start(seat.player.key, round.round)
    _, word = table.game.rounds.round(seat.player.key, round.round)
    assert word is not None
    table.game.rounds.finish(seat.player.key, round.round, [text for _, text in seat.mind.answers(word, round.seconds)])
    table.clock.tick(30)


def _judge(table: Table, seat: Seat) -> None:
    """A round of Nym or Not, all of it; what holds is what gold and WordNet say."""
    round, items = opened(table, seat.player)
    with table.game.books.read() as books:
        ids = {row.key: row.prompt for row in books.prompts()}
    verdicts = {}
    for item in items:
        word = PARTS.words[ids[item.prompt]]
        holds = item.kind == "gold_pos" or (item.kind != "gold_neg" and item.key in PARTS.seeds[word.id])
        verdicts[item.seq], _ = seat.mind.verdict("mero", word.key, item.key, holds)
    table.game.judging.finish(seat.player.key, round.round, verdicts)
    table.clock.tick(30)


def _n_judged(table: Table, seat: Seat) -> int:
    with table.game.books.read() as books:
        return books.n_judged(seat.player.key)
