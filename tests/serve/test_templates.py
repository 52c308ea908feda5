"""The pages: complete, inert whatever people type, and usable by keyboard, without scripts, and by axe's rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs
from xml.etree import ElementTree

import gallery
import pytest
from gallery import HOSTILE, ROUND, Shown

from idiolect.game.normalise import RELATIONS
from idiolect.serve import picture, rendering, wording
from idiolect.serve.views import AnswerStatus, AnswerView, EnteredView, QuestionView, ReportView, RoundView

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
        assert (wording.REASONS[status] in html) and (('class="off"' in html) == (status != "accepted"))


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


# ── In a browser ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(gallery.CHROMIUM).exists():
        pytest.skip(f"there is no {gallery.CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=gallery.CHROMIUM, args=gallery.FLAGS)
        yield browser
        browser.close()


def open_tab(browser: Any, **options: Any) -> Any:
    context = browser.new_context(**({"viewport": {"width": 360, "height": 740}} | options))
    return context.new_page()


REPRESENTATIVE = ["home", "ready", "round-fresh", "report", "report-first", "judge", "judge-report", "leaderboard", "signup"]
REPRESENTATIVE += ["me", "mirror", "how", "mod-words", "error-404"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, scheme: str):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    with gallery.served(PAGES) as address:
        tab = open_tab(browser, color_scheme=scheme, reduced_motion="reduce")
        for name in REPRESENTATIVE:
            tab.goto(f"{address}/{name}")
            assert violations(axe, tab) == [], name
        tab.context.close()


def violations(axe: Any, tab: Any) -> list[str]:
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = axe.run(tab, options={"resultTypes": ["violations"], "runOnly": tags}).response["violations"]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]


def test_nothing_scrolls_sideways_and_targets_are_large(browser: Any):
    """At 320 px, which is also 1280 px at 400 %; links inside of sentences are exempt from a size."""
    with gallery.served(PAGES) as address:
        tab = open_tab(browser, viewport={"width": 320, "height": 640}, reduced_motion="reduce")
        for shown in PAGES:
            tab.goto(f"{address}/{shown.name}")
            wide, small = tab.evaluate(
                """() => [document.documentElement.scrollWidth, [...document.querySelectorAll(
                    'button, summary, input:not([type=hidden], [type=checkbox], [type=radio]), label:has(input), .key, nav a, .foot a')]
                    .map((e) => [e.textContent, e.getBoundingClientRect()])
                    .filter(([, box]) => box.width && (box.height < 44 || box.width < 44)).map(([text]) => text)]"""
            )
            assert wide <= 320, shown.name
            assert small == [], shown.name
        tab.context.close()


def test_hostile_text_runs_nowhere(browser: Any):
    pages = [replace(gallery.hostile(s, t), name=f"{s.name}-{n}") for n, t in enumerate(HOSTILE[1:4]) for s in PAGES[n::4]]
    with gallery.served(pages) as address:
        tab = open_tab(browser)
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: said.append("dialog"))
        for shown in pages:
            tab.goto(f"{address}/{shown.name}")
            assert tab.title() != "owned"
        assert said == []
        tab.context.close()


def posted(path: str) -> list[str]:
    return [body for at, body in gallery.received if at == path]


def test_round_by_keyboard(browser: Any):
    """Type, Enter, type, Enter; Tab keeps its meaning; Remove; Done sends what is left in the box."""
    with gallery.served(PAGES) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/round")
        for word in ("wheel", "seat"):
            tab.keyboard.type(word)
            with tab.expect_response("**/answers"):
                tab.keyboard.press("Enter")
        assert tab.inner_text("#status") == "seat added"
        assert tab.is_hidden("#skip")
        for expected in ("add", "Remove wheel", "Remove seat"):
            tab.keyboard.press("Tab")
            assert tab.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')") == expected
        with tab.expect_response("**/answers"):
            tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.id") == "answer"
        tab.keyboard.type("bell")
        for _ in range(3):
            tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "done"
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/finish")
        sent = [json.loads(body) for body in posted(f"/rounds/{ROUND}/answers")]
        assert [(a["seq"], a.get("text"), a.get("pasted"), a.get("remove")) for a in sent] == [
            (0, "wheel", False, None), (1, "seat", False, None), (1, None, None, True),
        ]  # fmt: skip
        assert 0 <= sent[0]["ms"] <= sent[1]["ms"]
        assert [parse_qs(body) for body in posted(f"/rounds/{ROUND}/finish")] == [{"csrf": ["c5f-token"], "text": ["bell"]}]
        tab.context.close()


def test_pasted_answers_say_so(browser: Any):
    with gallery.served(PAGES) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/round-view")
        tab.keyboard.type("owl")
        tab.keyboard.press("Control+A")
        tab.keyboard.press("Control+X")
        tab.keyboard.press("Control+V")
        with tab.expect_response("**/answers"):
            tab.keyboard.press("Enter")
        assert [json.loads(body)["pasted"] for body in posted(f"/rounds/{ROUND}/answers")] == [True]
        tab.context.close()


def test_answers_that_did_not_arrive_go_along_with_done(browser: Any):
    with gallery.served(PAGES) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/round")
        tab.route("**/answers", lambda route: route.abort())
        tab.keyboard.type("wheel")
        tab.keyboard.press("Enter")
        tab.click("#done")
        tab.wait_for_url("**/finish")
        assert [parse_qs(body)["text"] for body in posted(f"/rounds/{ROUND}/finish")] == [["wheel"]]
        tab.context.close()


def test_answers_of_a_page_that_was_loaded_again_stay_and_can_go(browser: Any):
    with gallery.served(PAGES) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/round-fresh")
        with tab.expect_response("**/answers"):
            tab.click("[aria-label='Remove rebel']")
        tab.keyboard.type("turncoat")
        with tab.expect_response("**/answers"):
            tab.keyboard.press("Enter")
        sent = [json.loads(body) for body in posted(f"/rounds/{ROUND}/answers")]
        assert [(a["seq"], a.get("remove")) for a in sent] == [(0, True), (2, None)]
        tab.context.close()


def test_clock_announces_and_ends_the_round(browser: Any):
    """Ten seconds are said once, by the page's own clock; at zero the form goes by itself, with what stands in the box."""
    soon = Shown("soon", gallery.page("x"), RoundView(ROUND, gallery.BICYCLE, 20, 700))
    ten = Shown("ten", gallery.page("x"), RoundView(ROUND, gallery.BICYCLE, 20, 10_000, (EnteredView(0, "wheel"),), 1))
    with gallery.served([soon, ten]) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/ten")
        assert tab.inner_text("#status") == "10 seconds"
        assert tab.get_attribute("#seconds", "role") == "timer"
        tab.goto(f"{address}/soon")
        tab.keyboard.type("be")
        tab.wait_for_url("**/finish")
        assert [parse_qs(body)["text"] for body in posted(f"/rounds/{ROUND}/finish")] == [["be"]]
        tab.context.close()


