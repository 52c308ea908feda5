"""`python -m idiolect.bench.play_server LOCATION [BLOBS]`: the game's server in a process of its own; prints its port."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from idiolect.errors import StoreError
from idiolect.game.desk import Game
from idiolect.serve.app import Settings, create_app
from idiolect.serve.running import run
from idiolect.store.store import Store

GUESTS = 10_000.0
"""How many times more guests may come from one address than on the open web: all of a load's do."""
_STOP_S = 20.0


def serve(location: str, blobs: str | None) -> None:
    """Serve until stopped."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    with Store.open(location, blobs=Path(blobs) if blobs else None) as store:
        game = Game(store)
        game.prepare()
        app = create_app(game, Settings(address_factor=GUESTS))
        print(listening.getsockname()[1], flush=True)
        run(app, listening, behind_proxy=False)


@contextmanager
def running(location: str, blobs: Path | None) -> Iterator[tuple[str, psutil.Process]]:
    """Such a server in another process; its address and that process.

    Raises:
        StoreError: it did not start.
    """
    command = [sys.executable, "-m", "idiolect.bench.play_server", location, *([str(blobs)] if blobs else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise StoreError("the server to be measured did not start; what it wrote above says why")
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
