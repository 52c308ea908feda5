"""The whole way in a real browser: the command starts the server, a guest plays every mode, signs up, exports, and leaves.

Screenshots of what was seen are kept in `build/screenshots` (or $IDIOLECT_SCREENSHOTS).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gallery import CHROMIUM, FLAGS

from idiolect.store.store import Store

ROOT = Path(__file__).parents[2]
SHOTS = Path(os.environ.get("IDIOLECT_SCREENSHOTS", ROOT / "build" / "screenshots"))
COMMAND = Path(sys.executable).with_name("idiolect")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser here: {CHROMIUM}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("play") / "store"


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where `idiolect play` serves."""
    command = [COMMAND, "play", "--no-browser", "--port", "0", "--crowd", "24", "--store", folder]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        line = server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found is not None, line + server.stderr.read()
        yield found[0].rstrip("/")
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    assert server.returncode == 0, out + err
    assert "Traceback" not in err
    for word in ("zebrawheel", "grandmother"):
        assert word not in out + err, "what players write is in no log"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Any, address: str) -> Iterator[Any]:
    """One visitor's window, from the first visit to the last."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, base_url=address, accept_downloads=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    refused_login = "Failed to load resource: the server responded with a status of 403 (Forbidden)"
    assert problems == [refused_login]


def shot(tab: Any, name: str) -> None:
    """Keep what is seen, at the widths that people have."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for width, height in ((360, 740), (768, 1024), (1280, 800)):
        tab.set_viewport_size({"width": width, "height": height})
        tab.screenshot(path=SHOTS / f"{name}-{width}.png", full_page=True)
    tab.set_viewport_size({"width": 360, "height": 740})


def choose(tab: Any, mode: str, timing: str = "1x", relation: str = "mero") -> None:
    tab.goto("/")
    for box in tab.locator('input[name="relations"]').all():
        box.set_checked(box.get_attribute("value") == relation)
    tab.locator(f'input[name="mode"][value="{mode}"]').check()
    tab.locator(f'input[name="timing"][value="{timing}"]').check()
    tab.get_by_role("button", name="Play like this").click()


def answer(tab: Any, *texts: str) -> None:
    box = tab.get_by_label("Your answer", exact=True)
    for text in texts:
        box.fill(text)
        box.press("Enter")
        tab.locator("#entered li", has_text=text).wait_for()
    tab.get_by_role("button", name="Done").click()
    tab.wait_for_url("**/report")


def test_a_guest_plays_a_first_round_within_two_clicks(tab: Any) -> None:
    tab.goto("/")
    shot(tab, "home")
    assert "simulated" in tab.locator("body").inner_text()
    choose(tab, "classic")
    shot(tab, "ready")
    tab.get_by_role("button", name="Start").click()
    shot(tab, "round")
    assert tab.get_by_role("timer").is_visible()
    answer(tab, "zebrawheel", "handle", "the handles")
    report = tab.locator("main").inner_text()
    assert "zebrawheel" in report
    assert "%" in report, "simulated players stand in for the crowd"
    shot(tab, "report")


def test_two_clicks(tab: Any) -> None:
    tab.goto("/")
    tab.get_by_role("button", name="Play", exact=True).click()
    tab.get_by_role("button", name="Start").click()
    tab.locator("#round").wait_for()
    done = tab.get_by_role("button", name="Done")
    done.click()
    tab.wait_for_url("**/report")


def test_the_clock_ends_the_round_by_itself(tab: Any) -> None:
    choose(tab, "classic", relation="ant")
    tab.get_by_role("button", name="Start").click()
    tab.get_by_label("Your answer", exact=True).fill("grandmother")
    tab.wait_for_url("**/report", timeout=20_000)
    assert "grandmother" in tab.locator("main").inner_text()


