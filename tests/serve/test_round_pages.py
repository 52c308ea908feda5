"""Rounds through pages and through JSON: what a browser without scripts, a script and a program see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Browser, Desk, Program, open_store


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_store(tmp_path / "store") as store:
        yield Desk(store)


@pytest.fixture
def browser(desk: Desk) -> Browser:
    return Browser(desk.app())


class Player(Program):
    """A program that plays."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.app())
        assert self.post("/guest").status_code == 201

    def issue(self, **body: Any) -> str:
        made = self.post("/rounds", **{"mode": "classic", **body})
        assert made.status_code == 201, made.text
        return made.json()["round"]

    def play(self, *texts: str, **body: Any) -> dict[str, Any]:
        round = self.issue(**body)
        self.post(f"/rounds/{round}/start")
        for seq, text in enumerate(texts):
            assert self.post(f"/rounds/{round}/answers", seq=seq, text=text, ms=100).status_code == 200
        return self.post(f"/rounds/{round}/finish").json()


@pytest.fixture
def program(desk: Desk) -> Player:
    return Player(desk)


def issue(browser: Browser, **fields: Any) -> str:
    """The address of a round that was just handed out."""
    token = browser.csrf("/")
    made = browser.client.post("/rounds", data={"csrf": token, "mode": "classic", **fields})
    assert made.status_code == 303, made.text
    return made.headers["location"]


def post(browser: Browser, path: str, page: str, **fields: Any) -> Any:
    return browser.client.post(path, data={"csrf": browser.csrf(page), **fields})


# ------------------------------------------------------------------------------------------------------------- a browser


def test_a_first_round_is_two_clicks_and_no_form_away(browser: Browser, desk: Desk) -> None:
    address = issue(browser)
    ready = browser.get(address).text
    word = desk.game.rounds.round(1, address.rsplit("/", 1)[1])[1]
    assert word is not None
    assert word.display not in ready, "nobody sees the word before the clock runs"
    started = post(browser, f"{address}/start", address)
    assert (started.status_code, started.headers["location"]) == (303, address)
    assert word.display in browser.get(address).text


def test_without_scripts_a_form_sends_all_answers(browser: Browser, desk: Desk) -> None:
    address = issue(browser)
    post(browser, f"{address}/start", address)
    done = post(browser, f"{address}/finish", address, text=["wheel", "", "<b>bell</b>", "door"])
    assert done.headers["location"] == f"{address}/report"
    report = browser.get(done.headers["location"])
    assert report.status_code == 200
    assert "wheel" in report.text
    assert "<b>bell</b>" not in report.text
    assert "&lt;b&gt;bell&lt;/b&gt;" in report.text
    again = browser.get(address)
    assert (again.status_code, again.headers["location"]) == (303, f"{address}/report")


def test_a_running_round_is_gone_on_with(browser: Browser) -> None:
    address = issue(browser)
    post(browser, f"{address}/start", address)
    assert issue(browser) == address
    assert address in browser.get("/").text


def test_the_page_knows_how_much_time_is_left(browser: Browser, desk: Desk) -> None:
    address = issue(browser)
    post(browser, f"{address}/start", address)
    desk.clock.tick(5.25)
    assert '"remaining_ms": 14750' in browser.get(address).text


def test_the_next_round_asks_for_the_same(browser: Browser) -> None:
    address = issue(browser, relations=["mero"], timing="2x")
    post(browser, f"{address}/start", address)
    done = post(browser, f"{address}/finish", address, text="wheel")
    report = browser.get(done.headers["location"]).text
    assert re.search(r'name="relations"[^>]*value="mero"', report)
    assert not re.search(r'type="hidden"[^>]*name="relations"[^>]*value="syn"', report)
    assert re.search(r'name="timing"[^>]*value="2x"', report)


def test_skipping_goes_on_to_another_word(browser: Browser, desk: Desk) -> None:
    address = issue(browser)
    post(browser, f"{address}/start", address)
    following = post(browser, f"{address}/skip", address).headers["location"]
    assert following != address
    words = [desk.game.rounds.round(1, a.rsplit("/", 1)[1])[1] for a in (address, following)]
    assert words[0] != words[1]


def test_the_picture_is_of_own_words_only(browser: Browser, desk: Desk) -> None:
    others = [desk.game.accounts.guest() for _ in range(6)]
    for other in others:
        for _ in range(4):
            desk.play(other.key, "secretpart", "handle")
    address = issue(browser)
    post(browser, f"{address}/start", address)
    post(browser, f"{address}/finish", address, text=["handle", "my own"])
    drawn = browser.get(f"{address}/picture.svg")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert "my own" in drawn.text
    assert "secretpart" not in drawn.text
    assert "secretpart" in browser.get(f"{address}/report").text


def test_a_settled_round_is_told_once(browser: Browser, desk: Desk) -> None:
    address = issue(browser)
    post(browser, f"{address}/start", address)
    word = desk.game.rounds.round(1, address.rsplit("/", 1)[1])[1]
    post(browser, f"{address}/finish", address, text="handle")
    assert word is not None
    for _ in range(5):
        other = desk.game.accounts.guest()
        while desk.play(other.key, "handle") != word.id:
            pass
    told = f"5 players agreed with you on “{word.display}”"
    assert told in browser.get("/").text
    assert told not in browser.get("/").text


