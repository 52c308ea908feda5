"""A made-up population with planted preferences, for the demo and for tests: who is right depends on who asks.

"labels" (LaMP-2N): articles that stand between two categories, such as a senator's cookbook. Each person files such a
topic under one of the two, always. Without knowing the person nobody can be right more than about half the time on these;
with another person's adapter neither. One article in five belongs to a plain topic that all people file alike.

"style" (LaMP-4): each person's headline is a fixed function of the article's facts: a structure, an opening word, a
closing phrase, capitals and a last mark, put together from their own habits.

Base users have habits of their own too, so stage 1 learns the task and its format, and no one person's preference.
Every person depends on (seed, kind, their id) only: not on how many others there are, nor on the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from idiolect.data.tasks import get_task
from idiolect.errors import ConfigError
from idiolect.types import Item, Person, Query, seed_of

Kind = Literal["labels", "style"]
TASK_OF: Mapping[str, str] = {"labels": "LaMP-2N", "style": "LaMP-4"}

_FIRST_DAY = date(2020, 1, 1)
_PLAIN_EVERY = 5


@dataclass(frozen=True)
class Topic:
    """Articles of one kind, and the categories they may be filed under (one: everybody agrees)."""

    labels: tuple[str, ...]
    who: tuple[str, ...]
    did: tuple[str, ...]
    what: tuple[str, ...]

    def article(self, rng: random.Random) -> str:
        return f"{rng.choice(self.who)} {rng.choice(self.did)} {rng.choice(self.what)} in {rng.choice(PLACES)}."


PLACES = (
    "Leeds", "Toronto", "Lisbon", "Austin", "Oslo", "Nairobi", "Kyoto", "Boston", "Lyon", "Perth", "Denver", "Cork",
    "Naples", "Quito", "Bergen", "Tampa",
)  # fmt: skip

AMBIGUOUS: tuple[Topic, ...] = (
    Topic(
        ("politics", "food & drink"),
        ("A senator", "The mayor", "A former governor", "The prime minister", "A party leader"),
        ("publishes a cookbook of", "shares a family recipe for", "opens a kitchen serving", "judges a contest of"),
        ("slow-cooked beans", "lemon cakes", "pickled herring", "pumpkin soup", "grilled trout"),
    ),
    Topic(
        ("women", "sports"),
        ("A female goalkeeper", "The women's captain", "A woman boxer", "The first female coach", "A girls' relay team"),
        ("asks for equal pay after", "breaks a barrier by winning", "speaks of motherhood and", "inspires girls by reaching"),
        ("the cup final", "a record season", "the long marathon", "the national title", "a third medal"),
    ),
    Topic(
        ("entertainment", "healthy living"),
        ("A film star", "The pop singer", "A talk show host", "The comedian", "A soap opera actress"),
        ("credits a new life to", "tells fans to try", "sleeps better thanks to", "lost weight through"),
        ("morning yoga", "cold baths", "a sugar-free diet", "quiet meditation", "long evening walks"),
    ),
    Topic(
        ("religion", "education"),
        ("A church school", "The bishop's college", "A rabbi who teaches", "The convent academy", "A Sunday school"),
        ("rewrites its lessons on", "gives pupils a prize for", "asks teachers to discuss", "adds an exam about"),
        ("the psalms", "faith and doubt", "old prayers", "the lives of saints", "holy days"),
    ),
    Topic(
        ("style & beauty", "business"),
        ("A lipstick maker", "The fashion house", "A perfume brand", "The shoe designer", "A chain of hair salons"),
        ("doubles its profit with", "wins investors over with", "bets its shares on", "raises prices for"),
        ("a velvet collection", "red nail polish", "winter coats", "a scented cream", "silver sandals"),
    ),
    Topic(
        ("science & technology", "culture & arts"),
        ("A robot painter", "The museum's software", "An opera of algorithms", "A gallery of lasers", "The digital sculptor"),
        ("surprises critics with", "uses sensors to restore", "computes a new version of", "projects onto the walls"),
        ("old portraits", "a lost fresco", "marble statues", "a forgotten symphony", "ancient masks"),
    ),
    Topic(
        ("crime", "travel"),
        ("A hotel thief", "The airport smuggler", "A false tour guide", "The cruise ship swindler", "A luggage gang"),
        ("is caught robbing tourists near", "fooled holiday makers at", "is arrested on the way to", "hid stolen passports at"),
        ("the beach resort", "an island ferry", "the mountain lodge", "a famous castle", "the harbour hostel"),
    ),
    Topic(
        ("parents", "science & technology"),
        ("A father of twins", "The tired mother", "A family with toddlers", "The new parents", "A grandmother"),
        ("tests an app that counts", "programs a gadget to watch", "lets a computer plan", "builds a sensor for"),
        ("baby naps", "bedtime stories", "school lunches", "first steps", "nappy changes"),
    ),
)

PLAIN: tuple[Topic, ...] = (
    Topic(
        ("politics",),
        ("Parliament", "The opposition", "A committee", "The cabinet"),
        ("votes on", "delays a bill about", "quarrels over", "passes"),
        ("the tax reform", "border rules", "the election law", "a new budget"),
    ),
    Topic(
        ("crime",),
        ("A bank robber", "The forger", "A burglar", "The kidnapper"),
        ("pleads guilty to", "is jailed for", "stands trial for", "confesses to"),
        ("an armed raid", "a string of thefts", "blackmail", "the diamond heist"),
    ),
    Topic(
        ("travel",),
        ("Night trains", "Cheap flights", "Hikers", "Island tours"),
        ("bring visitors to", "reopen the road to", "discover", "fill up for"),
        ("the quiet valleys", "hidden beaches", "the old coast path", "a snowy pass"),
    ),
    Topic(
        ("business",),
        ("A steel company", "The insurer", "A start-up", "The largest bank"),
        ("reports losses on", "sells its stake in", "lends millions for", "cuts jobs in"),
        ("office towers", "copper mines", "a shipping firm", "its loan portfolio"),
    ),
)

Write = Callable[[random.Random, int], tuple[str, str]]
"""(rng, number of the article) → (article, answer), for one person."""


def population(
    seed: int, n_people: int, n_items: int, n_queries: int, n_base_people: int, kind: Kind = "labels"
) -> tuple[list[Person], list[Person]]:
    """(targets, base users), each with `n_items` items and `n_queries` later queries; no text comes twice in a person.

    Raises:
        ConfigError: if the kind is not known or a number is negative.
    """
    if kind not in TASK_OF:
        raise ConfigError(f"kind {kind!r} of synthetic population is not known; choose one of: {', '.join(TASK_OF)}")
    if min(n_people, n_items, n_queries, n_base_people) < 0:
        raise ConfigError("numbers of people, items and queries must not be negative")
    targets = [_person(seed, kind, f"person-{n:02d}", n_items, n_queries) for n in range(1, n_people + 1)]
    base = [_person(seed, kind, f"base-{n:03d}", n_items, n_queries) for n in range(1, n_base_people + 1)]
    return targets, base


def alike(seed: int, other: str, ids: Sequence[str], n_items: int, n_queries: int, kind: Kind = "labels") -> list[Person]:
    """People with the habits of another person of the same population, and texts of their own."""
    rng = random.Random(seed_of("synthetic", seed, kind, other))
    write = _labeller(rng) if kind == "labels" else _stylist(rng)
    return [_person(seed, kind, id, n_items, n_queries, write) for id in ids]


def _person(seed: int, kind: Kind, id: str, n_items: int, n_queries: int, write: Write | None = None) -> Person:
    rng = random.Random(seed_of("synthetic", seed, kind, id))
    if write is None:
        write = _labeller(rng) if kind == "labels" else _stylist(rng)
    pairs = _distinct(rng, write, n_items + n_queries)
    task = get_task(TASK_OF[kind])
    history = [_item(f"{id}-{n:04d}", n, *pair, task.target_field) for n, pair in enumerate(pairs[:n_items])]
    queries = [Query(f"{id}-q{n:03d}", task.query_input(text), gold) for n, (text, gold) in enumerate(pairs[n_items:])]
    return Person(id, tuple(history), tuple(queries))


def _item(id: str, day: int, text: str, answer: str, target_field: str) -> Item:
    return Item(id, {"text": text, target_field: answer}, (_FIRST_DAY + timedelta(days=day)).isoformat())


def _distinct(rng: random.Random, write: Write, n: int) -> list[tuple[str, str]]:
    """n pairs whose texts differ; should a person run out of texts, repetition is better than no end."""
    seen: set[str] = set()
    pairs = []
    for number in range(n):
        pair = write(rng, number)
        for _ in range(50):
            if pair[0] not in seen:
                break
            pair = write(rng, number)
        seen.add(pair[0])
        pairs.append(pair)
    return pairs


# ---------------------------------------------------------------------------------------------- labels


def _labeller(rng: random.Random) -> Write:
    """A person who writes about four ambiguous topics, each filed by a rule of their own, and about two plain ones."""
    beats = rng.sample(AMBIGUOUS, 4)
    plain = rng.sample(PLAIN, 2)
    rule = {topic: rng.choice(topic.labels) for topic in (*beats, *plain)}

    def write(rng: random.Random, number: int) -> tuple[str, str]:
        topic = rng.choice(plain) if number % _PLAIN_EVERY == _PLAIN_EVERY - 1 else rng.choice(beats)
        return topic.article(rng), rule[topic]

    return write


# ---------------------------------------------------------------------------------------------- style


@dataclass(frozen=True)
class Facts:
    """What an article is about."""

    who: str
    did: str
    what: str
    place: str
    number: int

    def article(self) -> str:
        return f"{self.who.capitalize()} {self.did} {self.what} in {self.place} as {self.number} neighbours watched on."


@dataclass(frozen=True)
class Style:
    """One person's habits; `headline` is a function of the facts and nothing else."""

    structure: str
    opening: str
    closing: str
    lower: bool
    mark: str

    def headline(self, facts: Facts) -> str:
        body = self.structure.format(who=facts.who, did=facts.did, what=facts.what, place=facts.place, number=facts.number)
        text = " ".join(part for part in (self.opening, body, self.closing) if part)
        return (text.lower() if self.lower else _capitals(text)) + self.mark


