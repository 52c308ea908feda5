"""Who plays: guests, accounts, consents, and leaving.

    visitor ── first round ──▶ guest ──┬── sign up ──▶ account          the same player: everything stays theirs
                                       ├── log in ───▶ merged into an account that is there
                                       └── 30 days ──▶ deleted

Whoever leaves takes their rows along, counts are made again without them, and if they had a history for an adapter, it is
forgotten with everything that came of it. That forgetting is noted in the same transaction in which the player goes, so that
it happens even if the server stops in between.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from idiolect.errors import IdiolectError, PersonNotFound
from idiolect.game import consents
from idiolect.game.clock import Clock
from idiolect.game.consents import AS_IT_IS, Wish
from idiolect.game.lexicon import Lexicon
from idiolect.game.passwords import Passwords, check_password, checked_handle, folded
from idiolect.game.recounting import recount
from idiolect.game.refusals import BadField, HandleTaken, NotAllowed, NotYours, WrongLogin
from idiolect.game.rules import DAY_S, TIMINGS
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.records import PlayerRow
from idiolect.types import has_surrogate

GUEST_S: Final = 30 * DAY_S
"""So long after they came guests are deleted."""
SESSION_S: Final = 30 * DAY_S
"""So long after they were last used sessions end."""
_NOTED_S: Final = DAY_S
_SECRET: Final = "game-secret"


@dataclass(frozen=True)
class Seated:
    """Who sits on a seat, and what every page says of the others.

    Attributes:
        simulated: some players here are programs.
        renewed: the session was noted to be in use, for the first time in a day.
    """

    player: PlayerRow | None
    simulated: bool
    renewed: bool = False


@dataclass(frozen=True)
class Standing:
    """A player's own figures. `streak`: days in a row up to today or yesterday (UTC)."""

    n_rounds: int
    total: int
    streak: int


