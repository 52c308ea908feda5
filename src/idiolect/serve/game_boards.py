"""Leaderboards, how to play, and what becomes of one's words."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args

from fastapi import APIRouter
from starlette.responses import Response

from idiolect.game.boards import Board, BoardName, Place
from idiolect.serve.pages import Here
from idiolect.serve.views import AboutView, BoardView, HardWordView, HowView, LeaderboardView, RankView

router = APIRouter()


@router.get("/leaderboard")
def leaderboard(here: Here) -> Response:
    """The lists, and where the player stands in them."""
    viewer = here.player.key if here.player is not None else None
    desk = here.game.boards
    boards = desk.boards(get_args(BoardName), viewer)
    hardest = desk.hardest()
    if here.wants_json:
        hard = [{"prompt": one.word.id, "mean": one.mean, "n_rounds": one.n_rounds} for one in hardest]
        return here.json({"boards": [asdict(board) for board in boards], "hardest": hard})
    hard_words = tuple(HardWordView(one.word.relation, one.word.display, round(one.mean), one.n_rounds) for one in hardest)
    listed = here.player.listed if here.player is not None and here.player.kind == "account" else None
    return here.page("Leaderboard", LeaderboardView(tuple(_view(board) for board in boards), hard_words, listed))


@router.get("/how")
def how(here: Here) -> Response:
    """How to play."""
    return here.page("How to play", HowView())


@router.get("/about")
def about(here: Here) -> Response:
    """What this is, and what becomes of one's words."""
    return here.page("About and privacy", AboutView(here.settings.contact))


def _view(board: Board) -> BoardView:
    rows = tuple(_rank(board, place) for place in board.places)
    own = _rank(board, board.own) if board.own is not None else None
    return BoardView(board.name, rows, own, len(rows))


def _rank(board: Board, place: Place) -> RankView:
    days = board.name == "streak"
    shown = f"{round(place.value):,}" + (" day" if days and place.value == 1 else " days" if days else "")
    return RankView(place.place, place.handle or "guest", shown, place.own)
