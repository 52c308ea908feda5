"""Rows and reports → the views of rounds."""

from __future__ import annotations

from collections.abc import Mapping

from idiolect.game.moderating import MAX_OPEN
from idiolect.game.reports import Line, Other, Report
from idiolect.game.score import MIN_OTHERS, MY_VIEW
from idiolect.game.vocabulary import BaseWord
from idiolect.serve.pages import Visit
from idiolect.serve.views import AnswerView, BonusView, Choices, CrowdAnswerView, PlayMode, QuestionView, ReportView
from idiolect.store.game.records import RoundRow

MODES: Mapping[str, PlayMode] = {"classic": "classic", "fresh": "fresh", "judge": "nym_or_not", "my_view": "my_view"}
"""What pages and programs call a mode."""

_COUNTED = ("accepted", "taboo", "pasted")


def question_of(row: RoundRow, word: BaseWord) -> QuestionView:
    """What was asked; the gloss where the word has a second frequent sense."""
    hint = word.gloss if word.ambiguous else None
    return QuestionView(word.relation, word.display, MODES[row.mode], hint, row.repeat)


def choices_of(row: RoundRow, may_view: bool) -> Choices:
    """What the player had asked for when a round was handed out."""
    asked = row.flags.get("asked", {})
    relations = tuple(asked.get("relations") or Choices.relations)
    mode = MODES[asked["mode"]] if asked.get("mode") else "surprise"
    return Choices(relations, mode, row.timing, may_view)  # type: ignore[arg-type]


def report_view(here: Visit, made: Report) -> ReportView:
    """A report as its page shows it."""
    row = made.round
    player = here.require_player()
    with here.game.books.read() as books:
        own = books.challenges(None, player.key)
        reported = {other.pair for other in (*made.top, *made.missed) if books.has_complained(other.pair, player.key)}
    challenged = {challenge.pair: challenge.status for challenge in own}
    n_open = sum(challenge.status == "open" for challenge in own)
    may_challenge = n_open < MAX_OPEN and row.mode != "my_view"
    ranked = sorted(made.lines, key=lambda line: (-line.points, line.status not in _COUNTED))
    return ReportView(
        row.round,
        question_of(row, made.word),
        row.score,
        tuple(_answer(line, challenged.get(line.pair or 0), may_challenge) for line in ranked),
        made.pioneer,
        MY_VIEW if row.mode == "my_view" and row.n_accepted else 0,
        made.provisional,
        made.n_real,
        MIN_OTHERS,
        made.n_simulated,
        tuple(_other(other, other.pair in reported) for other in made.top),
        tuple(_other(other, other.pair in reported) for other in made.missed),
        made.only_you,
        None,
        row.beyond,
        choices_of(row, player.consent_personal is not None),
    )


def _answer(line: Line, challenge: str | None, may_challenge: bool) -> AnswerView:
    bonuses = [BonusView("dictionary", line.seed)] if line.seed else []
    bonuses += [BonusView("rare", line.rare)] if line.rare else []
    worthless = line.status == "accepted" and line.points == 0 and line.pair is not None
    return AnswerView(
        line.seq,
        line.text,
        line.status,  # type: ignore[arg-type]
        line.percent,
        tuple(bonuses),
        line.points,
        None if line.pair is None else str(line.pair),
        may_challenge and worthless and challenge is None,
        challenge,  # type: ignore[arg-type]
        line.meant,
    )


def _other(other: Other, reported: bool) -> CrowdAnswerView:
    return CrowdAnswerView(other.text, other.percent, other.mine, str(other.pair), reported)
