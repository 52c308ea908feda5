"""Rows of accounts, sessions and limits, on every database."""

from __future__ import annotations

from random import Random

import pytest
from argon2 import PasswordHasher
from game_making import BEGAN, Table, small

from idiolect.errors import StoreBusy
from idiolect.game import replaying
from idiolect.game.accounts import Accounts
from idiolect.game.consents import Wish
from idiolect.game.limiting import GUEST, Limits
from idiolect.game.passwords import Passwords
from idiolect.game.refusals import TooMany
from idiolect.store.store import Store
from idiolect.types import Item

PASSWORD = "a long enough one"


@pytest.fixture
def table(store: Store) -> Table:
    return Table(store, words=small([("mero", "bicycle"), ("mero", "ship"), ("hypo", "bird")]))


@pytest.fixture
def accounts(table: Table) -> Accounts:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    game = table.game
    return Accounts(game.books, game.words.lexicon, table.clock, Random(0), table.store.delete_person, passwords=passwords)


def counts(table: Table) -> list[tuple[int, int, float, float, dict[str, int]]]:
    with table.game.books.read() as books:
        return [
            (
                p.n_players,
                p.n_rounds,
                p.score_sum,
                p.score_squares,
                {k: pair.n_players for k, pair in books.pairs(p.key).items()},
            )
            for p in books.prompts()
        ]


def test_spending_is_counted_per_window(table: Table) -> None:
    with table.game.books.write() as books:
        assert [books.spend("b", 2, 60.0, BEGAN + n) for n in range(3)] == [None, None, 58.0]
        assert books.spend("c", 2, 60.0, BEGAN) is None
        assert books.spend("b", 2, 60.0, BEGAN + 60) is None
    with table.game.books.write() as books:
        assert books.drop_limits(BEGAN + 60) == 2
        assert books.spend("b", 2, 60.0, BEGAN + 61) is None
        assert books.spend("b", 2, 60.0, BEGAN + 62) == 58.0


def test_limits_hold_across_connections(table: Table) -> None:
    desks = [Limits(table.store.game, table.clock, b"key") for _ in range(2)]
    for n in range(GUEST.n):
        desks[n % 2].spend(GUEST, "a")
    for desk in desks:
        with pytest.raises(TooMany):
            desk.spend(GUEST, "a")


def test_secret_is_kept(table: Table, accounts: Accounts) -> None:
    assert accounts.secret() == accounts.secret()


def test_sessions(table: Table, accounts: Accounts) -> None:
    player = accounts.sign_up(None, "Zoë", PASSWORD, Wish(personal=True, adult=True))
    for token in ("a", "b", "c"):
        accounts.sit(player.key, token, instead_of="")
    with table.game.books.write() as books:
        books.touch_session("b", BEGAN + 10)
        books.end_other_sessions(player.key, "b")
        assert (books.seen("a"), books.seen("b"), books.seen("none")) == (None, BEGAN + 10, None)
        assert books.drop_sessions(BEGAN + 10) == 0
        assert books.drop_sessions(BEGAN + 11) == 1
        assert books.n_players_by_kind() == {"account": 1}
        assert not books.has_simulated()


def test_log_in_takes_a_guests_rows_over(table: Table, accounts: Accounts) -> None:
    account = accounts.sign_up(None, "Ada", PASSWORD)
    table.play(account, "wheel", "mast")
    guest = accounts.guest()
    for _ in range(3):
        table.play(guest, "seat")
    accounts.log_in(guest, "ADA", PASSWORD)
    with table.game.books.read() as books:
        assert books.find_player(guest.key) is None
        assert books.n_started(account.key) == 3
        assert books.n_items(account.key) == 3
        assert len(books.days_played(account.key)) == 1
        assert books.total_score(account.key) == 120
    assert [one[:3] for one in counts(table)] == [(1, 1, 40.0)] * 3
    given = [one[4] for one in counts(table)]
    assert sorted(given, key=len) == [{"seat": 1}, {"seat": 1}, {"wheel": 1, "mast": 1}]


def test_who_leaves_leaves_counts_as_if_they_had_never_come(table: Table, accounts: Accounts) -> None:
    for player in (accounts.guest(), accounts.guest()):
        for _ in range(3):
            table.play(player, "wheel")
    before = counts(table)
    leaver = accounts.guest()
    for _ in range(4):  # the fourth repeats a base word, and counts for nobody
        table.play(leaver, "wheel", "a word of mine")
    assert counts(table) != before
    accounts.delete(leaver.key)
    assert counts(table) == before


def test_counting_again_changes_nothing(table: Table, accounts: Accounts) -> None:
    for name in ("one", "two", "three"):
        player = accounts.guest()
        for _ in range(4):
            table.play(player, "wheel", name)
    table.crowd(2, "seat", kind="simulated")
    before = counts(table)
    with table.game.books.write() as books:
        books.recount_prompts([prompt.key for prompt in books.prompts()])
        assert books.drop_orphaned_pairs([prompt.key for prompt in books.prompts()]) == 0
    assert counts(table) == before


def test_stale_guests_are_the_old_ones_and_guests_only(table: Table, accounts: Accounts) -> None:
    old = accounts.guest()
    accounts.sign_up(None, "Ada", PASSWORD)
    table.clock.tick(10)
    accounts.guest()
    with table.game.books.read() as books:
        assert [row.key for row in books.stale_guests(BEGAN + 10)] == [old.key]


