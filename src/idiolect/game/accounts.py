"""Who plays: guests, accounts, consents, and leaving.

    visitor ── first round ──▶ guest ──┬── sign up ──▶ account          the same player: everything stays theirs
                                       ├── log in ───▶ merged into an account that is there
                                       └── 30 days ──▶ deleted

Whoever leaves takes their rows along, counts are made again without them, and if they had a history for an adapter, it is
forgotten with everything that came of it. That forgetting is noted in the same transaction in which the player goes, so that
it happens even if the server stops in between, and until it is done nobody's history is kept anew under that name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from idiolect.errors import IdiolectError, PersonNotFound
from idiolect.game import consents, trust, validity
from idiolect.game.clock import Clock
from idiolect.game.consents import AS_IT_IS, Wish
from idiolect.game.lexicon import Lexicon
from idiolect.game.passwords import Passwords, check_password, checked_handle, folded
from idiolect.game.recounting import recount
from idiolect.game.refusals import BadField, HandleTaken, NotAllowed, WrongLogin
from idiolect.game.replaying import beyond_share
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
        scrub: wipes what the database keeps of deleted rows; False where a reader keeps it from that.
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
        scrub: Callable[[], bool] = lambda: True,
    ) -> None:
        self._books, self._lexicon, self._clock, self._rng = books, lexicon, clock, rng
        self._forget, self._scrub = forget, scrub
        self._passwords = passwords or Passwords()
        self._is_clean = False  # the server before this one may have been cut off

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

    def guest(self, origin: str | None = None) -> PlayerRow:
        """A new guest.

        Args:
            origin: a keyed hash of the network that they came from, by which several of one household count as one where
                it takes several people; None where that says nothing.
        """
        with self._books.write() as books:
            return books.add_player(f"{self._rng.getrandbits(128):032x}", "guest", self._clock(), origin=origin)

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

    def sign_up(
        self, guest: PlayerRow | None, handle: str, password: str, wish: Wish = AS_IT_IS, origin: str | None = None
    ) -> PlayerRow:
        """A new account; a guest who signs up, and is still there, is the same player from now on.

        Args:
            origin: as `guest` takes it, of somebody who was no guest before.

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
            there = None if guest is None else books.find_player(guest.key)
            if there is None:
                made = books.add_player(f"{self._rng.getrandbits(128):032x}", "account", now, origin=origin, **values)
            elif there.kind != "guest":  # signed up meanwhile, in another tab
                raise NotAllowed("you have an account; log out first to make another")
            else:
                books.change_player(there.key, kind="account", **values)
                made = books.player(there.key)
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
            now = self._clock()
            leaving = self._note_leaving(books, old)
            touched = books.take_over(old, books.player(account))
            closed = books.closed_rounds(account)
            late = beyond_share({account: [at for _, at in closed]}).get(account, set())
            books.mark_beyond(account, [key for key, at in closed if at in late])
            moved = trust.reassess(books, account, now)
            recount(books, touched, now)
            if moved:
                validity.reconsider(books, [account], now)
        self._is_clean = False
        self.tidy()
        self._finish(leaving)

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
        """Change settings and consents, all or none of them; None leaves one as it is.

        With the personal consent go the history and every adapter that was made from it. With the aggregate one goes what the
        player taught others, and the history with it, which is kept anew when it is wanted next. Both is noted, and done by
        `finish_leaving`.

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
            self._withdraw(books, row, values)
            books.change_player(player, **values)
            return books.player(player)

    def _withdraw(self, books: Books, row: PlayerRow, values: Mapping[str, Any]) -> None:
        """See to what was made under consents that are taken back."""
        taken = {name for name in ("consent_personal", "consent_aggregate") if name in values and values[name] is None}
        if "consent_personal" in taken:
            self._note_leaving(books, row)
            books.drop_portrait(row.key)
        elif "consent_aggregate" in taken and row.person is not None and books.has_taught(row.person):
            self._note_leaving(books, row)
            if books.portrait(row.key) is not None:  # its adapters go too; they are made again
                books.put_portrait(row.key, "waiting", self._clock(), {})

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
            PersonNotFound: nobody has this handle.
        """
        with self._books.write() as books:
            row = _by_handle(books, handle)
            if row is None:
                raise PersonNotFound("there is no account of this name; whoever is to be a moderator signs up first")
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
        leaving = self._delete(player)
        self.tidy()
        self._finish(leaving)

    def _delete(self, player: int) -> list[str]:
        """Whose history is to be forgotten, nobody's or the player's."""
        with self._books.write() as books:
            row = books.find_player(player)
            if row is None:
                return []
            leaving = self._note_leaving(books, row)
            now = self._clock()
            recount(books, books.delete_player(row.key, now), now)
        self._is_clean = False
        return leaving

    def purge(self) -> int:
        """Delete guests and sessions whose time is over; how many guests went."""
        now = self._clock()
        with self._books.write() as books:
            books.drop_sessions(now - SESSION_S)
            guests = books.stale_guests(now - GUEST_S)
        for guest in guests:
            self._delete(guest.key)
        return len(guests)

    def tidy(self) -> bool:
        """Wipe what the database keeps of rows that were deleted; False where a reader keeps it from that: try again."""
        self._is_clean = self._is_clean or self._scrub()
        return self._is_clean

    def finish_leaving(self) -> int:
        """Forget the histories of those who left or took their consent back; how many are still to be forgotten.

        What cannot be done now, because training holds the store, stays noted, and is done at a later call.
        """
        with self._books.read() as books:
            leaving = books.leaving()
        return self._finish(leaving)

    def _finish(self, leaving: Collection[str]) -> int:
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

    def _note_leaving(self, books: Books, row: PlayerRow) -> list[str]:
        """Part the player from the person that they are, if any, and note whom to forget; whom."""
        if row.person is None or (name := books.person_name(row.person)) is None:
            return []
        books.note_leaving(name)
        books.change_player(row.key, person=None)
        return [name]


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