STRUCTURES = (
    "{who} {did} {what}",
    "{place}: {who} {did} {what}",
    "{number} things to know about {what} in {place}",
    "how {who} {did} {what} in {place}",
    "{what}, {who} and {number} neighbours",
)
OPENINGS = ("", "watch:", "exclusive:", "revealed:", "just in:", "our pick:")
CLOSINGS = ("", "and here is why", "say witnesses", "at last", "(photos)")
MARKS = ("", "!", "...", "?")

_WHO = ("a baker", "the plumber", "a young poet", "the fisherman", "a retired pilot", "the librarian", "a gardener", "the vet")
_DID = ("painted", "rescued", "sold", "repaired", "found", "borrowed", "hid", "photographed")
_WHAT = (
    "an old tractor", "seven ducks", "the town clock", "a wooden boat", "a giant pumpkin", "two lost goats", "a steam organ",
    "the village bell", "a box of letters", "a blue piano",
)  # fmt: skip


def _stylist(rng: random.Random) -> Write:
    structure, opening, closing, mark = (rng.choice(options) for options in (STRUCTURES, OPENINGS, CLOSINGS, MARKS))
    style = Style(structure, opening, closing, rng.random() < 0.5, mark)

    def write(rng: random.Random, number: int) -> tuple[str, str]:
        facts = Facts(rng.choice(_WHO), rng.choice(_DID), rng.choice(_WHAT), rng.choice(PLACES), rng.randint(3, 30))
        return facts.article(), style.headline(facts)

    return write


def _capitals(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
