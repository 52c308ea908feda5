"""Guests, sign-up, log-in, and the player's own page: settings, consents, everything as a file, and leaving."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from idiolect.game import consents
from idiolect.game.accounts import GUEST_S
from idiolect.game.consents import Wish
from idiolect.game.crowd import CROWD_HEADER, crowd_key
from idiolect.game.limiting import DELETE, HOUR, LOGIN, LOGIN_ADDRESS, SIGN_UP, SIGN_UP_TRY, Limit
from idiolect.game.passwords import MIN_PASSWORD, folded
from idiolect.game.refusals import BadField, NotAllowed, Refusal, WrongLogin
from idiolect.serve.pages import Here, Visit, form_errors
from idiolect.serve.views import ConsentView, FormError, LoginView, MeView, SignupView
from idiolect.store.game.records import PlayerRow

router = APIRouter()

GUEST_NAME = "guest"
DELETE_ADDRESS = Limit("delete-address", 10, HOUR, by_address=True)
"""As many as guests that may come: nobody comes and goes to see what that does to counts."""
_CONSENTS = ("consent_aggregate", "consent_personal", "consent_sharing", "adult")


# ------------------------------------------------------------------------------------------------------------ coming


@router.post("/guest")
def make_guest(here: Here) -> Response:
    """Whoever plays here, who is a new guest if nobody did; with the token for what follows.

    A program that shows the server's own key is a simulated player, and marked as one for good.
    """
    shown = here.request.headers.get(CROWD_HEADER)
    if shown is None:
        here.player_or_guest()
    elif hmac.compare_digest(shown.encode(), crowd_key(here.game.accounts.secret()).encode()):
        here.sit(here.game.accounts.simulated())
    else:
        raise NotAllowed("this is not the key of this server; ask for it with: idiolect game crowd-key")
    return here.done("/", _who(here), 201)


@router.get("/signup")
def signup_page(here: Here) -> Response:
    """The form; those who have an account go on to their page."""
    if here.player is not None and here.player.kind == "account":
        return here.done("/me", _who(here))
    return here.page("Sign up", _signup(here))


@router.post("/signup")
def sign_up(here: Here) -> Response:
    """An account from handle and password; a guest's rounds are its own from now on."""
    handle, password = here.fields.text("handle"), here.fields.text("password")
    here.spend(SIGN_UP_TRY)
    try:
        here.game.accounts.check_sign_up(handle, password)
        here.spend(SIGN_UP)  # not before: whoever mistypes may try again
        guest = here.player if here.player is not None and here.player.kind == "guest" else None
        origin = here.limits.origin(here.network)
        made = here.game.accounts.sign_up(guest, handle, password, _wish(here), origin)
    except BadField as error:
        return _again(here, error, "Sign up", _signup(here, error))
    here.sit(made)
    return here.done("/", _who(here), 201)


@router.get("/login")
def login_page(here: Here) -> Response:
    """The form; those who have an account go on to their page."""
    if here.player is not None and here.player.kind == "account":
        return here.done("/me", _who(here))
    return here.page("Log in", LoginView())


@router.post("/login")
def log_in(here: Here) -> Response:
    """Sit down as an account; what a guest played here goes over to it."""
    handle = here.fields.text("handle")
    here.spend(LOGIN_ADDRESS)
    here.spend(LOGIN, folded(handle))
    try:
        found = here.game.accounts.log_in(here.player, handle, here.fields.text("password"))
    except WrongLogin as error:
        view = LoginView(handle, (FormError("", "Name and password do not fit together."),))
        return _again(here, error, "Log in", view)
    here.sit(found)
    return here.done("/", _who(here))


@router.post("/logout")
def log_out(here: Here) -> Response:
    """Nobody sits here any more; a guest who logs out can never come back."""
    here.leave()
    return here.done("/", _who(here))


# ---------------------------------------------------------------------------------------------------------- own page


@router.get("/me")
def own_page(here: Here) -> Response:
    """The player's own page."""
    player = here.require_player()
    return here.json(_facts(here, player)) if here.wants_json else here.page("Me", _me(here, player))


@router.post("/me")
def change(here: Here) -> Response:
    """Settings. A form says all of them, and a box that is not ticked is no; JSON says what changes."""
    player = here.require_player()
    sent = here.fields
    try:
        if any(name in sent for name in _CONSENTS):  # by nobody who does not mean to is a consent given or taken back
            raise BadField("", "what you agree to is changed by a form of its own; load this page again")
        changed = here.game.accounts.change(
            player.key,
            timing=sent.text("timing") if "timing" in sent else None,
            listed=_asked(here, "listed") if player.kind == "account" or "listed" in sent else None,
            keys=_asked(here, "keys") if "keys" in sent else None,
        )
    except BadField as error:
        return _again(here, error, "Me", _me(here, player, error))
    return here.done("/me", _facts(here, changed))


