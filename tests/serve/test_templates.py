"""The pages: complete, inert whatever people type, and saying what there is to say."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import gallery
import pytest
from gallery import HOSTILE, ROUND, Shown

from idiolect.game.normalise import RELATIONS
from idiolect.serve import picture, rendering, wording
from idiolect.serve.views import AnswerStatus, AnswerView, QuestionView, ReportView

PAGES = gallery.gallery()
BY_NAME = {shown.name: shown for shown in PAGES}
VOID = {"meta", "link", "input", "br", "img", "source"}
ADDRESSES = ("href", "src", "srcset", "action", "form")


class Read(HTMLParser):
    """A page's elements with their attributes, its text, and what stands in its JSON block."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.json = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.json += data
        else:
            self.text.append(data)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    @property
    def shape(self) -> list[tuple[str, list[str], list[str | None]]]:
        """Elements, names of attributes, and addresses: what no text may change."""
        return [(tag, sorted(a), [a.get(name) for name in ADDRESSES]) for tag, a in self.elements]


def test_every_view_has_a_page_in_the_gallery():
    assert {type(shown.view) for shown in PAGES} == set(rendering.VIEWS)


@pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.name)
def test_page_is_whole(shown: Shown):
    """One heading, closed elements, unique ids, labels for fields, a token in every form, nothing that the policy forbids."""
    read = Read(shown.html())
    assert not read.open
    assert len(read.of("h1")) == 1
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    labelled = {a.get("for") for a in read.of("label")}
    assert all(a["id"] in labelled for a in read.of("input", "textarea") if a.get("type") in ("text", "password", None))
    posts = [a for a in read.of("form") if a.get("method") == "post"]
    tokens = [a["value"] for a in read.of("input") if a.get("name") == "csrf"]
    assert len(posts) == len(read.of("form")) == len(tokens)
    assert set(tokens) <= {"c5f-token"}
    assert not any(name == "style" or name.startswith("on") for _, a in read.elements for name in a)
    assert all("src" in a or a.get("type") == "application/json" for a in read.of("script"))
    assert not read.of("style", "iframe", "object", "base")
    for name in ADDRESSES:
        assert all((a.get(name) or "/").startswith(("/", "#")) for tag, a in read.elements if name != "form")


def test_everything_is_from_here():
    """Static files ask for nothing of others; a page names each by its content."""
    for file in Path(str(rendering.STATIC)).iterdir():
        text = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "//" not in text.replace("// ", ""), file.name
        assert "@import" not in text
        assert rendering.asset(file.name).startswith(f"/static/{file.name}?v=")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_page(text: str):
    """With whatever text, pages have the elements, attributes and addresses that they have with plain text."""
    for shown in PAGES:
        plain, hostile = Read(gallery.hostile(shown, "x" * len(text)).html()), Read(gallery.hostile(shown, text).html())
        assert hostile.shape == plain.shape, shown.name
        assert not hostile.open
        if plain.json:
            assert list(json.loads(hostile.json)) == list(json.loads(plain.json))


def test_hostile_text_is_shown_as_it_is():
    for text in HOSTILE:
        read = Read(gallery.hostile(BY_NAME["report"], text).html())
        assert "".join(read.text).count(text) >= 10


def test_unknown_view_is_refused():
    with pytest.raises(KeyError):
        rendering.render(gallery.page("x"), object())


def test_word_stays_hidden_until_the_start():
    """A page before the start cannot show the word: its view has none."""
    assert not [name for name in vars(BY_NAME["ready"].view) if name in ("word", "question", "hint")]


def test_home_starts_a_round_with_one_button():
    """Without touching anything: all relations, surprise, the usual time, and one button posts it."""
    read = Read(BY_NAME["home"].html())
    checked = [(a["name"], a["value"]) for a in read.of("input") if "checked" in a]
    assert checked == [*(("relations", name) for name in RELATIONS), ("mode", "surprise"), ("timing", "1x")]
    assert [a["action"] for a in read.of("form")] == ["/rounds"]


def test_my_view_is_offered_only_where_it_may_be_chosen():
    assert 'value="my_view"' not in BY_NAME["home"].html()
    assert 'value="my_view"' in BY_NAME["home-known"].html()


def test_report_says_why_an_answer_earned_nothing():
    for status in get_args(AnswerStatus):
        view = ReportView(ROUND, gallery.BICYCLE, 0, (AnswerView(0, "something", status),))
        html = rendering.render(gallery.page("x"), view)
        assert wording.REASONS[status] in html
        assert ('class="off"' in html) == (status != "accepted")


def test_provisional_report_says_when_it_settles():
    text = " ".join(Read(BY_NAME["report-first"].html()).text)
    assert "settles when 5 other people have played (2 so far)" in text


def test_simulated_players_are_announced_on_every_page():
    for shown in PAGES:
        html = rendering.render(replace(shown.page, simulated=True), shown.view)
        assert "simulated" in html


def test_error_pages_are_one_sentence_and_a_way_on():
    for status in (400, 403, 404, 405, 409, 410, 413, 418, 422, 429, 500, 503):
        view = wording.error_view(status)
        assert view.sentence.count(".") == 1
        assert view.sentence.endswith(".")
        assert view.href in ("/", "/how")
    assert wording.error_view(404, "No such word.").sentence == "No such word."


@pytest.mark.parametrize("text", [*HOSTILE, "\x00\x1b\ud800\ufffe<", "W" * 50, "מילה ארוכה", "🦪🦪🦪"])
def test_picture_is_xml_whatever_it_shows(text: str):
    report = replace(gallery.report(), question=QuestionView("ant", text), answers=(AnswerView(0, text, percent=130),))
    root = ElementTree.fromstring(picture.draw(picture.picture_of(report)))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {
        "svg",
        "title",
        "rect",
        "text",
        "g",
        "path",
        "circle",
    }


def test_picture_has_own_answers_and_no_words_of_others():
    report = gallery.report()
    drawn = picture.draw(picture.picture_of(report))
    root = ElementTree.fromstring(drawn)
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Parts of", "bicycle", "309", "Wheels", "the seat", "100 %"} <= texts
    assert not {answer.text for answer in report.missed} & texts
    assert "brakes" not in texts, "answers that were not accepted are not shown around"
    crowd = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("fill") == "#b7a6c9"]
    assert len(crowd) == len(report.top)
    assert drawn == picture.draw(picture.picture_of(report))


def test_picture_cuts_what_does_not_fit():
    narrow, wide = (picture._cut(text, 13.5) for text in ("i" * 30, "W" * 30))
    assert narrow == "i" * 30
    assert wide == "W" * 11 + "…"