def test_leaving_is_noted_until_it_is_done(table: Table) -> None:
    with table.game.books.write() as books:
        books.note_leaving("nyms-b")
        books.note_leaving("nyms-a%_")
    with table.game.books.write() as books:
        assert books.leaving() == ["nyms-a%_", "nyms-b"]
        books.has_left("nyms-b")
        assert books.leaving() == ["nyms-a%_"]


def test_forgetting_can_be_noted_twice_and_no_history_is_kept_until_it_is_done(table: Table) -> None:
    me = table.player("me")
    item = Item("r-1", {"text": "wheel"})
    with table.game.books.write() as books:
        books.keep_items(me.key, "nyms-me", [item])
        books.note_leaving("nyms-me")
        books.note_leaving("nyms-me")
        assert books.leaving() == ["nyms-me"]
    with pytest.raises(StoreBusy), table.game.books.write() as books:
        books.keep_items(me.key, "nyms-me", [item])
    with table.game.books.write() as books:
        books.has_left("nyms-me")
        assert books.keep_items(me.key, "nyms-me", [item]) == 0


def test_what_was_blocked_stays_blocked_when_its_words_are_gone(table: Table, accounts: Accounts) -> None:
    for n in range(2):
        leaver = accounts.guest()
        for _ in range(3):
            table.play(leaver, "quokkabasket", "quokkawheel", "quokkaseat")
        with table.game.books.write() as books:
            for prompt in books.prompts():
                pairs = books.pairs(prompt.key)
                if n:
                    states = {key: (pair.state, pair.decided) for key, pair in pairs.items()}
                    assert states.pop("quokkabasket") == ("blocked", "blocked")
                    assert states == {"quokkawheel": ("candidate", None), "quokkaseat": ("candidate", None)}
                books.change_pair(pairs["quokkabasket"].key_, state="blocked", decided="blocked")
                books.change_pair(pairs["quokkawheel"].key_, decided="shown")
        accounts.delete(leaver.key)
        with table.game.books.read() as books:
            assert [books.pairs(prompt.key) for prompt in books.prompts()] == [{}] * 3
            names = books.connection.exec_driver_sql("SELECT name, value FROM settings").all()
            assert not any("quokka" in part for row in names for part in row)


def test_a_leavers_spelling_is_nowhere_any_more(table: Table, accounts: Accounts) -> None:
    leaver, judge = accounts.guest(), accounts.guest()
    for _ in range(3):
        table.play(leaver, "The Wheels", "The Masts")
    key = table.play(table.player("program", "simulated"), "wheels").round.prompt
    assert key is not None
    with table.game.books.write() as books:
        assert {pair.display for pair in books.pairs(key).values()} == {"the wheels", "the masts"}
        round = books.add_round(
            round="judge", player=judge.key, prompt=None, relation="mero", mode="judge", timing="1x", served_at=1.0,
            started_at=1.0, closed_at=1.0, close_reason="finished", rules="1",
        )  # fmt: skip
        kinds = (("wheel", "game"), ("mast", "game"), ("spoke", "seed"))
        items = [
            {"prompt": key, "key": word, "display": f"the {word}s", "seq": n, "kind": kind}
            for n, (word, kind) in enumerate(kinds)
        ]
        books.add_judgements(round.key, judge.key, items)
        books.judge([(row.key_, "yes", 500) for row in books.judgements(round.key)], 1.0)
        books.add_act("rules", "limited", f"player {leaver.key}", 1.0)
        books.add_act(f"player {leaver.key}", "block", "pair 1", 1.0)
    accounts.delete(leaver.key)
    with table.game.books.read() as books:
        # Of the program that gave it too, and of nobody: its bare key.
        assert {word: pair.display for word, pair in books.pairs(key).items()} == {"wheel": "wheels", "mast": "mast"}
        shown = [row.display for row in sorted(books.judgements(round.key), key=lambda row: row.seq)]
        assert shown == ["wheels", "mast", "the spokes"]
        said = " ".join(f"{act.actor} {act.subject}" for act in books.acts(10))
        assert f"player {leaver.key}" not in said
        assert "pair 1" in said


def test_merged_guest_keeps_rounds_that_the_account_only_skipped(table: Table, accounts: Accounts) -> None:
    account = accounts.sign_up(None, "Ada", PASSWORD)
    for _ in range(3):
        round = table.game.rounds.issue(account.key, mode="classic")
        with table.game.books.write() as books:
            row = books.round(round.round)
            assert row is not None
            books.change_round(row.key, closed_at=table.clock(), close_reason="abandoned")
    guest = accounts.guest()
    for _ in range(3):
        table.play(guest, "seat")
    accounts.log_in(guest, "Ada", PASSWORD)
    with table.game.books.read() as books:
        assert books.n_started(account.key) == 3
    assert [one[:2] for one in counts(table)] == [(1, 1)] * 3


def test_merging_does_not_go_round_the_days_share(table: Table, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "DAY_ROUNDS", 2)
    account, guest = accounts.sign_up(None, "Ada", PASSWORD), accounts.guest()
    table.play(account, "mast")
    for _ in range(3):
        table.play(guest, "seat")
    accounts.log_in(guest, "Ada", PASSWORD)
    with table.game.books.read() as books:
        n = books.n_started(account.key)
        assert n > 2
        assert books.total_score(account.key) == 80  # two rounds of a pioneer