def test_a_slip_is_mended_by_one_button(browser: Browser) -> None:
    address = issue(browser)
    post(browser, f"{address}/start", address)
    post(browser, f"{address}/finish", address, text="handel bar x")
    assert "Did you mean" not in browser.get(f"{address}/report").text
    address = issue(browser)
    post(browser, f"{address}/start", address)
    post(browser, f"{address}/finish", address, text="whel")
    report = browser.get(f"{address}/report").text
    assert f'action="{address}/correct"' in report
    assert post(browser, f"{address}/correct", f"{address}/report", seq="0").status_code == 303
    assert f'action="{address}/correct"' not in browser.get(f"{address}/report").text


def test_objections_go_back_to_the_report(browser: Browser, desk: Desk) -> None:
    for _ in range(6):
        other = desk.game.accounts.guest()
        for _ in range(4):
            desk.play(other.key, "handle")
    address = issue(browser)
    post(browser, f"{address}/start", address)
    post(browser, f"{address}/finish", address, text="soul")
    report = f"{address}/report"
    page = browser.get(report).text
    challenge = re.search(r'action="(/pairs/\d+/challenge)"', page)
    complaint = re.search(r'action="(/pairs/\d+/report)"', page)
    assert challenge is not None
    assert complaint is not None
    round = address.rsplit("/", 1)[1]
    sent = post(browser, challenge[1], report, sentence="It has one to me.", round=round)
    assert (sent.status_code, sent.headers["location"]) == (303, report)
    assert post(browser, complaint[1], report, round=round).headers["location"] == report
    assert post(browser, challenge[1], report, sentence="x" * 141, round=round).status_code == 422
    again = browser.get(report).text
    assert challenge[1] not in again
    assert complaint[1] not in again


@pytest.mark.parametrize("path", ["/how", "/about", "/leaderboard", "/signup", "/login", "/"])
def test_pages_for_everybody(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 200


# ------------------------------------------------------------------------------------------------------------- programs


def test_a_program_plays_a_round(program: Player) -> None:
    report = program.play("Wheels", "the handle", "wheel")
    assert [(line["key"], line["status"]) for line in report["answers"]] == [
        ("wheel", "accepted"),
        ("handle", "accepted"),
        ("wheel", "duplicate"),
    ]
    assert report["score"] == 40
    assert report["provisional"]
    assert program.get(f"/rounds/{report['round']}/report").json() == report


def test_a_script_takes_an_answer_back(program: Player) -> None:
    round = program.issue()
    program.post(f"/rounds/{round}/start")
    first = program.post(f"/rounds/{round}/answers", seq=0, text="wheel", ms=17, pasted=False).json()
    assert first == {"seq": 0, "status": "accepted", "display": "wheel"}
    assert program.post(f"/rounds/{round}/answers", seq=0, remove=True).json() == {"removed": True}
    assert program.post(f"/rounds/{round}/finish").json()["answers"] == []


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_refusals_have_codes(desk: Desk, program: Player) -> None:
    other = Player(desk)
    round = program.issue()
    assert refused(other.post(f"/rounds/{round}/start")) == (404, "not_found")
    assert refused(other.get(f"/rounds/{round}/report")) == (404, "not_found")
    assert refused(program.post(f"/rounds/{round}/answers", seq=0, text="early")) == (409, "round_closed")
    assert refused(program.get(f"/rounds/{round}/report")) == (409, "round_closed")
    program.post(f"/rounds/{round}/start")
    assert refused(program.post("/rounds")) == (409, "one_open_round")
    for body in (
        {},
        {"seq": "0", "text": "a"},
        {"seq": True, "text": "a"},
        {"seq": 0},
        {"seq": 0, "text": 5},
        {"seq": 10**9, "text": "a"},
    ):
        assert program.post(f"/rounds/{round}/answers", **body).status_code == 422
    assert program.post(f"/rounds/{round}/answers", seq=0, text="a", ms=float(10**12)).status_code == 200
    for seq in range(1, 40):
        program.post(f"/rounds/{round}/answers", seq=seq, text=f"part {seq}")
    assert refused(program.post(f"/rounds/{round}/answers", seq=40, text="more")) == (429, "too_many")
    program.post(f"/rounds/{round}/finish")
    assert refused(program.post(f"/rounds/{round}/answers", seq=50, text="late")) == (409, "round_closed")
    assert refused(program.post(f"/rounds/{round}/skip")) == (409, "round_closed")
    for wish in ({"mode": "chess"}, {"relations": ["hyper"]}, {"timing": "3x"}):
        assert program.post("/rounds", **wish).status_code == 422
    assert refused(program.post("/pairs/9999/report")) == (404, "not_found")
    assert refused(program.post("/pairs/x/challenge", sentence="a")) == (404, "not_found")


def test_twenty_rounds_a_minute_are_enough(desk: Desk, program: Player) -> None:
    for _ in range(20):
        program.issue()
    answer = program.post("/rounds")
    assert refused(answer) == (429, "too_many")
    assert int(answer.headers["retry-after"]) > 0
    desk.clock.tick(61)
    program.issue()


def test_boards_are_read_by_programs(program: Player) -> None:
    program.play("wheel")
    boards = program.get("/leaderboard").json()["boards"]
    assert [board["name"] for board in boards] == ["mean", "total", "rounds", "streak"]
    assert all(board["places"] == [] for board in boards), "guests are not listed"
