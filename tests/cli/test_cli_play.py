"""`idiolect play`, `idiolect serve` and `idiolect game`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from cli_running import environment, error_of
from typer.testing import CliRunner, Result

from idiolect.cli import play
from idiolect.cli.app import Idiolects, shared
from idiolect.serve import running
from idiolect.store.store import Store

Run = Callable[..., Result]
PASSWORD = "a long enough one"
PROGRAM = """
import typer
from idiolect.cli import play
from idiolect.cli.app import Idiolects, shared
app = typer.Typer(cls=Idiolects, pretty_exceptions_enable=False)
app.callback()(shared)
app.command("play")(play.play)
app.command("serve")(play.serve)
app(prog_name="idiolect")
"""


@pytest.fixture
def run() -> Run:
    """Run the command in this process."""
    app = typer.Typer(cls=Idiolects, pretty_exceptions_enable=False)
    app.callback()(shared)
    app.command("play")(play.play)
    app.command("serve")(play.serve)
    app.add_typer(play.app, name="game")

    def call(*words: str | Path, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        return result

    return call


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def server(store: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start the command; the process, and the address that it printed."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words, "--store", str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"https?://\S+", line)
        assert found is not None, (line, process.communicate(timeout=60))
        return process, found[0]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def test_play_serves_until_ctrl_c_and_keeps_what_was_played(server: Any, store: Path) -> None:
    process, address = server("play", "--port", "0", "--no-browser", "--crowd", "0")
    with httpx.Client(base_url=address, headers={"accept": "application/json"}) as client:
        assert client.get("/healthz").json()["ok"] is True
        made = client.post("/guest").json()
        assert made["kind"] == "guest"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "stopped" in err
    assert "Traceback" not in err
    assert "/guest" not in err
    with Store.open(store) as kept, kept.game.read() as books:
        assert books.player_named(made["player"]) is not None
        assert len(books.prompts()) > 1000


def test_serve_knows_its_names_and_says_when_it_is_not_safe(server: Any) -> None:
    process, address = server(
        "serve", "--port", "0", "--host", "0.0.0.0", "--name", "localhost", "--name", "Game.Lan", "--plain-http"
    )
    with httpx.Client(base_url=address) as client:
        assert client.get("/healthz", headers={"host": "game.lan"}).status_code == 200
        assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 400
        assert "Secure" not in client.get("/login").headers["set-cookie"]
    process.send_signal(signal.SIGINT)
    assert "read passwords" in process.communicate(timeout=60)[1]


def test_serve_behind_a_proxy_heeds_what_it_says_of_addresses(server: Any) -> None:
    process, address = server("serve", "--port", "0", "--https", "--name", "game.example")
    assert address == "https://game.example/"
    line = process.stderr.readline()
    while "it listens on" not in line:
        line = process.stderr.readline()
    found = re.search(r"listens on 127.0.0.1 port (\d+) for", line)
    assert found is not None

    def guest(address: str) -> int:
        headers = {"host": "game.example", "accept": "application/json", "x-forwarded-for": address}
        return httpx.post(f"http://127.0.0.1:{found[1]}/guest", headers=headers).status_code

    assert [guest("203.0.113.1") for _ in range(11)] == [201] * 10 + [429]
    assert guest("203.0.113.2") == 201


def test_port_in_use_is_one_line(run: Run, store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("play", "--no-browser", "--crowd", "0", "--port", str(port), "--store", store, code=2)
    assert error_of(result) == f"InputError: port {port} is in use; choose another, or any free one: --port 0"
    assert not store.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "--plain-http"),
        (("--host", "192.168.1.5"), "--https"),
        (("--host", "0.0.0.0", "--plain-http"), "--name"),
        (("--https",), "--name"),
        (("--host", "no such address", "--plain-http"), "cannot listen on"),
    ],
)
def test_what_would_not_be_safe_or_cannot_be_is_refused(run: Run, store: Path, words: tuple[str, ...], said: str) -> None:
    for command in ("play", "serve"):
        assert said in error_of(run(command, *words, "--port", "0", "--store", store, code=2))
    assert not store.exists()


def test_without_the_libraries_the_error_has_the_command(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "idiolect.serve.running", raising=False)
    monkeypatch.delattr("idiolect.serve.running", raising=False)
    error = error_of(run("play", "--store", store, code=6))
    assert error == "DependencyMissing: the game needs uvicorn; install it: pip install 'idiolect[serve]'"


def test_browser_is_opened_at_the_address(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    opened: list[str] = []
    seen = threading.Event()

    def open_(address: str) -> bool:
        opened.append(address)
        seen.set()
        return True

    def serve(*_: Any, **__: Any) -> None:
        assert seen.wait(30)

    monkeypatch.setattr(play.webbrowser, "open", open_)
    monkeypatch.setattr(running, "run", serve)
    result = run("play", "--port", "0", "--crowd", "0", "--store", store)
    assert opened[0] in result.stdout
    assert opened[0].startswith("http://127.0.0.1:")


def test_the_store_is_in_no_words_of_a_command(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str | None, tuple[str, ...] | None]] = []

    def server_of() -> play.Server:
        return lambda game, place, contact, listening, drawing: seen.append((os.environ.get("IDIOLECT_STORE"), drawing))

    monkeypatch.setattr(play, "_server_of", server_of)
    monkeypatch.setenv("IDIOLECT_STORE", "somewhere else")
    result = run("--store", str(store), "serve", "--port", "0", "--crowd", "0")
    assert result.exit_code == 0, result.output
    ((place, command),) = seen
    assert place == str(store)
    assert command is not None
    assert not any(str(store) in word for word in command)
    assert os.environ["IDIOLECT_STORE"] == "somewhere else"


def test_company_is_made_once(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run", lambda *_, **__: None)
    for _ in range(2):
        run("play", "--port", "0", "--no-browser", "--crowd", "3", "--store", store)
    about = json.loads(run("game", "info", "--json", "--store", store).stdout)
    assert (about["simulated"], about["guests"], about["accounts"]) == (3, 0, 0)


def test_moderators_are_made_by_handle(run: Run, store: Path) -> None:
    from idiolect.game.desk import Game

    with Store.open(store) as kept:
        Game(kept).accounts.sign_up(None, "Ada", PASSWORD)
    assert "a moderator" in run("game", "moderator", "ada", "--store", store).stdout
    assert json.loads(run("game", "moderator", "ADA", "--remove", "--json", "--store", store).stdout) == {
        "handle": "Ada",
        "moderator": False,
    }
    assert error_of(run("game", "moderator", "eve", "--store", store, code=3)).startswith("PersonNotFound: there is no account")


def test_info_says_who_plays(run: Run, store: Path) -> None:
    result = run("game", "info", "--store", store)
    assert re.search(r"^guests +0$", result.stdout, re.MULTILINE)
    assert json.loads(run("game", "info", "--json", "--store", store).stdout)["store"] == str(store)


def test_history_of_a_player_is_forgotten_without_a_trace(run: Run, store: Path, tmp_path: Path) -> None:
    """What the server does when somebody leaves, with the whole house behind it."""
    from idiolect.game.consents import Wish
    from idiolect.types import Item

    app = typer.Typer()
    done: list[int] = []

    @app.command()
    def leave(ctx: typer.Context) -> None:
        with play._game(ctx, str(store)) as game:
            player = game.accounts.guest()
            game.accounts.change(player.key, Wish(personal=True, adult=True))
            with game.books.write() as books:
                books.keep_items(player.key, f"nyms-{player.player}", [Item("r-1", {"text": "wheel"}, "2027-01-15")])
            game.accounts.delete(player.key)
            assert game.store.people() == []
            with game.books.read() as books:
                assert books.leaving() == []
            done.append(player.key)

    result = CliRunner().invoke(app, [], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(done) == 1
    assert list(tmp_path.iterdir()) == [store]
    assert not list(Path.cwd().glob("forget-*.json"))
