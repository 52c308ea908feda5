"""How a player sees words: their own map, what a model guesses of them, and asking for an adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from idiolect.game import mirror
from idiolect.game.limiting import DAY, Limit
from idiolect.game.refusals import NotAllowed
from idiolect.serve.pages import Here
from idiolect.serve.views import AdapterView, GuessView, MirrorView, OwnWordsView, QuestionView, RetestView
from idiolect.store.game.records import PlayerRow

if TYPE_CHECKING:
    from idiolect.game.desk import Game

router = APIRouter()

ADAPTER = Limit("adapter", 5, DAY)
"""One that failed may be asked for again, but not for ever."""


@router.get("/me/words")
def words(here: Here) -> Response:
    """The player's own map of words."""
    player = here.require_player()
    seen = here.game.mirrors.view(player.key)
    view = MirrorView(
        AdapterView(*_fields(seen.adapter)),
        tuple(OwnWordsView(_question(one.question), one.only_mine, one.shared) for one in seen.words),
        tuple(GuessView(_question(one.question), one.own, one.before, one.after) for one in seen.guesses),
        None if seen.retest is None else RetestView(*_fields(seen.retest)),
        here.game.accounts.standing(player.key).n_rounds,
    )
    return here.page("How you see words", view)


@router.post("/me/adapter")
def ask(here: Here) -> Response:
    """Ask for an adapter of one's own. It is trained by another process, and offered only if it beats what most people say."""
    player = here.require_player()
    if here.settings.drawing is None:
        raise NotAllowed("no adapters are trained on this server; what trains them is not installed")
    here.limits.spend(ADAPTER, player.player)
    here.game.mirrors.request(player.key)
    return here.done("/me/words", {"state": "waiting"}, 202)


def adapter_of(game: Game) -> Callable[[PlayerRow], AdapterView]:
    """What is known of a player's own adapter."""
    return lambda player: AdapterView(*_fields(game.mirrors.view(player.key).adapter))


def _question(asked: mirror.Asked) -> QuestionView:
    return QuestionView(asked.relation, asked.word, asked.mode, asked.hint, asked.repeat)  # type: ignore[arg-type]


def _fields(value: Any) -> tuple[Any, ...]:
    """The values of a frozen record, in order; the views have the same ones."""
    return tuple(getattr(value, name) for name in value.__dataclass_fields__)
