"""A game with few words on a store of its own, a server before it, and browsers that visit."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.testclient import TestClient

from idiolect.game.accounts import Accounts
from idiolect.game.desk import Game
from idiolect.game.passwords import Passwords
from idiolect.game.vocabulary import BaseWord, Vocabulary, vocabulary
from idiolect.serve.app import Settings, create_app
from idiolect.store.store import Store

BEGAN = 1_800_000_000.0
PASSWORD = "a long enough one"
NAMES = ("bicycle", "bird", "house", "ship")


@dataclass
class Hand:
    """A clock for tests."""

    now: float = BEGAN

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


class Counting(PasswordHasher):
    """Argon2id at its cheapest, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.n_verified = 0

    def verify(self, hash: Any, password: Any) -> Any:
        self.n_verified += 1
        return super().verify(hash, password)


def words() -> Vocabulary:
    made = {
        f"mero:{key}": BaseWord("mero", key, "n", f"mero:{key}", key, "wn30:0-n", "concrete", False, "a thing") for key in NAMES
    }
    return Vocabulary("test", made, {id: {} for id in made}, vocabulary().lexicon)


@dataclass
class Desk:
    """A game that tests hold in their hands."""

    store: Store
    clock: Hand = field(default_factory=Hand)
    hasher: Counting = field(default_factory=Counting)
    forgotten: list[str] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        self.game = Game(self.store, clock=self.clock, rng=Random(self.seed), words=words(), forget=self.forget)
        self.game.accounts = Accounts(
            self.game.books, self.game.words.lexicon, self.clock, self.game.rng, self.forget, passwords=Passwords(self.hasher)
        )
        self.game.prepare()

    def forget(self, person: str) -> None:
        self.store.delete_person(person)
        self.forgotten.append(person)

    def app(self, **settings: Any) -> FastAPI:
        return create_app(self.game, Settings(**{"keeps": False, **settings}))

    def play(self, player: int, *texts: str) -> str:
        """A whole round; the base word's id."""
        round = self.game.rounds.issue(player, mode="classic")
        self.game.rounds.start(player, round.round)
        for seq, text in enumerate(texts):
            self.game.rounds.answer(player, round.round, seq, text, 500 * seq)
        self.clock.tick(1.0)
        self.game.rounds.finish(player, round.round)
        with self.game.books.read() as books:
            assert round.prompt is not None
            return books.prompt(round.prompt).prompt


def open_store(folder: Path) -> Store:
    return Store.open(folder, timeout_s=0.2)


class Browser:
    """A visitor with cookies, who sends what a page's form would."""

    def __init__(self, app: FastAPI, base_url: str = "http://localhost", **headers: str) -> None:
        self.client = TestClient(app, base_url=base_url, headers={"accept": "text/html", **headers}, follow_redirects=False)

    @property
    def seat(self) -> str | None:
        return self.client.cookies.get("idiolect_seat")

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def csrf(self, page: str = "/signup") -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert found is not None
        return found[1]

    def post(self, path: str, page: str | None = "/login", headers: dict[str, str] | None = None, **fields: Any) -> Any:
        data = fields if page is None else {"csrf": self.csrf(page), **fields}
        return self.client.post(path, data=data, headers=headers or {})

    def sign_up(self, handle: str, **fields: str) -> Any:
        return self.post("/signup", "/signup", handle=handle, password=PASSWORD, **fields)

    def log_in(self, handle: str, password: str = PASSWORD) -> Any:
        return self.post("/login", "/login", handle=handle, password=password)


class Program:
    """A client that speaks JSON, with cookies and the token that it was told."""

    def __init__(self, app: FastAPI, base_url: str = "http://localhost") -> None:
        self.client = TestClient(app, base_url=base_url, headers={"accept": "application/json"}, follow_redirects=False)
        self.csrf = ""

    def get(self, path: str) -> Any:
        return self.client.get(path)

    def post(self, path: str, **body: Any) -> Any:
        return self._told(self.client.post(path, json=body, headers={"x-csrf-token": self.csrf}))

    def delete(self, path: str) -> Any:
        return self._told(self.client.delete(path, headers={"x-csrf-token": self.csrf}))

    def _told(self, answer: Any) -> Any:
        self.csrf = answer.headers.get("x-csrf-token", self.csrf)
        return answer


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The app behind a real server on a free port; its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False, log_level="warning", ws="none", lifespan="on")
    server = uvicorn.Server(config)
    ready = threading.Event()
    startup = server.startup

    async def started(sockets: Any = None) -> None:
        await startup(sockets)
        ready.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
