"""Writers of one process wait for each other in the process, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from idiolect.errors import StoreBusy
from idiolect.store.store import Store

N_WRITERS, N_TIMES = 24, 8


def test_many_writers_leave_readers_a_connection_and_all_of_them_write(store: Store) -> None:
    """More of them than there are connections."""
    begun, go = threading.Barrier(N_WRITERS + 1), threading.Event()

    def write() -> None:
        begun.wait()
        go.wait()
        for _ in range(N_TIMES):
            with store.game.write() as books:
                books.spend("turns", N_WRITERS * N_TIMES, 1e9, 1.0)

    writers = [threading.Thread(target=write) for _ in range(N_WRITERS)]
    for writer in writers:
        writer.start()
    with store.game.write():
        begun.wait()
        go.set()
        with store.game.read() as books:
            assert not books.has_simulated()
    for writer in writers:
        writer.join()
    with store.game.write() as books:
        assert books.spend("turns", N_WRITERS * N_TIMES, 1e9, 1.0) is not None, "the counter is full"


def test_a_writer_says_busy_if_its_turn_does_not_come(location: str, blobs: Path) -> None:
    refused: list[Exception] = []
    with Store.open(location, blobs=blobs, timeout_s=0.2) as store:

        def write() -> None:
            try:
                with store.game.write():
                    pass
            except StoreBusy as error:
                refused.append(error)

        with store.game.write():
            late = threading.Thread(target=write)
            late.start()
            late.join()
        with store.game.write():  # the turn was given back
            pass
    with pytest.raises(StoreBusy, match="other writers of this process"):
        raise refused[0]
