"""One request as a router sees it: who asks, what they sent, and how they are answered.

    @router.post("/rounds")
    def serve_round(here: Here) -> Response:
        wish = here.read(Wish)                     # form or JSON → a pydantic model; BadInput otherwise
        player = here.player_or_guest()
        made = here.game.rounds.serve(player.key, ...)
        return here.done(f"/rounds/{made.round}", {"round": made.round}, status=201)

Endpoints are plain functions, which run in threads. `Here` has looked the player up; for anything but GET it has checked where
the request came from and its token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_origin

from fastapi import Depends
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from idiolect.game.limiting import GUEST, Limit, Limits, network_of
from idiolect.game.refusals import BadField, BadInput, BadToken, NeedsLogin, NotAllowed
from idiolect.serve import rendering
from idiolect.serve.refusing import is_json, spoken, wants_json
from idiolect.serve.security import Seat, Tokens, check_origin
from idiolect.serve.views import FormError, Page, PlayerView
from idiolect.store.game.records import PlayerRow

if TYPE_CHECKING:
    from idiolect.game.desk import Game
    from idiolect.serve.app import Frame, Settings

Read = TypeVar("Read", bound=BaseModel)

MAX_FIELDS = 200
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Fields:
    """What was sent: a form's fields, or the names of a JSON object."""

    values: Mapping[str, Any]
    is_json: bool = False

    def text(self, name: str, default: str = "") -> str:
        """A text as it was sent, the last one where there are several."""
        value = self._last(name)
        return value if isinstance(value, str) else default

    def all(self, name: str) -> list[str]:
        """All texts of that name."""
        value = self.values.get(name, [])
        return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]

    def flag(self, name: str) -> bool:
        """JSON: true. A form: the field is there, as a ticked box is, and is neither empty nor "no"."""
        value = self._last(name)
        return value if isinstance(value, bool) else isinstance(value, str) and value not in ("", "no", "0", "false")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def _last(self, name: str) -> Any:
        value = self.values.get(name)
        return (value[-1] if value else None) if isinstance(value, list) else value


async def sent_fields(request: Request) -> Fields:
    """The body, read.

    Raises:
        BadInput: it is neither a form nor a JSON object, or no UTF-8.
    """
    if request.method in _SAFE:
        return Fields({})
    if is_json(request):
        body = await request.body()
        try:
            value = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            raise BadInput("the body is no JSON") from None
        if not isinstance(value, dict):
            raise BadInput("the body has to be a JSON object")
        return Fields(value, is_json=True)
    try:
        form = await request.form(max_files=0, max_fields=MAX_FIELDS)
    except (HTTPException, UnicodeDecodeError):
        raise BadInput("the form cannot be read") from None
    return Fields(_by_name(form))


def _by_name(form: FormData) -> dict[str, Any]:
    """A name's one value, or a list where it was sent more than once."""
    found: dict[str, list[Any]] = {}
    for name, value in form.multi_items():
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


