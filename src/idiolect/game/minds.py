"""The minds of simulated players: what they answer and judge, and when. Pure functions of seeds.

    honest     what most people would say: near seeds and frequent words first
    stylised   the same with a taste of its own, which stays: short or long, common or rare words, certain first letters, and
               favourites of each base word
    spammer    words that have nothing to do with it; always yes, or a coin
    bot        an alphabetical list, faster than hands

What a mind thinks of a base word depends on the mind and the base word alone, so that asked again it answers nearly the same;
`visit` stirs only what differs from day to day: times, slips, and a word that does not come to mind. They stand in for people
where a rule has to be tried on a crowd. They are no model of people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal

from idiolect.game.normalise import Relation
from idiolect.game.score import Verdict
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.types import seed_of

MindKind = Literal["honest", "spammer", "bot", "stylised"]

UNHURRIED_S = 60.0
"""How long a mind goes on where there is no time limit."""

_MAX_ANSWERS = 14
_MAX_SEEDS = 4000
_FIRST_MS, _PAUSE_MS, _LETTER_MS = (900, 2200), (500, 2600), (90, 170)
_BOT_MS = (60, 140)
_JUDGE_MS = {"honest": (500, 1500), "stylised": (500, 1500), "spammer": (250, 900), "bot": (60, 140)}
_FORGOTTEN, _DOUBTFUL = 0.08, 0.3
_UNHEARD = -3.0
"""Weight of a word that was never met in running text."""
_OWN = 6
"""Favourites that a stylised mind has of each base word."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Taste:
    """What a stylised mind likes. Weights are added to the logarithm of how likely a word is to come to mind."""

    length: float
    frequency: float
    letters: frozenset[str]

    def of(self, key: str, tags: int) -> float:
        liked = 1.0 if key[:1] in self.letters else 0.0
        return self.length * (len(key) - 6) / 3 + self.frequency * math.log1p(tags) / 2 + liked


@dataclass(frozen=True)
class Mind:
    """A simulated player.

    Attributes:
        noise: how often a judgement is wrong, and an answer has a slip.
    """

    kind: MindKind
    seed: int
    words: Vocabulary
    noise: float = 0.1

    @cached_property
    def taste(self) -> Taste:
        """Zero for all but stylised minds."""
        if self.kind != "stylised":
            return Taste(0.0, 0.0, frozenset())
        rng = self._rng("taste")
        length, frequency = rng.choice((-1.5, -0.8, 0.8, 1.5)), rng.choice((-1.2, -0.6, 0.6, 1.2))
        return Taste(length, frequency, frozenset(rng.sample(_LETTERS, 8)))

    # -- answers ---------------------------------------------------------------------------------------------------

    def answers(self, word: BaseWord, seconds: float | None, visit: int = 0) -> list[tuple[int, str]]:
        """(milliseconds since the start, text) of each answer, in time.

        Args:
            seconds: until the deadline; None: no limit.
        """
        end_ms = round(1000 * (UNHURRIED_S if seconds is None else seconds))
        rng = self._rng("visit", word.id, visit)
        texts = self._thought_of(word, rng)
        answers, at = [], 0
        for n, text in enumerate(texts[:_MAX_ANSWERS]):
            at += self._takes_ms(text, n, rng)
            if at > end_ms:
                break
            answers.append((at, text))
        return answers

    def _thought_of(self, word: BaseWord, rng: Random) -> list[str]:
        if self.kind == "spammer":
            return rng.sample(self._plain_words, 8)
        if self.kind == "bot":
            start = rng.randrange(len(self._plain_words) - _MAX_ANSWERS)
            return self._plain_words[start : start + _MAX_ANSWERS]
        texts: list[str] = []
        for key in self.favourites(word):
            if rng.random() >= _FORGOTTEN:
                texts += self._written(key, word, rng)
        return texts

    def favourites(self, word: BaseWord) -> list[str]:
        """What comes to mind first, second, and so on; the same every time. Drawn without replacement by weight: the largest of
        logarithm of weight plus Gumbel noise first.
        """
        rng, lexicon = self._rng("favourites", word.id), self.words.lexicon
        seeds = self.words.seeds[word.id]
        ranked: list[tuple[float, str]] = []
        for key in sorted(seeds)[:_MAX_SEEDS]:
            tags = lexicon.tags.get(key, 0)
            chance = -math.log(-math.log(rng.uniform(1e-12, 1 - 1e-12)))
            plain = (2 * math.log1p(tags) if tags else _UNHEARD) - 1.5 * (seeds[key] - 1)
            if key not in lexicon.severity:
                ranked.append((plain + self.taste.of(key, tags) + chance, key))
        ranked.sort(reverse=True)
        own = [key for _, key in ranked[: 4 * _OWN]] if self.kind == "stylised" else []
        first = rng.sample(own, min(_OWN, len(own)))
        return (first + [key for _, key in ranked if key not in first])[:_MAX_ANSWERS]

    def _written(self, key: str, word: BaseWord, rng: Random) -> list[str]:
        """As it is typed: now and then with an article, in the plural, with a letter lost, or twice."""
        if rng.random() >= self.noise:
            return [key]
        slip = rng.choice(("article", "plural", "typo", "twice")) if word.of_nouns else rng.choice(("typo", "twice"))
        if slip == "article":
            return [f"the {key}"]
        if slip == "plural":
            return [f"{key}s"]
        if slip == "twice":
            return [key, key]
        place = rng.randrange(1, len(key)) if len(key) > 3 else 0
        return [key[:place] + key[place + 1 :]] if place else [key]

    def _takes_ms(self, text: str, n: int, rng: Random) -> int:
        if self.kind == "bot":
            return rng.randint(*_BOT_MS)
        thinking = rng.randint(*(_PAUSE_MS if n else _FIRST_MS))
        return thinking + len(text) * rng.randint(*_LETTER_MS)

    @cached_property
    def _plain_words(self) -> list[str]:
        """Frequent words, by alphabet."""
        lexicon = self.words.lexicon
        return sorted(key for key, tags in lexicon.tags.items() if tags >= 5 and key.isalpha() and key not in lexicon.severity)

    # -- verdicts --------------------------------------------------------------------------------------------------

    def verdict(self, relation: Relation, base: str, key: str, truth: bool | None = None) -> tuple[Verdict, int]:
        """What the mind says of a pair, and after how many milliseconds; the same every time.

        Args:
            truth: whether the pair holds; None: the mind goes by what WordNet knows, and by its own leaning where that says
                nothing.
        """
        rng = self._rng("verdict", relation, base, key)
        ms = rng.randint(*_JUDGE_MS[self.kind])
        if self.kind in ("spammer", "bot"):
            return ("yes" if self.always_yes or rng.random() < 0.5 else "no"), ms
        if truth is None:
            word = self.words.find(relation, base)
            if word is None or not self.words.is_seed(word, key):
                return self._leaning(key, rng), ms
            truth = True
        is_wrong = rng.random() < self.noise
        return ("yes" if truth != is_wrong else "no"), ms

    @property
    def always_yes(self) -> bool:
        """Of a spammer or bot: every other one; the rest throw a coin."""
        return self.seed % 2 == 0

    def _leaning(self, key: str, rng: Random) -> Verdict:
        """Of a pair that nobody can look up: no, or by taste, or in doubt."""
        if rng.random() < _DOUBTFUL:
            return "unsure"
        return "yes" if self.kind == "stylised" and self.taste.of(key, self.words.lexicon.tags.get(key, 0)) > 1.0 else "no"

    def _rng(self, *of: str | int) -> Random:
        return Random(seed_of("mind", self.kind, self.seed, *of))
