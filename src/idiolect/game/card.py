"""The data card of a release: what is in it, how it was made, what must not be read into it, and how many have left since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from idiolect.store.game.publishing import ReleaseRow


@dataclass(frozen=True)
class Card:
    """What the card says.

    Attributes:
        rows: lines of each file, headers left out.
        players: consenting real players in the store, whether anything of theirs is frequent enough or not.
        rounds: rounds that counted, by the rules they were played under.
        removed: earlier releases, and how many players had everything of theirs removed since.
    """

    release: str
    date: str
    rules: str
    vocabulary: str
    k: int
    rows: Mapping[str, int]
    relations: Mapping[str, int]
    players: int
    rounds: Mapping[str, int]
    removed: Sequence[tuple[ReleaseRow, int]]


def text(card: Card) -> str:
    """The card, as Markdown."""
    rows = "\n".join(f"| `{name}` | {n:,} |" for name, n in card.rows.items())
    relations = "\n".join(f"| {relation} | {n:,} |" for relation, n in card.relations.items())
    rounds = ", ".join(f"{n:,} rounds under rules {rules}" for rules, n in card.rounds.items()) or "no rounds"
    return f"""# {card.release}

Answers of players of a word game, {card.date}. Rules {card.rules}, vocabulary {card.vocabulary}.

| file | rows |
|---|---|
{rows}

| relation | pairs |
|---|---|
{relations}

Made of {rounds}, of {card.players:,} players who agreed to be counted.

## What is in it

A pair is a base word and an answer. `relation` is syn (another word for it), ant (its opposite), hypo (a kind of it) or mero (a
part of it). Answers are keys: lower case, singular, without articles; what players typed is not published.

* `pairs.tsv`: `n_players` of `U` players gave the answer (`freq`). `n_yes` and `n_no` judged it; `p_valid` is
  (1 + Y) / (2 + Y + N) with votes weighed by trust. All three are empty where fewer than {card.k} did. `in_wn30` and `depth`:
  WordNet 3.0 has the pair, so many links away. `oov`: no dictionary that the game knows has the answer. `first_month`: in which
  one of them first gave it.
* `negatives.tsv`: `judged` pairs were refused (`p_valid` at most 0.2, at least {card.k} judges); `distractor` pairs were drawn
  by lot from other base words' answers: they are not in `pairs.tsv`, nobody checked them, and their `p_valid` is empty.
* `distributions.jsonl`: of each base word how many players gave each answer; rarer answers are pooled as `other`.

## Whose it is

Every published answer was given by at least {card.k} different players who agreed to it, or is a word of the dictionary that at
least {card.k} of them judged. Programs that play are not counted anywhere. Nobody's sets of answers can be put together again
from counts like these, but two releases beside each other show what came in between.

## What it is not

Players were asked for what others would say, under a timer, so frequent means *comes to mind*, not *true*. Seeds of WordNet
earned a bonus, which draws answers towards it: compare with `in_wn30`. Split by base word **and** by answer when a
classifier is trained; never put a pair and its reverse on two sides.

## Who has left

{_removals(card)}

## Licence

Pairs and counts: CC0 1.0. WordNet 3.0, which `in_wn30` and `depth` come from, has a notice of its own.
"""


def _removals(card: Card) -> str:
    asked = [(release, n) for release, n in card.removed if n]
    if not asked:
        return "Nobody has left since an earlier release was made."
    lines = [
        f"* since `{release.release}`: {n:,} {'player' if n == 1 else 'players'} had everything of theirs removed. "
        "It may hold counts that they were part of; this release does not."
        for release, n in asked
    ]
    whoever = (
        "Counted is whoever left the game, guests who did not come back too, whether or not anything of theirs was published."
    )
    return "\n".join([*lines, "", whoever, "Please use the newest release."])
