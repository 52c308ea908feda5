"""What follows from a closed round, in its transaction: points of judgements, states of pairs, trust, marks of patterns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from idiolect.game import score, trust, validity
from idiolect.game.normalise import normalise
from idiolect.game.rules import DAY_ROUNDS, day_of
from idiolect.game.score import Verdict, Vote
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books
from idiolect.store.game.judging import GOLD, JudgementRow, Pair, VoteRow
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
        validity.refresh(books, {(row.prompt, answer.key) for answer in answers if answer.status == "accepted"}, at)
    if fallen:
        validity.reconsider(books, [player.key], at)


def count_verdicts(books: Books, words: Vocabulary, row: RoundRow, player: PlayerRow, at: float) -> None:
    """Of a round of Nym or Not: gold moves trust, other verdicts are votes."""
    books.drop_unjudged(row.key)
    judged = books.judgements(row.key)
    gold: list[tuple[Verdict, Verdict]] = [(_verdict(item), truth) for item in judged if (truth := truth_of(item)) is not None]
    fallen = trust.earn(books, player.key, trust.of_gold(gold), at)
    _mark(books, row, trust.judging_patterns([(_verdict(item), item.ms) for item in judged]))
    voted = [item for item in judged if item.kind not in GOLD]
    wanted = {item.pair for item in voted}
    _make_pairs(books, words, row, voted, at)
    votes = [vote for vote in books.votes(wanted) if vote.verdict != "unsure"]
    total, waits = _points(books, judged, votes)
    beyond = books.n_since(player.key, day_of(at)) > DAY_ROUNDS
    books.change_round(row.key, score_provisional=total, score_final=None if waits else total, beyond=beyond)
    validity.refresh(books, wanted, at)
    _settle(books, wanted, votes, at)
    if fallen:
        validity.reconsider(books, [player.key], at)


def truth_of(item: JudgementRow) -> Verdict | None:
    """What is true of a gold pair; None of any other."""
    truths: Mapping[str, Verdict] = {"gold_pos": "yes", "gold_neg": "no"}
    return truths.get(item.kind)


def base_words(books: Books, words: Vocabulary, round: RoundRow) -> dict[int, BaseWord]:
    """The base words of the round's relation, by row."""
    return {row.key: words.words[row.prompt] for row in books.prompts(round.relation) if row.prompt in words.words}


def _make_pairs(books: Books, words: Vocabulary, round: RoundRow, voted: Sequence[JudgementRow], at: float) -> None:
    """See to it that every pair that was voted on has a row to be counted in."""
    known, asked = books.pair_rows({item.pair for item in voted}), base_words(books, words, round)
    for item in voted:
        if item.pair not in known:
            read = normalise(item.display, asked[item.prompt], words.lexicon)
            books.touch_pairs(item.prompt, [(item.key, item.display, read.oov, read.review)], at)


def _points(books: Books, judged: Sequence[JudgementRow], votes: Sequence[VoteRow]) -> tuple[int, bool]:
    """Score each judgement; their sum, and whether any of them is provisional."""
    scored: list[tuple[int, int, bool]] = []
    for item in judged:
        others = [Vote(str(v.player), v.verdict, v.trust) for v in votes if (v.prompt, v.key) == item.pair]
        points = score.score_judgement(_verdict(item), str(item.player), others, truth_of(item))
        scored.append((item.key_, points.points, points.provisional))
    books.score_judgements(scored)
    return sum(points for _, points, _ in scored), any(waits for *_, waits in scored)


def _settle(books: Books, wanted: Collection[Pair], votes: Sequence[VoteRow], at: float) -> None:
    """Make points final where there are five other votes by now. Waiting points are full points, so that none is lost by it."""
    ready: list[JudgementRow] = []
    for item in books.provisional(wanted):
        others = sum((vote.prompt, vote.key) == item.pair and vote.player != item.player for vote in votes)
        ready += [item] if others >= score.JUDGED_VOTES else []
    if ready:
        books.score_judgements([(item.key_, item.points, False) for item in ready])
        books.settle_judged({item.round for item in ready}, at)


def _verdict(item: JudgementRow) -> Verdict:
    return cast(Verdict, item.verdict)


def _mark(books: Books, row: RoundRow, patterns: Sequence[str]) -> None:
    """Write down what is odd about a round."""
    if patterns:
        books.change_round(row.key, flags=canonical_json({**row.flags, "patterns": list(patterns)}))
