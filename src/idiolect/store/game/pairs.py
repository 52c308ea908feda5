"""Pairs of a base word and an answer, as rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, func, select, update

from idiolect.store.game import blocks
from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import PairRow
from idiolect.store.game.rounds import hand, trusted
from idiolect.store.game.tables import answers, judgements, pairs, players, rounds

_NOT_PLAYERS = ("seed", "model", "distractor")
"""Kinds of judgements whose wording no player wrote."""


class PairBook(Ledger):
    """What is known of answers, whoever gave them."""

    def pair(self, key: int) -> PairRow | None:
        row = self.connection.execute(select(pairs).where(pairs.c.id == key)).one_or_none()
        return None if row is None else record(PairRow, row, key_="id")

    def pairs(self, prompt: int, keys: Collection[str] | None = None) -> dict[str, PairRow]:
        """Pairs of a base word, by the answer's key."""
        query = select(pairs).where(pairs.c.prompt == prompt)
        query = query if keys is None else query.where(pairs.c.key.in_(list(keys)))
        return {row.key: record(PairRow, row, key_="id") for row in self.connection.execute(query)}

    def validated_keys(self, prompt: int) -> set[str]:
        # Without the function SQLite goes by the state, which it has an index of and half of all pairs share: 90 ms, not 1.
        where = (pairs.c.prompt == prompt, func.coalesce(pairs.c.state, "") == "validated")
        return set(self.connection.execute(select(pairs.c.key).where(*where)).scalars())

    def change_pair(self, key: int, **values: Any) -> None:
        self._change(pairs, key, values)

    def touch_pairs(self, prompt: int, given: Collection[tuple[str, str, bool, bool]], at: float) -> None:
        """See to it that there is a row for each of these answers. One that was blocked before, and went with those who had
        given it, is blocked again.

        Args:
            given: (key, display, oov, review) of accepted answers.
        """
        known = self.pairs(prompt, [key for key, *_ in given])
        blocked = blocks.remembered(self.connection, prompt, [key for key, *_ in given if key not in known])
        for key, display, oov, review in given:
            if key not in known:
                values = {"state": "blocked", "decided": "blocked"} if key in blocked else {}
                self._add(pairs, prompt=prompt, key=key, display=display, first_at=at, oov=oov, review=review, **values)
            elif review and not known[key].review:
                self.change_pair(known[key].key_, review=True)

    def recount_players(self, prompt: int, keys: Collection[str] | None = None) -> None:
        """Count again how many real, trusted players gave each key (a network counts once), and which form most of them wrote.

        What none of them gave stands as the first of all others wrote it, and as its bare key where nobody did.
        """
        c = rounds.c
        joined = rounds.join(players, players.c.id == c.player).join(answers, answers.c.round == c.id)
        where = [c.prompt == prompt, c.counts == 1, players.c.kind != "simulated", trusted(), answers.c.status == "accepted"]
        where += [answers.c.pasted == 0, *([answers.c.key.in_(list(keys))] if keys is not None else [])]
        forms = select(answers.c.key, answers.c.display, func.count()).select_from(joined).where(*where)
        hands = select(answers.c.key, func.count(hand().distinct())).select_from(joined).where(*where).group_by(answers.c.key)
        n = {key: count for key, count in self.connection.execute(hands)}
        best: dict[str, tuple[int, str]] = {}
        for key, display, count in self.connection.execute(forms.group_by(answers.c.key, answers.c.display)):
            # The most frequent form; of equals the first by alphabet, on every database.
            best[key] = min(best.get(key, (0, display)), (-count, display))
        rows = self.pairs(prompt, keys)
        forms_left = self._forms_of_others(prompt, [key for key in rows if key not in best])
        for key, row in rows.items():
            display = best[key][1] if key in best else forms_left.get(key, key)
            if (row.n_players, row.display) != (n.get(key, 0), display):
                values = {"n_players": n.get(key, 0), "display": display}
                self.connection.execute(update(pairs).where(pairs.c.id == row.key_).values(**values))

    def _forms_of_others(self, prompt: int, keys: Collection[str]) -> dict[str, str]:
        """How those who do not count, or else the game itself, first wrote these keys."""
        if not keys:
            return {}
        a, j, c = answers.c, judgements.c, rounds.c
        asked = select(j.key, j.display).where(j.prompt == prompt, j.key.in_(list(keys)), j.kind.in_(_NOT_PLAYERS))
        given = select(a.key, a.display).select_from(answers.join(rounds, a.round == c.id))
        given = given.where(c.prompt == prompt, c.closed_at.is_not(None), a.status == "accepted", a.key.in_(list(keys)))
        found: dict[str, str] = {}
        for query in (given.order_by(c.closed_at, a.id), asked.order_by(j.id)):
            for key, display in self.connection.execute(query):
                found.setdefault(key, display)
        return found

    # -- after somebody left ---------------------------------------------------------------------------------------

    def drop_orphaned_pairs(self, prompts: Collection[int]) -> int:
        """Delete pairs of these base words that nobody gave and nobody judged; how many those were.

        Their key and form are words that only those wrote who have left. Of a blocked one a hash is kept.
        """
        p, a, j = pairs.c, answers.c, judgements.c
        given = select(a.id).join(rounds, rounds.c.id == a.round)
        given = given.where(rounds.c.prompt == p.prompt, a.key == p.key, a.status == "accepted")
        judged = select(j.id).where(j.prompt == p.prompt, j.key == p.key)
        where = (p.prompt.in_(sorted(prompts)), ~given.exists(), ~judged.exists())
        found = self.connection.execute(select(p.id, p.prompt, p.key, p.decided).where(*where)).all()
        blocks.remember(self.connection, [(row.prompt, row.key) for row in found if row.decided == "blocked"])
        for row in found:
            self.connection.execute(delete(pairs).where(p.id == row.id))
        return len(found)

    def respell_judgements(self, prompts: Collection[int]) -> None:
        """Let judgements of these base words' pairs show the pair's form: the one that was judged may be a leaver's."""
        p, j = pairs.c, judgements.c
        form = select(p.display).where(p.prompt == j.prompt, p.key == j.key)
        where = (j.prompt.in_(sorted(prompts)), j.kind.not_in(_NOT_PLAYERS), form.where(p.display != j.display).exists())
        self.connection.execute(update(judgements).where(*where).values(display=form.scalar_subquery()))
