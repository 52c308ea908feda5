"""Answers: as pages and as JSON, for what works and for what does not; and what the server does by itself."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel
from serving import PASSWORD, Browser, Desk, Program, open_store, running
from starlette.responses import Response

from idiolect import __version__
from idiolect.errors import InputError, NotFoundError, StoreBusy, StoreError
from idiolect.game import consents
from idiolect.game.refusals import NotAllowed, NotYours, RoundClosed, TooMany
from idiolect.serve.app import Settings, create_app
from idiolect.serve.keeping import LEAVING_S, PURGE_S, Keeper
from idiolect.serve.pages import Here
from idiolect.serve.views import AboutView

SECRET_TEXT = "a-secret-word"
RAISED: dict[str, tuple[Exception, int, str]] = {
    "refused": (NotAllowed("this is not for you"), 403, "not_allowed"),
    "closed": (RoundClosed("it is over"), 409, "round_closed"),
    "foreign": (NotYours("there is no such round of yours"), 404, "not_found"),
    "missing": (NotFoundError(f"no {SECRET_TEXT}"), 404, "not_found"),
    "input": (InputError(f"{SECRET_TEXT!r} is wrong"), 422, "bad_input"),
    "busy": (StoreBusy(f"the store at /{SECRET_TEXT} is busy"), 503, "busy"),
    "store": (StoreError(f"the store at /{SECRET_TEXT} failed"), 503, "unavailable"),
    "many": (TooMany(retry_after_s=61), 429, "too_many"),
    "bug": (ValueError(SECRET_TEXT), 500, "failed"),
}


class Wish(BaseModel):
    relations: list[str]
    n: int = 1


def routes() -> APIRouter:
    router = APIRouter()

    @router.get("/raise/{name}")
    def fails(here: Here, name: str) -> Response:
        raise RAISED[name][0]

    @router.get("/number/{n}")
    def number(here: Here, n: int) -> Response:
        return here.json({"n": n})

    @router.get("/page")
    def page(here: Here) -> Response:
        return here.page("About", AboutView(here.settings.contact), notices=("A notice & more.",))

    @router.post("/wish")
    def wish(here: Here) -> Response:
        read = here.read(Wish)
        return here.done("/page", read.model_dump(), 201)

    @router.post("/play")
    def play(here: Here) -> Response:
        here.player_or_guest()
        return here.done("/page", {"ok": True})

    return router


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_store(tmp_path / "store") as store:
        yield Desk(store)


@pytest.fixture
def app(desk: Desk) -> Any:
    from idiolect.serve.game_accounts import router

    return create_app(desk.game, Settings(keeps=False, contact="Ada <ada>"), routers=(router, routes()))


@pytest.mark.parametrize("name", RAISED)
def test_program_gets_status_code_and_one_sentence(app: Any, name: str) -> None:
    _, status, code = RAISED[name]
    answer = Program(app).get(f"/raise/{name}")
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert set(answer.json()["error"]) == {"code", "message"}
    assert SECRET_TEXT not in answer.text


@pytest.mark.parametrize("name", RAISED)
def test_browser_gets_a_page_with_one_sentence(app: Any, name: str) -> None:
    answer = Browser(app).get(f"/raise/{name}")
    assert answer.status_code == RAISED[name][1]
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1>" in answer.text
    assert SECRET_TEXT not in answer.text


def test_refusal_is_spoken_as_a_sentence(app: Any) -> None:
    assert Program(app).get("/raise/refused").json()["error"]["message"] == "This is not for you."


def test_answers_that_ask_for_patience_say_how_long(app: Any) -> None:
    many = Program(app).get("/raise/many")
    assert many.headers["retry-after"] == "61"
    assert many.json()["error"]["message"].endswith("try again in 2 minutes.")
    assert int(Program(app).get("/raise/busy").headers["retry-after"]) > 0


def test_unforeseen_errors_are_logged_by_class_and_place_only(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    Program(app).get("/raise/bug")
    said = [record.getMessage() for record in caplog.records if record.name == "idiolect.serve"]
    assert len(said) == 1
    assert said[0].startswith("unexpected ValueError at test_app.py:")
    assert SECRET_TEXT not in caplog.text


def test_unknown_paths_and_methods(app: Any) -> None:
    program, browser = Program(app), Browser(app)
    assert program.get("/no/such").json() == {
        "error": {"code": "not_found", "message": "There is no such page, or it belongs to another player."}
    }
    assert browser.get("/no/such").status_code == 404
    assert "<h1>" in browser.get("/no/such").text
    wrong = program.get("/wish")
    assert (wrong.status_code, wrong.json()["error"]["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert browser.get("/static/../app.py").status_code == 404
    assert browser.get("/static/no-such.css").status_code == 404
    assert browser.get("/docs").status_code == 404
    assert browser.get("/openapi.json").status_code == 404


def test_what_does_not_validate_is_not_echoed(app: Any) -> None:
    program = Program(app)
    program.post("/guest")
    for answer in (program.get(f"/number/{SECRET_TEXT}"), program.post("/wish", relations=SECRET_TEXT, n=SECRET_TEXT)):
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "bad_input"
        assert SECRET_TEXT not in answer.text
    assert program.post("/wish", n="x").json()["error"]["message"] == "Missing or not as it should be: n, relations."


def test_one_path_takes_forms_and_json(app: Any) -> None:
    program, browser = Program(app), Browser(app)
    program.post("/guest")
    made = program.post("/wish", relations=["mero"], n=3)
    assert (made.status_code, made.json()) == (201, {"relations": ["mero"], "n": 3})
    for relations in (["mero"], ["mero", "hypo"]):
        answer = browser.post("/wish", relations=relations, n="2")
        assert (answer.status_code, answer.headers["location"]) == (303, "/page")
    asked = {"accept": "application/json"}
    answer = browser.post("/wish", headers=asked, relations=["mero", "hypo"], n="2")
    assert (answer.status_code, answer.json()) == (201, {"relations": ["mero", "hypo"], "n": 2})


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 50_000])
def test_bodies_that_are_no_json_object_are_refused(app: Any, body: bytes) -> None:
    program = Program(app)
    program.post("/guest")
    headers = {"content-type": "application/json", "x-csrf-token": program.csrf}
    answer = program.client.post("/wish", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_input")


@pytest.mark.parametrize(
    "body", [b"--x\r\nbroken", b"--x\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nhi\r\n--x--"]
)
def test_forms_that_cannot_be_read_are_refused(app: Any, body: bytes) -> None:
    program = Program(app)
    program.post("/guest")
    headers = {"content-type": "multipart/form-data; boundary=x", "x-csrf-token": program.csrf}
    assert program.client.post("/wish", content=body, headers=headers).status_code == 422


def test_page_says_who_looks_and_shows_notices_escaped(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    before = browser.get("/page").text
    assert "A notice &amp; more." in before
    assert "Ada &lt;ada&gt;" in before
    assert "simulated" not in before
    browser.sign_up("Ada")
    with desk.game.books.write() as books:
        books.add_player("s", "simulated", desk.clock())
    after = browser.get("/page").text
    assert 'href="/login"' in before
    assert 'href="/login"' not in after
    assert "simulated" in after


def test_guest_is_made_at_the_first_deed(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.get("/page")
    with desk.game.books.read() as books:
        assert books.n_players_by_kind() == {}
    browser.post("/play")
    browser.post("/play", "/signup")
    with desk.game.books.read() as books:
        assert books.n_players_by_kind() == {"guest": 1}


def test_health(app: Any, desk: Desk) -> None:
    assert Program(app).get("/healthz").json() == {"ok": True, "store": True, "version": __version__}
    assert "set-cookie" not in Program(app).get("/healthz").headers


def test_health_of_a_server_whose_store_is_gone(app: Any, desk: Desk, tmp_path: Path) -> None:
    desk.store.close()
    folder = Path(desk.store.place)
    folder.rename(tmp_path / "elsewhere")
    answer = Program(app).get("/healthz")
    assert (answer.status_code, answer.json()["ok"], answer.json()["store"]) == (503, False, False)


def test_locked_store_is_503_and_nothing_is_lost(app: Any, desk: Desk) -> None:
    program = Program(app)
    other = sqlite3.connect(Path(desk.store.place) / "idiolect.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        answer = program.post("/guest")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert program.get("/healthz").status_code == 200  # reading goes on
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert program.post("/guest").status_code == 201


# -- what the server does by itself --------------------------------------------------------------------------------------


def test_keeper_closes_rounds_each_turn_and_purges_each_hour(desk: Desk, app: Any) -> None:
    old = desk.game.accounts.guest()
    desk.clock.tick(31 * 86400)
    new = desk.game.accounts.guest()
    round = desk.game.rounds.issue(new.key, mode="classic")
    desk.game.rounds.start(new.key, round.round)
    keeper = Keeper(app.state.frame)
    keeper.turn()
    with desk.game.books.read() as books:
        assert books.find_player(old.key) is None
        assert books.open_round(new.key) is not None
    desk.clock.tick(60)
    older = desk.game.accounts.guest()
    with desk.game.books.write() as books:
        books.change_player(older.key, created=0.0)
    keeper.turn()
    with desk.game.books.read() as books:
        assert books.open_round(new.key) is None
        assert books.find_player(older.key) is not None
    desk.clock.tick(PURGE_S)
    keeper.turn()
    with desk.game.books.read() as books:
        assert books.find_player(older.key) is None
        assert books.find_player(new.key) is not None


def test_keeper_forgets_who_left_and_wipes_until_it_is_done(desk: Desk, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts, busy, wiped = desk.game.accounts, [True], [False]
    forget = accounts._forget

    def forgets(person: str) -> None:
        if busy[0]:
            raise StoreBusy("training holds the store")
        forget(person)

    monkeypatch.setattr(accounts, "_forget", forgets)
    monkeypatch.setattr(accounts, "_scrub", lambda: wiped[0])
    player = accounts.sign_up(None, "Ada", PASSWORD, consents.Wish(personal=True, adult=True))
    desk.play(player.key, "wheel")
    person = desk.game.histories.sync(player.key).person
    accounts.delete(player.key)
    keeper = Keeper(app.state.frame)
    keeper.turn()
    assert desk.store.has_person(person)
    busy[0] = False
    keeper.turn()
    assert desk.store.has_person(person)  # not every second: training takes hours
    desk.clock.tick(LEAVING_S)
    keeper.turn()
    assert not desk.store.has_person(person)
    assert not accounts.tidy()
    wiped[0] = True
    desk.clock.tick(LEAVING_S)
    keeper.turn()
    assert accounts._is_clean


def test_keeper_goes_on_after_a_failure(desk: Desk, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    desk.store.close()
    folder = Path(desk.store.place)
    folder.rename(folder.with_name("elsewhere"))
    with caplog.at_level(logging.WARNING, "idiolect.serve"):
        Keeper(app.state.frame).turn()
    assert "closing rounds failed: StoreError" in caplog.text
    assert str(folder) not in caplog.text


def test_real_server_keeps_sessions_over_a_restart_and_logs_no_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"accept": "application/json"}
    with (
        open_store(tmp_path / "store") as store,
        running(Desk(store).app(keeps=True)) as address,
        httpx.Client(base_url=address, headers=headers) as client,
    ):
        made = client.post("/guest").json()
        client.get(f"/{SECRET_TEXT}")
        client.post("/login", data={"csrf": made["csrf"], "handle": SECRET_TEXT, "password": SECRET_TEXT})
        static = client.get("/static/style.css?v=1")
        assert "immutable" in static.headers["cache-control"]
        assert "set-cookie" not in static.headers
        jar = client.cookies
    with (
        open_store(tmp_path / "store") as store,
        running(Desk(store, seed=1).app(keeps=True)) as address,
        httpx.Client(base_url=address, headers=headers, cookies=jar) as client,
    ):
        me = client.get("/me").json()
        assert (me["player"], me["csrf"]) == (made["player"], made["csrf"])
        assert client.post("/me", json={"timing": "2x"}, headers={"x-csrf-token": made["csrf"]}).json()["timing"] == "2x"
    said = "".join(capfd.readouterr()) + caplog.text
    assert SECRET_TEXT not in said
