"""What the pages call things. One place, because pages, the share picture and error pages say the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from idiolect.game.normalise import Relation
from idiolect.serve.views import ChosenMode, ErrorView, PlayMode, QuestionView, Timing

NAME: Final = "idiolect"
"""Of the game, as it stands in titles."""


@dataclass(frozen=True)
class RelationWords:
    """How one relation is spoken of.

    Attributes:
        chosen: what the chooser calls it.
        example: a base word and two answers, shown beside it.
        asked: stands before the base word while playing.
        viewed: the same in My view.
        heading: stands before the base word on a report.
        judged: the question of Nym or Not: what stands before the answer, and between it and the base word.
    """

    chosen: str
    example: str
    asked: str
    viewed: str
    heading: str
    judged: tuple[str, str]


RELATION_WORDS: Final[Mapping[Relation, RelationWords]] = {
    "syn": RelationWords(
        "Same meaning",
        "big: large, huge",
        "Another word for",
        "To you, another word for",
        "Another word for",
        ("Does", "mean the same as"),
    ),
    "ant": RelationWords(
        "Opposites",
        "hot: cold, icy",
        "The opposite of",
        "To you, the opposite of",
        "The opposite of",
        ("Is", "the opposite of"),
    ),
    "hypo": RelationWords(
        "Kinds",
        "bird: robin, owl",
        "Name kinds of",
        "To you, kinds of",
        "Kinds of",
        ("Is", "a kind of"),
    ),
    "mero": RelationWords(
        "Parts",
        "house: roof, door",
        "Name parts of",
        "To you, parts of",
        "Parts of",
        ("Is", "a part of"),
    ),
}

MODE_WORDS: Final[Mapping[ChosenMode, tuple[str, str]]] = {
    "surprise": ("Surprise me", "a mix of everything"),
    "classic": ("Classic", "say what others say"),
    "fresh": ("Fresh", "the obvious answers are taken"),
    "nym_or_not": ("Nym or Not", "yes or no, 25 pairs"),
    "my_view": ("My view", "what you think, not the crowd"),
}

TIMING_WORDS: Final[Mapping[Timing, tuple[str, str]]] = {
    "1x": ("Brisk", "10 to 20 seconds"),
    "2x": ("Double", "twice the time"),
    "10x": ("Relaxed", "ten times the time"),
    "off": ("No clock", "no limit at all"),
}

REASONS: Final[Mapping[str, str]] = {
    "accepted": "",
    "too_long": "too long",
    "malformed": "letters and words only",
    "echo": "that is the question itself",
    "blocked": "not shown and not counted",
    "hidden": "kept from others, so no points",
    "duplicate": "you said that already",
    "late": "came after the bell",
    "taboo": "on the list of taken answers",
    "pasted": "pasted, so no points",
}
"""Of an answer's status; "" where there is nothing to explain."""

_HOME: Final = ("/", "Back to the start")
_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("That did not arrive whole", "The request could not be read; go back and try once more."),
    403: ("Not from here", "This page has been open too long, or it is not yours; start again from the first page."),
    404: ("Nothing here", "There is no such page, or it belongs to another player."),
    405: ("Not that way", "This address only takes what a button sends."),
    409: ("That round is over", "It is closed, so nothing can be added to it any more; the next one is a click away."),
    410: ("Gone", "What was here has been deleted, and nothing of it is kept."),
    413: ("Too much at once", "That was more text than the game takes; shorten it and send it again."),
    422: ("That does not fit", "Something in the form is missing or not allowed; go back and have another look."),
    429: ("A little slower", "That was a lot in a short time; take a breath and try again in a minute."),
    503: ("Resting", "The game cannot answer right now; nothing of yours is lost, so try again in a minute."),
}
_UNKNOWN: Final = ("Something broke", "That was our fault, not yours; going back to the start usually helps.")
_WAYS_ON: Final[Mapping[int, tuple[str, str]]] = {
    403: ("/", "Start again"),
    409: ("/", "Play another"),
    429: ("/how", "Read the rules meanwhile"),
    503: ("/", "Try again"),
}


def error_view(status: int, sentence: str | None = None) -> ErrorView:
    """What is said of a status: its own sentence, or the one that is given (shown to people, so in their words)."""
    heading, usual = _ERRORS.get(status, _UNKNOWN)
    href, label = _WAYS_ON.get(status, _HOME)
    return ErrorView(status, heading, sentence or usual, href, label)


def asked(question: QuestionView) -> str:
    """What stands before the base word while a round is open."""
    words = RELATION_WORDS[question.relation]
    return words.viewed if question.mode == "my_view" else words.asked


def heading(question: QuestionView) -> str:
    """What stands before the base word when the round is over."""
    return RELATION_WORDS[question.relation].heading


def mode_name(mode: PlayMode) -> str:
    """What a mode is called."""
    return MODE_WORDS[mode][0]
