"""A PostgreSQL of one's own, with its usual settings, for as long as a measurement takes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import psutil

from idiolect.errors import StoreError

_PORT = 54331  # names the socket file only: the server listens on no network


@dataclass(frozen=True)
class Postgres:
    """A running server: where a store may be made, and its first process."""

    url: str
    version: str
    process: psutil.Process


def programs() -> Path | None:
    """Where PostgreSQL's programs are; None where there are none, or nobody to run them as."""
    if os.getuid() == 0 and _user() is None:
        return None
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [Path(p).parent for p in sorted(glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)]
    return next((f for f in folders if all((f / name).exists() for name in ("initdb", "pg_ctl", "postgres"))), None)


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Start one, in a folder of those that are `programs`; afterwards nothing is left of it.

    Raises:
        StoreError: it does not start.
    """
    home, user = Path(tempfile.mkdtemp(prefix="idiolect-pg-")), _user()
    if user:
        shutil.chown(home, user)
    data = home / "data"

    def call(*command: str | Path) -> str:
        words = [str(word) for word in command]
        done = subprocess.run(words, user=user, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise StoreError(f"PostgreSQL's {Path(words[0]).name} failed (exit {done.returncode}); measure SQLite alone")
        return done.stdout

    try:
        call(folder / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        options = f"-c listen_addresses='' -c unix_socket_directories='{home}' -c port={_PORT}"
        call(folder / "pg_ctl", "-D", data, "-w", "-s", "-l", home / "log", "-o", options, "start")
        try:
            version = call(folder / "postgres", "--version").split()[2]
            process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
            yield Postgres(f"postgresql+psycopg://postgres@/postgres?host={home}&port={_PORT}", version, process)
        finally:
            call(folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home)


def _user() -> str | None:
    """Whom to run it as where this is root, whom it refuses."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None
