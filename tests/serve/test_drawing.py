"""The process that draws portraits: started when somebody waits, and later each time that it fails."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Desk, Program, open_store

from idiolect.game.mirror import AGAIN_S, NEEDED
from idiolect.serve.drawing import FIRST_WAIT_S, LONGEST_WAIT_S, Drawer
from idiolect.serve.game_mirror import ADAPTER


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_store(tmp_path / "store") as store:
        yield Desk(store)


def waiting(desk: Desk) -> int:
    """A player who has asked."""
    player = desk.game.accounts.guest()
    with desk.game.books.write() as books:
        books.put_portrait(player.key, "waiting", desk.clock(), {})
    return player.key


def ended(drawer: Drawer) -> None:
    """Let the process come to its end, and the drawer see it."""
    assert drawer._process is not None
    drawer._process.wait(30)
    drawer.turn()


def test_one_that_fails_is_started_later_each_time(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    waiting(desk)
    drawer = Drawer(desk.game, (sys.executable, "-c", "raise SystemExit(3)"))
    waits = []
    for _ in range(8):
        drawer.turn()
        began = desk.clock()
        with caplog.at_level(logging.CRITICAL, "idiolect.serve"):
            ended(drawer)
        while drawer._process is None:
            desk.clock.tick(FIRST_WAIT_S)
            drawer.turn()
        waits.append(desk.clock() - began)
    drawer.stop()
    assert waits == [min(FIRST_WAIT_S * 2**n, LONGEST_WAIT_S) for n in range(8)]


def test_one_that_ends_well_is_started_at_once_when_somebody_waits(desk: Desk) -> None:
    drawer = Drawer(desk.game, (sys.executable, "-c", ""))
    drawer.turn()
    assert drawer._process is None
    waiting(desk)
    drawer.turn()
    first = drawer._process
    ended(drawer)
    assert isinstance(drawer._process, subprocess.Popen)
    assert drawer._process is not first
    drawer.stop()


def test_asking_for_an_adapter_takes_enough_to_learn_from_and_is_limited(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(desk.app(drawing=("true",)))
    program.post("/guest")
    program.post("/me/consents", consent_personal=True, adult=True)
    short = program.post("/me/adapter")
    assert (short.status_code, str(NEEDED) in short.json()["error"]["message"]) == (403, True)
    monkeypatch.setattr("idiolect.game.mirror.NEEDED", 0)
    answers: list[Any] = []
    for _ in range(ADAPTER.n):
        answers.append(program.post("/me/adapter").status_code)
        with desk.game.books.write() as books:
            books.connection.exec_driver_sql("UPDATE game_portraits SET state = 'failed'")
    assert answers == [202] * (ADAPTER.n - 1) + [429]
    assert AGAIN_S == 14 * 86400
