"""What a closed round of Nym or Not looks like to its player."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from idiolect.game.counting import truth_of
from idiolect.game.reports import percent
from idiolect.game.score import Verdict
from idiolect.game.vocabulary import BaseWord
from idiolect.store.game.judging import JudgementRow, VoteRow
from idiolect.store.game.records import RoundRow


@dataclass(frozen=True)
class JudgedLine:
    """One judged pair in the report.

    Attributes:
        n_others: others' votes, yes or no.
        percent_yes: of these; None where there are none, and on gold.
        truth: of gold, which was there to check; None for other pairs.
        provisional: the points wait for more votes.
        pair: names it in a complaint; None where nobody gave it and it was not counted.
    """

    seq: int
    word: BaseWord
    display: str
    key: str
    verdict: Verdict
    points: int
    provisional: bool
    n_others: int
    percent_yes: int | None
    truth: Verdict | None
    pair: int | None


@dataclass(frozen=True)
class JudgeReport:
    """A closed round of Nym or Not."""

    round: RoundRow
    lines: tuple[JudgedLine, ...]

    @property
    def score(self) -> int:
        return self.round.score

    @property
    def agreed(self) -> int | None:
        """Percent of the player's verdicts that most others share, where others judged; None where nobody did."""
        met = [line for line in self.lines if line.percent_yes is not None and line.verdict != "unsure"]
        same = sum(2 * _side(line.verdict, line.percent_yes) >= 100 for line in met)
        return percent(same, len(met)) if met else None


def line_of(item: JudgementRow, word: BaseWord, votes: Sequence[VoteRow], pair: int | None) -> JudgedLine:
    """One judgement beside what others say of the pair.

    Args:
        pair: the pair's row, if it has one.
    """
    truth = truth_of(item)
    others = [v.verdict for v in votes if (v.prompt, v.key) == item.pair and v.player != item.player and v.verdict != "unsure"]
    shown = percent(others.count("yes"), len(others)) if others and truth is None else None
    verdict = cast(Verdict, item.verdict)
    return JudgedLine(
        item.seq, word, item.display, item.key, verdict, item.points, item.provisional, len(others), shown, truth, pair
    )


def _side(verdict: Verdict, percent_yes: int | None) -> int:
    """Percent of others on the player's side."""
    assert percent_yes is not None
    return percent_yes if verdict == "yes" else 100 - percent_yes
