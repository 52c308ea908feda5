"""The app on a socket, until somebody ends it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

PROXIES = "127.0.0.1,::1"
"""Who is believed about where a request came from: a proxy on this machine."""
SWITCH_S = 0.0005
"""After so long a thread lets others run. Whoever writes waits for this after every look into the database, and all other
writers with them.
"""
_END_S = 5
"""How long requests in progress may take when it ends."""


def run(app: FastAPI, listening: socket.socket, *, behind_proxy: bool) -> None:
    """Serve until Ctrl-C or SIGTERM. Logs hold no address and no path: both are of people."""
    _send_at_once(listening)
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn closes everything, and only then raises what it heard
            uvicorn.Server(_config(app, behind_proxy)).run(sockets=[listening])
    finally:
        sys.setswitchinterval(before)


@contextmanager
def beside(app: FastAPI) -> Iterator[str]:
    """Serve on a free port of this machine, in a thread, while the `with` lasts; the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    _send_at_once(listening)
    server = uvicorn.Server(_config(app, behind_proxy=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()  # who connects before it has begun waits in the socket's queue
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _send_at_once(listening: socket.socket) -> None:
    """Have the system send what is written. Otherwise an answer's second part waits until the browser says that it has the
    first, which it does after 40 ms. asyncio sees to that only for sockets whose protocol is named; connections inherit it.
    """
    if listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _config(app: FastAPI, behind_proxy: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips=PROXIES,
        timeout_graceful_shutdown=_END_S,
        ws="none",
    )