def test_round_without_scripts(browser: Any):
    """Several labelled boxes, all sent at once; Enter in a box does not end the round by accident."""
    with gallery.served(PAGES) as address:
        tab = open_tab(browser, java_script_enabled=False)
        tab.goto(f"{address}/round")
        assert tab.locator("input[name=text]").count() == 8
        tab.get_by_role("textbox", name="Your answer").fill("wheel")
        tab.get_by_role("textbox", name="Your answer").press("Enter")
        assert tab.url.endswith("/round")
        tab.get_by_label("Answer 2", exact=True).fill("seat")
        tab.get_by_role("button", name="Done").click()
        assert [parse_qs(body)["text"] for body in posted(f"/rounds/{ROUND}/finish")] == [["wheel", "seat"]]
        tab.context.close()


def test_nym_or_not_by_keyboard(browser: Any):
    """Letters work inside of the widget only, and can be switched off; Z takes back; the last pair sends all."""
    with gallery.served(PAGES) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/judge")
        assert tab.inner_text("#candidate") == "wheel"
        tab.keyboard.press("n")
        tab.keyboard.press("z")
        tab.keyboard.press("y")
        assert tab.inner_text("#candidate") == "keyboard"
        tab.focus("#main")
        tab.keyboard.press("y")
        assert tab.inner_text("#candidate") == "keyboard"
        tab.uncheck("#letters")
        tab.focus("[data-verdict=no]")
        tab.keyboard.press("y")
        assert tab.inner_text("#candidate") == "keyboard"
        tab.keyboard.press("Enter")
        tab.check("#letters")
        tab.focus("[data-verdict=no]")
        for _ in range(23):
            tab.keyboard.press("u")
        tab.wait_for_url("**/judgements")
        (body,) = posted(f"/rounds/{ROUND}/judgements")
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        assert (sent["verdict_0"], sent["verdict_1"], sent["verdict_24"]) == ("yes", "no", "unsure")
        assert len([name for name in sent if name.startswith("ms_")]) == 25
        tab.context.close()


def test_nym_or_not_without_scripts(browser: Any):
    with gallery.served(PAGES) as address:
        tab = open_tab(browser, java_script_enabled=False)
        tab.goto(f"{address}/judge")
        tab.get_by_role("group", name="Is wheel a part of bicycle?").first.get_by_label("Yes").check()
        tab.get_by_role("button", name="Done").click()
        assert [parse_qs(body) for body in posted(f"/rounds/{ROUND}/judgements")] == [
            {"csrf": ["c5f-token"], "verdict_0": ["yes"]}
        ]
        tab.context.close()
