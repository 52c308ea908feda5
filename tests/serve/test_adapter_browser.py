"""A player asks for an adapter of their own in the browser; the server has it trained, and the page says what came of it.

$IDIOLECT_TEST_BASE names another base than a small random one, e.g. idiolect-tiny.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gallery import CHROMIUM, FLAGS

from idiolect.game.consents import Wish
from idiolect.game.desk import Game
from idiolect.game.minds import Mind
from idiolect.store.store import Store

PASSWORD = "a long enough one"
COMMAND = Path(sys.executable).with_name("idiolect")
OUTCOMES = ("In use", "Not used")

_spec = importlib.util.spec_from_file_location(
    "portrait_making", Path(__file__).parents[1] / "portraits" / "portrait_making.py"
)
assert _spec is not None
assert _spec.loader is not None
_making: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_making)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser here: {CHROMIUM}")]


def fill(folder: Path) -> None:
    """A store in which simulated players and one account have played enough."""
    asked = _making.prompts(5)
    with Store.open(folder) as store:
        crowd = _making.Crowd(store)
        game = Game(store, words=_making.WORDS)
        ana = game.accounts.sign_up(None, "ana", PASSWORD, Wish(None, True, None, True))
        with crowd.at_once():
            for n in range(5):
                player = crowd.player(f"sim{n}", "simulated")
                _making.play(crowd, player, Mind("honest", 50 + n, _making.WORDS), asked, asked[:6])
            _making.play(crowd, ana, Mind("stylised", 1, _making.WORDS), asked, asked)


def ask(address: str, browser: Any) -> str:
    """Log in, ask for an adapter, and wait for what the page says of it."""
    tab = browser.new_context(base_url=address).new_page()
    tab.goto("/login")
    tab.get_by_label("Name").fill("ana")
    tab.get_by_label("Password").fill(PASSWORD)
    tab.get_by_role("button", name="Log in").click()
    tab.goto("/me/words")
    tab.get_by_role("button", name="Train mine").click()
    tab.wait_for_url("**/me/words")
    shown = tab.locator("main").inner_text()
    while "waiting for its turn" in shown or "being trained" in shown:
        tab.wait_for_timeout(1000)
        tab.reload()
        shown = tab.locator("main").inner_text()
    folder = Path(os.environ.get("IDIOLECT_SCREENSHOTS", Path(__file__).parents[2] / "build" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=folder / "adapter.png", full_page=True)
    return shown


@pytest.mark.timeout(900)
def test_an_adapter_is_asked_for_and_its_outcome_shown(tmp_path: Path, base_folder: Any) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    fill(tmp_path / "store")
    base = os.environ.get("IDIOLECT_TEST_BASE") or str(base_folder("llama"))
    command = [str(COMMAND), "--base", base, "play", "--no-browser", "--port", "0", "--crowd", "0"]
    command += ["--store", str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert found is not None
            with sync_api.sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                shown = ask(found[0], browser)
                browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)
    assert any(outcome in shown for outcome in OUTCOMES), shown[:400]
    assert "What most people say" in shown
    assert "Words that only you say" in shown
    with Store.open(tmp_path / "store") as store:
        game = Game(store)
        with game.books.read() as books:
            ana = books.player_by_handle("ana")
            assert ana is not None
            portrait = books.portrait(ana.key)
        assert portrait is not None
        assert portrait.state == "done"
        assert portrait.body["offered"] == ("In use" in shown)
        kept = store.adapters(user_id=f"nyms-{ana.player}")
        assert {row.task for row in kept} == {"NYM-1"}, "what was trained is in the store, in use or not"
