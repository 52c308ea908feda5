"""Portraits: who teaches, what is measured, what is put into use, and what the player's page shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from portrait_making import DAY, NOON, WORDS, Crowd, play, prompts

from idiolect.cli.game_data import _drawn
from idiolect.config import preset
from idiolect.data.nyms import event_item
from idiolect.data.tasks import get_task
from idiolect.errors import BaseNotFound, EmptyHistory, StoreBusy
from idiolect.game.desk import Game
from idiolect.game.histories import split
from idiolect.game.minds import Mind
from idiolect.game.mirror import Mirrors, mirror, own_words
from idiolect.game.refusals import NotAllowed
from idiolect.model.base import load_base
from idiolect.portraits import teachers as teaching
from idiolect.portraits.drawing import Portrait, Settings, _guesses, draw, shown_guesses
from idiolect.portraits.measuring import Measured, _held, own_adapter
from idiolect.portraits.teachers import half, teachers
from idiolect.store.game.portraits import PortraitRow
from idiolect.store.store import Store
from idiolect.types import Item, Person

ASKED = prompts(5)
QUICK = Settings(k=1, max_examples=16, user=preset("default", "user").but(epochs=1))


@pytest.fixture(scope="module")
def base(base_folder: Any) -> Any:
    return load_base(base_folder("llama"), device="cpu")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store in which five simulated players and a real one played all of it."""
    folder = tmp_path_factory.mktemp("filled")
    with Store.open(folder / "store") as store:
        crowd = Crowd(store)
        with crowd.at_once():
            for n in range(5):
                play(crowd, crowd.player(f"sim{n}", "simulated"), Mind("honest", 50 + n, WORDS), ASKED, ASKED[:6])
            play(crowd, crowd.player("ana"), Mind("stylised", 1, WORDS), ASKED, ASKED)
    return folder / "store"


@contextmanager
def opened(filled: Path, folder: Path) -> Iterator[Any]:
    with Store.open(shutil.copytree(filled, folder / "store")) as store:
        yield Crowd(store, NOON + 10 * DAY)


@pytest.fixture
def crowd(filled: Path, tmp_path: Path) -> Iterator[Any]:
    with opened(filled, tmp_path) as crowd:
        yield crowd


@pytest.fixture
def store(crowd: Any) -> Store:
    return crowd.store


@pytest.fixture
def game(crowd: Any) -> Game:
    return Game(crowd.store, clock=lambda: crowd.now)


@pytest.fixture(scope="module")
def drawn(filled: Path, base: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Game, Portrait, list[str]]]:
    """A portrait, what was said while it was drawn, and the game that it is in."""
    said: list[str] = []
    with opened(filled, tmp_path_factory.mktemp("drawn")) as crowd:
        game = Game(crowd.store, clock=lambda: crowd.now)
        yield game, draw(base, game.store, game, key_of(game, "ana"), QUICK, say=said.append), said


def key_of(game: Game, name: str) -> int:
    with game.books.read() as books:
        row = books.player_named(name)
    assert row is not None
    return row.key


def body(game: Game, name: str = "ana") -> tuple[str, dict[str, Any]]:
    with game.books.read() as books:
        row = books.portrait(key_of(game, name))
    assert row is not None
    return row.state, dict(row.body)


def test_a_portrait_is_drawn_measured_and_kept(base: Any, drawn: Any) -> None:
    game, made, said = drawn
    store = game.store
    assert body(game) == ("done", made.body)
    assert made.body["n_items"] >= 100
    assert made.body["teachers"]["simulated"]
    assert set(made.body["tasks"]) == {"NYM-1"}  # of the others too little is held out here
    assert said[0] == "reading the history"
    train, test = split(game.histories.events(key_of(game, "ana")))
    held_out = {event_item(event).id for event in test}
    for task, found in made.body["tasks"].items():
        manifest = store.manifest(found["adapter"])
        assert (manifest.user_id, manifest.task, manifest.retriever) == ("nyms-ana", task, "bm25")
        assert held_out.isdisjoint(manifest.item_ids)
        assert len(manifest.item_ids) == found["n_train"] == sum(event["task"] == task for event in train)
        assert found["n_test"] == sum(event["task"] == task for event in test)
        gain = found["over_population"]
        assert gain["delta"] == pytest.approx(found["scores"]["after"] - found["scores"]["population"], abs=2e-4)
        heads = store.heads(task=task, base=base.fingerprint, variant="bm25-k1")
        assert heads == ({"nyms-ana": found["adapter"]} if found["offered"] else {})
        assert manifest.task_adapter is not None
        taught = {parent.id for parent in store.parents(manifest.task_adapter) if parent.kind == "person"}
        assert taught
        assert all(half(name.removeprefix("sim-")) != half("ana") for name in taught)


