"""Leaderboards, on SQLite and PostgreSQL."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from game_making import BEGAN, Table, small

from idiolect.game.boards import Board
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store

DAY = 86400.0
NOON = BEGAN - BEGAN % DAY + DAY / 2
WORDS = small([("mero", "bicycle"), ("mero", "car"), ("hypo", "bird")])
_names = count()


@pytest.fixture
def table(store: Store) -> Table:
    table = Table(store, words=WORDS)
    table.clock.now = NOON
    return table


def account(table: Table, name: str, **values: Any) -> PlayerRow:
    given = {"handle": name, "handle_key": name.lower(), "password": "argon2", "listed": True}
    return table.player(name, "account", **{**given, **values})


def played(table: Table, player: PlayerRow, *scores: int, days_ago: float = 0, **values: Any) -> None:
    """Closed rounds with these scores."""
    at = NOON - days_ago * DAY
    with table.game.books.write() as books:
        for score in scores:
            given = {
                "mode": "classic", "timing": "1x", "close_reason": "finished", "score_provisional": score, "relation": "mero",
            }  # fmt: skip
            books.add_round(
                round=f"r{next(_names)}", player=player.key, served_at=at, closed_at=at, rules="1", **{**given, **values}
            )


def lines(board: Board) -> list[tuple[int, str | None, float]]:
    return [(place.place, place.handle, place.value) for place in board.places]


def test_ties_share_a_place_and_the_next_one_is_left_out(table: Table) -> None:
    for name, score in (("Ana", 30), ("Bob", 50), ("Cid", 30), ("Dee", 20), ("Eve", 10), ("Fay", 5)):
        played(table, account(table, name), score - 1, 1)
    assert lines(table.game.boards.board("total")) == [
        (1, "Bob", 50), (2, "Ana", 30), (2, "Cid", 30), (4, "Dee", 20), (5, "Eve", 10),
    ]  # fmt: skip
    assert table.game.boards.board("total").own is None


def test_only_listed_accounts_in_good_standing_are_seen_and_everybody_sees_themselves(table: Table) -> None:
    listed = account(table, "Listed")
    others = {
        "shy": account(table, "Shy", listed=False),
        "guest": table.player("guest", listed=True),
        "simulated": table.player("simulated", "simulated", listed=True),
        "limited": account(table, "Limited", state="limited"),
        "banned": account(table, "Banned", state="banned"),
        "distrusted": account(table, "Distrusted", trust_a=1, trust_b=2),
    }
    played(table, listed, 10)
    for player in others.values():
        played(table, player, 20)
    worse = account(table, "Worse", listed=False)
    played(table, worse, 3)
    board = table.game.boards.board
    assert lines(board("total")) == lines(board("total", listed.key)) == [(1, "Listed", 10)]
    own = board("total", listed.key).own
    assert own is not None
    assert (own.place, own.own) == (1, True)
    for name in ("limited", "banned", "distrusted"):
        seen = board("total", others[name].key)
        assert [(handle, value) for _, handle, value in lines(seen)] == [(others[name].handle, 20), ("Listed", 10)]
        assert seen.places[0].own
        assert not seen.places[1].own
    for name in ("shy", "guest", "simulated"):
        seen = board("total", others[name].key)
        assert lines(seen) == [(1, "Listed", 10)], "others' places do not change with who looks"
        assert seen.own is not None
        assert (seen.own.place, seen.own.handle, seen.own.value) == (1, others[name].handle, 20)
    last = board("total", worse.key).own
    assert last is not None
    assert last.place == 2, "one plus the listed ones who are better"


def test_own_place_is_known_far_from_the_top(table: Table) -> None:
    for n in range(12):
        played(table, account(table, f"P{n:02}"), 100 - n)
    me = account(table, "Me")
    played(table, me, 1)
    board = table.game.boards.board("total", me.key)
    assert len(board.places) == 5
    assert board.own is not None
    assert (board.own.place, board.own.handle, board.own.own) == (13, "Me", True)


def test_totals_hold_final_scores_bonuses_and_judgements_but_nothing_beyond_a_day(table: Table) -> None:
    ana = account(table, "Ana")
    played(table, ana, 10, score_final=40)
    played(table, ana, 10, bonus=25)
    played(table, ana, 7, mode="judge")
    played(table, ana, 1000, beyond=True)
    played(table, ana, 1000, close_reason="abandoned")
    assert lines(table.game.boards.board("total")) == [(1, "Ana", 82)]
    assert lines(table.game.boards.board("rounds")) == [(1, "Ana", 3)]


def test_the_mean_is_of_ten_rounds_of_words_at_the_usual_pace_by_who_played_of_late(table: Table) -> None:
    ana, bob, cid, dee = (account(table, name) for name in ("Ana", "Bob", "Cid", "Dee"))
    played(table, ana, *[100] * 9, 51)
    played(table, ana, 900, mode="judge")
    played(table, ana, 900, timing="2x")
    played(table, ana, 900, mode="my_view")
    played(table, bob, *[100] * 10, days_ago=30.01)
    played(table, cid, *[100] * 9)
    played(table, cid, 100, timing="off")
    played(table, dee, *[60] * 10, days_ago=40)
    played(table, dee, 5, mode="judge", days_ago=29.9)
    board = table.game.boards.board("mean")
    assert lines(board) == [(1, "Ana", 95.1), (2, "Dee", 60)]
    assert [place.n_rounds for place in board.places] == [10, 10]
    assert table.game.boards.board("mean", cid.key).own is None


def test_the_best_ten_means_are_shown(table: Table) -> None:
    for n in range(11):
        played(table, account(table, f"P{n:02}"), *[50 + n] * 10)
    assert [value for *_, value in lines(table.game.boards.board("mean"))] == [60 - n for n in range(10)]


def test_a_streak_is_days_in_a_row_up_to_today_or_yesterday(table: Table) -> None:
    days = {"Ana": (0, 1, 2, 4, 5), "Bob": (1, 2, 3, 4), "Cid": (2, 3, 4, 5, 6), "Dee": (0, 0, 0.4, 1.3), "Eve": (0,)}
    for name, ago in days.items():
        player = account(table, name)
        for n in ago:
            played(table, player, 1, days_ago=n)
    assert lines(table.game.boards.board("streak")) == [(1, "Bob", 4), (2, "Ana", 3), (3, "Dee", 2), (4, "Eve", 1)]


@pytest.mark.parametrize("second", [0.0, 0.001, 43199.9, 43200.1, 86399.9])
def test_a_day_ends_at_midnight_utc(table: Table, second: float) -> None:
    """Whichever way a database cuts a number."""
    ana, start = account(table, "Ana"), NOON - DAY / 2
    for day in (0, 1):
        played(table, ana, 1, days_ago=(NOON - (start - day * DAY + second)) / DAY)
    assert lines(table.game.boards.board("streak")) == [(1, "Ana", 2)]


def test_the_hardest_base_words_have_ten_rounds_and_the_lowest_mean(table: Table) -> None:
    with table.game.books.write() as books:
        for row, n, total in zip(books.prompts(), (10, 12, 9), (500, 480, 9), strict=True):
            books.change_prompt(row.key, n_rounds=n, score_sum=total)
        names = [row.prompt for row in books.prompts()]
    hardest = table.game.boards.hardest()
    assert [(hard.place, hard.word.id, hard.mean, hard.n_rounds) for hard in hardest] == [
        (1, names[1], 40, 12), (2, names[0], 50, 10),
    ]  # fmt: skip


def test_lists_are_read_anew_after_a_minute_but_nobody_is_shown_who_is_listed_no_longer(table: Table) -> None:
    ana, bob, cid = (account(table, name) for name in ("Ana", "Bob", "Cid"))
    for player, score in ((ana, 30), (bob, 20), (cid, 10)):
        played(table, player, score)
    board = table.game.boards.board
    assert lines(board("total")) == [(1, "Ana", 30), (2, "Bob", 20), (3, "Cid", 10)]
    played(table, cid, 100)
    with table.game.books.write() as books:
        books.change_player(ana.key, listed=False)
    table.clock.now += 59
    assert lines(board("total")) == [(2, "Bob", 20), (3, "Cid", 10)]
    assert lines(board("total", cid.key)) == [(1, "Cid", 110), (3, "Bob", 20)], "one's own figures are those of now"
    table.clock.now += 1
    assert lines(board("total")) == [(1, "Cid", 110), (2, "Bob", 20)]
    with table.game.books.write() as books:
        books.change_round(books.last_rounds(cid.key, 1)[0].key, score_provisional=0)
    assert lines(board("total", cid.key)) == [(1, "Bob", 20), (2, "Cid", 10)], "nobody is better than themselves"
