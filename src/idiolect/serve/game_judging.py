"""Nym or Not: the pairs, the verdicts, the report. `game_rounds` hands over what is about such a round."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any, cast

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from idiolect.game.judging import JudgeReport
from idiolect.game.life import remaining_ms
from idiolect.game.normalise import Relation
from idiolect.game.refusals import BadInput, RoundClosed
from idiolect.game.score import Verdict
from idiolect.serve import notices
from idiolect.serve.pages import Here, Visit
from idiolect.serve.reporting import choices_of
from idiolect.serve.views import JudgedView, JudgeItem, JudgeReportView, JudgeView
from idiolect.store.game.records import RoundRow

router = APIRouter()

_VERDICT = re.compile(r"verdict_([0-9]{1,3})")


def page(here: Visit, row: RoundRow) -> Response:
    """A running round."""
    asked = here.game.judging.asked(row.player, row.round)
    items = tuple(JudgeItem(one.seq, one.display, one.word.display) for one in asked)
    seconds = None if row.seconds is None else int(row.seconds)
    view = JudgeView(row.round, _relation(row), items, seconds, remaining_ms(row, here.game.clock()))
    return here.page("Nym or Not", view)


@router.post("/rounds/{round}/judgements")
def judge(here: Here, round: str) -> Response:
    """Verdicts: one, of a program, while the round goes on; or all of a form, which closes it."""
    player, sent = here.require_player(), here.fields.values
    if "seq" in sent:
        seq, verdict, ms = sent["seq"], sent.get("verdict"), sent.get("ms")
        if not isinstance(seq, int) or isinstance(seq, bool) or not (verdict is None or isinstance(verdict, str)):
            raise BadInput("seq has to be a whole number, and verdict yes, no, unsure or null")
        in_time = here.game.judging.judge(player.key, round, seq, cast(Verdict | None, verdict), _ms(ms))
        return here.json({"seq": seq, "in_time": in_time})
    given = {int(found[1]): name for name in sent if (found := _VERDICT.fullmatch(name))}
    verdicts: dict[int, Verdict] = {seq: cast(Verdict, here.fields.text(name)) for seq, name in given.items()}
    times = {seq: _ms(here.fields.text(f"ms_{seq}")) for seq in given}
    made = here.game.judging.finish(player.key, round, verdicts, times)
    return here.done(f"/rounds/{round}/report", facts(made))


def report(here: Visit, row: RoundRow) -> Response:
    """What became of a round."""
    try:
        made = here.game.judging.report(row.player, row.round)
    except RoundClosed:
        if here.wants_json:
            raise
        return RedirectResponse(f"/rounds/{row.round}" if row.closed_at is None else "/", 303)
    if here.wants_json:
        return here.json(facts(made))
    judged = [line for line in made.lines if line.verdict is not None]
    rows = tuple(
        JudgedView(
            line.seq,
            line.display,
            line.word.display,
            line.verdict,
            line.points,
            line.percent_yes,
            line.n_others,
            line.truth is not None,
            line.provisional,
        )
        for line in judged
    )
    sure = [line for line in judged if line.verdict != "unsure"]
    player = here.require_player()
    view = JudgeReportView(
        row.round,
        _relation(row),
        made.score,
        len(sure),
        sum(line.points > 0 for line in sure),
        rows,
        made.round.beyond,
        choices_of(made.round, player.consent_personal is not None),
    )
    return here.page("Report", view, notices=notices.taken(here))


def item_facts(here: Visit, row: RoundRow) -> list[dict[str, Any]]:
    """The pairs for programs."""
    asked = here.game.judging.asked(row.player, row.round)
    return [{"seq": one.seq, "prompt": one.word.id, "answer": one.display, "verdict": one.verdict} for one in asked]


def facts(made: JudgeReport) -> dict[str, Any]:
    """A report for programs."""
    lines = [{**asdict(line), "word": line.word.id} for line in made.lines]
    return {"round": made.round.round, "mode": "nym_or_not", "score": made.score, "agreed": made.agreed, "items": lines}


def _relation(row: RoundRow) -> Relation:
    return cast(Relation, row.relation)


def _ms(value: Any) -> int | None:
    """Milliseconds as they were sent; None where that is no number."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return min(int(value[:10]), 10**9)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return int(max(0, min(value, 10**9))) if is_number else None
