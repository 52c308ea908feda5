"""What a player agrees to, each by itself, and nothing of it unless asked for.

    aggregate   answers are counted in published data
    personal    rounds become a history, from which an adapter of their own may be trained; only from 16 years on
    pieces      pieces of that adapter may be shared with newcomers; only on top of personal

A player's row says since when each holds. Which words they agreed to follows from the time: `version_at`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from idiolect.game.refusals import BadField
from idiolect.store.game.records import PlayerRow

Consent = Literal["aggregate", "personal", "pieces"]
CONSENTS: tuple[Consent, ...] = ("aggregate", "personal", "pieces")

VERSIONS: Final[tuple[tuple[str, float], ...]] = (("1", 0.0),)
"""Versions of what the pages say of consents, and since when (seconds since 1970). A change of meaning is a new line."""

MIN_AGE: Final = 16


@dataclass(frozen=True)
class Wish:
    """What a player wants of consents; None leaves one as it is. `adult`: they say to be 16 or older."""

    aggregate: bool | None = None
    personal: bool | None = None
    pieces: bool | None = None
    adult: bool | None = None


AS_IT_IS: Final = Wish()
"""Nothing is to change."""


def version_at(at: float) -> str:
    """Which version was shown then."""
    return [version for version, since in VERSIONS if since <= at][-1]


def given(player: PlayerRow) -> dict[Consent, float | None]:
    """Since when a player has agreed to each."""
    return {"aggregate": player.consent_aggregate, "personal": player.consent_personal, "pieces": player.consent_pieces}


def changes(player: PlayerRow, wish: Wish, now: float) -> dict[str, Any]:
    """Columns to change so that the wish holds. Taking back the personal consent takes back what stands on it.

    Raises:
        BadField: a personal adapter for somebody who is not 16, or not said to be; shared pieces without an adapter.
    """
    adult = player.adult if wish.adult is None else wish.adult
    personal = _then(player.consent_personal, wish.personal, now)
    if wish.adult is False and not wish.personal:
        personal = None  # who says to be younger has no adapter from now on
    if personal is not None and not adult:
        raise BadField("consent_personal", f"an adapter of your own is for people of {MIN_AGE} and older")
    pieces = _then(player.consent_pieces, wish.pieces, now)
    if pieces is not None and personal is None:
        if wish.pieces:
            raise BadField("consent_sharing", "pieces can be shared of an adapter of your own only; allow that first")
        pieces = None
    aggregate = _then(player.consent_aggregate, wish.aggregate, now)
    new = {"consent_aggregate": aggregate, "consent_personal": personal, "consent_pieces": pieces, "adult": adult}
    return {name: value for name, value in new.items() if value != getattr(player, name)}


def _then(since: float | None, wanted: bool | None, now: float) -> float | None:
    if wanted is None:
        return since
    return (now if since is None else since) if wanted else None
