from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_making import item, manifest, person

from idiolect.errors import FileFormatError, InputError, PersonNotFound, StoreError
from idiolect.store import histories
from idiolect.store.dates import sort_key
from idiolect.store.store import Store
from idiolect.types import Item, Person, Query, date_key

DATES = st.one_of(
    st.none(),
    st.from_regex(r"[0-9]{1,4}(-[0-9]{1,2}){0,2}", fullmatch=True),
    st.lists(st.integers(0, 10**40), max_size=5).map(lambda numbers: "-".join(map(str, numbers))),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.text(max_size=12),
    st.integers(0, 10**900).map(str),
)
PER_EXAMPLE = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.lists(DATES, min_size=2, max_size=8))
def test_sort_key_orders_as_date_key_does(dates: list[str | None]) -> None:
    assert sorted(dates, key=sort_key) == sorted(dates, key=date_key)
    for one in dates:
        for other in dates:
            assert (sort_key(one) == sort_key(other)) == (date_key(one) == date_key(other))


def test_sort_key_where_a_number_outgrows_its_length_byte() -> None:
    numbers = [0, *(256**size + step for size in range(1, 260) for step in (-1, 0))]  # the last and first of each length
    assert sorted(map(str, reversed(numbers)), key=sort_key) == [str(n) for n in numbers]


def test_a_date_that_is_none_at_all_is_refused_without_its_text(store: Store) -> None:
    with pytest.raises(InputError) as caught:
        store.add_person(Person("ana", (item(date="secret " * 1000),)))
    assert "secret" not in str(caught.value)


def test_round_trip_on_its_own(store: Store) -> None:
    given_person = Person(
        "ana",
        (
            Item("b", {"text": "no date\0 \ud800 and ünïcode 🎈"}),
            Item("c", {"text": "x", "a": ""}, "1999"),
            Item("a", {}, "2020-01-01"),
        ),
        (Query("q2", "later?", None), Query("q1", "sooner?\n", "yes")),
    )
    added = store.add_person(given_person)
    assert (added.n_items, added.n_duplicates, added.n_queries, added.n_conflicts) == (3, 0, 2, 0)
    assert store.person("ana") == given_person
    assert store.history("ana") == given_person.history


@PER_EXAMPLE
@given(st.lists(DATES.filter(lambda d: d is None or not re.search("[\0\ud800-\udfff]", d)), max_size=12))
def test_history_is_by_date_and_then_by_arrival(store: Store, dates: list[str | None]) -> None:
    wipe(store)
    arrived = [item(f"{n}", date=date) for n, date in enumerate(dates)]
    half = len(arrived) // 2
    store.add_person(Person("ana", tuple(arrived[:half])))
    store.add_person(Person("ana", tuple(arrived[half:])))
    assert list(store.history("ana")) == sorted(arrived, key=lambda i: date_key(i.date))


ITEMS = st.builds(item, st.sampled_from("abcd"), st.sampled_from(["one", "two"]), st.sampled_from([None, "2001", "2002-02"]))
PEOPLE = st.lists(st.builds(Person, st.sampled_from(["ana", "bob"]), st.lists(ITEMS, max_size=6).map(tuple)), max_size=5)


@PER_EXAMPLE
@given(PEOPLE)
def test_imports_follow_the_laws(store: Store, people: list[Person]) -> None:
    wipe(store)
    first = store.import_people(people)
    kept: dict[tuple[str, str], Item] = {}
    for one in people:
        for it in one.history:
            kept.setdefault((one.id, it.id), it)
    everything = [(one.id, it) for one in people for it in one.history]
    assert first.n_items == len(kept)
    assert first.n_conflicts == sum(kept[user, it.id] != it for user, it in everything)
    assert first.n_items + first.n_duplicates + first.n_conflicts == len(everything)
    assert first.n_people == first.n_new_people == len({one.id for one in people})
    before = list(store.iter_people())
    assert {(p.id, it.id): it for p in before for it in p.history} == kept

    again = store.import_people(people)
    assert (again.n_items, again.n_new_people, again.n_people) == (0, 0, first.n_people)
    assert again.n_conflicts == first.n_conflicts
    assert list(store.iter_people()) == before
    assert [(s.id, s.n_items) for s in store.people()] == [(p.id, len(p.history)) for p in before]


@pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
def test_chunks_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    monkeypatch.setattr(histories, "CHUNK_ROWS", chunk_rows)
    people = [person(f"p{n}", n_items=n, n_queries=n % 3) for n in range(8)] * 2
    report = store.import_people(people)
    assert (report.n_people, report.n_items, report.n_duplicates, report.n_queries) == (8, 28, 28, 7)
    assert list(store.iter_people()) == people[:8]


def test_a_query_that_differs_is_a_conflict_and_the_first_stays(store: Store) -> None:
    store.add_person(Person("ana", (), (Query("q", "one", "1"),)))
    added = store.add_person(Person("ana", (), (Query("q", "one", "2"), Query("r", "two"))))
    assert (added.n_queries, added.n_conflicts) == (1, 1)
    assert store.person("ana").queries == (Query("q", "one", "1"), Query("r", "two"))
    assert store.people()[0].n_queries == 2