class Accounts:
    """Makes, joins, changes and deletes players.

    Args:
        rng: makes the random names.
        forget: deletes a person with everything that came of them, by id.
        scrub: wipes what the database keeps of deleted rows.
    """

    def __init__(
        self,
        books: GameBooks,
        lexicon: Lexicon,
        clock: Clock,
        rng: Random,
        forget: Callable[[str], object],
        *,
        passwords: Passwords | None = None,
        scrub: Callable[[], object] = lambda: None,
    ) -> None:
        self._books, self._lexicon, self._clock, self._rng = books, lexicon, clock, rng
        self._forget, self._scrub = forget, scrub
        self._passwords = passwords or Passwords()

    def secret(self) -> str:
        """The server's secret, which tokens and hashes of addresses are made with; made once for a store."""
        with self._books.write() as books:
            return books.setting(_SECRET, secrets.token_hex(32))

    # -- sessions --------------------------------------------------------------------------------------------------

    def seated(self, token: str) -> Seated:
        """Who sits on a seat, by the SHA-256 of its cookie. Banned players sit nowhere."""
        now = self._clock()
        with self._books.read() as books:
            seen, simulated = books.seen(token), books.has_simulated()
            player = None if seen is None or now - seen > SESSION_S else books.player_by_token(token)
        if player is None or player.state == "banned" or seen is None:
            return Seated(None, simulated)
        if now - seen <= _NOTED_S:
            return Seated(player, simulated)
        with self._books.write() as books:
            books.touch_session(token, now)
        return Seated(player, simulated, renewed=True)

    def sit(self, player: int, token: str, instead_of: str) -> None:
        """Put a player on a seat; the one that they, or another, had until now is gone."""
        with self._books.write() as books:
            books.end_session(instead_of)
            books.add_session(token, player, self._clock())

    def log_out(self, token: str) -> None:
        with self._books.write() as books:
            books.end_session(token)

    # -- coming ----------------------------------------------------------------------------------------------------

    def guest(self) -> PlayerRow:
        """A new guest."""
        with self._books.write() as books:
            return books.add_player(f"{self._rng.getrandbits(128):032x}", "guest", self._clock())

    def simulated(self) -> PlayerRow:
        """A new simulated player: a program, in no release, on no board, in no vote."""
        with self._books.write() as books:
            return books.add_player(f"{self._rng.getrandbits(128):032x}", "simulated", self._clock())

    def check_sign_up(self, handle: str, password: str) -> None:
        """What `sign_up` would say of handle and password; makes nothing, and costs little.

        Raises:
            BadField, HandleTaken: as `sign_up`.
        """
        shown = checked_handle(handle, self._lexicon)
        check_password(password, shown)
        with self._books.read() as books:
            if books.player_by_handle(folded(shown)) is not None:
                raise HandleTaken

    def sign_up(self, guest: PlayerRow | None, handle: str, password: str, wish: Wish = AS_IT_IS) -> PlayerRow:
        """A new account; a guest who signs up is the same player from now on.

        Raises:
            BadField: of handle, password or consents.
            HandleTaken: somebody has this handle, or one that differs in case only.
            NotAllowed: who asks has an account.
        """
        if guest is not None and guest.kind != "guest":
            raise NotAllowed("you have an account; log out first to make another")
        shown = checked_handle(handle, self._lexicon)
        check_password(password, shown)
        kept = self._passwords.hashed(password)
        now = self._clock()
        values: dict[str, Any] = {"handle": shown, "handle_key": folded(shown), "password": kept}
        with self._books.write() as books:
            if books.player_by_handle(folded(shown)) is not None:
                raise HandleTaken
            if guest is None:
                made = books.add_player(f"{self._rng.getrandbits(128):032x}", "account", now, **values)
            else:
                books.change_player(guest.key, kind="account", **values)
                made = books.player(guest.key)
            books.change_player(made.key, **consents.changes(made, wish, now))
            return books.player(made.key)

    def log_in(self, guest: PlayerRow | None, handle: str, password: str) -> PlayerRow:
        """The account of that handle; a guest's rounds go over to it, but those on base words that it has played itself.

        Raises:
            WrongLogin: handle and password do not belong together. It takes as long where there is no such handle.
            NotAllowed: the account is banned.
        """
        with self._books.read() as books:
            found = _by_handle(books, handle)
        if not self._passwords.fits(password, None if found is None else found.password) or found is None:
            raise WrongLogin
        if found.state == "banned":
            raise NotAllowed("this account is closed")
        if found.password is not None and self._passwords.is_dated(found.password):
            kept = self._passwords.hashed(password)
            with self._books.write() as books:
                books.change_player(found.key, password=kept)
        if guest is not None and guest.kind == "guest":
            self._merge(guest.key, found.key)
        with self._books.read() as books:
            return books.player(found.key)

    def _merge(self, guest: int, account: int) -> None:
        with self._books.write() as books:
            old = books.find_player(guest)
            if old is None or old.kind != "guest" or old.state != "ok":
                return
            self._note_leaving(books, old)
            recount(books, books.take_over(old, books.player(account)), self._clock())
        self._scrub()
        self.finish_leaving()

    # -- changing --------------------------------------------------------------------------------------------------

    def change(
        self,
        player: int,
        wish: Wish = AS_IT_IS,
        *,
        timing: str | None = None,
        listed: bool | None = None,
        keys: bool | None = None,
    ) -> PlayerRow:
        """Change settings and consents, all or none of them; None leaves one as it is. With the personal consent go the
        history and every adapter that was made from it.

        Raises:
            BadField: an unknown timing, a guest who would be listed, or see `consents.changes`.
        """
        if timing is not None and timing not in TIMINGS:
            raise BadField("timing", f"the time of a round is one of {', '.join(TIMINGS)}")
        given = (("timing", timing), ("listed", listed), ("keys", keys))
        values: dict[str, Any] = {name: value for name, value in given if value is not None}
        with self._books.write() as books:
            row = books.player(player)
            if listed and row.kind != "account":
                raise BadField("listed", "only players with an account are listed; sign up first")
            values |= consents.changes(row, wish, self._clock())
            if "consent_personal" in values and values["consent_personal"] is None:
                self._note_leaving(books, row)
                books.drop_portrait(player)
            books.change_player(player, **values)
            changed = books.player(player)
        self.finish_leaving()
        return changed

    def change_password(self, player: int, old: str, new: str, token: str) -> None:
        """Take another password, and end the account's sessions everywhere but here.

        Raises:
            WrongLogin: the old one is not right.
            BadField: the new one cannot be one.
        """
        with self._books.read() as books:
            row = books.player(player)
        if not self._passwords.fits(old, row.password):
            raise WrongLogin
        check_password(new, row.handle or "")
        kept = self._passwords.hashed(new)
        with self._books.write() as books:
            books.change_player(player, password=kept)
            books.end_other_sessions(player, token)

    def appoint(self, handle: str, moderator: bool = True) -> PlayerRow:
        """Make an account a moderator, or one no longer.

        Raises:
            NotYours: nobody has this handle.
        """
        with self._books.write() as books:
            row = _by_handle(books, handle)
            if row is None:
                raise NotYours("no account has this handle")
            books.change_player(row.key, moderator=moderator)
            books.add_act("operator", "appoint" if moderator else "dismiss", f"player {row.key}", self._clock())
            return books.player(row.key)

    # -- figures ---------------------------------------------------------------------------------------------------

    def standing(self, player: int) -> Standing:
        """What a player's own page says."""
        with self._books.read() as books:
            n_rounds, total, days = books.n_started(player), books.total_score(player), books.days_played(player)
        return Standing(n_rounds, total, streak(days, int(self._clock() // DAY_S)))

    # -- leaving ---------------------------------------------------------------------------------------------------

    def delete(self, player: int) -> None:
        """Delete a player, whatever kind, with everything that is keyed to them, and make counts again without them."""
        self._delete(player)
        self._scrub()
        self.finish_leaving()

    def _delete(self, player: int) -> None:
        with self._books.write() as books:
            row = books.find_player(player)
            if row is None:
                return
            self._note_leaving(books, row)
            now = self._clock()
            recount(books, books.delete_player(row.key, now), now)

    def purge(self) -> int:
        """Delete guests and sessions whose time is over, and finish what was cut off; how many guests went."""
        now = self._clock()
        with self._books.write() as books:
            books.drop_sessions(now - SESSION_S)
            guests = books.stale_guests(now - GUEST_S)
        for guest in guests:
            self._delete(guest.key)
        if guests:
            self._scrub()
        self.finish_leaving()
        return len(guests)

    def finish_leaving(self) -> int:
        """Forget the histories of those who left or took their consent back; how many are still to be forgotten.

        What cannot be done now, because training holds the store, stays noted, and is done at a later call.
        """
        with self._books.read() as books:
            leaving = books.leaving()
        n_left = 0
        for person in leaving:
            try:
                self._forget(person)
            except PersonNotFound:
                pass  # forgotten before, and cut off before that was noted
            except IdiolectError:
                n_left += 1
                continue
            with self._books.write() as books:
                books.has_left(person)
        return n_left

    def _note_leaving(self, books: Books, row: PlayerRow) -> None:
        if row.person is not None and (name := books.person_name(row.person)) is not None:
            books.note_leaving(name)
            books.change_player(row.key, person=None)


def _by_handle(books: Books, handle: str) -> PlayerRow | None:
    key = folded(handle)
    return None if has_surrogate(key) or "\0" in key else books.player_by_handle(key)


def streak(days: Collection[int], today: int) -> int:
    """Days in a row with a round, up to today, or up to yesterday as long as today may still come."""
    played = set(days)
    day = today if today in played else today - 1
    n = 0
    while day - n in played:
        n += 1
    return n
