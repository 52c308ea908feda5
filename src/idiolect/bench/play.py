"""The game's server under load: 200 rounds a minute on a store with a million answers, on SQLite and on PostgreSQL.

    fill a store ──▶ server in another process ──▶ rounds that begin at times fixed beforehand ──▶ latency since each was due

Open loop: players do not wait for a slow server before the next one comes, and what a request was late by is part of its
latency. A round is what a browser asks for: hand out, page, start, page, six answers or so, finish, report as a page and as
JSON.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import psutil

from idiolect import machine
from idiolect.bench import play_postgres, play_server, play_store, report
from idiolect.bench.crowd_http import HttpPlayer, RequestFailed, Sent, open_client
from idiolect.errors import InputError
from idiolect.game.crowd import COMPANY, cast_of
from idiolect.game.desk import Game
from idiolect.game.vocabulary import vocabulary
from idiolect.store.store import Store
from idiolect.types import seed_of

Where = Literal["sqlite", "postgres"]

TARGET_S = 0.150
"""At most so long should a report take, 19 times out of 20."""
LOOKS = 0.02
"""Share of rounds after which somebody looks at the leaderboard."""


@dataclass(frozen=True)
class Size:
    """How much there is, and how much comes.

    Attributes:
        words: base words of each relation that were played.
        visitors: guests who play; each at most one round at a time.
        rate: rounds a minute.
        pace: 1: rounds last as long as people's.
        steps: further rates that are tried for `step_s` each, at a tenth of people's time a round, until one is too much.
    """

    answers: int
    players: int
    words: int
    visitors: int
    rate: float
    seconds: float
    pace: float
    steps: tuple[float, ...] = ()
    step_s: float = 20.0


SIZES = {
    "tiny": Size(2_000, 60, 20, 8, 240, 2.5, 0.02),
    "small": Size(1_000_000, 5_000, 300, 150, 200, 180, 1.0, (400, 800, 1600)),
}


@dataclass
class Load:
    """What was asked of a server, and how it did.

    Attributes:
        unplayed: rounds that were due when every visitor was playing.
    """

    sent: list[Sent] = field(default_factory=list)
    played: int = 0
    failed: int = 0
    unplayed: int = 0

    def figures(self) -> dict[str, Any]:
        """Milliseconds since due, by kind of request; errors are answers of 400 and more, and none at all (status 0)."""
        names = sorted({one.name for one in self.sent})
        return {
            "rounds": self.played,
            "rounds_broken_off": self.failed,
            "rounds_unplayed": self.unplayed,
            "requests": len(self.sent),
            "errors": sum(_is_error(one) for one in self.sent),
            "answered_with": dict(sorted(Counter(str(one.status) for one in self.sent).items())),
            "all": _spread(self.sent),
            "by_request": {name: _spread([one for one in self.sent if one.name == name]) for name in names},
        }


def bench_play(
    shape: str = "small",
    out: Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    kept: Path | None = None,
    databases: Sequence[Where] = ("sqlite", "postgres"),
) -> dict[str, Any]:
    """Fill a store, and play on it through a server on each database that is there.

    Args:
        kept: where the filled store is put, or is from a run before with the same shape and seed; a copy is played on.

    Returns:
        the report: for each database, latencies by kind of request, errors, CPU seconds and memory of the server.
    """
    if shape not in SIZES:
        raise InputError(f"bench play has no shape {shape}; choose one of: {', '.join(SIZES)}")
    threads, size = machine.set_up_threads(threads), SIZES[shape]
    programs = play_postgres.programs() if "postgres" in databases else None
    before = machine.load_average()
    methods: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = (kept or Path(name) / "filled") / "store"
        filled, fill_s = _filled(folder, size, seed, say)
        if programs is not None:
            with _postgres(folder, programs) as (url, version, process):
                _note(say, f"PostgreSQL {version}")
                measured = _measured(url, Path(name) / "blobs", size, seed, say, process)
                methods["postgres"] = {"version": version} | measured
        if "sqlite" in databases:
            played = shutil.copytree(folder, Path(name) / "played")
            _note(say, f"SQLite {sqlite3.sqlite_version}")
            methods["sqlite"] = {"version": sqlite3.sqlite_version} | _measured(str(played), None, size, seed, say)
    figures = {
        "shape": shape,
        "size": asdict(size),
        "filled": asdict(filled),
        "fill_s": fill_s,
        "niceness": os.nice(0),
        "load_average_before": before,
        "load_average": machine.load_average(),
        "target_s": TARGET_S,
        "not_measured": [name for name in databases if name not in methods],
        "methods": methods,
    }
    return report.write(f"play-{shape}", figures, out, seed, threads)


def _filled(folder: Path, size: Size, seed: int, say: Callable[[str], None] | None) -> tuple[play_store.Filled, float | None]:
    """What is in the store, and how many seconds it took to fill; None where it was filled before."""
    with Store.open(folder) as store:
        if (there := play_store.found(store.game)) is not None:
            return there, None
        began = time.perf_counter()
        made = play_store.fill(Game(store), size.answers, size.players, size.words, seed, say)
        return made, time.perf_counter() - began


@contextmanager
def _postgres(folder: Path, programs: Path) -> Iterator[tuple[str, str, psutil.Process]]:
    """A PostgreSQL with what the store in the folder has."""
    with play_postgres.postgres(programs) as server:
        with Store.open(folder) as source, Store.open(server.url, blobs=folder / "blobs") as target:
            Game(target).prepare()
            with source.game.read() as there, target.game.write() as here:
                here.copy_from(there)
            with target.game.write() as here:
                here.analyse()
        yield server.url, server.version, server.process


def _measured(
    location: str,
    blobs: Path | None,
    size: Size,
    seed: int,
    say: Callable[[str], None] | None,
    database: psutil.Process | None = None,
) -> dict[str, Any]:
    """Play on a server of its own; where the database is a process too, its CPU seconds are told beside the server's."""
    with play_server.running(location, blobs) as (url, server):
        watched = {"server": server, **({"database": database} if database else {})}
        before = {name: _cpu_s(process) for name, process in watched.items()}
        began = time.perf_counter()
        load = asyncio.run(_play(url, size, seed))
        took = time.perf_counter() - began
        figures = load.figures() | {
            "seconds": took,
            "cpu_s": {name: _cpu_s(process) - before[name] for name, process in watched.items()},
            "server_rss_bytes": server.memory_info().rss,
        }
        _tell(say, size.rate, figures)
        figures["steps"] = _steps(url, size, seed, say)
    least = [step["rate"] for step in figures["steps"] if step["holds"]]
    figures["rounds_per_minute_held"] = max(least, default=size.rate if _holds(figures) else None)
    return figures


