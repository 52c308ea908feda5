"""Passwords and handles: what may be one, and how a password is kept (Argon2id, RFC 9106).

Hashing takes memory on purpose, so only a few at a time are made; others wait.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING, Final

from idiolect.errors import DependencyMissing
from idiolect.game.lexicon import Lexicon, key_form
from idiolect.game.refusals import BadField
from idiolect.types import has_surrogate

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_PASSWORD, MAX_PASSWORD = 10, 128
MIN_HANDLE, MAX_HANDLE = 3, 20
RESERVED: Final = frozenset(
    {"admin", "administrator", "anonymous", "guest", "idiolect", "moderator", "nobody", "rules", "simulated", "system", "you"}
)
"""Handles that would pass for somebody else's, or for the game's own words."""

_COMMON: Final = frozenset(
    {
        "0123456789", "1234567890", "12345678910", "123456789a", "0987654321", "1q2w3e4r5t", "1qaz2wsx3edc",
        "q1w2e3r4t5", "qwertyuiop", "qwerty12345", "qwerty123456", "password12", "password123", "password1234",
        "password12345", "passw0rd123", "iloveyou123", "letmein123", "welcome123", "administrator", "abcdefghij",
        "abc1234567", "abcd123456", "asdfghjkl1", "zxcvbnm123", "football123", "baseball123", "sunshine123",
        "princess123", "dragon12345", "changeme123",
    }
)  # fmt: skip
"""What is tried first."""
_FEWEST_CHARACTERS: Final = 4
_AT_ONCE: Final = 2
_MARKS_IN_A_ROW: Final = 2
# Scripts that are written together; any other two are not one word of one language.
_TOGETHER: Final = (frozenset({"CJK", "HIRAGANA", "KATAKANA"}), frozenset({"CJK", "HANGUL"}), frozenset({"CJK", "BOPOMOFO"}))


class Passwords:
    """Makes and checks hashes.

    Args:
        hasher: Argon2's; by default with RFC 9106's settings for little memory (64 MiB, three passes).
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._given = hasher
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def hashed(self, password: str) -> str:
        """A password as it is kept."""
        with self._turn:
            return self._hasher.hash(_same(password))

    def fits(self, password: str, kept: str | None) -> bool:
        """Whether this is the password; as slow where there is none (`kept` None), so that time does not tell who exists."""
        hasher, against = self._hasher, kept if kept is not None else self._nobodys
        from argon2.exceptions import VerificationError

        with self._turn:
            try:
                right = hasher.verify(against, _same(password[: 8 * MAX_PASSWORD]))
            except (VerificationError, UnicodeEncodeError):
                right = False
        return right and kept is not None

    def is_dated(self, kept: str) -> bool:
        """Whether it was made with other settings than today's, and should be made anew at the next chance."""
        return self._hasher.check_needs_rehash(kept)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        try:
            from argon2 import PasswordHasher, Type
        except ImportError:
            raise DependencyMissing("accounts need argon2-cffi; install it: pip install 'idiolect[serve]'") from None
        return self._given or PasswordHasher(type=Type.ID)

    @cached_property
    def _nobodys(self) -> str:
        return self.hashed("nobody's password")


def check_password(password: str, handle: str) -> None:
    """See to it that this may be a password.

    Raises:
        BadField: it is too short, too long, or among those that are tried first.
    """
    same = _same(password)
    if has_surrogate(same):
        raise BadField("password", "this password has characters that cannot be kept; choose another")
    if len(same) < MIN_PASSWORD:
        raise BadField("password", f"a password has at least {MIN_PASSWORD} characters")
    if len(same) > MAX_PASSWORD:
        raise BadField("password", f"a password has at most {MAX_PASSWORD} characters")
    if same.casefold() in _COMMON or len(set(same)) < _FEWEST_CHARACTERS or folded(same) == folded(handle):
        raise BadField("password", "this password is among the first that are tried; choose another")


def checked_handle(handle: str, lexicon: Lexicon) -> str:
    """A handle as it is shown.

    Raises:
        BadField: it cannot be one, with the reason.
    """
    text = unicodedata.normalize("NFKC", handle).strip()
    if not MIN_HANDLE <= len(text) <= MAX_HANDLE:
        raise BadField("handle", f"a name has {MIN_HANDLE} to {MAX_HANDLE} characters")
    if not _is_spelled(text):
        raise BadField(
            "handle", "a name has letters, digits, hyphens, underscores and full stops, and begins with a letter or digit"
        )
    if _mixes_scripts(text):
        raise BadField("handle", "a name is written in one script; this one mixes letters of several")
    if folded(text) in RESERVED or _is_blocked(folded(text), lexicon):
        raise BadField("handle", "this name cannot be taken; choose another")
    return text


def folded(handle: str) -> str:
    """What has to be unique of a handle: NFKC without case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", handle).casefold())


def _same(password: str) -> str:
    """One form for what keyboards write in several."""
    return unicodedata.normalize("NFKC", password)


def _is_spelled(text: str) -> bool:
    in_a_row = 0
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        is_mark = category in ("Mn", "Mc")
        in_a_row = in_a_row + 1 if is_mark else 0
        if place == 0 and not (category[0] == "L" or category == "Nd"):
            return False
        if not (is_mark or category[0] == "L" or category == "Nd" or character in "_-.") or in_a_row > _MARKS_IN_A_ROW:
            return False
    return True


def _mixes_scripts(text: str) -> bool:
    scripts = {unicodedata.name(c, "UNKNOWN").split()[0].partition("-")[0] for c in text if unicodedata.category(c)[0] == "L"}
    return len(scripts) > 1 and not any(scripts <= known for known in _TOGETHER)


def _is_blocked(key: str, lexicon: Lexicon) -> bool:
    """Whether it is, or has as a part of its own, a word that is not to be shown. Parts are what marks and digits separate."""
    parts = {key_form(key), *re.split(r"[\W\d_]+", key), re.sub(r"[\W\d_]+", " ", key).strip()}
    return any(form in lexicon.severity for part in parts if part for form in (part, lexicon.singular(part)))
