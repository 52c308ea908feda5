"""The rules by which an audit says in plain words what became of the forget set.

    damaged           utility below `min_utility` of the original's, or perplexity above `max_perplexity` times the original's;
                      where retraining itself costs as much, below or above that share of the reference's
    not forgotten     memorisation clearly above the retrained reference, or PrivLeak clearly below -max_privleak
    suppressed only   neither, but it comes back: relearning or 8 bits put it clearly above the reference; or it hides too well:
                      truth ratios differ from the reference's (p < min_quality), memorisation is clearly below the reference's,
                      or PrivLeak is clearly above max_privleak
    forgotten         none of these
    nothing to forget the original's lead over the reference is below `min_lead`: no method can be judged on these sets

"Clearly above the reference", or below: by more than `tolerance` of the original's lead, and by more than twice the standard
error over pairs. "Clearly" of PrivLeak: its 95 % interval leaves out 0 as well. Memorisation is exact memorisation throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from idiolect.config import Settings

Word = Literal["damaged", "not forgotten", "suppressed only", "forgotten", "nothing to forget"]
SEVERITY: tuple[Word, ...] = ("damaged", "not forgotten", "suppressed only", "nothing to forget", "forgotten")
"""Worst first."""


class Rules(Settings):
    """Where the lines are drawn. Shares of the original's lead, its utility and its perplexity; PrivLeak in its own units."""

    tolerance: float = Field(default=0.2, gt=0, lt=1)
    min_lead: float = Field(default=0.05, gt=0, lt=1)
    min_quality: float = Field(default=0.05, gt=0, lt=1)
    max_privleak: float = Field(default=20.0, gt=0)
    min_utility: float = Field(default=0.9, gt=0, le=1)
    max_perplexity: float = Field(default=1.2, ge=1)


@dataclass(frozen=True)
class Verdict:
    """What became of the forget set.

    Attributes:
        words: one; or "damaged" and what else is wrong.
        reasons: a sentence for each; what is still there need not come back, so that nothing is said of relearning then.
    """

    words: tuple[Word, ...]
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        return " and ".join(self.words)


def judge(summary: Mapping[str, Any], rules: Rules) -> Verdict:
    """The verdict on one candidate's summary (audit.py: SUMMARY)."""
    damaged, remembered, suppressed = (find(summary, rules) for find in (_damaged, _remembered, _suppressed))
    if summary["lead"] < rules.min_lead:
        reason = (
            f"the original memorises {summary['lead']:.2f} more of the forget set than the retrained reference, too little to "
            "tell whether anything is gone."
        )
        words: list[Word] = ["damaged", "nothing to forget"] if damaged else ["nothing to forget"]
        return Verdict(tuple(words), (*damaged, reason))
    words = ["damaged"] if damaged else []
    if remembered or suppressed:
        words.append("not forgotten" if remembered else "suppressed only")
    return Verdict(tuple(words or ["forgotten"]), (*damaged, *(remembered or suppressed)) or (_clean(summary),))


def _damaged(s: Mapping[str, Any], rules: Rules) -> tuple[str, ...]:
    found = []
    if s["utility_kept"] < rules.min_utility * min(1.0, s["reference_utility"]):
        found.append(f"utility is {_percent(s['utility_kept'])} of the original's.")
    if s["perplexity_kept"] is not None and s["perplexity_kept"] > rules.max_perplexity * max(1.0, s["reference_perplexity"]):
        found.append(f"perplexity of plain texts is {s['perplexity_kept']:.2f} times the original's.")
    return tuple(found)


def _remembered(s: Mapping[str, Any], rules: Rules) -> tuple[str, ...]:
    found = []
    if clear(s["excess"], s["excess_error"], rules):
        found.append(f"{_lead(s['excess'])} of what the original memorised of the forget set is still there.")
    if s["privleak"] < -rules.max_privleak and (s["privleak_high"] is None or s["privleak_high"] < 0):
        found.append(f"membership in the forget set can be told: PrivLeak is {s['privleak']:+.0f}.")
    return tuple(found)


def _suppressed(s: Mapping[str, Any], rules: Rules) -> tuple[str, ...]:
    found = []
    for prefix, what in (("relearn", "on part of the forget set"), ("unrelated", "on unrelated pairs")):
        if s[f"{prefix}_excess"] is not None and clear(s[f"{prefix}_excess"], s[f"{prefix}_error"], rules):
            steps = s[f"{prefix}_steps"]
            which = "pairs that were not taught again" if s[f"{prefix}_others"] else "the pairs that were taught again"
            found.append(
                f"it relearns faster than the reference: after {steps} {'step' if steps == 1 else 'steps'} {what} it is "
                f"{_lead(s[f'{prefix}_excess'])} of the original's lead above it, on {which}."
            )
    if clear(s["quantised_excess"], s["quantised_error"], rules) and not clear(s["excess"], s["excess_error"], rules):
        found.append(f"at 8 bits it returns: {_lead(s['quantised_excess'])} of what the original memorised is there again.")
    if s["forget_quality"] < rules.min_quality:
        found.append(
            f"its truth ratios are not those of a model that never saw the forget set (p = {s['forget_quality']:.2g})."
        )
    if clear(-s["excess"], s["excess_error"], rules):
        found.append("it names fewer tokens of the answers than a model that never saw them: it avoids them.")
    if s["privleak"] > rules.max_privleak and (s["privleak_low"] is None or s["privleak_low"] > 0):
        found.append(f"the forget set stands out as stranger than anything unseen: PrivLeak is {s['privleak']:+.0f}.")
    return tuple(found)


def clear(excess: float, error: float, rules: Rules) -> bool:
    """Whether it is more than is tolerated, and than chance."""
    return excess > rules.tolerance and excess > 2 * error


def _clean(s: Mapping[str, Any]) -> str:
    return (
        "it knows no more of the forget set than the retrained reference, before and after relearning and at 8 bits, and "
        f"keeps {_percent(s['utility_kept'])} of the original's utility."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _lead(share: float) -> str:
    return f"{100 * share:.0f} %"