def test_drawing_again_trains_nothing_twice(base: Any, drawn: Any) -> None:
    game, made, _ = drawn
    digests = {row.digest for row in game.store.adapters()}
    assert draw(base, game.store, game, key_of(game, "ana"), QUICK).body == made.body
    assert {row.digest for row in game.store.adapters()} == digests


def test_an_adapter_does_not_depend_on_whose_was_trained_before(base: Any, store: Store, game: Game) -> None:
    ana, ben = (
        Person(name, tuple(Item(f"j-r/{n}", {"claim": f"{word} is a part of it", "output": "yes"}) for n in range(6)))
        for name, word in (("nyms-a", "wheel"), ("nyms-b", "bell"))
    )
    for person in (ana, ben):
        store.add_person(person)
    recipe = QUICK.recipe(base, "NYM-1", QUICK.user)
    alone = store.payload(own_adapter(base, store, recipe, ben))
    store.delete_person("nyms-b")
    store.add_person(ben)
    own_adapter(base, store, recipe, ana)
    assert store.payload(own_adapter(base, store, recipe, ben)) == alone


def test_too_few_items_are_looked_up_and_train_nothing(base: Any, store: Store, crowd: Any, game: Game) -> None:
    with crowd.at_once():
        play(crowd, crowd.player("dora"), Mind("stylised", 3, WORDS), ASKED, ASKED[:3])
    made = draw(base, store, game, key_of(game, "dora"), QUICK)
    assert made.body["trained"] is made.body["offered"] is False
    assert all(found["adapter"] is None and "after" not in found["scores"] for found in made.body["tasks"].values())
    assert store.adapters(user_id="nyms-dora") == []
    assert Mirrors(game.books, game.words, game.clock).view(key_of(game, "dora")).adapter.state == "too_little"


def test_without_consent_nothing_is_drawn_or_kept(base: Any, store: Store, game: Game) -> None:
    ana = key_of(game, "ana")
    mirrors = Mirrors(game.books, game.words, game.clock)
    mirrors.request(ana)
    with game.books.write() as books:
        books.change_player(ana, consent_personal=None)
    with pytest.raises(NotAllowed):
        draw(base, store, game, ana, QUICK)
    with game.books.read() as books:
        assert books.portrait(ana) is None
    assert not store.has_person("nyms-ana")
    assert mirrors.view(ana).adapter.state == "no_consent"
    with pytest.raises(NotAllowed):
        mirrors.request(ana)


def test_consent_taken_back_while_it_is_drawn_keeps_nothing(base: Any, store: Store, game: Game) -> None:
    ana = key_of(game, "ana")

    def say(line: str) -> None:
        if line.startswith("NYM-1: the shared"):
            with game.books.write() as books:
                books.change_player(ana, consent_personal=None)

    with pytest.raises(NotAllowed, match="took the consent back"):
        draw(base, store, game, ana, QUICK, say=say)
    with game.books.read() as books:
        assert books.portrait(ana) is None
    assert not store.heads(task="NYM-1", base=base.fingerprint, variant="bm25-k1")


def test_where_nobody_can_teach_the_portrait_says_so(base: Any, tmp_path: Path) -> None:
    with Store.open(tmp_path / "lonely") as store:
        crowd = Crowd(store)
        with crowd.at_once():
            play(crowd, crowd.player("ana"), Mind("stylised", 1, WORDS), ASKED[:8], ())
        game = Game(store, clock=lambda: crowd.now)
        with pytest.raises(EmptyHistory, match="nobody can teach"):
            draw(base, store, game, key_of(game, "ana"), QUICK)
        state, kept = body(game)
        assert state == "failed"
        assert "nobody can teach" in kept["reason"]
        assert Mirrors(game.books, game.words, game.clock).view(key_of(game, "ana")).adapter.state == "failed"


def test_real_teachers_come_first_where_they_are_enough(crowd: Any, game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "MIN_TEACHERS", 2)
    monkeypatch.setattr(teaching, "MIN_ITEMS", 3)
    names = [f"real{n}" for n in range(8)]
    with crowd.at_once():
        for n, name in enumerate(names):
            given = {"consent_aggregate": None} if n == 0 else {}
            play(crowd, crowd.player(name, **given), Mind("honest", n, WORDS), ASKED[:3], ())
    chosen = teachers(game.books, game.histories, "ana", crowd.now)
    assert not chosen.simulated
    assert {person.id for person in chosen.people} == {f"nyms-{name}" for name in names[1:] if half(name) != half("ana")}
    assert all(crowd.store.has_person(person.id) for person in chosen.people)