def test_every_other_mode(tab: Any) -> None:
    choose(tab, "fresh", "off")
    tab.get_by_role("button", name="Start").click()
    assert tab.get_by_text("No clock").is_visible()
    answer(tab, "handle")
    choose(tab, "nym_or_not", "10x")
    tab.get_by_role("button", name="Start").click()
    shot(tab, "judge")
    n_pairs = tab.locator(".pair").count()
    assert n_pairs >= 5
    for place in range(n_pairs):
        tab.keyboard.press("ynu"[place % 3])
    tab.wait_for_url("**/report")
    assert "agree" in tab.locator("main").inner_text()
    shot(tab, "judge-report")


def test_signing_up_keeps_the_rounds(tab: Any) -> None:
    tab.goto("/me")
    before = tab.locator("dd").first.inner_text()
    assert int(before) >= 4
    tab.goto("/signup")
    tab.get_by_label("Name").fill("wordfriend")
    tab.get_by_label("Password").fill("a long password")
    shot(tab, "signup")
    tab.get_by_role("button", name="Sign up").click()
    tab.goto("/me")
    assert tab.locator("h1").inner_text() == "wordfriend"
    assert tab.locator("dd").first.inner_text() == before
    shot(tab, "me")


def test_consent_opens_my_view(tab: Any) -> None:
    tab.goto("/")
    assert tab.locator('input[name="mode"][value="my_view"]').count() == 0
    tab.goto("/me")
    tab.locator('input[name="listed"]').check()
    tab.get_by_role("button", name="Save", exact=True).click()
    tab.locator('input[name="consent_personal"]').check()
    tab.get_by_role("button", name="Save what I agree to").click()
    choose(tab, "my_view")
    tab.get_by_role("button", name="Start").click()
    answer(tab, "adventure")
    assert "My view" in tab.locator("main").inner_text()
    tab.goto("/me/words")
    shot(tab, "mirror")
    tab.goto("/leaderboard")
    assert "wordfriend" in tab.locator("main").inner_text()
    shot(tab, "leaderboard")


def test_everything_of_ones_own_is_one_file(tab: Any) -> None:
    tab.goto("/me")
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Download it").click()
    kept = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    text = json.dumps(kept)
    for word in ("zebrawheel", "grandmother", "adventure", "wordfriend"):
        assert word in text
    assert "argon2" not in text


def test_leaving_leaves_no_trace(tab: Any, folder: Path) -> None:
    tab.goto("/me")
    tab.get_by_text("I want to delete everything").click()
    tab.get_by_label("Type wordfriend to confirm").fill("wordfriend")
    tab.get_by_role("button", name="Delete everything of mine").click()
    tab.wait_for_url("**/")
    tab.goto("/login")
    tab.get_by_label("Name").fill("wordfriend")
    tab.get_by_label("Password").fill("a long password")
    tab.get_by_role("button", name="Log in").click()
    assert "do not fit" in tab.locator("main").inner_text()
    with Store.open(folder) as store:
        assert store.people() == []
    # Not in the database, and not in what SQLite keeps beside it.
    for file in folder.rglob("*"):
        if file.is_file():
            held = file.read_bytes()
            for word in (b"zebrawheel", b"grandmother", b"wordfriend"):
                assert word not in held, file.name


def test_a_round_without_scripts_by_keyboard_alone(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=address)
    tab = context.new_page()
    tab.goto("/")
    tab.locator('input[name="mode"][value="classic"]').check()
    tab.locator('input[name="timing"][value="10x"]').check()
    tab.locator("#main").focus()
    press(tab, "Play")
    press(tab, "Start")
    tab.locator('input[name="text"]').first.focus()
    tab.keyboard.type("handle")
    tab.keyboard.press("Tab")
    press(tab, "Done", first="lid")
    tab.wait_for_url("**/report")
    assert "handle" in tab.locator("main").inner_text()
    context.close()


def press(tab: Any, name: str, first: str = "") -> None:
    """Go to a button with Tab, and press Enter on it; `first` is typed where one starts."""
    tab.keyboard.type(first)
    for _ in range(60):
        tab.keyboard.press("Tab")
        focused = tab.locator(":focus")
        if focused.count() and focused.inner_text().strip() == name:
            return tab.keyboard.press("Enter")
    raise AssertionError(f"no way to {name} with the keyboard")
