"""Simulated players who come as browsers do: over HTTP, at their own pace or as fast as they are answered.

    come ──▶ play: hand out, start, answers, finish, report ──▶ … ──▶ judge: hand out, start, verdicts, finish, report

What a player asks for is due at a time that is fixed beforehand where `at` says so, and else as soon as the answer before it
is there. Either way `watch` is told of every request when it was due, sent and answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from http.cookies import SimpleCookie
from random import Random
from typing import Any, Final

import httpx

from idiolect.errors import IdiolectError
from idiolect.game.crowd import CROWD_HEADER
from idiolect.game.minds import Mind
from idiolect.game.normalise import Relation, normalise
from idiolect.types import seed_of

COOKIE: Final = "idiolect_seat"
TIMEOUT_S = 30.0
READY_S = 0.5
"""From the page that hands a round out to the click that starts it."""
AT_ONCE = 8
"""Players of a crowd who play at the same time."""
_WAITS = 3


class RequestFailed(IdiolectError):
    """A server did not answer, or not with what was asked for.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        retry_after_s: when to try again, where it says so.
    """

    def __init__(self, name: str, status: int, retry_after_s: float | None = None) -> None:
        self.status, self.retry_after_s = status, retry_after_s
        what = f"with HTTP {status}" if status else "with nothing"
        super().__init__(f"the game's server answered '{name}' {what}; is it the right address, and the server's own key?")


@dataclass(frozen=True)
class Sent:
    """One request. Times are seconds of the player's clock; status 0: no answer."""

    name: str
    due: float
    sent: float
    done: float
    status: int

    @property
    def latency_s(self) -> float:
        """Since it was due, so that a server's delay is not hidden by players who wait for it."""
        return self.done - self.due


def open_client(url: str) -> httpx.AsyncClient:
    """Connections that many players share. It keeps no cookies: each player has their own."""
    nobodys = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, cookies=nobodys, trust_env=False)


