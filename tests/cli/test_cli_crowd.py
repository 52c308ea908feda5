"""`idiolect game crowd` against a real server."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

pytest.importorskip("httpx", reason="players over HTTP need the extra: pip install 'idiolect[bench]'")
pytest.importorskip("uvicorn", reason="the server needs the extra: pip install 'idiolect[serve]'")

from idiolect.cli.app import app
from idiolect.game.desk import Game
from idiolect.serve.app import Settings, create_app
from idiolect.store.store import Store

_spec = importlib.util.spec_from_file_location("serving", Path(__file__).parents[1] / "serve" / "serving.py")
assert _spec is not None
assert _spec.loader is not None
_serving = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_serving)


@pytest.fixture
def game(tmp_path: Path) -> Iterator[Game]:
    with Store.open(tmp_path / "store") as store:
        game = Game(store, rng=Random(0))
        game.prepare()
        yield game


def test_a_crowd_comes_with_the_key_of_the_store(game: Game, tmp_path: Path) -> None:
    with _serving.running(create_app(game, Settings(keeps=False))) as url:
        command = ["game", "crowd", url, "--players", "2", "--rounds", "2", "--store", str(tmp_path / "store"), "--json"]
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["players"] == 2
    assert told["rounds"] + told["judged"] == 4
    assert told["failed"] == 0
    with game.books.read() as books:
        assert books.n_players_by_kind() == {"simulated": 2}


def test_an_address_has_to_be_one() -> None:
    done = CliRunner().invoke(app, ["game", "crowd", "localhost:8000", "--key", "00"])
    assert done.exit_code == 2
    assert "write it as http://127.0.0.1:8000" in done.output
