"""The gate: hosts, sizes, headers, seats, tokens and origins."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Browser, Desk, Program, open_store, running

from idiolect.serve.security import Tokens, derived

LIMIT = 64 * 1024


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_store(tmp_path / "store") as store:
        yield Desk(store)


@pytest.fixture
def app(desk: Desk) -> Any:
    return desk.app()


# -- the cookie ----------------------------------------------------------------------------------------------------------


def test_every_visitor_gets_a_seat_once(app: Any) -> None:
    browser = Browser(app)
    first = browser.get("/signup")
    cookie = first.headers["set-cookie"]
    assert cookie.startswith("idiolect_seat=")
    assert {part.strip() for part in cookie.split(";")[1:]} == {"Path=/", "Max-Age=2592000", "HttpOnly", "SameSite=Lax"}
    assert browser.seat is not None
    assert len(browser.seat) == 43
    assert "set-cookie" not in browser.get("/signup").headers


def test_seat_is_secure_where_browsers_come_by_https(desk: Desk) -> None:
    app = desk.app(https=True, hosts=frozenset({"game.example"}))
    answer = Browser(app, "https://game.example").get("/signup")
    assert "; Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "strict-transport-security" not in Browser(desk.app()).get("/signup").headers


@pytest.mark.parametrize("planted", ["", "short", "x" * 44, "a b", "x" * 42 + "é", '"'])
def test_seat_that_is_none_of_ours_is_replaced(app: Any, planted: str) -> None:
    answer = Browser(app).client.get("/signup", headers={"cookie": f"idiolect_seat={planted}".encode()})
    assert answer.headers["set-cookie"].startswith("idiolect_seat=")
    assert planted == "" or f"={planted};" not in answer.headers["set-cookie"]


def test_seat_changes_when_somebody_sits_down_or_leaves(app: Any) -> None:
    browser = Browser(app)
    browser.get("/signup")
    seats = [browser.seat]
    for act in (
        lambda: browser.post("/guest"),
        lambda: browser.sign_up("Ada"),
        lambda: browser.post("/logout", "/me"),
        lambda: browser.log_in("Ada"),
    ):
        assert act().status_code == 303
        seats.append(browser.seat)
    assert len(set(seats)) == 5


def test_old_seat_is_worth_nothing_after_sign_up(app: Any) -> None:
    browser = Browser(app)
    browser.post("/guest")
    planted = browser.seat
    browser.sign_up("Ada")
    thief = Browser(app)
    thief.client.cookies.set("idiolect_seat", planted or "", domain="localhost.local")
    assert thief.get("/me").status_code == 401
    assert browser.get("/me").status_code == 200


def test_database_holds_no_seat(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.post("/guest")
    assert browser.seat is not None
    for file in Path(desk.store.place).glob("idiolect.db*"):
        assert browser.seat.encode() not in file.read_bytes()


def test_seat_in_use_is_renewed_daily_and_ends_after_30_days(app: Any, desk: Desk) -> None:
    browser = Browser(app)
    browser.sign_up("Ada")
    assert "set-cookie" not in browser.get("/me").headers
    for _ in range(3):
        desk.clock.tick(20 * 86400)
        renewed = browser.get("/me")
        assert renewed.status_code == 200
        assert browser.seat is not None
        assert browser.seat in renewed.headers["set-cookie"]
    desk.clock.tick(31 * 86400)
    assert browser.get("/me").status_code == 401
    desk.game.accounts.purge()
    desk.clock.now -= 31 * 86400
    assert browser.get("/me").status_code == 401


# -- tokens and origins --------------------------------------------------------------------------------------------------


def test_post_without_the_seats_token_is_refused(app: Any) -> None:
    browser, other = Browser(app), Browser(app)
    foreign = other.csrf()
    for fields in ({}, {"csrf": ""}, {"csrf": "é"}, {"csrf": foreign}, {"csrf": ["a", "b"]}):
        browser.get("/login")
        answer = browser.post("/login", None, handle="ada", password="x" * 12, **fields)
        assert answer.status_code == 403, fields
    own = browser.csrf()
    assert browser.post("/guest", None, csrf=own).status_code == 303


def test_token_as_header_serves_scripts(app: Any) -> None:
    browser = Browser(app)
    token = browser.csrf()
    assert browser.post("/guest", None, headers={"x-csrf-token": "wrong"}).status_code == 403
    assert browser.post("/guest", None, headers={"x-csrf-token": token}).status_code == 303


def test_token_of_before_sign_up_is_worth_nothing_after(app: Any) -> None:
    browser = Browser(app)
    before = browser.csrf()
    browser.sign_up("Ada")
    assert browser.post("/me", None, csrf=before, timing="2x").status_code == 403
    assert browser.post("/me", "/me", timing="2x").status_code == 303


def test_program_without_seat_asks_for_a_guest_and_is_told_the_token(app: Any) -> None:
    program = Program(app)
    made = program.post("/guest")
    assert made.status_code == 201
    assert made.json()["kind"] == "guest"
    assert made.json()["csrf"] == made.headers["x-csrf-token"]
    assert program.post("/me", timing="2x").json()["timing"] == "2x"
    assert program.post("/guest").json()["player"] == made.json()["player"]
    program.csrf = "0" * 64
    assert program.post("/guest").status_code == 403


def test_without_seat_nothing_else_can_be_done(app: Any) -> None:
    for path in ("/signup", "/login", "/logout", "/me", "/me/delete"):
        answer = Program(app).post(path, handle="ada", password="x" * 12)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "bad_token"), path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"origin": "http://localhost"}, 303),
        ({"origin": "HTTP://LOCALHOST", "sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:8001"}, 403),
        ({"origin": "https://localhost"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://localhost", "sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_origin_has_to_be_this_server(app: Any, headers: dict[str, str], status: int) -> None:
    assert Browser(app).post("/guest", headers=headers).status_code == status


def test_foreign_origin_gets_no_guest_even_without_seat(app: Any, desk: Desk) -> None:
    answer = Program(app).client.post("/guest", headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    with desk.game.books.read() as books:
        assert books.n_players_by_kind() == {}


def test_https_origin_where_browsers_come_by_https(desk: Desk) -> None:
    app = desk.app(https=True, hosts=frozenset({"game.example"}))
    # The proxy speaks plain HTTP to the server; the browser's origin is still HTTPS.
    browser = Browser(app, "https://game.example")
    assert browser.post("/guest", headers={"origin": "https://game.example"}).status_code == 303
    assert browser.post("/guest", "/signup", headers={"origin": "http://game.example"}).status_code == 403


def test_delete_needs_the_token_too(app: Any) -> None:
    program = Program(app)
    program.post("/guest")
    assert program.client.delete("/me").status_code == 403
    assert program.delete("/me").json()["deleted"] is True


def test_tokens_depend_on_key_and_seat() -> None:
    one, other = Tokens(derived("secret", "forms")), Tokens(derived("secret", "limits"))
    assert one.fits("seat", one.csrf("seat"))
    assert not one.fits("seat", one.csrf("seat2"))
    assert not one.fits("seat", other.csrf("seat"))
    assert derived("secret", "forms") != derived("secret2", "forms")


# -- hosts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]", "[::1]:8000", "localhost."]
)
def test_own_hosts(app: Any, host: str) -> None:
    assert Browser(app).get("/healthz", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "",
        "localhost:evil",
        "localhost:80@evil.example",
        "127.0.0.1.evil.example",
        "::1",
        "[::1",
        "a b",
        "[::2]",
    ],
)
def test_foreign_hosts_are_refused_everywhere(app: Any, host: str) -> None:
    for path in ("/healthz", "/signup", "/static/style.css", "/no/such"):
        answer = Browser(app).get(path, host=host)
        assert answer.status_code == 400, path
        assert "set-cookie" not in answer.headers
    assert Program(app).client.get("/me", headers={"host": host}).json()["error"]["code"] == "unknown_host"


def test_named_hosts_are_let_in(desk: Desk) -> None:
    app = desk.app(hosts=frozenset({"game.example", "[fe80::1]"}))
    assert Browser(app).get("/healthz", host="game.example").status_code == 200
    assert Browser(app).get("/healthz", host="Game.Example:443").status_code == 200
    assert Browser(app).get("/healthz", host="[fe80::1]:8000").status_code == 200
    assert Browser(app).get("/healthz", host="other.example").status_code == 400


# -- sizes ---------------------------------------------------------------------------------------------------------------


def test_bodies_up_to_the_limit_are_read_and_larger_ones_are_not(app: Any) -> None:
    program = Program(app)
    program.post("/guest")
    frame = len('{"timing": "2x", "pad": ""}')
    headers = {"content-type": "application/json", "x-csrf-token": program.csrf}
    for extra, status in ((0, 200), (1, 413)):
        body = '{"timing": "2x", "pad": "' + "x" * (LIMIT - frame + extra) + '"}'
        assert program.client.post("/me", content=body, headers=headers).status_code == status
    assert program.client.post("/me", content=b"", headers={**headers, "content-length": "x"}).status_code == 413


@pytest.mark.parametrize("n_chunks", [1, 70])
def test_chunked_bodies_are_limited_too(desk: Desk, n_chunks: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"pad": "'
        for _ in range(n_chunks):
            yield b"x" * 1024
        yield b'"}'

    with running(desk.app()) as address, httpx.Client(base_url=address, headers={"accept": "application/json"}) as client:
        token = client.post("/guest").json()["csrf"]
        headers = {"content-type": "application/json", "x-csrf-token": token}
        answer = client.post("/me", content=chunks(), headers=headers)
        assert answer.status_code == (200 if n_chunks < 64 else 413)
        if n_chunks >= 64:
            assert answer.json()["error"]["code"] == "too_large"


def test_too_many_fields_and_files_are_refused(app: Any) -> None:
    browser = Browser(app)
    token = browser.csrf()
    many = {f"f{n}": "x" for n in range(300)}
    headers = {"x-csrf-token": token}
    assert browser.client.post("/login", data=many, headers=headers).status_code == 422
    assert browser.client.post("/login", files={"f": b"x"}, headers=headers).status_code == 422


def test_two_hosts_are_none(desk: Desk) -> None:
    with running(desk.app()) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := plain.recv(4096):
                answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")


# -- headers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/signup", "/me", "/no/such", "/healthz", "/static/style.css", "/guest"])
def test_every_answer_has_the_headers(app: Any, path: str) -> None:
    headers = Browser(app).get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


def test_static_files_are_kept_only_where_their_address_names_their_content(app: Any) -> None:
    page = Browser(app).get("/signup").text
    named = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert "?v=" in named
    answer = Browser(app).get(named)
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert Browser(app).get("/static/no-such.css?v=1").headers["cache-control"] == "no-store"