@dataclass
class HttpPlayer:
    """A player.

    Attributes:
        key: of the server (`game.crowd.crowd_key`), by which the player is marked as simulated. None: they come as a guest,
            which is for servers that are thrown away.
        pace: 1: as fast as the mind; 0: as fast as the server; between: that share of the mind's time.
        pages: read the pages that a browser would, beside what a program needs.
        watch: told of every request.
    """

    client: httpx.AsyncClient
    mind: Mind
    key: str | None = None
    pace: float = 0.0
    pages: bool = False
    watch: Callable[[Sent], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    visits: Counter[str] = field(default_factory=Counter)
    _seat: str = ""
    _token: str = ""

    async def come(self) -> None:
        """Take a seat.

        Raises:
            RequestFailed: as every method that asks the server for something.
        """
        await self._ask("guest", "POST", "/guest", {}, headers={CROWD_HEADER: self.key} if self.key else {})

    async def play(
        self, relations: Sequence[Relation] = (), mode: str = "classic", *, at: float | None = None
    ) -> dict[str, Any]:
        """Play a round of words, or the one of Nym or Not that came instead; its report.

        Args:
            at: when it begins; None: now. At pace 0 only the first request is bound to it.
        """
        begins = self.clock() if at is None else at
        asked = {"relations": list(relations), "mode": mode}
        issued = await self._ask("issue", "POST", "/rounds", asked, due=begins)
        path = f"/rounds/{issued['round']}"
        await self._read("ready", path)
        started = await self._ask("start", "POST", f"{path}/start", {}, due=self._due(begins, READY_S))
        await self._read("round", path)
        begins += READY_S * self.pace
        if started["mode"] == "nym_or_not":
            await self._judge(path, started, begins)
        else:
            await self._answer(path, started, begins)
        await self._read("report", f"{path}/report")
        return await self._ask("report_json", "GET", f"{path}/report")

    async def judge(self, relations: Sequence[Relation] = (), *, at: float | None = None) -> dict[str, Any]:
        """Play a round of Nym or Not; where there is nothing to judge, one of words. Its report."""
        return await self.play(relations, "nym_or_not", at=at)

    async def _answer(self, path: str, started: dict[str, Any], begins: float) -> None:
        word = self.mind.words.words[started["prompt"]]
        visit = self.visits[word.id]
        self.visits[word.id] += 1
        for seq, (ms, text) in enumerate(self.mind.answers(word, started["seconds"], visit)):
            body = {"seq": seq, "text": text, "ms": ms}
            await self._ask("answer", "POST", f"{path}/answers", body, due=self._due(begins, ms / 1000))
        await self._ask("finish", "POST", f"{path}/finish", {}, due=self._due(begins, started["seconds"] or 0.0))

    async def _judge(self, path: str, started: dict[str, Any], begins: float) -> None:
        passed = 0
        for item in started["items"]:
            word = self.mind.words.words[item["prompt"]]
            key = normalise(item["answer"], word, self.mind.words.lexicon).key
            verdict, ms = self.mind.verdict(word.relation, word.key, key)
            passed += ms
            if started["seconds"] is not None and passed > 1000 * started["seconds"]:
                break
            body = {"seq": item["seq"], "verdict": verdict, "ms": ms}
            await self._ask("judge", "POST", f"{path}/judgements", body, due=self._due(begins, passed / 1000))
        await self._ask("finish_judging", "POST", f"{path}/judgements", {}, due=self._due(begins, started["seconds"] or 0.0))

    def _due(self, begins: float, after_s: float) -> float | None:
        """When something is due; None: at once."""
        return begins + self.pace * after_s if self.pace else None

    async def look(self, name: str, path: str) -> str:
        """Read a page; `name` is what `watch` is told."""
        return (await self._request(name, "GET", path, None, {"accept": "text/html"}, None)).text

    async def _read(self, name: str, path: str) -> None:
        if self.pages:
            await self.look(name, path)

    async def _ask(
        self,
        name: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        due: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Ask as a program; a limit that is reached is waited for."""
        wanted = {"accept": "application/json", **(headers or {})}
        for _ in range(_WAITS):
            try:
                return (await self._request(name, method, path, body, wanted, due)).json()
            except RequestFailed as error:
                if error.status != 429 or error.retry_after_s is None:
                    raise
                await self.sleep(error.retry_after_s)
                due = None
        return (await self._request(name, method, path, body, wanted, due)).json()

    async def _request(
        self, name: str, method: str, path: str, body: Any, headers: dict[str, str], due: float | None
    ) -> httpx.Response:
        if due is not None and (wait := due - self.clock()) > 0:
            await self.sleep(wait)
        sent = self.clock()
        due = sent if due is None else due
        if self._seat:
            headers = {**headers, "cookie": f"{COOKIE}={self._seat}", "x-csrf-token": self._token}
        try:
            answer = await self.client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError:
            self.watch(Sent(name, due, sent, self.clock(), 0))
            raise RequestFailed(name, 0) from None
        self.watch(Sent(name, due, sent, self.clock(), answer.status_code))
        self._sit(answer)
        if answer.status_code >= 400:
            wait = answer.headers.get("retry-after", "")
            raise RequestFailed(name, answer.status_code, float(wait) if wait.isdigit() else None)
        return answer

    def _sit(self, answer: httpx.Response) -> None:
        """Keep the seat and the token that came with an answer."""
        for line in answer.headers.get_list("set-cookie"):
            cookie: SimpleCookie = SimpleCookie(line)
            if COOKIE in cookie:
                self._seat = cookie[COOKIE].value
        self._token = answer.headers.get("x-csrf-token", self._token)


@dataclass
class Tally:
    """What a crowd did: rounds of words and of Nym or Not that were finished, and rounds that broke off."""

    rounds: int = 0
    judged: int = 0
    failed: int = 0


async def send_crowd(
    url: str,
    minds: Sequence[Mind],
    n_rounds: int,
    *,
    key: str,
    seed: int = 0,
    judging: float = 0.2,
    on_round: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Have simulated players play on a running server, a few at a time, as fast as it answers.

    Args:
        n_rounds: of each player.
        key: the server's (`game.crowd.crowd_key`); without the right one it lets none of them in.
        judging: share of rounds that are Nym or Not.

    Raises:
        RequestFailed: a player was not let in.
    """
    tally, turn = Tally(), asyncio.Semaphore(AT_ONCE)
    async with open_client(url) as client:

        async def one(number: int, mind: Mind) -> None:
            rng, player = Random(seed_of("crowd-http", seed, number)), HttpPlayer(client, mind, key)
            async with turn:
                await player.come()
                for _ in range(n_rounds):
                    await _round(player, rng.random() < judging, tally)
                    on_round(tally)

        await asyncio.gather(*(one(number, mind) for number, mind in enumerate(minds)))
    return tally


async def _round(player: HttpPlayer, judging: bool, tally: Tally) -> None:
    try:
        report = await (player.judge() if judging else player.play())
    except RequestFailed:
        tally.failed += 1
        return
    if report["mode"] == "nym_or_not":
        tally.judged += 1
    else:
        tally.rounds += 1
