"""Answers that a moderator blocked, remembered after the last who gave them has left.

What is kept is a keyed hash: enough to know the answer when it comes again, and no word of anybody's.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable

from sqlalchemy import Connection, insert, select

from idiolect.store.tables import settings

_KEY = "game-blocks"
_BLOCKED = "game-blocked:"


def remember(connection: Connection, blocked: Iterable[tuple[int, str]]) -> None:
    """Remember answers, as (base word, key)."""
    names = [_name(_secret(connection), *one) for one in blocked]
    known = _known(connection, names)
    for name in dict.fromkeys(name for name in names if name not in known):
        connection.execute(insert(settings).values(name=name, value=""))


def remembered(connection: Connection, prompt: int, keys: Collection[str]) -> set[str]:
    """Those of a base word's answers that are remembered."""
    secret = connection.execute(select(settings.c.value).where(settings.c.name == _KEY)).scalar_one_or_none()
    if secret is None or not keys:
        return set()
    names = {_name(secret, prompt, key): key for key in keys}
    return {names[name] for name in _known(connection, list(names))}


def _secret(connection: Connection) -> str:
    found = connection.execute(select(settings.c.value).where(settings.c.name == _KEY)).scalar_one_or_none()
    if found is not None:
        return found
    made = secrets.token_hex(32)
    connection.execute(insert(settings).values(name=_KEY, value=made))
    return made


def _known(connection: Connection, names: Collection[str]) -> set[str]:
    return set(connection.execute(select(settings.c.name).where(settings.c.name.in_(list(names)))).scalars())


def _name(secret: str, prompt: int, key: str) -> str:
    return _BLOCKED + hmac.new(secret.encode(), f"{prompt}\0{key}".encode(), hashlib.sha256).hexdigest()
