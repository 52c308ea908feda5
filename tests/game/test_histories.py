"""What becomes of a player's rounds and judgements: what they are given, and what an adapter is trained on."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from reading_making import DAY, NOON, WORDS, Crowd, blobs, kind, location, postgres_socket, shared_database, store  # noqa: F401

from idiolect.data.nyms import event_item
from idiolect.data.readers import read_people
from idiolect.data.tasks import get_task
from idiolect.game.histories import Histories, asked_input, is_flagged, n_counted, profile, split
from idiolect.game.refusals import NotAllowed
from idiolect.store.game.reading import Votes
from idiolect.types import Query

BIKE, BIRD, SPORT = "mero:bicycle", "hypo:bird", "hypo:sport"


@pytest.fixture
def game(store: Any) -> tuple[Crowd, Histories]:  # noqa: F811
    return Crowd(store), Histories(store.game, WORDS)


def test_a_round_is_one_event_with_what_others_had_said_by_then(game: Any) -> None:
    crowd_, histories = game
    ana, *others = crowd_.player("ana"), *crowd_.players(6)
    for other in others[:5]:
        crowd_.round(other, BIKE, ["wheel", "seat", "chain", "pedal"])
    name = crowd_.round(ana, BIKE, ["wheel", "bell"], mode="my_view")
    crowd_.round(others[5], BIKE, ["bell"])  # later: no part of it
    listed, first = histories.events(ana.key)
    assert listed == {
        "v": 1, "user": "nyms-ana", "id": f"r-{name}", "t": listed["t"], "source": "nyms", "task": "NYM-3",
        "mode": "my_view", "relation": "mero", "base": "bicycle", "sense": WORDS.words[BIKE].sense,
        "question": "Name parts of: BICYCLE", "output": ["wheel", "bell"], "ms": [1000, 2000], "timing": "1x", "repeat": False,
        "population": {"U": 5, "freq": {"wheel": 1.0, "bell": 0.0}}, "flags": [],
    }  # fmt: skip
    assert datetime.fromisoformat(listed["t"]).timestamp() == NOON + 6 * 60
    assert (first["id"], first["task"], first["output"]) == (f"r-{name}/first", "NYM-2", "wheel")
    assert sorted(first["candidates"]) == ["chain", "pedal", "seat", "wheel"]


def test_candidates_are_as_frequent_as_the_own_answer(game: Any) -> None:
    crowd_, histories = game
    ana, *others = crowd_.player("ana"), *crowd_.players(9)
    for n, other in enumerate(others):
        often = ["wheel", "seat", "chain"]
        crowd_.round(other, BIKE, [*often, *(["pedal", "saddle", "frame", "bell"] if n < 4 else [])])
    crowd_.round(ana, BIKE, ["bell", "horn"])
    _, first = histories.events(ana.key)
    assert sorted(first["candidates"]) == ["bell", "frame", "pedal", "saddle"]


def test_judgements_are_events_and_checks_are_not(game: Any) -> None:
    crowd_, histories = game
    ana, *others = crowd_.player("ana"), *crowd_.players(5)
    for n, other in enumerate(others):
        crowd_.judge(other, SPORT, [("chess", "yes" if n < 2 else "no")])
    crowd_.judge(ana, "hypo:game", [("chess", "yes")], kind="gold_pos")
    name = crowd_.judge(ana, SPORT, [("chess", "no"), ("polo", "unsure")])
    (event,) = histories.events(ana.key)
    assert (event["id"], event["task"], event["answer"], event["output"]) == (f"j-{name}/0", "NYM-1", "chess", "no")
    assert event["population"] == {"n": 5, "yes": 0.4}
    assert event_item(event).fields["claim"] == "chess is a kind of sport"


def test_what_was_pasted_blocked_late_or_flagged_stays_out(game: Any) -> None:
    crowd_, histories = game
    ana = crowd_.player("ana")
    crowd_.round(ana, BIKE, ["wheel", "seat", "bell", "soul"], statuses={"seat": "blocked", "bell": "late"}, pasted=["soul"])
    crowd_.round(ana, BIRD, ["eagle"], flags='{"fast": true}')
    crowd_.round(ana, SPORT, ["polo"], flags='{"taboo": ["golf"], "pioneer": 40}')
    assert [event["output"] for event in histories.events(ana.key)] == [["wheel"], ["polo"]]
    assert is_flagged({"alphabetical": 1})
    assert not is_flagged({"fast": False})


def change_pair(crowd_: Crowd, prompt: str, key: str, **change: Any) -> None:
    with crowd_.store.game.write() as books:
        asked = books.prompt_named(prompt)
        assert asked is not None
        books.touch_pairs(asked.key, [(key, key, False, False)], NOON)
        books.change_pair(books.pairs(asked.key)[key].key_, **change)


def test_words_that_are_hidden_stand_in_nobodys_history(game: Any) -> None:
    crowd_, histories = game
    ana, *others = crowd_.player("ana"), *crowd_.players(9)
    for n, other in enumerate(others):
        often = ["wheel", "seat", "chain"]
        crowd_.round(other, BIKE, [*often, *(["pedal", "saddle", "frame", "bell"] if n < 4 else [])])
    crowd_.round(ana, BIKE, ["bell", "soul"])
    crowd_.judge(ana, SPORT, [("chess", "no"), ("polo", "yes"), ("golf", "yes")])
    change_pair(crowd_, BIKE, "pedal", state="blocked", decided="blocked")
    change_pair(crowd_, BIKE, "saddle", review=True)
    change_pair(crowd_, BIKE, "soul", state="blocked", decided="blocked")
    change_pair(crowd_, SPORT, "polo", state="blocked", decided="blocked")
    change_pair(crowd_, SPORT, "golf", review=True)
    change_pair(crowd_, SPORT, "chess", state="rejected")
    listed, first, judged = histories.events(ana.key)
    assert listed["output"] == ["bell"]
    assert sorted(first["candidates"]) == ["bell", "chain", "frame", "seat"]
    assert judged["answer"] == "chess", "that a pair was rejected by votes says nothing against the word"


def test_judgements_of_running_and_skipped_rounds_are_not_yet_anything(game: Any) -> None:
    crowd_, histories = game
    ana, *others = crowd_.player("ana"), *crowd_.players(7)
    rounds = [crowd_.judge(other, SPORT, [("chess", "no" if n < 2 else "yes")]) for n, other in enumerate(others)]
    own = crowd_.judge(ana, SPORT, [("chess", "no")])
    reasons: list[dict[str, Any]] = [{"closed_at": None, "close_reason": None}, {"close_reason": "skipped"}]
    with crowd_.store.game.write() as books:
        for name, change in zip(rounds, reasons, strict=False):
            books.change_round(books.round(name).key, **change)  # type: ignore[union-attr]
        prompt = books.prompt_named(SPORT).key  # type: ignore[union-attr]
        assert books.votes_before(prompt, "chess", without=ana.key) == Votes(yes=5)
        assert books.votes_in("hypo", without=ana.key) == Votes(yes=5)
    (event,) = histories.events(ana.key)
    assert event["population"] == {"n": 5, "yes": 1.0}
    for change in reversed(reasons):
        with crowd_.store.game.write() as books:
            books.change_round(books.round(own).key, **change)  # type: ignore[union-attr]
        assert histories.events(ana.key) == []


def test_a_base_word_comes_once_and_once_again(game: Any) -> None:
    crowd_, histories = game
    ana = crowd_.player("ana")
    for n in range(2):
        crowd_.round(ana, BIKE, ["wheel"], at=NOON + n * DAY)
        crowd_.round(ana, BIKE, ["seat"], repeat=True, at=NOON + (n + 8) * DAY)
    assert [(event["repeat"], event["output"]) for event in histories.events(ana.key)] == [(False, ["wheel"]), (True, ["seat"])]


def test_syncing_adds_what_is_new_and_only_with_consent(game: Any, store: Any) -> None:  # noqa: F811
    crowd_, histories = game
    ana, ben, sim = crowd_.player("ana"), crowd_.player("ben", consent_personal=None), crowd_.player("sim", "simulated")
    for who in (ana, ben, sim):
        crowd_.round(who, BIKE, ["wheel", "bell"])
    assert (histories.sync(ana.key).n_new, histories.sync(ana.key).n_new) == (1, 0)
    crowd_.judge(ana, SPORT, [("chess", "no"), ("polo", "yes")])
    assert histories.sync(ana.key).n_new == 2
    items = store.history("nyms-ana")
    assert [item.fields["task"] for item in items] == ["NYM-3", "NYM-1", "NYM-1"]
    assert not any("population" in item.fields for item in items)
    for who in (ben, sim):
        with pytest.raises(NotAllowed, match="has not agreed"):
            histories.sync(who.key)
    assert not store.has_person("nyms-ben")


@pytest.mark.parametrize("agrees", [True, False])
def test_syncing_reads_before_it_locks_and_looks_at_the_consent_again(game: Any, store: Any, agrees: bool) -> None:  # noqa: F811
    crowd_, _ = game
    ana = crowd_.player("ana")
    crowd_.round(ana, BIKE, ["wheel", "bell"])

    class Meanwhile(Histories):
        def _events(self, books: Any, player: int) -> Any:
            found = super()._events(books, player)
            with store.game.write() as others:  # somebody else writes, and need not wait
                others.change_player(ana.key, consent_personal=1.0 if agrees else None)
            return found

    histories = Meanwhile(store.game, WORDS)
    if agrees:
        assert histories.sync(ana.key).n_new == 1
    else:
        with pytest.raises(NotAllowed, match="has not agreed"):
            histories.sync(ana.key)
        assert not store.has_person("nyms-ana")


def test_who_deletes_the_person_deletes_the_player(game: Any, store: Any) -> None:  # noqa: F811
    crowd_, histories = game
    ana = crowd_.player("ana")
    crowd_.round(ana, BIKE, ["wheel"])
    histories.sync(ana.key)
    store.delete_person("nyms-ana")
    with store.game.read() as books:
        assert books.player_named("ana") is None


def test_the_export_is_the_training_input(game: Any, store: Any, tmp_path: Any) -> None:  # noqa: F811
    crowd_, histories = game
    ana = crowd_.player("ana")
    for other in crowd_.players(3):
        crowd_.round(other, BIKE, ["seat", "chain", "pedal"])
    crowd_.round(ana, BIKE, ["wheel", "bell"])
    crowd_.judge(ana, SPORT, [("chess", "no")])
    histories.sync(ana.key)
    file = tmp_path / "ana.jsonl"
    file.write_bytes(b"".join(histories.export(ana.key)))
    (person,) = read_people(file, get_task("NYM-3"))
    assert (person.id, person.history) == ("nyms-ana", store.history("nyms-ana"))
    assert len(person.history) == 3


def test_split_is_by_time_between_rounds_with_other_base_words() -> None:
    def event(day: int, round_: str, base: str) -> dict[str, Any]:
        return {"t": f"2025-01-{day:02d}T00:00:00.000Z", "id": f"j-{round_}/{day}", "relation": "hypo", "base": base}

    events = [event(n, f"r{(n - 1) // 3}", "abcdefghij"[(n - 1) // 3]) for n in range(1, 19)]
    events += [event(19, "r9", "a"), event(20, "r9", "z")]
    train, test = split(events)
    assert len(train) == 15
    assert {e["id"][2:4] for e in train}.isdisjoint(e["id"][2:4] for e in test)
    assert {e["base"] for e in train}.isdisjoint(e["base"] for e in test)
    assert [e["base"] for e in test] == ["f", "f", "f", "z"]
    assert split(list(reversed(events))) == (train, test)


def test_a_history_is_a_profile_with_queries(game: Any) -> None:
    crowd_, histories = game
    ana = crowd_.player("ana")
    for other in crowd_.players(3):
        crowd_.round(other, BIKE, ["seat", "chain", "pedal"])
    crowd_.round(ana, BIKE, ["wheel", "bell"])
    events = histories.events(ana.key)
    for event in events:
        made = profile("nyms-ana", [event], [event])
        (query,) = made["query"]
        task = get_task(event["task"])
        asked = task.example_from_query(Query(query["id"], query["input"], query["gold"]))
        trained = task.example_from_item(event_item(event))
        assert asked == trained
        assert json.loads(json.dumps(made)) == made
        assert asked_input(event_item(event)) == query["input"]
    assert n_counted(events) == 1


def test_the_population_is_without_the_player_and_as_of_then(game: Any) -> None:
    crowd_, histories = game
    ana, *others = crowd_.player("ana"), *crowd_.players(7)
    for n, other in enumerate(others[:5]):
        crowd_.round(other, BIKE, ["wheel", "seat"] if n else ["wheel", "chain", "pedal"])
        crowd_.judge(other, SPORT, [("chess", "no" if n < 3 else "yes")])
    crowd_.round(ana, BIKE, ["bell", "horn", "light"])
    crowd_.judge(ana, SPORT, [("chess", "yes")])
    for other in others[5:]:
        crowd_.round(other, BIKE, ["horn", "bell", "light"])
        crowd_.judge(other, SPORT, [("chess", "yes")])
    events = histories.events(ana.key)
    said = histories.population_answers(ana.key, events)
    assert [said[event["id"]] for event in events if event["task"] != "NYM-2"] == ["wheel, seat", "no"]