def _steps(url: str, size: Size, seed: int, say: Callable[[str], None] | None) -> list[dict[str, Any]]:
    """Higher and higher rates, the last of which is too much."""
    tried: list[dict[str, Any]] = []
    for number, rate in enumerate(size.steps, start=1):
        if tried and not tried[-1]["holds"]:
            break
        harder = replace(size, rate=rate, seconds=size.step_s, pace=size.pace / 10)
        figures = asyncio.run(_play(url, harder, seed_of("step", seed, number))).figures()
        tried.append({"rate": rate, "holds": _holds(figures), **figures})
        _tell(say, rate, figures)
    return tried


def _holds(figures: dict[str, Any]) -> bool:
    """Every round was played, and reports came in time."""
    broken = figures["errors"] + figures["rounds_broken_off"] + figures["rounds_unplayed"]
    return broken == 0 and figures["by_request"]["report"]["p95_ms"] <= 1e3 * TARGET_S


async def _play(url: str, size: Size, seed: int) -> Load:
    """Rounds that begin when they are due, whatever became of those before."""
    load, rng = Load(), Random(seed_of("play", seed))
    async with open_client(url) as client:
        minds = cast_of(size.visitors, vocabulary(), COMPANY, seed)
        idle = [HttpPlayer(client, mind, pace=size.pace, pages=True, watch=load.sent.append) for mind in minds]
        for player in idle:
            await player.come()
        load.sent.clear()
        begins = time.monotonic() + 1.0
        running: set[asyncio.Task[None]] = set()
        for after in _arrivals(size, rng):
            due = begins + after
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if not idle:
                load.unplayed += 1
                continue
            task = asyncio.create_task(_one(idle.pop(rng.randrange(len(idle))), idle, due, rng.random() < LOOKS, load))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    return load


async def _one(player: HttpPlayer, idle: list[HttpPlayer], due: float, looks: bool, load: Load) -> None:
    try:
        await player.play(at=due)
        if looks:
            await player.look("leaderboard", "/leaderboard")
        load.played += 1
        idle.append(player)
    except RequestFailed:
        load.failed += 1  # with a round that is still running, they cannot begin another


def _arrivals(size: Size, rng: Random) -> list[float]:
    """Seconds at which rounds begin: as many as the rate says, each at any time."""
    return sorted(rng.random() * size.seconds for _ in range(round(size.rate * size.seconds / 60)))


def _is_error(one: Sent) -> bool:
    return one.status == 0 or one.status >= 400


def _spread(sent: Sequence[Sent]) -> dict[str, Any]:
    """Milliseconds; a percentile is a time that was measured, the smallest that so many percent do not exceed."""
    times = sorted(1e3 * one.latency_s for one in sent)
    n = len(times)
    at = {f"p{p}_ms": times[max(0, -(-p * n // 100) - 1)] if n else None for p in (50, 95, 99)}
    return {"n": n, **at, "max_ms": times[-1] if n else None, "errors": sum(_is_error(one) for one in sent)}


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its children, those that have ended among them."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + (times.children_user + times.children_system if one == process else 0.0)
    return total


def _note(say: Callable[[str], None] | None, line: str) -> None:
    if say:
        say(line)


def _tell(say: Callable[[str], None] | None, rate: float, figures: dict[str, Any]) -> None:
    if say:
        found = figures["by_request"].get("report", {"p95_ms": None})["p95_ms"]
        shown = "–" if found is None else f"{found:.0f}"
        say(f"{rate:6.0f} rounds/min: report p95 {shown} ms, {figures['errors']} errors")