@router.post("/me/consents")
def consent(here: Here) -> Response:
    """Consents. A form says all of them, and a box that is not ticked takes one back; JSON says what changes."""
    player = here.require_player()
    try:
        changed = here.game.accounts.change(player.key, _wish(here))
    except BadField as error:
        return _again(here, error, "Me", _me(here, player, error))
    return here.done("/me", _facts(here, changed))


@router.get("/me/export")
def export(here: Here) -> Response:
    """Everything that is kept of the player, as one JSON file."""
    parts = here.game.exports.everything(here.require_player().key)
    headers = {"content-disposition": 'attachment; filename="idiolect-me.json"'}
    return StreamingResponse(parts, media_type="application/json", headers=headers)


@router.post("/me/delete")
def delete_form(here: Here) -> Response:
    """Delete the player, who has typed their name to say so."""
    player = here.require_player()
    here.limits.spend(DELETE, player.player)
    if folded(here.fields.text("confirm").strip()) != folded(player.handle or GUEST_NAME):
        error = BadField("confirm", "type your name as it stands there, to say that you mean it")
        return _again(here, error, "Me", _me(here, player, error))
    return _delete(here, player)


@router.delete("/me")
def delete(here: Here) -> Response:
    """The same for programs, which say what they mean by the method."""
    player = here.require_player()
    here.limits.spend(DELETE, player.player)
    return _delete(here, player)


def _delete(here: Visit, player: PlayerRow) -> Response:
    here.spend(DELETE_ADDRESS)
    here.game.accounts.delete(player.key)
    here.leave()
    return here.done("/", {"deleted": True, "csrf": here.csrf})


# ------------------------------------------------------------------------------------------------------ parts of these


def _again(here: Visit, error: Refusal, title: str, view: Any) -> Response:
    """A form with what is wrong in it; programs get the refusal."""
    if here.wants_json:
        raise error
    return here.page(title, view, status=error.status)


def _signup(here: Visit, error: BadField | None = None) -> SignupView:
    errors = form_errors([error] if error else ())
    n_rounds = here.game.accounts.standing(here.player.key).n_rounds if here.player is not None else 0
    return SignupView(here.fields.text("handle")[:40], errors, n_rounds, MIN_PASSWORD)


def _me(here: Visit, player: PlayerRow, error: BadField | None = None) -> MeView:
    standing = here.game.accounts.standing(player.key)
    is_guest = player.kind != "account"
    return MeView(
        player.handle or GUEST_NAME,
        "guest" if is_guest else "account",
        player.timing,  # type: ignore[arg-type]
        player.listed,
        _consents(player),
        here.frame.adapter(player),
        standing.n_rounds,
        standing.total,
        standing.streak,
        f"{_date(player.created + GUEST_S):%-d %B %Y}" if is_guest else None,
        form_errors([error] if error else ()),
    )


def _consents(player: PlayerRow) -> tuple[ConsentView, ...]:
    """What is asked. Sharing pieces is not, as long as nothing in the game shares any."""
    return (
        ConsentView("play", True, "Playing needs it."),
        ConsentView("aggregate", player.consent_aggregate is not None),
        ConsentView("personal", player.consent_personal is not None),
    )


def _wish(here: Visit) -> Wish:
    """What was sent of consents. On a form, the box of the personal consent says "I am 16 or older" too."""
    personal = _asked(here, "consent_personal")
    adult = _asked(here, "adult") if here.fields.is_json or "adult" in here.fields else personal or None
    sharing = here.fields.flag("consent_sharing") if "consent_sharing" in here.fields else None  # no form asks for it
    return Wish(_asked(here, "consent_aggregate"), personal, sharing, adult)


def _asked(here: Visit, name: str) -> bool | None:
    """A truth value that was sent; of a form's box that was not, no; of a JSON name that was not, None."""
    return here.fields.flag(name) if name in here.fields or not here.fields.is_json else None


def _who(here: Visit) -> dict[str, Any]:
    player = here.player
    return {
        "player": None if player is None else player.player,
        "kind": None if player is None else player.kind,
        "handle": None if player is None else player.handle,
        "csrf": here.csrf,
    }


def _facts(here: Visit, player: PlayerRow) -> dict[str, Any]:
    """The own page for programs."""
    standing = here.game.accounts.standing(player.key)
    given = {
        name: None if since is None else {"since": _date(since).isoformat(), "version": consents.version_at(since)}
        for name, since in consents.given(player).items()
    }
    return {
        **_who(here),
        "timing": player.timing,
        "listed": player.listed,
        "keys": player.keys,
        "adult": player.adult,
        "consents": given,
        "n_rounds": standing.n_rounds,
        "total": standing.total,
        "streak": standing.streak,
        "expires": _date(player.created + GUEST_S).isoformat() if player.kind == "guest" else None,
    }


def _date(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
