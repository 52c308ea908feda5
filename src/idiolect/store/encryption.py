"""Whether people's files are encrypted, and with which key, as rows. Runs in the transaction that it is given.

Rows only name keys; see `keys` for the keys themselves and for what an encrypted file looks like.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from idiolect.store.keys import MAGIC, Keyring
from idiolect.store.tables import doomed, person_keys, settings

_ON, _PLACE = "encryption", "keys"
_KEY_LETTERS = 32


def looks(data: bytes) -> bool:
    """Whether these bytes are an encrypted file's."""
    return data.startswith(MAGIC)


def is_on(connection: Connection) -> bool:
    """Whether new files of people are encrypted."""
    return _setting(connection, _ON) is not None


def keys_place(connection: Connection) -> str | None:
    """Where keys lie, if they were put somewhere else than beside the files."""
    return _setting(connection, _PLACE)


def turn_on(connection: Connection, place: str | None) -> None:
    """From now on. place: where keys lie; None: beside the files."""
    for name, value in ((_ON, "on"), (_PLACE, place)):
        connection.execute(delete(settings).where(settings.c.name == name))
        if value is not None:
            connection.execute(insert(settings).values(name=name, value=value))


def key_for(connection: Connection, person: int, keys: Keyring) -> str:
    """The id of a person's key, which is made where there is none."""
    return key_of(connection, person) or renew(connection, person, keys)


def key_of(connection: Connection, person: int) -> str | None:
    """The id of a person's key."""
    return connection.execute(select(person_keys.c.key).where(person_keys.c.person == person)).scalar_one_or_none()


def renew(connection: Connection, person: int, keys: Keyring) -> str:
    """Give a person a new key, and say its id. The old one stays on the disk until it is destroyed."""
    connection.execute(delete(person_keys).where(person_keys.c.person == person))
    key = keys.make()
    connection.execute(insert(person_keys).values(person=person, key=key))
    return key


def doom(connection: Connection, key: str) -> None:
    """Note that a key whose row goes is to be destroyed; the note stays until that is certain."""
    connection.execute(insert(doomed).values(digest=key))


def doomed_keys(connection: Connection) -> list[str]:
    """Keys that are still to be destroyed; they are named beside files of adapters, in half as many letters."""
    return list(connection.execute(select(doomed.c.digest).where(func.length(doomed.c.digest) == _KEY_LETTERS)).scalars())


def _setting(connection: Connection, name: str) -> str | None:
    return connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar_one_or_none()
