"""Rate limits: windows, who is counted, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from account_making import BEGAN, Desk
from hypothesis import given
from hypothesis import strategies as st

from idiolect.game import limiting
from idiolect.game.limiting import GUEST, HOUR, LOGIN, MINUTE, ROUNDS_DAY, ROUNDS_MINUTE, SIGN_UP, Limit, Limits, network_of
from idiolect.game.refusals import TooMany
from idiolect.store.store import Store


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store.open(tmp_path / "store", timeout_s=5) as store:
        yield Desk(store)


@pytest.fixture
def limits(desk: Desk) -> Limits:
    return Limits(desk.game.books, desk.clock, b"key")


def n_spent(limits: Limits, limit: Limit, *who: str, most: int = 1000) -> int:
    """How often it can be spent right now."""
    for n in range(most):
        try:
            limits.spend(limit, *who)
        except TooMany:
            return n
    return most


def test_limits_of_the_game() -> None:
    assert (LOGIN.n, LOGIN.per_s) == (5, 60)
    assert (SIGN_UP.n, SIGN_UP.per_s) == (3, 3600)
    assert (GUEST.n, GUEST.per_s) == (10, 3600)
    assert (ROUNDS_MINUTE.n, ROUNDS_MINUTE.per_s) == (20, 60)
    assert (ROUNDS_DAY.n, ROUNDS_DAY.per_s) == (400, 86400)
    assert (limiting.COMPLAINTS.n, limiting.COMPLAINTS.per_s) == (20, 86400)


def test_a_window_takes_so_many_and_the_next_one_again(desk: Desk, limits: Limits) -> None:
    desk.clock.now = BEGAN - BEGAN % MINUTE + 15.5
    assert n_spent(limits, LOGIN, "a", "ada") == 5
    with pytest.raises(TooMany) as caught:
        limits.spend(LOGIN, "a", "ada")
    assert caught.value.retry_after_s == 45  # until the minute is over, rounded up
    desk.clock.tick(44.4)
    assert n_spent(limits, LOGIN, "a", "ada") == 0
    desk.clock.tick(0.2)
    assert n_spent(limits, LOGIN, "a", "ada") == 5


def test_everybody_and_every_limit_has_a_counter_of_their_own(limits: Limits) -> None:
    assert n_spent(limits, LOGIN, "a", "ada") == 5
    assert n_spent(limits, LOGIN, "a", "eve") == 5
    assert n_spent(limits, LOGIN, "b", "ada") == 5
    assert n_spent(limits, LOGIN, "a\0ada") == 0  # the same parts, so the same counter
    assert n_spent(limits, Limit("other", 5, MINUTE), "a", "ada") == 5


def test_address_factor_is_for_addresses_only(desk: Desk) -> None:
    generous = Limits(desk.game.books, desk.clock, b"key", 2.5)
    assert n_spent(generous, GUEST, "a") == 25
    assert n_spent(generous, LOGIN, "a", "ada") == 5


def test_counters_outlast_a_restart(desk: Desk, limits: Limits) -> None:
    n_spent(limits, GUEST, "a")
    assert n_spent(Limits(desk.game.books, desk.clock, b"key"), GUEST, "a") == 0


def test_what_is_rolled_back_was_not_spent(desk: Desk, limits: Limits) -> None:
    limit = Limit("x", 2, HOUR)

    def spend_and_fail() -> None:
        with desk.game.books.write() as books:
            limits.spend(limit, "a", books=books)
            raise RuntimeError

    for _ in range(5):
        with pytest.raises(RuntimeError):
            spend_and_fail()
    assert n_spent(limits, limit, "a") == 2


def test_several_limits_are_spent_up_to_the_first_that_is_used_up(limits: Limits) -> None:
    few, fewer, last = (
        Limit(name, n, HOUR)
        for name, n in (
            (
                "few",
                3,
            ),
            ("fewer", 2),
            ("last", 9),
        )
    )
    for _ in range(2):
        limits.spend_each((few, fewer, last), "a")
    with pytest.raises(TooMany) as refused:
        limits.spend_each((few, fewer, last), "a")
    assert 0 < refused.value.retry_after_s <= HOUR
    assert (n_spent(limits, few, "a"), n_spent(limits, fewer, "a"), n_spent(limits, last, "a")) == (0, 0, 7)


def test_nothing_may_be_done_where_the_limit_is_none(limits: Limits) -> None:
    assert n_spent(limits, Limit("x", 0, HOUR), "a") == 0


def test_database_holds_no_address_and_purging_empties_it(desk: Desk, limits: Limits) -> None:
    limits.spend(GUEST, "203.0.113.77")
    limits.spend(LOGIN, "203.0.113.77", "unmistakable")
    left = b"".join(file.read_bytes() for file in Path(desk.store.place).glob("idiolect.db*"))
    assert b"203.0.113.77" not in left
    assert b"unmistakable" not in left
    assert limits.purge() == 0
    desk.clock.tick(MINUTE)
    assert limits.purge() == 1
    desk.clock.tick(HOUR)
    assert limits.purge() == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("testclient", "nowhere"),
        (None, "nowhere"),
    ],
)
def test_network_of_an_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


@given(st.text(max_size=20))
def test_any_address_has_a_network(address: str) -> None:
    assert network_of(address)


@pytest.mark.parametrize(
    ("seconds", "spoken"), [(0.1, "1 second"), (59.2, "1 minute"), (61, "2 minutes"), (3600, "1 hour"), (86401, "2 days")]
)
def test_waiting_is_said_in_words(seconds: float, spoken: str) -> None:
    assert str(TooMany(retry_after_s=seconds)).endswith(f"try again in {spoken}")
