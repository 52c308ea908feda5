"""Guests, sign-up, log-in, own page and leaving, as browsers and programs do it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import PASSWORD, Browser, Desk, Program, open_store


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_store(tmp_path / "store") as store:
        yield Desk(store)


@pytest.fixture
def app(desk: Desk) -> Any:
    return desk.app(address_factor=100.0)


def player_of(desk: Desk, program: Any) -> Any:
    with desk.game.books.read() as books:
        return books.player_named(program.get("/me").json()["player"])


def test_guest_signs_up_and_keeps_what_was_played(app: Any, desk: Desk) -> None:
    program = Program(app)
    guest = program.post("/guest").json()
    desk.play(player_of(desk, program).key, "wheel", "seat")
    made = program.post("/signup", handle="Ada", password=PASSWORD)
    assert made.status_code == 201
    assert (made.json()["player"], made.json()["kind"], made.json()["handle"]) == (guest["player"], "account", "Ada")
    me = program.get("/me").json()
    assert (me["n_rounds"], me["streak"], me["expires"]) == (1, 1, None)
    assert me["total"] == 40  # the pioneer's points


def test_sign_up_page_says_how_many_rounds_come_along(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.post("/guest")
    with desk.game.books.read() as books:
        (key,) = {player.key for player in books.stale_guests(desk.clock() + 1)}
    desk.play(key, "wheel")
    desk.play(key, "seat")
    assert "The 2 rounds" in browser.get("/signup").text


@pytest.mark.parametrize(
    ("handle", "password", "field", "status"),
    [
        ("ab", PASSWORD, "handle", 422),
        ("Ada <script>", PASSWORD, "handle", 422),
        ("aDА", PASSWORD, "handle", 422),  # the last letter is Cyrillic
        ("guest", PASSWORD, "handle", 422),
        ("Taken", PASSWORD, "handle", 409),
        ("ｔａｋｅｎ", PASSWORD, "handle", 409),
        ("Ada", "short", "password", 422),
        ("Ada", "password123", "password", 422),
    ],
)
def test_sign_up_says_which_field_is_wrong(app: Any, desk: Desk, handle: str, password: str, field: str, status: int) -> None:
    desk.game.accounts.sign_up(None, "taken", PASSWORD)
    browser = Browser(app)
    answer = browser.post("/signup", "/signup", handle=handle, password=password)
    assert answer.status_code == status
    assert f'id="{field}"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "<script>" not in answer.text.partition("<main")[2].partition("</form>")[0]
    assert password not in answer.text
    program = Program(app)
    program.post("/guest")
    refused = program.post("/signup", handle=handle, password=password)
    assert (refused.status_code, refused.json()["error"]["field"]) == (status, field)


def test_sign_up_beside_an_account_makes_another(app: Any, desk: Desk) -> None:
    program = Program(app)
    program.post("/guest")
    program.post("/signup", handle="Ada", password=PASSWORD)
    desk.play(player_of(desk, program).key, "wheel")
    assert program.post("/signup", handle="Eve", password=PASSWORD).status_code == 201
    me = program.get("/me").json()
    assert (me["handle"], me["n_rounds"]) == ("Eve", 0)


def test_log_in_and_out(app: Any, desk: Desk) -> None:
    desk.game.accounts.sign_up(None, "Ada", PASSWORD)
    browser = Browser(app)
    assert browser.log_in("aDA").headers["location"] == "/"
    assert "Ada" in browser.get("/me").text
    assert browser.get("/login").headers["location"] == "/me"
    assert browser.get("/signup").headers["location"] == "/me"
    assert browser.post("/logout", "/me").headers["location"] == "/"
    assert browser.get("/me").status_code == 401


def test_wrong_log_ins_look_alike_and_cost_the_same(app: Any, desk: Desk) -> None:
    desk.game.accounts.sign_up(None, "Ada", PASSWORD)
    program = Program(app)
    program.post("/guest")
    program.post("/login", handle="ada", password="not the one at all")  # the first makes what nobody's is compared with
    answers, asked = [], []
    for handle in ("ada", "nobody-here"):
        before = desk.hasher.n_verified
        answers.append(program.post("/login", handle=handle, password="not the one at all"))
        asked.append(desk.hasher.n_verified - before)
    assert asked == [1, 1]
    assert answers[0].status_code == answers[1].status_code == 403
    assert answers[0].json() == answers[1].json()
    page = Browser(app).post("/login", handle="nobody-<b>", password="x" * 12)
    assert page.status_code == 403
    assert "do not fit together" in page.text
    assert "nobody-<b>" not in page.text


def test_handles_that_no_database_holds_are_nobodys(app: Any) -> None:
    program = Program(app)
    program.post("/guest")
    headers = {"content-type": "application/json", "x-csrf-token": program.csrf}
    for path, status in (("/login", 403), ("/signup", 422)):
        for handle in (r"a\ud800b", r"a\u0000b"):
            body = f'{{"handle": "{handle}", "password": "{PASSWORD}"}}'
            assert program.client.post(path, content=body, headers=headers).status_code == status
    token = Browser(app)
    assert token.post("/login", handle="a\0b", password=PASSWORD).status_code == 403


def test_log_in_is_limited_by_address_and_handle(app: Any, desk: Desk) -> None:
    desk.game.accounts.sign_up(None, "Ada", PASSWORD)
    browser = Browser(app)
    for _ in range(5):
        assert browser.log_in("ada", "not the one at all").status_code == 403
    limited = browser.log_in("ADA")
    assert limited.status_code == 429
    assert 0 < int(limited.headers["retry-after"]) <= 60
    assert browser.log_in("eve").status_code == 403
    desk.clock.tick(60)
    assert browser.log_in("ada").status_code == 303


def test_guests_and_sign_ups_are_limited_by_address(desk: Desk) -> None:
    app = desk.app()
    for _ in range(10):
        assert Program(app).post("/guest").status_code == 201
    assert Program(app).post("/guest").json()["error"]["code"] == "too_many"
    browser = Browser(app)
    for _ in range(5):
        assert browser.sign_up("no").status_code == 422  # a mistake costs nothing
    for number in range(3):
        assert browser.sign_up(f"ada{number}").status_code == 303
        browser.post("/logout", "/me")
    assert browser.sign_up("ada4").status_code == 429
    desk.clock.tick(3600)
    assert browser.sign_up("ada4").status_code == 303


def test_a_home_server_lets_a_classroom_in(app: Any) -> None:
    assert [Program(app).post("/guest").status_code for _ in range(40)] == [201] * 40


def test_guest_logs_in_and_rounds_go_over_but_those_the_account_has(app: Any, desk: Desk) -> None:
    account = desk.game.accounts.sign_up(None, "Ada", PASSWORD)
    own = {desk.play(account.key, "one"), desk.play(account.key, "two")}
    program = Program(app)
    program.post("/guest")
    guest = player_of(desk, program)
    played = [desk.play(guest.key, "three") for _ in range(4)]
    assert len(set(played)) == 4
    assert program.post("/login", handle="ada", password=PASSWORD).status_code == 200
    with desk.game.books.read() as books:
        assert books.find_player(guest.key) is None
        assert books.n_started(account.key) == 4
        for prompt in books.prompts():
            assert (prompt.n_players, prompt.n_rounds) == (1, 1)
            keys = set(books.pairs(prompt.key))
            assert keys <= ({"one", "two"} if prompt.prompt in own else {"three"})
            assert len(keys) == 1


def test_settings_and_consents_by_form(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.sign_up("Ada")
    page = browser.get("/me").text
    assert page.count("checked") == 2  # the time, and the consent that playing needs
    browser.post("/me", "/me", timing="10x", listed="yes")
    browser.post("/me/consents", "/me", consent_aggregate="yes", consent_personal="yes")
    with desk.game.books.read() as books:
        row = books.player_by_handle("ada")
    assert row is not None
    assert (row.timing, row.listed, row.adult) == ("10x", True, True)
    assert (row.consent_aggregate, row.consent_personal, row.consent_pieces) == (desk.clock(), desk.clock(), None)
    desk.clock.tick(60)
    browser.post("/me", "/me", timing="1x")
    browser.post("/me/consents", "/me", consent_aggregate="yes")
    with desk.game.books.read() as books:
        later = books.player_by_handle("ada")
    assert later is not None
    assert (later.timing, later.listed, later.consent_aggregate, later.consent_personal) == (
        "1x", False, desk.clock() - 60, None,
    )  # fmt: skip
    assert browser.post("/me", "/me", timing="3x").status_code == 422


def test_consents_by_program_change_what_is_named_only(app: Any) -> None:
    program = Program(app)
    program.post("/guest")
    assert program.get("/me").json()["consents"] == {"aggregate": None, "personal": None, "pieces": None}
    assert program.post("/me/consents", consent_aggregate=True).json()["consents"]["aggregate"]["version"] == "1"
    young = program.post("/me/consents", consent_personal=True)
    assert (young.status_code, young.json()["error"]["field"]) == (422, "consent_personal")
    assert program.post("/me/consents", consent_sharing=True, adult=True).json()["error"]["field"] == "consent_sharing"
    both = program.post("/me/consents", consent_personal=True, consent_sharing=True, adult=True).json()
    assert both["consents"]["pieces"] is not None
    last = program.post("/me/consents", adult=False).json()
    assert last["consents"]["personal"] is None
    assert last["consents"]["pieces"] is None
    assert last["consents"]["aggregate"] is not None


def test_settings_leave_consents_alone(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.sign_up("Ada", consent_aggregate="yes", consent_personal="yes")
    assert browser.post("/me", "/me", timing="2x").status_code == 303  # as from a tab that was open before the consent
    with desk.game.books.read() as books:
        row = books.player_by_handle("ada")
    assert row is not None
    assert (row.timing, row.consent_aggregate, row.consent_personal) == ("2x", desk.clock(), desk.clock())
    stale = browser.post("/me", "/me", timing="1x", consent_aggregate="yes")
    assert stale.status_code == 422
    with desk.game.books.read() as books:
        assert books.player_by_handle("ada") == row
    assert "consent_sharing" not in browser.get("/me").text


def test_guest_cannot_be_listed(app: Any) -> None:
    program = Program(app)
    program.post("/guest")
    assert program.post("/me", listed=True).json()["error"]["field"] == "listed"


def test_export_has_everything_but_secrets(app: Any, desk: Desk) -> None:
    program = Program(app)
    program.post("/guest")
    program.post("/signup", handle="Ada", password=PASSWORD)
    desk.play(player_of(desk, program).key, "a wheel", "SEAT")
    answer = program.get("/me/export")
    assert "attachment" in answer.headers["content-disposition"]
    told = answer.json()
    assert told["player"]["handle"] == "Ada"
    (round,) = told["rounds"]
    assert [one["raw"] for one in round["answers"]] == ["a wheel", "SEAT"]
    assert {"judgements", "passes", "challenges", "complaints", "notices", "sessions"} <= set(told)
    text = json.dumps(told)
    assert "argon2" not in text
    assert program.client.cookies["idiolect_seat"] not in text


@pytest.mark.parametrize("kind", ["guest", "account"])
def test_delete_takes_everything_along_and_counts_again(app: Any, desk: Desk, kind: str) -> None:
    stays = desk.game.accounts.guest()
    for _ in range(4):
        desk.play(stays.key, "wheel")
    browser = Browser(app)
    browser.post("/guest")
    if kind == "account":
        browser.sign_up("Ada")
    program = Program(app)
    program.client.cookies = browser.client.cookies
    gone = player_of(desk, program)
    for _ in range(4):
        desk.play(gone.key, "wheel", "a personal secret")
    wrong = browser.post("/me/delete", "/me", confirm="somebody")
    assert wrong.status_code == 422
    assert "<details open>" in wrong.text
    done = browser.post("/me/delete", "/me", confirm="guest" if kind == "guest" else "ADA")
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert browser.get("/me").status_code == 401
    with desk.game.books.read() as books:
        assert books.find_player(gone.key) is None
        assert books.removals_since(0.0) == 1
        for prompt in books.prompts():
            assert (prompt.n_players, prompt.n_rounds) == (1, 1)
            assert {key: pair.n_players for key, pair in books.pairs(prompt.key).items()} == {"wheel": 1}


def test_deleting_oneself_is_limited_by_address(app: Any, desk: Desk) -> None:
    limited = desk.app()  # an address stands for one
    for _ in range(10):
        program = Program(limited)
        program.post("/guest")
        assert program.delete("/me").status_code == 200
    browser = Browser(limited)
    browser.sign_up("Ada")
    assert browser.post("/me/delete", "/me", confirm="Ada").status_code == 429
    desk.clock.tick(3600)
    assert browser.post("/me/delete", "/me", confirm="Ada").status_code == 303


def test_own_page_needs_a_player(app: Any) -> None:
    for path in ("/me", "/me/export"):
        answer = Program(app).get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "needs_login")
        assert "<h1>" in Browser(app).get(path).text


def test_guests_page_says_when_it_ends(app: Any) -> None:
    browser = Browser(app)
    browser.post("/guest")
    assert "14 February 2027" in browser.get("/me").text  # 30 days after 15 January 2027


def test_banned_account_cannot_log_in_and_sits_nowhere(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.sign_up("Ada")
    with desk.game.books.write() as books:
        row = books.player_by_handle("ada")
        assert row is not None
        books.change_player(row.key, state="banned")
    assert browser.get("/me").status_code == 401
    assert browser.log_in("ada").status_code == 403