class Visit:
    """One request, with the desks.

    Attributes:
        player: who asks; None for somebody who has not played yet.
        fields: what they sent.
        simulated: some players here are programs, which every page says.
    """

    def __init__(self, request: Request, frame: Frame, fields: Fields) -> None:
        self.request = request
        self.fields = fields
        self._frame = frame
        self._seat: Seat = request.state.seat
        seated = frame.game.accounts.seated(self._seat.token)
        if seated.renewed:
            self._seat.renew = True
        self.player: PlayerRow | None = seated.player
        self.simulated = seated.simulated

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def game(self) -> Game:
        return self._frame.game

    @property
    def settings(self) -> Settings:
        return self._frame.settings

    @property
    def limits(self) -> Limits:
        return self._frame.limits

    @property
    def frame(self) -> Frame:
        return self._frame

    @property
    def csrf(self) -> str:
        """The token of the seat as it is now; it changes with the seat."""
        return self._frame.tokens.csrf(self._seat.value)

    @property
    def wants_json(self) -> bool:
        return wants_json(self.request)

    @property
    def network(self) -> str:
        """Where the request came from, for limits only: kept nowhere but as a hash."""
        return network_of(self.request.client.host if self.request.client else None)

    def read(self, kind: type[Read]) -> Read:
        """What was sent, as a pydantic model; a field of a form that is a list there may have been sent once or not at all.

        Raises:
            BadInput: it does not fit; says which fields, and quotes nothing.
        """
        values = dict(self.fields.values)
        values.pop("csrf", None)
        if not self.fields.is_json:
            for name, about in kind.model_fields.items():
                if _is_many(about.annotation) and name in values and not isinstance(values[name], list):
                    values[name] = [values[name]]
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            names = sorted(
                {str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]} & set(kind.model_fields)
            )
            what = f"missing or not as it should be: {', '.join(names)}" if names else "something is missing or does not fit"
            raise BadInput(what) from None

    def spend(self, limit: Limit, *who: str) -> None:
        """Count against a limit: of the address and, beside it, of `who`; TooMany where it is used up."""
        self.limits.spend(limit, self.network, *who)

    # -- who asks --------------------------------------------------------------------------------------------------

    def require_player(self) -> PlayerRow:
        """Whoever plays here.

        Raises:
            NeedsLogin: nobody does yet, on this seat.
        """
        if self.player is None:
            raise NeedsLogin("nobody plays in this browser yet; start a round, or log in")
        return self.player

    def require_account(self) -> PlayerRow:
        """The player, who has an account.

        Raises:
            NeedsLogin: a guest, or nobody.
        """
        player = self.require_player()
        if player.kind != "account":
            raise NeedsLogin("this is for players with an account; sign up, or log in")
        return player

    def require_moderator(self) -> PlayerRow:
        """The player, who is a moderator.

        Raises:
            NotAllowed, NeedsLogin: somebody else.
        """
        player = self.require_account()
        if not player.moderator:
            raise NotAllowed("this is for moderators")
        return player

    def player_or_guest(self) -> PlayerRow:
        """Whoever plays here; from now on a new guest, if nobody did.

        Raises:
            TooMany: too many guests came from this address.
        """
        if self.player is None:
            self.spend(GUEST)
            self.sit(self.game.accounts.guest(self.limits.origin(self.network)))
        return self.require_player()

    def sit(self, player: PlayerRow) -> None:
        """Have a player sit here from now on, on a new seat; whoever sat here before does no longer."""
        old = self._seat.token
        self._seat.change()
        self.game.accounts.sit(player.key, self._seat.token, instead_of=old)
        self.player = player

    def leave(self) -> None:
        """Nobody sits here any more."""
        self.game.accounts.log_out(self._seat.token)
        self._seat.change()
        self.player = None

    # -- answers ---------------------------------------------------------------------------------------------------

    def about_page(self, title: str, notices: Sequence[str] = ()) -> Page:
        who = None
        if self.player is not None:
            kind = "account" if self.player.kind == "account" else "guest"
            who = PlayerView(self.player.handle or "guest", kind, self.player.moderator)
        return Page(title, self.request.url.path, self.csrf, who, tuple(notices), self.simulated)

    def page(self, title: str, view: Any, *, status: int = 200, notices: Sequence[str] = ()) -> Response:
        """A view as its page."""
        return HTMLResponse(rendering.render(self.about_page(title, notices), view), status)

    def json(self, value: Any, status: int = 200) -> Response:
        """Plain values as JSON."""
        return JSONResponse(value, status)

    def done(self, to: str, value: Any, status: int = 200) -> Response:
        """What was asked for is done: programs get the value, browsers go on to a page (303)."""
        return self.json(value, status) if self.wants_json else RedirectResponse(to, 303)


def visit(request: Request, fields: Annotated[Fields, Depends(sent_fields)]) -> Visit:
    """The request, with its player looked up; for anything but GET with its origin and token checked.

    Raises:
        BadToken: it is not from a page of ours. Who has no seat yet may ask for a guest's without a token: there is nothing
            that another site could use.
    """
    frame: Frame = request.app.state.frame
    seat: Seat = request.state.seat
    if request.method not in _SAFE:
        check_origin(request, https=frame.settings.https)
        new_guest = seat.issued and request.url.path == "/guest"
        if not new_guest and not _has_token(request, fields, frame.tokens, seat):
            raise BadToken
    made = Visit(request, frame, fields)
    request.state.visit = made
    return made


Here = Annotated[Visit, Depends(visit)]
"""What endpoints take."""


def form_errors(errors: Iterable[BadField]) -> tuple[FormError, ...]:
    """For a view's `errors`."""
    return tuple(FormError(error.field, spoken(error)) for error in errors)


def _has_token(request: Request, fields: Fields, tokens: Tokens, seat: Seat) -> bool:
    token = request.headers.get("x-csrf-token") or fields.text("csrf")
    return not seat.issued and tokens.fits(seat.value, token)


def _is_many(annotation: Any) -> bool:
    return get_origin(annotation) in (list, tuple, set, frozenset)