def test_only_what_beats_most_people_is_offered() -> None:
    task = get_task("NYM-1")
    items = [Item(f"j-r{n // 2}/{n}", {"claim": "c", "output": "yes" if n % 2 else "no"}) for n in range(8)]
    right = {item.id: item.fields["output"] for item in items}
    wrong = {item.id: "yes" for item in items}
    cases = [
        (wrong, wrong, right, True),
        (right, wrong, right, False),
        (wrong, right, right, False),
        (right, right, wrong, False),
    ]
    for population, before, after, offered in cases:
        held = _held(task, 30, items, {"population": population, "before": before, "after": after}, "digest")
        assert held.offered is offered
        assert held.over_population is not None
        assert held.over_population.n_people == 4  # rounds, whose items stand together
    assert not _held(task, 30, items, {"population": wrong, "before": right}, None).offered


def test_what_is_no_better_than_chance_is_not_offered() -> None:
    task = get_task("NYM-2")
    fields = {"question": "Name parts of: BICYCLE", "candidates": "seat, wheel, chain, pedal", "output": "wheel"}
    items = [Item(f"r-{n}/first", fields) for n in range(8)]
    never = {item.id: "[1]" for item in items}
    for n_right, offered in ((2, False), (3, True)):  # of eight, with four to choose from
        after = {item.id: "[2]" if n < n_right else "[1]" for n, item in enumerate(items)}
        assert _held(task, 30, items, {"population": never, "before": never, "after": after}, "digest").offered is offered


def test_portraits_are_asked_for_once_and_drawn_in_turn(crowd: Any, game: Game) -> None:
    mirrors = Mirrors(game.books, game.words, game.clock)
    with crowd.at_once():
        ben = crowd.player("ben")
        play(crowd, ben, Mind("honest", 2, WORDS), ASKED, ASKED)
    ana = key_of(game, "ana")
    assert mirrors.view(ana).adapter.state == "possible"
    for player in (ana, ben.key, ana):
        crowd.now += 1
        mirrors.request(player)
    assert mirrors.view(ana).adapter.state == "waiting"
    assert (mirrors.next_waiting(), mirrors.next_waiting(), mirrors.next_waiting()) == (ana, ben.key, None)
    assert mirrors.view(ana).adapter.state == "training"
    crowd.now += 2 * 3600
    assert mirrors.next_waiting() == ana  # cut off: its turn again


def test_portraits_are_for_who_played_enough_and_drawn_again_when_enough_is_new(crowd: Any, game: Game) -> None:
    mirrors = Mirrors(game.books, game.words, game.clock)
    with crowd.at_once():
        few = crowd.player("few")
        play(crowd, few, Mind("honest", 2, WORDS), ASKED[:3], ())
    with pytest.raises(NotAllowed, match="you have 3"):
        mirrors.request(few.key)
    ana = key_of(game, "ana")
    with game.books.read() as books:
        n_items = books.n_items(ana)

    def asked(n_played: int, days: float, state: str = "done") -> bool:
        with game.books.write() as books:
            books.put_portrait(ana, state, crowd.now - days * DAY, {"n_played": n_played})
        try:
            mirrors.request(ana)
        except NotAllowed:
            return False
        return True

    assert [asked(n_items - n, 13) for n in (0, 49, 50)] == [False, False, True]
    assert [asked(n_items, days) for days in (13.9, 14)] == [False, True]
    assert asked(n_items, 0, "failed")


def test_what_was_shown_stays_until_there_is_something_new(base: Any, crowd: Any, game: Game, tmp_path: Path) -> None:
    ana, before = key_of(game, "ana"), {"trained": True, "offered": True, "n_rounds": 3}
    with game.books.write() as books:
        books.put_portrait(ana, "running", crowd.now, before)
    with game.store.lock(), pytest.raises(StoreBusy):
        draw(base, game.store, game, ana, QUICK)
    assert body(game) == ("waiting", before)
    with game.books.write() as books:
        for key in books.consenting(simulated=True):
            books.delete_player(key, crowd.now)
    with pytest.raises(EmptyHistory):
        draw(base, game.store, game, ana, QUICK)
    state, kept = body(game)
    assert (state, {name: kept[name] for name in before}) == ("failed", before)


def test_consent_given_anew_while_it_is_drawn_keeps_nothing_of_before(base: Any, store: Store, game: Game) -> None:
    ana = key_of(game, "ana")

    def say(line: str) -> None:
        if line.startswith("NYM-1: the shared"):
            with game.books.write() as books:
                books.change_player(ana, consent_personal=game.clock() + 1)

    with pytest.raises(NotAllowed, match="took the consent back"):
        draw(base, store, game, ana, QUICK, say=say)
    with game.books.read() as books:
        assert books.portrait(ana) is None
    assert not store.heads(task="NYM-1", base=base.fingerprint, variant="bm25-k1")


