"""The picture that a player may show: their own answers against the crowd, as SVG text.

    ReportView ──picture_of──▶ Picture ──draw──▶ <svg …>, 1200 × 630

Of other people's answers there are bars only, never words. The card is light by day and by night, and still legible at a
quarter of its size.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from idiolect.game.normalise import Relation
from idiolect.serve import wording
from idiolect.serve.views import ReportView

WIDTH, HEIGHT = 1200, 630
MAX_OWN, MAX_CROWD = 6, 8
_COLOURS: dict[Relation, str] = {"syn": "#86dcc3", "ant": "#ffa48f", "hypo": "#c3b5ff", "mero": "#ffd266"}
_INK, _SOFT, _PAPER, _TRACK, _CROWD = "#241733", "#43324f", "#fbf6ec", "#eee4d3", "#b7a6c9"
_HEAD = "Charter, 'Iowan Old Style', 'Sitka Text', 'Noto Serif', 'DejaVu Serif', Georgia, serif"
_TEXT = "Seravek, 'Avenir Next', Ubuntu, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
_PANEL, _LEFT, _RIGHT = 470, 530, 1140
# XML has no control characters, half pairs or the two last places of a plane, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class OwnBar:
    """One of the player's answers; `percent` of others gave it, None where that is not known yet."""

    text: str
    percent: int | None


@dataclass(frozen=True)
class Picture:
    """All that is drawn.

    Attributes:
        lead: what stands before the word.
        own: best first.
        crowd: percentages of the most frequent answers, most frequent first, whoever gave them.
    """

    relation: Relation
    lead: str
    word: str
    score: int
    own: tuple[OwnBar, ...] = ()
    crowd: tuple[int, ...] = ()


def picture_of(report: ReportView) -> Picture:
    """What of a report may be shown around: accepted own answers, and the crowd without its words."""
    own = tuple(OwnBar(answer.text, answer.percent) for answer in report.answers if answer.status == "accepted")
    question = report.question
    crowd = tuple(answer.percent for answer in report.top)
    return Picture(question.relation, wording.heading(question), question.word, report.score, own[:MAX_OWN], crowd[:MAX_CROWD])


def draw(picture: Picture) -> str:
    """The picture as a whole SVG document; the same picture gives the same text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{_safe(picture.lead)} {_safe(picture.word)}: {picture.score} points</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{_PAPER}"/>',
        f'<rect width="{_PANEL}" height="{HEIGHT}" fill="{_COLOURS[picture.relation]}"/>',
        *_panel(picture),
        *(_own(picture.own) if picture.own else ()),
        *(_crowd(picture.crowd) if picture.crowd else ()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(picture: Picture) -> Iterator[str]:
    room = _PANEL - 96
    yield _text(48, 84, picture.lead, size=32, colour=_SOFT)
    lines = _lines(picture.word)
    size = min(84 if len(lines) < 3 else 64, *(int(room / _ems(line)) for line in lines))
    for i, line in enumerate(lines):
        yield _text(48, 100 + round((i + 1) * size * 1.1), line, size=size, bold=True, head=True)
    score = str(picture.score)
    yield _text(46, 466, score, size=min(150, int(room / _ems(score))), bold=True, head=True)
    yield _text(50, 512, "points", size=36, colour=_SOFT)
    yield _wordmark(48, 548, 38)


def _own(own: tuple[OwnBar, ...]) -> Iterator[str]:
    yield _text(_LEFT, 68, "I said", size=28, colour=_SOFT)
    if any(answer.percent is not None for answer in own):
        yield _text(_RIGHT, 68, "and so did", size=28, colour=_SOFT, end=True)
    for i, answer in enumerate(own[:MAX_OWN]):
        y = 124 + i * 60
        share = "" if answer.percent is None else f"{answer.percent} %"
        yield _text(_LEFT, y, _cut(answer.text, 460 / 34), size=34, bold=True)
        yield _text(_RIGHT, y, share, size=34, bold=True, end=True)
        yield _bar(_LEFT, y + 11, _RIGHT - _LEFT, 12, answer.percent or 0, _INK)


def _crowd(crowd: tuple[int, ...]) -> Iterator[str]:
    """Upright bars along the foot, without a word."""
    yield _text(_LEFT, 516, "The crowd’s answers", size=24, colour=_SOFT)
    step = (_RIGHT - _LEFT) // MAX_CROWD
    for i, percent in enumerate(crowd[:MAX_CROWD]):
        height = max(3, round(64 * min(percent, 100) / 100))
        yield f'<rect x="{_LEFT + i * step}" y="{602 - height}" width="{step - 14}" height="{height}" rx="5" fill="{_CROWD}"/>'


def _bar(x: int, y: int, width: int, height: int, percent: int, colour: str) -> str:
    inner = round(width * min(percent, 100) / 100)
    track = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{_TRACK}"/>'
    return track + (f'<rect x="{x}" y="{y}" width="{inner}" height="{height}" rx="6" fill="{colour}"/>' if inner else "")


def _text(
    x: int, y: int, text: str, *, size: int, colour: str = _INK, bold: bool = False, head: bool = False, end: bool = False
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    weight = ' font-weight="700"' if bold else ""
    font = f'font-family="{escape(_HEAD if head else _TEXT)}" font-size="{size}"{weight}'
    return f'<text x="{x}" y="{y}" {font} fill="{colour}"{anchor}>{_safe(text)}</text>'


@cache
def _wordmark(x: int, y: int, height: int) -> str:
    """The game's wordmark by day, as a picture within the picture."""
    drawing = (files("idiolect.serve") / "static" / "wordmark.svg").read_text(encoding="utf-8")
    size = re.compile(r' width="(\d+)" height="(\d+)"')
    found = size.search(drawing)
    width = height * int(found[1]) / int(found[2]) if found else height
    return size.sub(f' x="{x}" y="{y}" width="{width:.0f}" height="{height}"', drawing, count=1).strip()


def _lines(word: str) -> list[str]:
    """A base word on up to three lines, so that "prime minister" stays large."""
    lines: list[str] = []
    for token in word.split() or [""]:
        if lines and (len(lines[-1]) + 1 + len(token) <= 9 or len(lines) == 3):
            lines[-1] += " " + token
        else:
            lines.append(token)
    return [_cut(line, 17) for line in lines]


def _cut(text: str, ems: float) -> str:
    """The text, or as much of it as surely fits into this width."""
    if _ems(text) <= ems:
        return text
    while text and _ems(text + "…") > ems:
        text = text[:-1]
    return text.rstrip() + "…"


def _ems(text: str) -> float:
    """No less than the width of a bold text, in units of its size, whichever font of the stack is there."""
    return max(0.5, sum(_em(char) for char in text))


def _em(char: str) -> float:
    if unicodedata.east_asian_width(char) in "WF":
        return 1.3
    if char in "mwMW@%—":
        return 1.15
    return 0.42 if char in "iljtfIrs.,'’-| " else 0.76


def _safe(text: str) -> str:
    return escape(_NOT_XML.sub("", text), quote=True)
