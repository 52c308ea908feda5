"""What a closed round looks like to its player: values, and how they come from rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from idiolect.game.normalise import did_you_mean
from idiolect.game.score import MIN_OTHERS, Agreement
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.records import AnswerRow, Given, PairRow, RoundRow

N_TOP = 8
SHOWN_FROM = 3
"""Players who have to give an answer before others see it, unless WordNet knows it or a moderator says so."""


@dataclass(frozen=True)
class Line:
    """One of the player's own answers.

    Attributes:
        status: as the answer's; "taboo" where it was listed, "pasted" where it was: accepted, and worth nothing.
        percent: of others who gave it; None where there are too few others, or it is no answer that counts.
        pair: names it in a challenge.
        meant: a word one letter away, offered once where the answer is in no dictionary.
    """

    seq: int
    text: str
    key: str
    status: str
    percent: int | None = None
    agree: int = 0
    seed: int = 0
    rare: int = 0
    points: int = 0
    pair: int | None = None
    meant: str | None = None


@dataclass(frozen=True)
class Other:
    """An answer of others that may be shown. `n` counts those who gave it."""

    text: str
    key: str
    n: int
    percent: int
    mine: bool
    pair: int


@dataclass(frozen=True)
class Report:
    """A closed round.

    Attributes:
        n_real, n_simulated: |U|: real players, and while there are fewer than five of them simulated ones.
        provisional: fewer than five real others yet, so that the score may still grow.
        top, missed: of others' answers those that may be shown, the most frequent first.
        only_you: keys that nobody else gave, as the player wrote them.
    """

    round: RoundRow
    word: BaseWord
    lines: tuple[Line, ...]
    pioneer: int
    n_real: int
    n_simulated: int
    top: tuple[Other, ...]
    missed: tuple[Other, ...]
    only_you: tuple[str, ...]

    @property
    def n_others(self) -> int:
        return self.n_real + self.n_simulated

    @property
    def simulated(self) -> bool:
        """Whether simulated players stand in for others."""
        return bool(self.n_simulated)

    @property
    def score(self) -> int:
        return self.round.score

    @property
    def provisional(self) -> bool:
        return self.round.score_final is None


def merged(given: Given) -> tuple[Agreement, bool]:
    """What others answered as it is scored: real players' answers once there are five, and until then simulated ones' too.

    Returns:
        The counts, and whether simulated players are among them.
    """
    if given.n_real >= MIN_OTHERS or not given.n_simulated:
        return Agreement(given.n_real, given.real), False
    both = {key: given.real.get(key, 0) + given.simulated.get(key, 0) for key in {*given.real, *given.simulated}}
    return Agreement(given.n_real + given.n_simulated, both), True


def may_show(pair: PairRow, is_seed: bool) -> bool:
    """Whether players who did not write an answer may see it."""
    if pair.decided == "shown":
        return pair.state != "blocked"
    if pair.review or pair.state in ("blocked", "rejected"):
        return False
    return is_seed or pair.n_players >= SHOWN_FROM


def make_report(
    round: RoundRow,
    word: BaseWord,
    answers: Collection[AnswerRow],
    given: Given,
    pairs: Mapping[str, PairRow],
    words: Vocabulary,
    taboo: Collection[str],
) -> Report:
    """The report of a closed round.

    Args:
        given: what others answered by the time that the score is of.
        pairs: of the base word, by key.
    """
    agreement, simulated = merged(given)
    own = {answer.key for answer in answers if answer.status == "accepted"}
    lines = tuple(
        _line(answer, word, agreement, pairs, words, round, taboo) for answer in answers if answer.status != "ignored"
    )
    ranked = sorted(agreement.given.items(), key=lambda item: (-item[1], item[0]))
    enough = agreement.n_others >= MIN_OTHERS and round.mode != "my_view"
    shown = [
        Other(pairs[key].display, key, n, percent(n, agreement.n_others), key in own, pairs[key].key_)
        for key, n in ranked
        if enough and key in pairs and may_show(pairs[key], words.is_seed(word, key))
    ]
    unique = tuple(a.display for a in answers if a.status == "accepted" and not agreement.given.get(a.key))
    return Report(
        round,
        word,
        lines,
        int(round.flags.get("pioneer", 0)),
        given.n_real,
        given.n_simulated if simulated else 0,
        tuple(shown[:N_TOP]),
        tuple([other for other in shown if not other.mine][:N_TOP]),
        unique if agreement.n_others else (),
    )


def percent(n: int, of: int) -> int:
    """Half up, as points are."""
    return (200 * n + of) // (2 * of) if of else 0


def _line(
    answer: AnswerRow,
    word: BaseWord,
    agreement: Agreement,
    pairs: Mapping[str, PairRow],
    words: Vocabulary,
    round: RoundRow,
    taboo: Collection[str],
) -> Line:
    status = answer.status
    if status == "accepted":
        status = "taboo" if answer.key in taboo else "pasted" if answer.pasted else status
    counts = answer.status == "accepted" and round.mode != "my_view" and agreement.n_others >= MIN_OTHERS
    pair = pairs.get(answer.key)
    is_unknown = answer.status == "accepted" and answer.oov
    # Only the dictionary's own answers: what others gave may be nobody's to see.
    meant = did_you_mean(answer.key, words.lexicon, words.seeds[word.id]) if is_unknown else None
    return Line(
        answer.seq,
        answer.display or answer.raw,
        answer.key,
        status,
        percent(agreement.given.get(answer.key, 0), agreement.n_others) if counts else None,
        answer.agree,
        answer.seed,
        answer.rare,
        answer.points,
        pair.key_ if pair is not None and answer.status == "accepted" else None,
        meant,
    )
