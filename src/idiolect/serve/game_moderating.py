"""Challenges and complaints of players, and the moderators' pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from fastapi import APIRouter
from starlette.responses import Response

from idiolect.game.limiting import COMPLAINTS
from idiolect.game.refusals import BadInput, NotYours
from idiolect.serve.pages import Here, Visit
from idiolect.serve.views import (
    MOD_SECTIONS,
    ModAudit,
    ModCandidate,
    ModChallenge,
    ModItem,
    ModPlayer,
    ModReport,
    ModSection,
    ModView,
    ModWord,
)
from idiolect.store.game.records import PlayerRow

router = APIRouter()


@router.post("/pairs/{pair}/challenge")
def challenge(here: Here, pair: str) -> Response:
    """A player argues that an answer of theirs is right."""
    player = here.require_player()
    made = here.game.moderation.challenge(player, _number(pair), here.fields.text("sentence"))
    return here.done(_back(here), {"challenge": made}, 201)


@router.post("/pairs/{pair}/report")
def complain(here: Here, pair: str) -> Response:
    """A player says that an answer of others should not be shown."""
    player = here.require_player()
    here.limits.spend(COMPLAINTS, player.player)
    hidden = here.game.moderation.complain(player, _number(pair))
    return here.done(_back(here), {"hidden": hidden}, 201)


@router.get("/mod")
def first_section(here: Here) -> Response:
    """What waits for a moderator."""
    return section(here, "challenges")


@router.get("/mod/{name}")
def section(here: Here, name: str) -> Response:
    """One section of it."""
    moderator = here.require_moderator()
    if name not in MOD_SECTIONS:
        raise NotYours("there is no such page")
    shown = cast(ModSection, name)
    n_waiting = here.game.moderation.n_waiting(moderator)
    waiting: dict[ModSection, int] = {one: n_waiting[_WAITING[one]] for one in _WAITING}
    return here.page("Moderation", ModView(shown, _ITEMS[shown](here, moderator), waiting))


@router.post("/mod/{name}/{id}")
def decide(here: Here, name: str, id: str) -> Response:
    """Decide one thing."""
    moderator = here.require_moderator()
    act = _DECISIONS.get((name, here.fields.text("decision")))
    if act is None:
        raise BadInput("there is no such decision")
    act(here, moderator, id)
    return here.done(f"/mod/{name}", {"decided": True})


# ----------------------------------------------------------------------------------------------------------- sections


def _challenges(here: Visit, moderator: PlayerRow) -> tuple[ModItem, ...]:
    found = here.game.moderation.challenges(moderator)
    with here.game.books.read() as books:
        handles = {one.challenge.player: books.player(one.challenge.player).handle or "guest" for one in found}
    return tuple(
        ModChallenge(
            str(one.challenge.key),
            one.word.relation,
            one.word.display,
            one.pair.display,
            one.challenge.sentence,
            handles[one.challenge.player],
            _day(one.challenge.at),
        )
        for one in found
    )


def _complaints(here: Visit, moderator: PlayerRow) -> tuple[ModItem, ...]:
    return tuple(
        ModReport(
            str(one.complaints[0].key),
            one.word.relation,
            one.word.display,
            one.pair.display,
            len(one.complaints),
            one.pair.state == "blocked" or (one.pair.review and one.pair.decided is None),
        )
        for one in here.game.moderation.complaints(moderator)
    )


def _words(here: Visit, moderator: PlayerRow) -> tuple[ModItem, ...]:
    return tuple(
        ModWord(str(one.pair.key_), one.word.relation, one.word.display, one.pair.display, one.pair.key, one.pair.n_players)
        for one in here.game.moderation.waiting(moderator)
    )


def _candidates(here: Visit, moderator: PlayerRow) -> tuple[ModItem, ...]:
    return tuple(
        ModCandidate(one.word.id, one.word.relation, one.word.display, one.row.n_passers, one.row.n_players)
        for one in here.game.moderation.to_retire(moderator)
    )


def _players(here: Visit, moderator: PlayerRow) -> tuple[ModItem, ...]:
    return tuple(
        ModPlayer(
            one.player.player,
            one.player.handle or "guest",
            one.player.state,
            round(100 * one.player.trust),
            one.n_rounds,
            one.flags,
        )
        for one in here.game.moderation.flagged(moderator)
    )


def _audit(here: Visit, moderator: PlayerRow) -> tuple[ModItem, ...]:
    return tuple(
        ModAudit(_day(act.at), act.actor, act.action, act.subject, act.detail) for act in here.game.moderation.acts(moderator)
    )


_ITEMS: dict[ModSection, Callable[[Visit, PlayerRow], tuple[ModItem, ...]]] = {
    "challenges": _challenges,
    "reports": _complaints,
    "words": _words,
    "candidates": _candidates,
    "players": _players,
    "audit": _audit,
}

_WAITING: dict[ModSection, str] = {
    "challenges": "challenges",
    "reports": "complaints",
    "words": "waiting",
    "candidates": "to_retire",
    "players": "flagged",
}
"""What `Moderation.n_waiting` calls what a section lists."""

_Act = Callable[[Visit, PlayerRow, str], None]

_DECISIONS: dict[tuple[str, str], _Act] = {
    ("challenges", "accept"): lambda h, m, id: h.game.moderation.decide_challenge(m, _number(id), accept=True),
    ("challenges", "deny"): lambda h, m, id: h.game.moderation.decide_challenge(m, _number(id), accept=False),
    ("reports", "keep"): lambda h, m, id: h.game.moderation.decide_complaint(m, _number(id), uphold=False),
    ("reports", "block"): lambda h, m, id: h.game.moderation.decide_complaint(m, _number(id), uphold=True),
    ("words", "show"): lambda h, m, id: h.game.moderation.show(m, _number(id)),
    ("words", "block"): lambda h, m, id: h.game.moderation.block(m, _number(id)),
    ("words", "slur"): lambda h, m, id: h.game.moderation.block(m, _number(id), slur=True),
    ("candidates", "retire"): lambda h, m, id: h.game.moderation.retire(m, id),
    ("candidates", "keep"): lambda h, m, id: h.game.moderation.retire(m, id, "active"),
    ("players", "limit"): lambda h, m, id: h.game.moderation.limit(m, id, "limited"),
    ("players", "ban"): lambda h, m, id: h.game.moderation.limit(m, id, "banned"),
    ("players", "clear"): lambda h, m, id: h.game.moderation.limit(m, id, "ok"),
}


# ------------------------------------------------------------------------------------------------------ parts of these


def _number(text: str) -> int:
    """The number of a row in an address."""
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise NotYours("there is nothing of that number")
    return int(text)


def _back(here: Visit) -> str:
    """The report that a form was on."""
    round = here.fields.text("round")
    return f"/rounds/{round}/report" if round.isascii() and round.replace("-", "").isalnum() else "/"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
