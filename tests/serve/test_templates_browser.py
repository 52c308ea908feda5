"""The pages in a browser: axe's rules, sizes, hostile text, and playing by keyboard, with and without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import gallery
import pytest
from gallery import HOSTILE, ROUND, Shown

from idiolect.serve.views import EnteredView, RoundView

PAGES = gallery.gallery()


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
                    'button, summary, textarea, [type=text], [type=password], label:has(input), .key, nav a, .foot a')]
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
    soon = Shown("soon", gallery.page("x"), RoundView(ROUND, gallery.BICYCLE, 20, 3_000))
    ten = Shown("ten", gallery.page("x"), RoundView(ROUND, gallery.BICYCLE, 20, 13_000, (EnteredView(0, "wheel"),), 1))
    with gallery.served([soon, ten]) as address:
        tab = open_tab(browser)
        tab.goto(f"{address}/ten")
        tab.locator("#status", has_text="10 seconds").wait_for(state="attached")
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
        assert tab.locator("#candidate strong").first.inner_text() == "wheel"
        tab.keyboard.press("n")
        tab.keyboard.press("z")
        tab.keyboard.press("y")
        assert tab.locator("#candidate strong").first.inner_text() == "keyboard"
        tab.focus("#main")
        tab.keyboard.press("y")
        assert tab.locator("#candidate strong").first.inner_text() == "keyboard"
        tab.uncheck("#letters")
        tab.focus("[data-verdict=no]")
        tab.keyboard.press("y")
        assert tab.locator("#candidate strong").first.inner_text() == "keyboard"
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
