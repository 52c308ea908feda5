"""The app on a socket, until somebody ends it."""

from __future__ import annotations

import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

PROXIES = "127.0.0.1,::1"
"""Who is believed about where a request came from: a proxy on this machine."""
_END_S = 5
"""How long requests in progress may take when it ends."""


def run(app: FastAPI, listening: socket.socket, *, behind_proxy: bool) -> None:
    """Serve until Ctrl-C or SIGTERM. Logs hold no address and no path: both are of people."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips=PROXIES,
        timeout_graceful_shutdown=_END_S,
        ws="none",
    )
    with suppress(KeyboardInterrupt):  # uvicorn closes everything, and only then raises what it heard
        uvicorn.Server(config).run(sockets=[listening])
