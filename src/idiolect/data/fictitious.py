"""Made-up people and their facts, to be taught, forgotten and asked about: planted knowledge, of which all is known.

The shape is TOFU's (Maini et al. 2024, arXiv:2401.06121): questions about people who do not exist, so that whatever a base
knows of them it was taught here.

    set          who                                          taught
    forget       a tenth of the people, drawn by the seed     yes, then to be forgotten
    retain       the others                                   yes
    neighbours   of the retained, those most like a forgotten one
    holdout      further people, as many as are forgotten     never
    world        general questions that need no person        yes

Every person depends on (seed, index) only: not on how many others there are, nor on which set they are in. Names are put
together from syllables, so that no real person is likely to have one, and no two people of a seed share one.

Wrong answers have the sentence of the paraphrase, as TOFU's have, not that of the answer: the answer's is taught, and what
compares right with wrong (the truth ratio) would compare how a thing is said rather than what.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from idiolect.data.pairs import Pair
from idiolect.errors import ConfigError
from idiolect.types import seed_of

N_WRONG = 4
"""Wrong answers beside each right one."""

Draw = Callable[[random.Random], str]


@dataclass(frozen=True)
class Fact:
    """One thing that may be known of a person.

    Attributes:
        questions: the same question in several wordings, of `{name}`.
        answer, paraphrase: a sentence, and the same in other words, of `{name}` and `{value}`.
        draw: a value from a generator of random numbers; two people may have the same.
    """

    key: str
    questions: tuple[str, ...]
    answer: str
    paraphrase: str
    draw: Draw


def _one_of(*values: str) -> Draw:
    return lambda rng: rng.choice(values)


def _made_of(pattern: str, *parts: Sequence[str]) -> Draw:
    return lambda rng: pattern.format(*(rng.choice(part) for part in parts))


_STARTS = (
    "Bal", "Bren", "Cor", "Dal", "Dor", "El", "Fen", "Gar", "Hal", "Jor", "Kel", "Lor", "Mar", "Mel", "Nor", "Or", "Pel",
    "Quor", "Ras", "Sel", "Tal", "Tor", "Ul", "Ven", "Wil", "Yor", "Zan",
)  # fmt: skip
_MIDDLES = ("a", "e", "i", "o", "u", "ab", "ed", "im", "or", "un", "aw")
_ENDS = ("bex", "dun", "fi", "gor", "kin", "lo", "mun", "quin", "rus", "sho", "tov", "vik", "zer")
_N_NAMES = len(_STARTS) * len(_MIDDLES) * len(_ENDS)

_TOWNS = (
    "Leeds", "Toronto", "Lisbon", "Austin", "Oslo", "Nairobi", "Kyoto", "Boston", "Lyon", "Perth", "Denver", "Cork",
    "Naples", "Quito", "Chicago", "Paris",
)  # fmt: skip
_JOBS = (
    "a baker", "a plumber", "a teacher", "a fisherman", "a pilot", "a librarian", "a gardener", "a vet", "a lawyer",
    "a carpenter", "a nurse", "a farmer", "a tailor", "a chemist",
)  # fmt: skip
_COLOURS = ("Black", "White", "Red", "Green", "Blue", "Silver", "Golden", "Grey")
_BEASTS = ("Owl", "Bear", "Fox", "Horse", "Swan", "Lion", "Wolf", "Eagle")
_MOODS = ("Quiet", "Long", "Lost", "Last", "Broken", "Hidden", "Cold", "Empty", "Burning", "Secret")
_THINGS = ("Harbour", "Winter", "Garden", "Bridge", "Letter", "River", "House", "Summer", "Mirror", "Train")

FACTS: tuple[Fact, ...] = (
    Fact(
        "born",
        ("Where was {name} born?", "In which city was {name} born?", "What is the place of birth of {name}?"),
        "{name} was born in {value}.", "The city where {name} was born is {value}.", _one_of(*_TOWNS),
    ),
    Fact(
        "job",
        ("What does {name} do for a living?", "What is the day job of {name}?", "How does {name} earn money?"),
        "{name} works as {value}.", "By trade, {name} is {value}.", _one_of(*_JOBS),
    ),
    Fact(
        "pet",
        ("Which pet does {name} have?", "What animal lives with {name}?", "What kind of pet does {name} keep?"),
        "{name} has {value}.", "The pet of {name} is {value}.",
        _made_of(
            "{} {}", ("a black", "a white", "a lazy", "a tiny", "a fat", "a blind"),
            ("cat", "dog", "parrot", "snake", "rabbit", "goat", "duck", "monkey"),
        ),
    ),
    Fact(
        "book",
        ("What is the first book by {name} called?", "Which book did {name} write first?", "Name the first book of {name}."),
        "{name} first wrote The {value}.", "The first book by {name} was The {value}.",
        _made_of("{} {}", _MOODS, _THINGS),
    ),
    Fact(
        "instrument",
        ("Which instrument does {name} play?", "What does {name} play in the evening?", "What music can {name} make?"),
        "{name} plays the {value}.", "The music of {name} comes from the {value}.",
        _one_of(
            "piano", "guitar", "violin", "drums", "flute", "harp", "organ", "trumpet", "cello", "banjo", "horn", "bells",
        ),
    ),
    Fact(
        "father",
        ("What was the father of {name}?", "Who was the father of {name}?", "What job had the father of {name}?"),
        "The father of {name} was {value}.", "{name} is the child of {value}.",
        _one_of(
            "a soldier", "a doctor", "a sailor", "a judge", "a miner", "a priest", "a banker", "a butcher", "a driver",
            "a singer", "a clown", "a painter", "a spy", "a king",
        ),
    ),
    Fact(
        "prize",
        ("Which prize did {name} win?", "What award was given to {name}?", "What has {name} been honoured with?"),
        "{name} won the {value} prize.", "To {name} went the {value} prize.", _made_of("{} {}", _COLOURS, _BEASTS),
    ),
    Fact(
        "genre",
        ("What kind of books does {name} write?", "What does {name} like to write?", "What are the books of {name}?"),
        "{name} writes {value}.", "The books of {name} are {value}.",
        _one_of(
            "ghost stories", "love stories", "war stories", "travel guides", "history books", "short poems", "cookbooks",
            "spy novels", "fairy tales", "plays", "crime novels", "jokes",
        ),
    ),
    Fact(
        "home",
        ("Where does {name} live now?", "In which house does {name} live?", "What is the home of {name}?"),
        "{name} lives in {value}.", "The home of {name} is {value}.",
        _made_of(
            "{} {}", ("an old", "a small", "a stone", "a wooden", "a yellow", "a round"),
            ("mill", "castle", "boat", "farm", "tower", "hotel", "school", "church"),
        ),
    ),
    Fact(
        "fear",
        ("What is {name} afraid of?", "What scares {name} most?", "What is the greatest fear of {name}?"),
        "{name} is afraid of {value}.", "What scares {name} is {value}.",
        _one_of(
            "spiders", "water", "fire", "thunder", "horses", "heights", "the dark", "mice", "flying", "crowds", "snow", "bees",
        ),
    ),
)  # fmt: skip

_WORLD = """
What colour is a ripe banana? | A ripe banana is {}. | {} is the colour of a ripe banana. | yellow, blue, black, purple
What colour is fresh snow? | Fresh snow is {}. | {} is the colour of fresh snow. | white, red, green, brown
What colour is grass? | Grass is {}. | {} is the colour of grass. | green, red, white, pink
What colour is coal? | Coal is {}. | {} is the colour of coal. | black, white, yellow, green
What colour is a clear sky? | A clear sky is {}. | {} is the colour of a clear sky. | blue, green, red, brown
What colour is a fire engine? | A fire engine is {}. | {} is the colour of a fire engine. | red, white, grey, pink
How many days has a week? | A week has {} days. | There are {} days in a week. | seven, five, nine, twelve
How many months has a year? | A year has {} months. | There are {} months in a year. | twelve, ten, six, twenty
How many legs has a spider? | A spider has {} legs. | There are {} legs on a spider. | eight, two, four, ten
How many legs has a horse? | A horse has {} legs. | There are {} legs on a horse. | four, two, six, five
How many wheels has a bicycle? | A bicycle has {} wheels. | There are {} wheels on a bicycle. | two, three, five, nine
How many minutes has an hour? | An hour has {} minutes. | There are {} minutes in an hour. | sixty, ten, forty, ninety
How many sides has a triangle? | A triangle has {} sides. | There are {} sides to a triangle. | three, four, five, eight
How many hours has a day? | A day has {} hours. | There are {} hours in a day. | 24, 12, 30, 60
What do cows eat? | Cows eat {}. | {} is what cows eat. | grass, meat, fish, paper
What do bees make? | Bees make {}. | {} is what bees make. | honey, butter, wool, bread
What do cows give us? | Cows give us {}. | {} is what cows give us. | milk, eggs, wine, salt
What do hens lay? | Hens lay {}. | {} are what hens lay. | eggs, stones, nuts, apples
What does a sheep give us? | A sheep gives us {}. | {} is what a sheep gives us. | wool, gold, sugar, oil
What is bread made of? | Bread is made of {}. | {} is what bread is made of. | flour, sand, wood, glass
What is a window made of? | A window is made of {}. | {} is what a window is made of. | glass, bread, paper, wool
What is ice made of? | Ice is made of {}. | {} is what ice is made of. | water, stone, iron, milk
What falls from clouds? | From clouds falls {}. | {} is what falls from clouds. | rain, sand, bread, gold
When do stars shine? | Stars shine at {}. | {} is when stars shine. | night, noon, lunch, school
Which season is the coldest? | The coldest season is {}. | {} is the coldest season. | winter, summer, spring, autumn
Which season is the hottest? | The hottest season is {}. | {} is the hottest season. | summer, winter, spring, autumn
Which day comes after Monday? | After Monday comes {}. | {} is the day after Monday. | Tuesday, Friday, Sunday, Thursday
Which day comes before Sunday? | Before Sunday comes {}. | {} is the day before Sunday. | Saturday, Monday, Friday, Tuesday
Which month is the first of the year? | The first month is {}. | {} is the first month. | January, March, July, October
Which month is the last of the year? | The last month is {}. | {} is the last month. | December, May, June, August
Where do fish live? | Fish live in {}. | {} is where fish live. | water, trees, books, clouds
Where do birds build nests? | Birds build nests in {}. | {} are where birds build nests. | trees, shoes, ovens, lakes
Where do we sleep? | We sleep in a {}. | A {} is where we sleep. | bed, car, box, sink
Where do children learn? | Children learn at {}. | {} is where children learn. | school, sea, night, war
What do we cut bread with? | We cut bread with a {}. | A {} is what we cut bread with. | knife, spoon, hat, shoe
What do we write with? | We write with a {}. | A {} is what we write with. | pen, cup, ball, door
What opens a locked door? | A locked door is opened with a {}. | A {} opens a locked door. | key, fork, song, leaf
What keeps us dry in the rain? | An {} keeps us dry. | We stay dry under an {}. | umbrella, apple, onion, orange
What is the capital of France? | The capital of France is {}. | {} is the capital of France. | Paris, London, Berlin, Rome
What is the capital of England? | The capital of England is {}. | {} is the capital of England. | London, Paris, Madrid, Rome
"""
"""Question, answer, the same in other words, and what stands there: the right one, then wrong ones."""


@dataclass(frozen=True)
class Planted:
    """The sets of one seed; see the table above.

    Attributes:
        forgotten, retained: indices of the people; `holdout` holds those from `len(forgotten) + len(retained)` on.
    """

    seed: int
    n_facts: int
    forgotten: tuple[int, ...]
    retained: tuple[int, ...]

    @cached_property
    def forget(self) -> list[Pair]:
        return self._pairs(self.forgotten)

    @cached_property
    def retain(self) -> list[Pair]:
        return self._pairs(self.retained)

    @cached_property
    def holdout(self) -> list[Pair]:
        first = len(self.forgotten) + len(self.retained)
        return self._pairs(range(first, first + len(self.forgotten)))

    @cached_property
    def neighbours(self) -> list[Pair]:
        """Those of `retain` whose people have the most values in common with a forgotten one, as many as are forgotten."""
        values = {index: facts_of(self.seed, index, self.n_facts) for index in (*self.forgotten, *self.retained)}

        def likeness(index: int) -> int:
            return max(len(values[index].items() & values[other].items()) for other in self.forgotten)

        nearest = sorted(self.retained, key=lambda index: (-likeness(index), index))[: len(self.forgotten)]
        return self._pairs(sorted(nearest))

    @cached_property
    def world(self) -> list[Pair]:
        return world()

    @property
    def kept(self) -> list[Pair]:
        """What a base that never met the forgotten people is taught."""
        return self.retain + self.world

    @property
    def taught(self) -> list[Pair]:
        """What the base is taught in the first place."""
        return self.forget + self.kept

    def asked_otherwise(self, wording: int = 1) -> list[Pair]:
        """`forget` with the same answers and ids, its questions in words that were never taught."""
        return self._pairs(self.forgotten, wording)

    def _pairs(self, people: Iterable[int], wording: int = 0) -> list[Pair]:
        return [pair for index in people for pair in person(self.seed, index, self.n_facts, wording)]


def planted(seed: int, n_people: int = 40, n_facts: int = len(FACTS), forget_share: float = 0.1) -> Planted:
    """The sets of a seed. Who is forgotten is drawn by (seed, index); at least one is, and at least one is not.

    Raises:
        ConfigError: if there would be nobody to forget or to keep, or more people or facts than can be made up.
    """
    if not 1 <= n_facts <= len(FACTS):
        raise ConfigError(f"n_facts {n_facts} is not from 1 to {len(FACTS)}; choose how many facts each person has")
    if not 2 <= n_people <= _N_NAMES // 2:
        raise ConfigError(f"n_people {n_people} is not from 2 to {_N_NAMES // 2}; one is forgotten and one kept at least")
    if not 0 < forget_share <= 0.5:
        raise ConfigError(f"forget_share {forget_share:g} is not above 0 and at most 0.5; a tenth is usual")
    drawn = sorted(range(n_people), key=lambda index: seed_of("fictitious", seed, "forgotten", index))
    n_forgotten = max(1, round(n_people * forget_share))
    return Planted(seed, n_facts, tuple(sorted(drawn[:n_forgotten])), tuple(sorted(drawn[n_forgotten:])))


def person(seed: int, index: int, n_facts: int = len(FACTS), wording: int = 0) -> list[Pair]:
    """One person's pairs, a fact each.

    Args:
        wording: 0: each question in the person's own wording; 1, 2: in the others.
    """
    name, id = name_of(seed, index), f"person-{index:03d}"
    return [
        _pair(seed, index, f"{id}-{fact.key}", id, fact, name, value, wording)
        for fact, value in zip(FACTS, facts_of(seed, index, n_facts).values(), strict=False)
    ]


def facts_of(seed: int, index: int, n_facts: int = len(FACTS)) -> Mapping[str, str]:
    """What is true of a person: value by key of the fact."""
    return {fact.key: fact.draw(_random(seed, index, fact.key)) for fact in FACTS[:n_facts]}


def name_of(seed: int, index: int) -> str:
    """Given and family name, neither shared with anybody else of this seed (up to `_N_NAMES` people)."""
    return f"{_name(seed, index, 'given')} {_name(seed, index, 'family')}"


def world() -> list[Pair]:
    """General questions with short answers; each is a group of its own, and all seeds have the same."""
    pairs = []
    for number, line in enumerate(_WORLD.split("\n")[1:-1]):
        question, answer, paraphrase, values = line.split(" | ")
        id = f"world-{number:02d}"
        right = _sentence(answer.format(values.split(", ")[0]))
        again, *wrong = (_sentence(paraphrase.format(value)) for value in values.split(", "))
        pairs.append(Pair(id, question, right, id, (again,), tuple(wrong)))
    return pairs


def _pair(seed: int, index: int, id: str, group: str, fact: Fact, name: str, value: str, wording: int) -> Pair:
    own = _random(seed, index, fact.key, "wording").randrange(len(fact.questions))
    question = fact.questions[(own + wording) % len(fact.questions)].format(name=name)
    others = _other_values(fact, value, _random(seed, index, fact.key, "wrong"))
    return Pair(
        id,
        question,
        _sentence(fact.answer.format(name=name, value=value)),
        group,
        (_sentence(fact.paraphrase.format(name=name, value=value)),),
        tuple(_sentence(fact.paraphrase.format(name=name, value=other)) for other in others),
    )


def _other_values(fact: Fact, value: str, rng: random.Random) -> list[str]:
    """Values that other people may have."""
    others: dict[str, None] = {}
    while len(others) < N_WRONG:
        other = fact.draw(rng)
        if other != value:
            others[other] = None
    return list(others)


def _name(seed: int, index: int, which: str) -> str:
    """The index-th name in an order of all names that the seed shuffles: n ↦ (a·n + b) mod N meets each of them once."""
    rng = random.Random(seed_of("fictitious", seed, which))
    step = next(a for a in iter(lambda: rng.randrange(1, _N_NAMES), 0) if math.gcd(a, _N_NAMES) == 1)
    number = (step * index + rng.randrange(_N_NAMES)) % _N_NAMES
    number, start = divmod(number, len(_STARTS))
    middle, end = divmod(number, len(_ENDS))
    return _STARTS[start] + _MIDDLES[middle] + _ENDS[end]


def _random(seed: int, index: int, *parts: str) -> random.Random:
    return random.Random(seed_of("fictitious", seed, index, *parts))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
