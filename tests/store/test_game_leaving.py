"""Forgetting a person, or one item of theirs, reaches the game that it came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from game_making import Table
from store_making import manifest

from idiolect.errors import StoreBusy
from idiolect.forget.planning import Options
from idiolect.game import recounting
from idiolect.service import Idiolect
from idiolect.store.game.leaving import same_source
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store
from idiolect.types import Item, Person

CANARY = "quokkabasket"


@pytest.fixture
def table(store: Store) -> Table:
    return Table(store)


def person_of(table: Table, player: PlayerRow, *items: str) -> str:
    """Make a player a person with these items."""
    name = f"nyms-{player.player}"
    table.store.add_person(Person(name, tuple(Item(i, {"question": "q", "answers": CANARY}) for i in items)))
    with table.game.books.write() as books:
        key = next(row for row in books.connection.exec_driver_sql("SELECT id, user_id FROM people") if row[1] == name)[0]
        books.change_player(player.key, person=key)
    return name


def counts(table: Table) -> tuple[int, int, dict[str, int]]:
    with table.game.books.read() as books:
        (prompt,) = books.prompts("mero")
        return prompt.n_players, prompt.n_rounds, {key: pair.n_players for key, pair in books.pairs(prompt.key).items()}


def test_a_forgotten_person_has_never_played(table: Table) -> None:
    table.crowd(4, "wheel")
    me = table.player("me")
    without = counts(table)
    table.play(me, "wheel", CANARY)
    assert counts(table) == (5, 5, {"wheel": 5, CANARY: 1})
    Idiolect(table.store).delete_person(person_of(table, me))
    assert counts(table) == without
    with table.game.books.read() as books:
        assert books.player_named("me") is None
        assert books.noted_recounts() == []


def test_exact_forgetting_of_a_person_takes_the_player_along(table: Table, tmp_path: Path) -> None:
    table.crowd(4, "wheel")
    without = counts(table)
    me = table.player("me")
    table.play(me, "wheel", CANARY)
    name = person_of(table, me)
    Idiolect(table.store).forget(name, options=Options(receipt=tmp_path / "receipt.json"))
    assert counts(table) == without


def test_forgetting_one_item_deletes_its_round(table: Table, tmp_path: Path) -> None:
    table.crowd(4, "wheel")
    me = table.player("me")
    report = table.play(me, "wheel", CANARY)
    name = person_of(table, me, f"r-{report.round.round}", "r-other")
    Idiolect(table.store).forget(name, f"r-{report.round.round}", Options(receipt=tmp_path / "receipt.json"))
    assert counts(table) == (4, 4, {"wheel": 4})
    with table.game.books.read() as books:
        assert books.player_named("me") is not None
        assert books.round(report.round.round) is None


@pytest.mark.parametrize("asked", ["", "/first"])
def test_what_was_made_of_the_same_round_goes_too(table: Table, tmp_path: Path, asked: str) -> None:
    me = table.player("me")
    round = f"r-{table.play(me, 'wheel', CANARY).round.round}"
    name = person_of(table, me, round, f"{round}/first", "r-other")
    made = {"user_id": name, "task": "NYM-2", "item_ids": (f"{round}/first",)}
    digest = table.store.publish(manifest(**made), b"of the twin")
    found = table.store.downstream(name, round + asked)
    assert (found.n_items, [one.digest for one in found.adapters]) == (2, [digest])
    receipt = tmp_path / "receipt.json"
    done = Idiolect(table.store).forget(name, round + asked, Options(rebuild=False, receipt=receipt))
    assert {node.id for node in done.closure.nodes if node.kind == "item"} == {round, f"{round}/first"}
    assert [item.id for item in table.store.history(name)] == ["r-other"]
    assert not table.store.has_adapter(digest)
    assert Idiolect(table.store).forgetting.verify(receipt).problems == ()


def test_items_of_one_round_belong_together() -> None:
    round = "r-6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    assert same_source(round) == (round, f"{round}/first")
    assert same_source(f"{round}/first") == (f"{round}/first", round)
    assert same_source("review 7") == ("review 7",)


@pytest.mark.parametrize("act", ["delete_person", "erase"])
def test_forgetting_waits_for_whoever_writes_in_the_game(table: Table, location: str, blobs: Path, act: str) -> None:
    name = person_of(table, table.player("me"), "r-1")
    with Store.open(location, blobs=blobs, timeout_s=0.2) as other, table.game.books.write(), pytest.raises(StoreBusy):
        other.delete_person(name) if act == "delete_person" else other.erase("request", other.downstream(name), {})
    assert table.store.has_person(name)


def test_keeping_a_history_waits_for_whoever_imports_people(table: Table, location: str, blobs: Path) -> None:
    me = table.player("me", consent_personal=1.0, adult=True)
    with Store.open(location, blobs=blobs, timeout_s=0.2) as other:
        histories = Table(other).game.histories
        with table.store._rows.write("histories"), pytest.raises(StoreBusy):
            histories.sync(me.key)
    assert table.game.histories.sync(me.key).n_items == 0


def test_items_that_are_not_of_the_game_touch_nothing(table: Table) -> None:
    me = table.player("me")
    report = table.play(me, "wheel")
    with table.game.books.write() as books:
        other = books.add_player("other", "guest", 0.0)
        for item in ("r-", "r-../../etc", "j-x/1", "review 7", f"r-{report.round.round[:-1]}"):
            assert books.delete_source(me.key, item) is None
        assert books.delete_source(other.key, f"r-{report.round.round}") is None, "somebody else's round"


def test_counting_again_changes_nothing(table: Table) -> None:
    for i in range(7):
        table.play(table.player(f"p{i}"), "wheel", "seat" if i % 2 else "bell", "x" * 60)
        table.play(table.player(f"q{i}", "simulated"), "wheel")

    def kept() -> list[object]:
        with table.game.books.read() as books:
            (prompt,) = books.prompts("mero")
            return [prompt, books.pairs(prompt.key)]

    before = kept()
    assert recounting.recount_all(table.game.books, table.clock()) == 1
    assert kept() == before
