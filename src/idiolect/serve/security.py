"""The gate that every request passes, and the seats and tokens that tell whose it is.

    request ──▶ host known? ──▶ body small? ──▶ seat ──▶ app ──▶ headers, cookie ──▶ answer
                   400             413        cookie       │
                                                           └─ anything unforeseen: 500, and a line in the log without words

A **seat** is the random value of the one cookie, `idiolect_seat`. Everybody has one; who sits on it, if anybody, is in the
database, under the SHA-256 of the seat. Whenever somebody sits down or leaves, the seat is changed for a new one, so that a
cookie that was planted, or seen, before is worth nothing after.

A **token** is HMAC(server's secret, seat). A POST has to bring it (field `csrf` or header `X-CSRF-Token`): another site can
make a browser send the cookie, but cannot read the token. It lasts as long as the seat, and is kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import traceback
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from idiolect.game.refusals import BadToken
from idiolect.serve.refusing import refusal
from idiolect.serve.rendering import CSP

COOKIE: Final = "idiolect_seat"
SEAT_S: Final = 30 * 24 * 3600
"""How long a browser keeps a seat that nobody uses."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
WITHOUT_SEAT: Final = ("/static/", "/healthz")
"""Paths whose answers are the same for everybody."""

_SEAT = re.compile(r"[A-Za-z0-9_-]{43}")
_HEADERS: Final = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_HSTS: Final = "max-age=31536000"
_KEEP: Final = "public, max-age=31536000, immutable"
"""For static files whose address names their content."""

log = logging.getLogger("idiolect.serve")


@dataclass
class Seat:
    """A visitor's seat.

    Attributes:
        issued: the browser does not have it yet.
        renew: the browser is to keep it for another 30 days.
    """

    value: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    issued: bool = True
    renew: bool = False

    def change(self) -> None:
        """Take another one."""
        self.value, self.issued = secrets.token_urlsafe(32), True

    @property
    def token(self) -> str:
        """What the database knows it by."""
        return hashlib.sha256(self.value.encode()).hexdigest()


class Tokens:
    """Makes and checks the tokens of forms.

    Args:
        key: from the server's secret, so that they outlast a restart.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def csrf(self, seat: str) -> str:
        return hmac.new(self._key, seat.encode(), hashlib.sha256).hexdigest()

    def fits(self, seat: str, token: str) -> bool:
        return hmac.compare_digest(self.csrf(seat).encode(), token.encode("utf-8", "replace"))


def derived(secret: str, purpose: str) -> bytes:
    """One key of several that come from one secret, so that none tells another."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


def check_origin(request: Request, *, https: bool) -> None:
    """See to it that a request that changes something came from a page of this server, as far as the browser says.

    Raises:
        BadToken: it came from another site or port, or from a page that hides where it is.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise BadToken
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() != f"{'https' if https else 'http'}://{request.headers['host'].lower()}":
        raise BadToken


class Gate:
    """The outermost layer of the app.

    Args:
        hosts: names by which this server may be asked, lower case, IPv6 in brackets; others are another site's whose name
            was made to point here (DNS rebinding).
        https: browsers reach it by HTTPS, whoever ends that.
        max_body: bytes of a request.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], https: bool, max_body: int) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._https = https
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope.setdefault("state", {})
        seated = not scope["path"].startswith(WITHOUT_SEAT)
        state["seat"] = _seat_of(scope) if seated else None
        out = _Out(scope, send, self._https)
        request = Request(scope, receive)
        if _host_of(scope) not in self._hosts:
            state["seat"] = None
            return await refusal(request, 400, code="unknown_host")(scope, receive, out)
        replay = await _whole_body(scope, receive, self._max_body)
        if replay is None:
            return await refusal(request, 413)(scope, receive, out)
        try:
            await self._app(scope, replay, out)
        except Exception as error:
            _note(error)
            if out.began:
                raise _Broken from None  # the server closes the connection: half an answer must not look like a whole one
            await _sorry(request)(scope, receive, out)


class _Broken(Exception):
    """An answer broke off. Stands for an error whose words might be somebody's."""


class _Out:
    """Sends an answer, with what every answer has."""

    def __init__(self, scope: Scope, send: Send, https: bool) -> None:
        self._scope = scope
        self._send = send
        self._https = https
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            self._dress(MutableHeaders(scope=message), message["status"])
        await self._send(message)

    def _dress(self, headers: MutableHeaders, status: int) -> None:
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self._https:
            headers["strict-transport-security"] = _HSTS
        is_file = self._scope["path"].startswith("/static/") and status in (200, 304)
        named = b"v=" in self._scope.get("query_string", b"")
        headers.setdefault("cache-control", (_KEEP if named else "no-cache") if is_file else "no-store")
        seat: Seat | None = self._scope["state"]["seat"]
        if seat is not None and (seat.issued or seat.renew):
            secure = "; Secure" if self._https else ""
            headers.append("set-cookie", f"{COOKIE}={seat.value}; Path=/; Max-Age={SEAT_S}; HttpOnly; SameSite=Lax{secure}")
            headers["x-csrf-token"] = self._scope["app"].state.frame.tokens.csrf(seat.value)


def _seat_of(scope: Scope) -> Seat:
    """The seat that the browser sent, or a new one."""
    # Leniently, as browsers send them: others' cookies, of another port of this machine say, may be anything.
    sent = cookie_parser("; ".join(Headers(scope=scope).getlist("cookie"))).get(COOKIE, "")
    return Seat(sent, issued=False) if _SEAT.fullmatch(sent) else Seat()


def _host_of(scope: Scope) -> str:
    """The name that the server was asked by, without the port; "" where there is none, or more than one."""
    sent = Headers(scope=scope).getlist("host")
    if len(sent) != 1:
        return ""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?", sent[0])
    return found[1].lower().rstrip(".") if found else ""


async def _whole_body(scope: Scope, receive: Receive, limit: int) -> Receive | None:
    """Read the body, which may come in chunks and without a length, and give it again; None if it is larger."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    declared = Headers(scope=scope).get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        return None
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            return None
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _note(error: Exception) -> None:
    """Log what kind of error it was and where, without its words."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))
    log.error("unexpected %s at %s", type(error).__name__, where)


def _sorry(request: Request) -> Response:
    """The answer to what nobody foresaw; plain words if even the page cannot be made."""
    try:
        return refusal(request, 500)
    except Exception as error:
        _note(error)
        return PlainTextResponse("Something broke. That was our fault, not yours.", 500)