def test_an_import_that_fails_imports_nothing(store: Store) -> None:
    store.add_person(person("old"))

    def people() -> Iterator[Person]:
        yield from (person(f"p{n}", n_items=30) for n in range(100))
        raise FileFormatError("line 101")

    with pytest.raises(FileFormatError, match="line 101"):
        store.import_people(people())
    with pytest.raises(InputError, match="not text: rating"):
        store.import_people([person("new"), Person("bad", (Item("1", {"rating": 3}),))])  # type: ignore[dict-item]
    assert [s.id for s in store.people()] == ["old"]
    assert store.import_people([]).n_people == 0


def test_an_import_holds_a_chunk_at_a_time(store: Store) -> None:
    import weakref

    class Weighed(Person):
        __slots__ = ("__weakref__",)

    alive: list[weakref.ref[Person]] = []
    most = 0

    def people() -> Iterator[Person]:
        nonlocal most
        for n in range(100):
            one = Weighed(f"p{n}", tuple(item(str(k)) for k in range(99)))
            alive.append(weakref.ref(one))
            yield one
            del one
            most = max(most, sum(ref() is not None for ref in alive))

    assert store.import_people(people()).n_items == 9900
    assert most <= 11


@pytest.mark.parametrize("bad", ["", "x" * 257, "a\0b", "a\ud800", 7])
def test_ids_that_cannot_be_kept(store: Store, bad: str) -> None:
    for one in (Person(bad, ()), Person("ana", (item(bad),)), Person("ana", (), (Query(bad, "?"),))):
        with pytest.raises(InputError):
            store.add_person(one)
    assert store.people() == []


def test_the_longest_ids_and_dates_fit_every_index(store: Store) -> None:
    wide = "🎈" * 256
    store.add_person(Person(wide, (item(wide, date="9" * 1000), item("2", date="9 " * 500)), (Query(wide, "?"),)))
    digest = store.publish(manifest(wide, item_ids=(wide,)), b"x")
    assert store.derived_from("item", wide, user_id=wide) == [digest]


def test_lists(store: Store) -> None:
    for one in (person("bob", 3), person("Ana", 3), person("ána", 1, 0), person("zoe", 5), Person("nil", (item(),))):
        store.add_person(one)
    assert [s.id for s in store.people()] == ["Ana", "bob", "nil", "zoe", "ána"]
    assert [s.id for s in store.people(limit=2, offset=1)] == ["bob", "nil"]
    assert store.most_active(3) == ["zoe", "Ana", "bob"]
    ana, nil = store.people()[0], store.people()[2]
    assert (ana.n_items, ana.n_queries, ana.first_date, ana.last_date) == (3, 1, "2020-01-01", "2020-01-03")
    assert (nil.first_date, nil.last_date) == (None, None)


def test_iterating_follows_the_ids_given_and_lets_others_write(store: Store) -> None:
    store.import_people(person(f"p{n:03}", 1) for n in range(150))
    assert [p.id for p in store.iter_people()] == [f"p{n:03}" for n in range(150)]
    assert [p.id for p in store.iter_people(iter(["p100", "p001", "p100"]))] == ["p100", "p001", "p100"]
    walk = store.iter_people()
    next(walk)
    store.delete_person("p149")
    assert len(list(walk)) == 148
    with pytest.raises(PersonNotFound, match=r"'nobody'.*idiolect history list"):
        list(store.iter_people(["p001", "nobody"]))


def test_unknown_people(store: Store) -> None:
    for ask in (store.person, store.history, store.require_person, store.delete_person):
        with pytest.raises(PersonNotFound, match=r"'bob'.*idiolect history list"):
            ask("bob")


SECRET = "zanzibar-marmalade-4711"


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_deleted_person_is_in_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with Store.open(folder) as store:
        long = tuple(item(str(n), f"{SECRET} {n} " * 300, "2020") for n in range(40))
        store.add_person(Person("ana-" + SECRET, long, (Query("q", SECRET),)))
        store.add_person(person("bob"))
        digest = store.publish(manifest("ana-" + SECRET), SECRET.encode())
        store.publish(manifest("bob"), b"bob's")
        assert SECRET.encode() in bytes_below(folder)
        assert SECRET not in str(store.blob_path(digest))
        gone = store.delete_person("ana-" + SECRET)
        assert (gone.n_items, gone.n_queries, gone.n_adapters, gone.n_blobs) == (40, 1, 1, 1)
        assert gone.scrubbed
        assert SECRET.encode() not in bytes_below(folder)  # while the store is open, the -wal file there
        assert b"bob wrote 1" in bytes_below(folder)
        assert store.person("bob") == person("bob")
    assert SECRET.encode() not in bytes_below(folder)


def test_a_reader_in_the_way_of_scrubbing_is_reported(tmp_path: Path) -> None:
    with Store.open(tmp_path, timeout_s=0.1) as store, Store.open(tmp_path) as other:
        store.add_person(person())
        with other._rows.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM items").scalar()
            assert not store.delete_person("ana").scrubbed
        assert other.people() == []


def test_errors_quote_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    from sqlalchemy import insert

    from idiolect.store.tables import people

    with pytest.raises(StoreError) as caught, store._rows.write() as connection:
        connection.execute(insert(people), [{"user_id": SECRET}, {"user_id": SECRET}])
    assert SECRET not in str(caught.value)
    assert "UNIQUE" in str(caught.value) or "23505" in str(caught.value)
    assert caught.value.__suppress_context__
    assert SECRET not in caplog.text


def test_frozen_records(store: Store) -> None:
    added = store.add_person(person())
    with pytest.raises(dataclasses.FrozenInstanceError):
        added.n_items = 5  # type: ignore[misc]


def wipe(store: Store) -> None:
    for one in store.people():
        store.delete_person(one.id)
