"""Stores with players, rounds and judgements in them, put there by the books themselves; and the store's own fixtures."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from idiolect.game.rounds import add_vocabulary
from idiolect.game.vocabulary import vocabulary
from idiolect.store.game.books import Books
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store

_spec = importlib.util.spec_from_file_location("store_conftest", Path(__file__).parents[1] / "store" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
kind, location, blobs, store = _fixtures.kind, _fixtures.location, _fixtures.blobs, _fixtures.store
shared_database, postgres_socket = _fixtures.shared_database, _fixtures.postgres_socket

WORDS = vocabulary()
NOON = 1_740_916_800.0  # 2025-03-02, 12:00 UTC
DAY = 86_400.0


class Crowd:
    """Fills a store: one player, round or judgement a call, each a minute after the one before."""

    _open: Books | None = None

    def __init__(self, store: Store, start: float = NOON) -> None:
        self.store, self.start, self.now, self._n = store, start, start, itertools.count(1)
        with store.game.write() as books:
            add_vocabulary(books, WORDS)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Everything inside is one transaction."""
        with self.store.game.write() as self._open:
            yield
        self._open = None

    @contextmanager
    def _write(self) -> Iterator[Books]:
        if self._open is not None:
            yield self._open
        else:
            with self.store.game.write() as books:
                yield books

    def player(self, name: str, kind: str = "account", **values: Any) -> PlayerRow:
        given = {"consent_aggregate": 1.0, "consent_personal": 1.0, "adult": True, **values}
        if kind == "account":
            given |= {"handle": name.title(), "handle_key": name, "password": "argon2-hash"}
        with self._write() as books:
            return books.add_player(name, kind, self.now, **given)  # type: ignore[arg-type]

    def players(self, n: int, prefix: str = "p", kind: str = "account", **values: Any) -> list[PlayerRow]:
        return [self.player(f"{prefix}{i}", kind, **values) for i in range(n)]

    def round(
        self, player: PlayerRow, prompt: str, keys: Sequence[str], *, mode: str = "classic", repeat: bool = False, **more: Any
    ) -> str:
        """A closed round with accepted answers; `more`: flags, at, statuses or pasted by key."""
        self.now = more.get("at", self.now + 60)
        name = f"round{self.start:.0f}{next(self._n):06d}"
        statuses, pasted = more.get("statuses", {}), more.get("pasted", ())
        accepted = [key for key in keys if statuses.get(key, "accepted") == "accepted"]
        counts = mode in ("classic", "fresh") and not repeat and bool(accepted)
        with self._write() as books:
            asked = books.prompt_named(prompt)
            assert asked is not None
            row = books.add_round(
                round=name, player=player.key, prompt=asked.key, relation=asked.relation, mode=mode, timing="1x", seconds=15.0,
                served_at=self.now - 20, started_at=self.now - 18, deadline_at=self.now - 3, closed_at=self.now,
                close_reason="finished", repeat=repeat, counts=counts and not books.has_counted(player.key, asked.key),
                n_accepted=len(accepted), rules="1", flags=more.get("flags", "{}"),
            )  # fmt: skip
            for seq, key in enumerate(keys):
                books.add_answer(
                    row.key, seq=seq, received_at=self.now - 10, ms=1000 * (seq + 1), raw=f"{key.title()} ", display=key,
                    key=key, status=statuses.get(key, "accepted"), pasted=key in pasted,
                )  # fmt: skip
            books.touch_pairs(asked.key, [(key, key, key not in WORDS.lexicon, False) for key in accepted], self.now)
            books.recount_players(asked.key, accepted)
        return name

    def judge(self, player: PlayerRow, prompt: str, verdicts: Iterable[tuple[str, str]], *, kind: str = "game") -> str:
        """A closed round of Nym or Not."""
        self.now += 60
        name = f"judge{self.start:.0f}{next(self._n):06d}"
        with self._write() as books:
            asked = books.prompt_named(prompt)
            assert asked is not None
            row = books.add_round(
                round=name, player=player.key, prompt=None, relation=asked.relation, mode="judge", timing="1x", seconds=20.0,
                served_at=self.now - 30, started_at=self.now - 25, deadline_at=self.now - 5, closed_at=self.now,
                close_reason="finished", rules="1", flags="{}",
            )  # fmt: skip
            items = [
                {"prompt": asked.key, "key": key, "display": key, "seq": seq, "kind": kind, "verdict": verdict,
                 "judged_at": self.now - 20 + seq / 10, "ms": 800}
                for seq, (key, verdict) in enumerate(verdicts)
            ]  # fmt: skip
            books.add_judgements(row.key, player.key, items)
        return name