def test_where_the_base_cannot_be_loaded_everybody_goes_on_waiting(game: Game) -> None:
    class House:
        @property
        def base(self) -> Any:
            raise BaseNotFound("there is no such base")

    house: Any = House()
    assert _drawn(house, game) == []  # nobody waits, and nothing is loaded
    Mirrors(game.books, game.words, game.clock).request(key_of(game, "ana"))
    with pytest.raises(BaseNotFound):
        _drawn(house, game)
    assert body(game)[0] == "waiting"


def test_the_page_shows_what_was_drawn(drawn: Any) -> None:
    game, made, _ = drawn
    shown = Mirrors(game.books, game.words, game.clock).view(key_of(game, "ana"))
    assert shown.adapter.state == ("offered" if made.offered else "not_better")
    assert shown.adapter.personal == round(100 * made.body["personal"])
    assert shown.adapter.n_items >= made.body["n_items"]
    assert shown.words
    assert all(word.question.word and (word.only_mine or word.shared) for word in shown.words)
    assert shown.n_rounds == made.body["n_rounds"]


def test_guesses_are_for_the_players_own_later_questions() -> None:
    event = {
        "id": "r-1",
        "task": "NYM-3",
        "relation": "mero",
        "base": "bicycle",
        "mode": "my_view",
        "output": ["bell"],
        "repeat": False,
    }
    again = {**event, "id": "r-2", "repeat": True}
    given = {"before": {"r-1": "wheel, Bell"}, "after": {"r-1": "bell"}}
    lists = Measured("NYM-3", 30, 1, {}, {}, given)
    (one,) = _guesses([event, again, {**event, "task": "NYM-2"}], lists)
    assert (one["own"], one["before"], one["after"]) == (["bell"], ["wheel", "bell"], ["bell"])
    assert _guesses([event], None) == []


def test_guesses_show_no_word_that_others_are_not_shown(crowd: Any, game: Game) -> None:
    slur = next(key for key, severity in WORDS.lexicon.severity.items() if severity == "slur")
    crowd.round(crowd.player("few"), "mero:bicycle", ["zyzzyvas", "handle"])
    for player in crowd.players(3, "many"):
        crowd.round(player, "mero:bicycle", ["basket", "lock"])
    with game.books.write() as books:
        known = books.pairs(books.prompt_named("mero:bicycle").key)  # type: ignore[union-attr]
        books.change_pair(known["lock"].key_, state="blocked", decided="blocked")
    guess = {
        "relation": "mero", "base": "bicycle", "mode": "my_view", "own": ["my rag"],
        "before": ["wheel", "zyzzyvas", "basket", "lock", "xqzv"], "after": ["my rag", slur, "ribbons"],
    }  # fmt: skip
    (shown,) = shown_guesses(game, [guess])
    assert shown == {**guess, "before": ["wheel", "basket"], "after": ["my rag", "ribbons"]}


def test_a_mirror_is_made_of_plain_values(game: Game) -> None:
    kept = {
        "trained": True, "offered": True, "personal": 0.614, "population": 0.5, "n_rounds": 3,
        "words": [{"relation": "mero", "base": "bicycle", "mode": "classic", "only_mine": ["bell"], "shared": ["wheel"]},
                  {"relation": "hypo", "base": "bird", "mode": "classic", "only_mine": [], "shared": []}],
        "guesses": [{"relation": "mero", "base": "bicycle", "mode": "my_view", "own": ["bell"], "before": ["wheel"],
                     "after": ["bell", "wheel"]}],
        "retest": {"n_pairs": 4, "within": 0.5, "between": 0.251, "clear": True},
    }  # fmt: skip
    with game.books.read() as books:
        player = books.player(key_of(game, "ana"))
    shown = mirror(player, PortraitRow(player.key, "done", NOON, kept), 120, WORDS)
    assert (shown.adapter.state, shown.adapter.personal, shown.adapter.population) == ("offered", 61, 50)
    assert [(word.question.word, word.only_mine, word.shared) for word in shown.words] == [("bicycle", ("bell",), ("wheel",))]
    assert shown.guesses[0].after == (("bell", True), ("wheel", False))
    assert shown.retest is not None
    assert (shown.retest.own, shown.retest.others, shown.retest.is_clear) == (50, 25, True)
    waiting = mirror(player, PortraitRow(player.key, "waiting", NOON, kept), 120, WORDS)
    assert (waiting.adapter.state, waiting.words) == ("waiting", shown.words)


def test_words_of_ones_own_come_first() -> None:
    def event(name: str, output: list[str]) -> dict[str, Any]:
        freq = {key: 0.5 if key == "wheel" else 0.1 for key in output}
        return {"id": name, "relation": "mero", "base": name, "mode": "classic", "output": output, "population": {"freq": freq}}

    rows = own_words([event("a", ["wheel"]), event("b", ["bell"]), event("c", ["x"])], {"a": [], "b": ["bell"]})
    assert [(row["base"], row["only_mine"], row["shared"]) for row in rows] == [("b", ["bell"], []), ("a", [], ["wheel"])]
