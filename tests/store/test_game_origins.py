"""Where it takes several people, several players of one network are one."""

from __future__ import annotations

import pytest
from game_making import Table

from idiolect.game.limiting import Limits, network_of
from idiolect.store.game.records import PairRow
from idiolect.store.store import Store


@pytest.fixture
def table(store: Store) -> Table:
    return Table(store)


def given_by(table: Table, origins: list[str | None]) -> PairRow:
    """The pair that so many players gave, each from somewhere."""
    for i, origin in enumerate(origins):
        table.play(table.player(f"p{i}", origin=origin), "secret word")
    with table.game.books.read() as books:
        (prompt,) = books.prompts("mero")
        return books.pairs(prompt.key)["secret word"]


def test_one_network_neither_validates_a_pair_nor_shows_it(table: Table) -> None:
    pair = given_by(table, ["a", "a", "a", "a", "a"])
    assert (pair.n_players, pair.state) == (1, "candidate")
    report = table.play(table.player("me", origin="b"), "wheel")
    assert report.n_others == 5, "what everybody scores stays a matter of players"
    assert report.top == ()


@pytest.mark.parametrize("origins", [["a", "b", "c"], [None, None, None], ["a", "a", None, "b"]])
def test_three_of_different_networks_do(table: Table, origins: list[str | None]) -> None:
    pair = given_by(table, origins)
    assert (pair.n_players, pair.state) == (3, "validated")


def test_an_origin_is_a_hash_of_a_neighbourhood(table: Table) -> None:
    limits = Limits(table.game.books, table.clock, b"key")
    assert limits.origin("203.0.113.7") == limits.origin("203.0.113.200") != limits.origin("203.0.114.7")
    assert limits.origin(network_of("2001:db8::1")) == limits.origin(network_of("2001:db8::2"))
    assert "203" not in str(limits.origin("203.0.113.7"))
    for nowhere in ("127.0.0.1", network_of("::1"), network_of(None)):
        assert limits.origin(nowhere) is None
