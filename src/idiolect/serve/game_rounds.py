"""Rounds of words: home, the round, answers, report, picture.

GET / ── POST /rounds ──▶ GET /rounds/{id} ── POST …/start ──▶ GET /rounds/{id} ── POST …/answers, …/finish ──▶ GET …/report
                          (word hidden)                        (word, clock)
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from idiolect.game.life import remaining_ms
from idiolect.game.limiting import ROUNDS_DAY, ROUNDS_MINUTE
from idiolect.game.normalise import RELATIONS
from idiolect.game.refusals import BadInput, OneOpenRound, RoundClosed
from idiolect.game.reports import Report
from idiolect.game.rules import MAX_ANSWERS, Mode, Timing
from idiolect.serve import game_judging, notices
from idiolect.serve.pages import Here, Visit
from idiolect.serve.picture import draw, picture_of
from idiolect.serve.reporting import MODES, choices_of, question_of, report_view
from idiolect.serve.views import Choices, EnteredView, HomeView, ReadyView, RoundView
from idiolect.store.game.records import RoundRow

router = APIRouter()

_MODES: dict[str, Mode | None] = {"surprise": None, "": None, **{MODES[mode]: mode for mode in get_args(Mode)}}


@router.get("/")
def home(here: Here) -> Response:
    """The first page: what this is, and the button that starts a round."""
    player = here.player
    open_round = here.game.rounds.current(player.key) if player is not None else None
    with here.game.books.read() as books:
        last = books.last_rounds(player.key, 1) if player is not None else []
    may_view = player is not None and player.consent_personal is not None
    timing = player.timing if player is not None else "1x"
    choices = choices_of(last[0], may_view) if last else Choices(timing=timing, may_view=may_view)  # type: ignore[arg-type]
    view = HomeView(choices, open_round.round if open_round is not None else None)
    return here.page("Play", view, notices=notices.taken(here))


@router.post("/rounds")
def issue(here: Here) -> Response:
    """Hand out a round; whoever does not play yet is a guest from now on."""
    relations = tuple(_one_of(RELATIONS, name, "relations") for name in here.fields.all("relations"))
    mode = here.fields.text("mode")
    if mode not in _MODES:
        raise BadInput(f"mode: choose among {', '.join(filter(None, _MODES))}")
    timing = here.fields.text("timing")
    pace = _one_of(get_args(Timing), timing, "timing") if timing else None
    player = here.player_or_guest()
    here.limits.spend_each((ROUNDS_MINUTE, ROUNDS_DAY), player.player)
    try:
        row = here.game.rounds.issue(player.key, relations, _MODES[mode], pace)
    except OneOpenRound as running:
        if here.wants_json:
            raise
        return RedirectResponse(f"/rounds/{running.round}", 303)
    return here.done(f"/rounds/{row.round}", {**_facts(here, row), "player": player.player, "csrf": here.csrf}, 201)


@router.get("/rounds/{round}")
def show(here: Here, round: str) -> Response:
    """A round as it stands: to be started, or running; one that is over goes on to its report."""
    player = here.require_player()
    row, word = here.game.rounds.round(player.key, round)
    if row.closed_at is not None:
        over = row.close_reason in ("finished", "expired")
        return here.done(f"/rounds/{round}/report" if over else "/", _facts(here, row))
    if here.wants_json:
        return here.json(_facts(here, row))
    if row.started_at is None:
        n_items = len(here.game.judging.asked(player.key, round)) if row.mode == "judge" else 0
        seconds = None if row.seconds is None else int(row.seconds)
        ready = ReadyView(round, row.relation, MODES[row.mode], row.timing, seconds, n_items)  # type: ignore[arg-type]
        return here.page("Ready?", ready)
    if word is None:
        return game_judging.page(here, row)
    return here.page("Round", _running(here, row))


@router.post("/rounds/{round}/start")
def start(here: Here, round: str) -> Response:
    """Show the base word and let the clock run."""
    row = here.game.rounds.start(here.require_player().key, round)
    return here.done(f"/rounds/{round}", _facts(here, row))


@router.post("/rounds/{round}/answers")
def answer(here: Here, round: str) -> Response:
    """Take one answer, or take one back."""
    player, sent = here.require_player(), here.fields.values
    seq = sent.get("seq")
    if not isinstance(seq, int) or isinstance(seq, bool):
        raise BadInput("seq has to be a whole number")
    if here.fields.flag("remove"):
        return here.json({"removed": here.game.rounds.remove(player.key, round, seq)})
    text, ms = sent.get("text"), sent.get("ms")
    if not isinstance(text, str):
        raise BadInput("text has to be text")
    if ms is not None and (not isinstance(ms, int | float) or isinstance(ms, bool) or ms != ms):
        raise BadInput("ms has to be a number")
    whole_ms = None if ms is None else int(max(0, min(ms, 10**9)))
    taken = here.game.rounds.answer(player.key, round, seq, text, whole_ms, pasted=here.fields.flag("pasted"))
    return here.json({"seq": taken.seq, "status": taken.status, "display": taken.display})


@router.post("/rounds/{round}/finish")
def finish(here: Here, round: str) -> Response:
    """Close a round, with what was not sent before."""
    report = here.game.rounds.finish(here.require_player().key, round, here.fields.all("text"))
    return here.done(f"/rounds/{round}/report", report_facts(report))


@router.post("/rounds/{round}/skip")
def skip(here: Here, round: str) -> Response:
    """Put a round away; the next one comes from the first page."""
    player = here.require_player()
    row, _ = here.game.rounds.round(player.key, round)
    here.game.rounds.skip(player.key, round)
    asked = choices_of(row, player.consent_personal is not None)
    if here.wants_json:
        return here.json({"skipped": True})
    here.limits.spend_each((ROUNDS_MINUTE, ROUNDS_DAY), player.player)
    following = here.game.rounds.issue(player.key, asked.relations, _MODES[asked.mode], asked.timing)
    return RedirectResponse(f"/rounds/{following.round}", 303)


@router.get("/rounds/{round}/report")
def report(here: Here, round: str) -> Response:
    """What became of a round."""
    player = here.require_player()
    row, word = here.game.rounds.round(player.key, round)
    if word is None:
        return game_judging.report(here, row)
    try:
        made = here.game.rounds.report(player.key, round)
    except RoundClosed:
        if here.wants_json:
            raise
        return RedirectResponse(f"/rounds/{round}" if row.closed_at is None else "/", 303)
    if here.wants_json:
        return here.json(report_facts(made))
    return here.page("Report", report_view(here, made), notices=notices.taken(here))


@router.get("/rounds/{round}/picture.svg")
def picture(here: Here, round: str) -> Response:
    """The picture to show around: own answers against the crowd, without the crowd's words."""
    made = here.game.rounds.report(here.require_player().key, round)
    drawn = draw(picture_of(report_view(here, made)))
    return Response(drawn, media_type="image/svg+xml", headers={"content-disposition": 'inline; filename="idiolect.svg"'})


