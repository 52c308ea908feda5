"""What follows from a closed round, in its transaction: points of judgements, states of pairs, trust, marks of patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from idiolect.game import score, trust, validity
from idiolect.game.normalise import normalise
from idiolect.game.rules import DAY_ROUNDS, day_of
from idiolect.game.score import Verdict, Vote
from idiolect.game.vocabulary import Vocabulary
from idiolect.store.game.books import Books
from idiolect.store.game.judging import GOLD, JudgementRow, VoteRow
from idiolect.store.game.records import AnswerRow, PlayerRow, RoundRow
from idiolect.types import canonical_json

_LISTS = 200
"""So many lists of other players are compared with a new one."""


def count_answers(books: Books, row: RoundRow, player: PlayerRow, answers: Sequence[AnswerRow], at: float) -> None:
    """Of a round of words: slurs cost trust, patterns are marked, and pairs that got another giver are counted again."""
    assert row.prompt is not None
    n_slurs = sum(answer.status == "blocked" for answer in answers)
    fallen = trust.earn(books, player.key, trust.SLUR * n_slurs, at)
    _mark(books, row, trust.answering_patterns(answers, books.lists_on(row.prompt, player.key, _LISTS)))
    if row.counts:
        validity.refresh(books, row.prompt, {a.key for a in answers if a.status == "accepted"}, at)
    if fallen:
        validity.reconsider(books, [player.key], at)


def count_verdicts(books: Books, words: Vocabulary, row: RoundRow, player: PlayerRow, at: float) -> None:
    """Of a round of Nym or Not: gold moves trust, other verdicts are votes."""
    books.drop_unjudged(row.key)
    judged = books.judgements(row.key)
    gold: list[tuple[Verdict, Verdict]] = [(_verdict(item), truth) for item in judged if (truth := truth_of(item)) is not None]
    fallen = trust.earn(books, player.key, trust.of_gold(gold), at)
    _mark(books, row, trust.judging_patterns([(_verdict(item), item.ms) for item in judged]))
    by_prompt = {prompt: voted for prompt, items in by_base_word(judged).items() if (voted := _voted(items))}
    _make_pairs(books, words, by_prompt, at)
    total, waits = _points(books, judged, by_prompt)
    beyond = books.n_since(player.key, day_of(at)) > DAY_ROUNDS
    books.change_round(row.key, score_provisional=total, score_final=None if waits else total, beyond=beyond)
    for prompt, items in by_prompt.items():
        keys = {item.key for item in items}
        validity.refresh(books, prompt, keys, at)
        _settle(books, prompt, keys, at)
    if fallen:
        validity.reconsider(books, [player.key], at)


def truth_of(item: JudgementRow) -> Verdict | None:
    """What is true of a gold pair; None of any other."""
    truths: Mapping[str, Verdict] = {"gold_pos": "yes", "gold_neg": "no"}
    return truths.get(item.kind)


def by_base_word(judged: Sequence[JudgementRow]) -> dict[int, list[JudgementRow]]:
    """Judgements of a round by the row of their base word."""
    found: dict[int, list[JudgementRow]] = {}
    for item in judged:
        found.setdefault(item.prompt, []).append(item)
    return found


def _voted(judged: Sequence[JudgementRow]) -> list[JudgementRow]:
    """Without gold, which is no vote."""
    return [item for item in judged if item.kind not in GOLD]


def _make_pairs(books: Books, words: Vocabulary, by_prompt: Mapping[int, Sequence[JudgementRow]], at: float) -> None:
    """See to it that every pair that was voted on has a row to be counted in."""
    for prompt, items in by_prompt.items():
        word = words.words[books.prompt(prompt).prompt]
        read = [(item.key, item.display, normalise(item.display, word, words.lexicon)) for item in items]
        books.touch_pairs(prompt, [(key, display, r.oov, r.review) for key, display, r in read], at)


def _points(books: Books, judged: Sequence[JudgementRow], by_prompt: Mapping[int, Sequence[JudgementRow]]) -> tuple[int, bool]:
    """Score each judgement; their sum, and whether any of them is provisional."""
    votes = {prompt: books.votes(prompt, {item.key for item in items}) for prompt, items in by_prompt.items()}
    total, waits = 0, False
    for item in judged:
        others = [_vote(vote) for vote in votes.get(item.prompt, ()) if vote.key == item.key]
        scored = score.score_judgement(_verdict(item), str(item.player), others, truth_of(item))
        books.change_judgement(item.key_, points=scored.points, provisional=scored.provisional)
        total, waits = total + scored.points, waits or scored.provisional
    return total, waits


def _settle(books: Books, prompt: int, keys: set[str], at: float) -> None:
    """Make points final where there are five other votes by now. Waiting points are full points, so that none is lost by it."""
    rounds: set[int] = set()
    votes = books.votes(prompt, keys)
    for item in books.provisional(prompt, keys):
        others = [v for v in votes if v.key == item.key and v.player != item.player and v.verdict != "unsure"]
        if len(others) >= score.JUDGED_VOTES:
            books.change_judgement(item.key_, provisional=False)
            rounds.add(item.round)
    if rounds:
        books.settle_judged(rounds, at)


def _verdict(item: JudgementRow) -> Verdict:
    return cast(Verdict, item.verdict)


def _vote(row: VoteRow) -> Vote:
    return Vote(str(row.player), row.verdict, row.trust)


def _mark(books: Books, row: RoundRow, patterns: Sequence[str]) -> None:
    """Write down what is odd about a round."""
    if patterns:
        books.change_round(row.key, flags=canonical_json({**row.flags, "patterns": list(patterns)}))
