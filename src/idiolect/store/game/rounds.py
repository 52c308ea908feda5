"""Base words, rounds and answers, as rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, case, cast, func, select, update

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import AnswerRow, Given, PromptRow, RoundRow
from idiolect.store.game.tables import answers, passes, players, prompts, rounds

MIN_TRUST = 0.5

# What every request asks, made once: to make it anew takes SQLAlchemy longer than to run it.
_PROMPT = select(prompts).where(prompts.c.id == bindparam("key"))
_ROUND = select(rounds).where(rounds.c.round == bindparam("name"))
_ANSWERS = select(answers).where(answers.c.round == bindparam("in")).order_by(answers.c.seq)


def trusted() -> ColumnElement[bool]:
    """Players who count: a / (a + b) at least one half, and not shut out."""
    return and_(players.c.trust_a >= players.c.trust_b, players.c.state == "ok")


def hand() -> ColumnElement[str]:
    """Whose answer it is, for what takes several people: everybody of one network is one, where it is known."""
    return func.coalesce(players.c.origin, cast(players.c.id, Text))


class RoundBook(Ledger):
    """What was asked, and what was answered."""

    # -- base words ------------------------------------------------------------------------------------------------

    def add_prompts(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Add base words that are not there yet; how many those were."""
        known = set(self.connection.execute(select(prompts.c.prompt)).scalars())
        new = [dict(row) for row in rows if row["prompt"] not in known]
        if new:
            self.connection.execute(prompts.insert(), new)
        return len(new)

    def prompts(self, relation: str | None = None) -> list[PromptRow]:
        """In the order of the vocabulary."""
        query = select(prompts).order_by(prompts.c.relation, prompts.c.place)
        rows = self.connection.execute(query if relation is None else query.where(prompts.c.relation == relation))
        return [record(PromptRow, row, key="id") for row in rows]

    def prompt(self, key: int) -> PromptRow:
        return record(PromptRow, self.connection.execute(_PROMPT, {"key": key}).one(), key="id")

    def prompt_named(self, prompt: str) -> PromptRow | None:
        row = self.connection.execute(select(prompts).where(prompts.c.prompt == prompt)).one_or_none()
        return None if row is None else record(PromptRow, row, key="id")

    def change_prompt(self, key: int, **values: Any) -> None:
        self._change(prompts, key, values)

    def played(self, player: int) -> dict[int, float]:
        """Base words that the player has had on the screen, and when last. Rounds that were never started do not count."""
        c = rounds.c
        seen = (
            c.player == player,
            c.prompt.is_not(None),
            c.started_at.is_not(None),
            c.close_reason.is_distinct_from("skipped"),
        )
        found = self.connection.execute(select(c.prompt, func.max(c.served_at)).where(*seen).group_by(c.prompt))
        return {prompt: at for prompt, at in found}

    def passed_since(self, player: int, since: float) -> set[int]:
        c = passes.c
        return set(self.connection.execute(select(c.prompt).where(c.player == player, c.at >= since)).scalars())

    def add_pass(self, player: int, prompt: int, at: float, ms: int | None) -> None:
        self._add(passes, player=player, prompt=prompt, at=at, ms=ms)

    # -- rounds ----------------------------------------------------------------------------------------------------

    def add_round(self, **values: Any) -> RoundRow:
        return self._round(rounds.c.id == self._add(rounds, **values))  # type: ignore[return-value]

    def round(self, round: str) -> RoundRow | None:
        row = self.connection.execute(_ROUND, {"name": round}).one_or_none()
        return None if row is None else _round(row)

    def open_round(self, player: int) -> RoundRow | None:
        """The player's one round that is not closed."""
        return self._round(and_(rounds.c.player == player, rounds.c.closed_at.is_(None)))

    def last_rounds(self, player: int, n: int) -> list[RoundRow]:
        """The player's newest closed rounds, newest first."""
        query = select(rounds).where(rounds.c.player == player, rounds.c.closed_at.is_not(None))
        return [_round(row) for row in self.connection.execute(query.order_by(rounds.c.closed_at.desc()).limit(n))]

    def overdue(self, before: float, served_before: float) -> list[RoundRow]:
        """Open rounds whose deadline is over, or that were handed out long ago and have none."""
        c = rounds.c
        idle = func.coalesce(c.started_at, c.served_at) < served_before
        over = (c.deadline_at < before) | (c.deadline_at.is_(None) & idle)
        return [_round(row) for row in self.connection.execute(select(rounds).where(c.closed_at.is_(None), over))]

    def change_round(self, key: int, **values: Any) -> None:
        self._change(rounds, key, values)

    def has_counted(self, player: int, prompt: int) -> bool:
        """Whether a round of the player's on this base word counts already."""
        c = rounds.c
        query = select(c.id).where(c.player == player, c.prompt == prompt, c.counts == 1).limit(1)
        return self.connection.execute(query).first() is not None

    def unsettled(self, prompt: int) -> list[RoundRow]:
        """Closed rounds on a base word whose score is provisional."""
        c = rounds.c
        query = select(rounds).where(c.prompt == prompt, c.closed_at.is_not(None), c.score_final.is_(None))
        return [_round(row) for row in self.connection.execute(query.order_by(c.id))]

    def n_since(self, player: int, since: float) -> int:
        """Rounds that the player closed since then, skipped ones left out."""
        c = rounds.c
        where = (c.player == player, c.closed_at >= since, c.close_reason.in_(("finished", "expired")))
        return self.connection.execute(select(func.count()).where(*where)).scalar_one()

    def record(self, player: int, relation: str) -> tuple[int, float]:
        """How many rounds of words the player played in a relation, and their mean score."""
        c = rounds.c
        where = (c.player == player, c.relation == relation, c.mode.in_(("classic", "fresh")), c.score_provisional.is_not(None))
        mean = func.coalesce(func.avg(func.coalesce(c.score_final, c.score_provisional)), 0)
        n, average = self.connection.execute(select(func.count(), mean).where(*where)).one()
        return n, float(average)

    def count_round(self, prompt: int, score: int, *, first: bool) -> None:
        """Add a real player's closed round to what is known of its base word."""
        c = prompts.c
        more = {
            "n_rounds": c.n_rounds + 1,
            "n_players": c.n_players + int(first),
            "score_sum": c.score_sum + score,
            "score_squares": c.score_squares + score * score,
        }
        self.connection.execute(update(prompts).where(c.id == prompt).values(**more))

    def _round(self, where: ColumnElement[bool]) -> RoundRow | None:
        row = self.connection.execute(select(rounds).where(where)).one_or_none()
        return None if row is None else _round(row)

    # -- answers ---------------------------------------------------------------------------------------------------

    def answers(self, round: int) -> list[AnswerRow]:
        """A round's answers, in the order in which they came."""
        return [record(AnswerRow, row, key_="id") for row in self.connection.execute(_ANSWERS, {"in": round})]

    def add_answer(self, round: int, **values: Any) -> None:
        self._add(answers, round=round, **values)

    def change_answer(self, key: int, values: Mapping[str, Any]) -> None:
        self._change(answers, key, values)

    def remove_answer(self, round: int, seq: int) -> bool:
        """Take back an answer of an open round; whether it was there."""
        return bool(self.connection.execute(answers.delete().where(answers.c.round == round, answers.c.seq == seq)).rowcount)

    # -- what others answered --------------------------------------------------------------------------------------

    def given(self, prompt: int, without: int | None, before: float | None = None) -> Given:
        """How many trusted players gave which keys, each by their first round that counts.

        Args:
            without: a player who is left out.
            before: only rounds that were closed by this time.
        """
        c = rounds.c
        where = [c.prompt == prompt, c.counts == 1, trusted()]
        where += [c.player != without] if without is not None else []
        where += [c.closed_at <= before] if before is not None else []
        is_real = case((players.c.kind != "simulated", 1), else_=0)
        played = rounds.join(players, players.c.id == c.player)
        n = self.connection.execute(
            select(func.count(), func.coalesce(func.sum(is_real), 0)).select_from(played).where(*where)
        ).one()
        accepted = (answers.c.status == "accepted", answers.c.pasted == 0)
        keys = (
            select(answers.c.key, func.count(), func.sum(is_real))
            .select_from(played.join(answers, answers.c.round == c.id))
            .where(*where, *accepted)
            .group_by(answers.c.key)
        )
        found = [(key, n_all, n_real) for key, n_all, n_real in self.connection.execute(keys)]
        real = {key: n_real for key, _, n_real in found if n_real}
        return Given(n[1], n[0] - n[1], real, {key: n_all - n_real for key, n_all, n_real in found if n_all > n_real})

    def n_agreeing(self, prompt: int, without: int, keys: Collection[str]) -> int:
        """How many other real, trusted players gave one of these keys."""
        if not keys:
            return 0
        c = rounds.c
        joined = rounds.join(players, players.c.id == c.player).join(answers, answers.c.round == c.id)
        where = (c.prompt == prompt, c.counts == 1, c.player != without, players.c.kind != "simulated", trusted())
        given = (answers.c.status == "accepted", answers.c.key.in_(list(keys)))
        query = select(func.count(c.player.distinct())).select_from(joined).where(*where, *given)
        return self.connection.execute(query).scalar_one()


def _round(row: Any) -> RoundRow:
    return record(RoundRow, {**row._mapping, "flags": json.loads(row.flags)}, key="id")