@router.post("/rounds/{round}/correct")
def correct(here: Here, round: str) -> Response:
    """The player meant the word that was offered."""
    seq = here.fields.values.get("seq")
    if isinstance(seq, str) and seq.isascii() and seq.isdigit():
        seq = int(seq[:6])
    if not isinstance(seq, int) or isinstance(seq, bool):
        raise BadInput("seq has to be a whole number")
    made = here.game.rounds.accept_suggestion(here.require_player().key, round, seq)
    return here.done(f"/rounds/{round}/report", report_facts(made))


# ------------------------------------------------------------------------------------------------------ parts of these


def _one_of(names: tuple[Any, ...], name: str, field: str) -> Any:
    if name not in names:
        raise BadInput(f"{field}: choose among {', '.join(names)}")
    return name


def _running(here: Visit, row: RoundRow) -> RoundView:
    answers = here.game.rounds.entered(row.player, row.round)
    _, word = here.game.rounds.round(row.player, row.round)
    assert word is not None
    taboo = tuple(row.flags.get("taboo", ()))
    return RoundView(
        row.round,
        question_of(row, word),
        None if row.seconds is None else int(row.seconds),
        remaining_ms(row, here.game.clock()),
        tuple(EnteredView(a.seq, a.raw) for a in answers if a.status != "ignored"),
        max((a.seq for a in answers), default=-1) + 1,
        taboo,
        MAX_ANSWERS,
    )


def _facts(here: Visit, row: RoundRow) -> dict[str, Any]:
    """A round for programs; its base word once it is started."""
    facts: dict[str, Any] = {
        "round": row.round,
        "relation": row.relation,
        "mode": MODES[row.mode],
        "timing": row.timing,
        "seconds": row.seconds,
        "state": "closed" if row.closed_at is not None else "issued" if row.started_at is None else "open",
        "remaining_ms": remaining_ms(row, here.game.clock()),
    }
    if row.started_at is not None:
        _, word = here.game.rounds.round(row.player, row.round)
        if word is None:
            facts["items"] = game_judging.item_facts(here, row)
        else:
            facts |= {"prompt": word.id, "text": word.text, "taboo": list(row.flags.get("taboo", ()))}
    return facts


def report_facts(made: Report) -> dict[str, Any]:
    """A report for programs: the player's own answers, and of others' those that may be shown."""
    return {
        "round": made.round.round,
        "prompt": made.word.id,
        "mode": MODES[made.round.mode],
        "score": made.score,
        "provisional": made.provisional,
        "pioneer": made.pioneer,
        "gained": made.round.gained,
        "n_others": made.n_others,
        "n_simulated": made.n_simulated,
        "answers": [asdict(line) for line in made.lines],
        "top": [asdict(other) for other in made.top],
    }
