"""Players over HTTP on a real server, a store as if it had been played for a year, and the load that is measured on it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("httpx", reason="players over HTTP need the extra: pip install 'idiolect[bench]'")
pytest.importorskip("uvicorn", reason="the server needs the extra: pip install 'idiolect[serve]'")

from sqlalchemy import func, select

from idiolect.bench import play, play_store
from idiolect.bench.__main__ import lines, main
from idiolect.bench.crowd_http import HttpPlayer, RequestFailed, Sent, open_client, send_crowd
from idiolect.bench.table import write_table
from idiolect.errors import InputError
from idiolect.game.crowd import COMPANY, cast_of, crowd_key, populate
from idiolect.game.desk import Game
from idiolect.game.minds import Mind
from idiolect.game.normalise import RELATIONS
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.serve.app import Settings, create_app
from idiolect.store.game import tables
from idiolect.store.store import Store

_spec = importlib.util.spec_from_file_location("serving", Path(__file__).parents[1] / "serve" / "serving.py")
assert _spec is not None
assert _spec.loader is not None
_serving = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_serving)


def few(n: int) -> Vocabulary:
    """The first base words of each relation that ship."""
    whole = vocabulary()
    words = {word.id: word for relation in RELATIONS for word in whole.of(relation)[:n]}
    return Vocabulary("test", words, {id: whole.seeds[id] for id in words}, whole.lexicon)


def ask(store: Store, query: Any) -> list[tuple[Any, ...]]:
    with store._rows.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


# ------------------------------------------------------------------------------------------------------------- over HTTP


def test_players_over_http_play_and_judge(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        words = few(12)
        game = Game(store, rng=Random(0), words=words)
        populate(game, 8, 12)
        sent: list[Sent] = []
        with _serving.running(create_app(game, Settings(keeps=False))) as url:
            mind = Mind("honest", 3, words)
            played, judged = asyncio.run(_two_rounds(url, mind, sent))
        assert played["mode"] == "classic"
        assert played["score"] > 0
        assert [line["seq"] for line in played["answers"]] == list(range(len(played["answers"])))
        assert 6 <= played["n_others"] <= 8
        assert played["n_simulated"] == played["n_others"]
        n = Counter(one.name for one in sent)
        assert (n["guest"], n["issue"], n["start"], n["answer"]) == (1, 2, 2, len(played["answers"]))
        assert n["finish_judging"] == 1
        assert n["judge"] == len(judged["items"]) > 5
        assert {one.status for one in sent} <= {200, 201}
        assert all(one.due <= one.sent <= one.done for one in sent)
        given = ask(store, select(tables.answers.c.ms).join(tables.rounds).where(tables.rounds.c.player > 8))
        assert [ms for (ms,) in given] == [ms for ms, _ in mind.answers(words.words[_prompt(store)], _seconds(store))]


async def _two_rounds(url: str, mind: Mind, sent: list[Sent]) -> tuple[dict[str, Any], dict[str, Any]]:
    async with open_client(url) as client:
        player = HttpPlayer(client, mind, watch=sent.append)
        await player.come()
        return await player.play(), await player.judge()


def _prompt(store: Store) -> str:
    query = select(tables.prompts.c.prompt).select_from(tables.rounds.join(tables.prompts)).where(tables.rounds.c.player > 8)
    return ask(store, query)[0][0]


def _seconds(store: Store) -> float:
    return ask(store, select(tables.rounds.c.seconds).where(tables.rounds.c.player > 8, tables.rounds.c.mode == "classic"))[0][
        0
    ]


def test_a_crowd_with_the_servers_key_is_marked_as_simulated(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        game = Game(store, rng=Random(0))
        game.prepare()
        key = crowd_key(game.accounts.secret())
        with _serving.running(create_app(game, Settings(keeps=False))) as url:
            minds = cast_of(3, vocabulary(), COMPANY)
            tally = asyncio.run(send_crowd(url, minds, 2, key=key, judging=0.0))
            with pytest.raises(RequestFailed, match="HTTP 403"):
                asyncio.run(send_crowd(url, minds, 1, key=crowd_key("another server's")))
        assert (tally.rounds, tally.judged, tally.failed) == (6, 0, 0)
        n = ask(store, select(tables.rounds.c.player, func.count()).group_by(tables.rounds.c.player))
        assert [number for _, number in n] == [2, 2, 2]
        with game.books.read() as books:
            assert books.n_players_by_kind() == {"simulated": 3}
            assert sum(prompt.n_rounds for prompt in books.prompts()) == 0


def test_a_server_that_is_not_there_fails_plainly() -> None:
    async def come() -> None:
        async with open_client("http://127.0.0.1:9") as client:
            await HttpPlayer(client, Mind("honest", 0, vocabulary())).come()

    with pytest.raises(RequestFailed, match="'guest' with nothing"):
        asyncio.run(come())


# ------------------------------------------------------------------------------------------------------ a store to play on


def test_a_filled_store_counts_right(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        game = Game(store, rng=Random(0))
        assert play_store.found(game.books) is None
        made = play_store.fill(game, 2_000, 50, 15, seed=1)
        assert made == play_store.found(game.books)
        assert made.answers == pytest.approx(2_000, rel=0.1)
        assert (made.players, made.words) == (50, 60)
        joined = tables.rounds.join(tables.answers)
        by_prompt = select(tables.rounds.c.prompt, func.count(tables.rounds.c.player.distinct()), func.count(),
                           func.sum(tables.rounds.c.score_provisional)).group_by(tables.rounds.c.prompt)  # fmt: skip
        counted = {prompt: (players, n, total) for prompt, players, n, total in ask(store, by_prompt)}
        pair = (tables.rounds.c.prompt, tables.answers.c.key)
        given = ask(
            store, select(*pair, func.count()).select_from(joined).where(tables.answers.c.status == "accepted").group_by(*pair)
        )
        pairs = {(prompt, key): n for prompt, key, n in given}
        with game.books.write() as books:
            for prompt in books.prompts():
                assert (prompt.n_players, prompt.n_rounds, prompt.score_sum) == counted.get(prompt.key, (0, 0, 0))
                known = books.pairs(prompt.key)
                assert {(prompt.key, key): row.n_players for key, row in known.items()}.items() <= pairs.items()
                books.recount_players(prompt.key)
                assert books.pairs(prompt.key) == known
                assert {key: row.state for key, row in known.items()} == {
                    key: "validated" if row.n_players >= 3 else "candidate" for key, row in known.items()
                }
            before = [row for row in books.prompts() if row.n_rounds]
            books.recount_prompts([row.key for row in before])
            assert before == [row for row in books.prompts() if row.n_rounds]
        assert len(pairs) == made.pairs


# ------------------------------------------------------------------------------------------------------------- the load


def test_spread_takes_times_that_were_measured() -> None:
    sent = [Sent("report", 0.0, 0.5, (n + 1) / 1000, 200) for n in range(100)] + [Sent("report", 1.0, 1.0, 3.0, 500)]
    found = play._spread(sent)
    assert found["n"] == 101
    assert (found["p50_ms"], found["p95_ms"], found["p99_ms"]) == pytest.approx((51, 96, 100))
    assert found["max_ms"] == pytest.approx(2000)
    assert found["errors"] == 1


def test_rounds_arrive_as_often_as_the_rate_says() -> None:
    size = play.SIZES["small"]
    times = play._arrivals(size, Random(0))
    assert len(times) == 600
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 180


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="no shape 135m"):
        play.bench_play("135m")


def test_play_run_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play.play_postgres, "programs", lambda: None)
    kept = tmp_path / "kept"
    for _ in range(2):
        assert main(["play", "--shape", "tiny", "--threads", "1", "--kept", str(kept), "--out", str(tmp_path)]) == 0
        result = json.loads((tmp_path / "play-tiny.json").read_text())
        assert {"command", "seed", "hardware", "versions", "load_average", "filled", "size"} <= set(result)
        assert result["not_measured"] == ["postgres"]
        found = result["methods"]["sqlite"]
        assert found["errors"] == 0
        assert found["rounds"] + found["rounds_unplayed"] == 10
        assert found["rounds"] >= 1
        n = {name: spread["n"] for name, spread in found["by_request"].items()}
        assert n["issue"] == n["start"] == n["finish"] == n["report"] == n["report_json"] == found["rounds"]
        assert n["answer"] > found["rounds"]
        assert found["cpu_s"]["server"] > 0
        assert "\n".join(lines(result)) in capsys.readouterr().out
    assert result["fill_s"] is None
    assert "| play-tiny | sqlite 3." in write_table(tmp_path, tmp_path / "RESULTS.md")
    with Store.open(kept / "store") as store:
        assert ask(store, select(func.count()).select_from(tables.rounds)) == [(result["filled"]["rounds"],)]


@pytest.mark.slow
def test_play_run_on_postgres(tmp_path: Path) -> None:
    if play.play_postgres.programs() is None:
        pytest.skip("no PostgreSQL here: initdb, pg_ctl and postgres are neither on PATH nor in /usr/lib/postgresql")
    result = play.bench_play("tiny", threads=1, databases=("postgres",))
    found = result["methods"]["postgres"]
    assert (found["errors"], result["not_measured"]) == (0, [])
    assert found["rounds"] >= 1
    assert set(found["cpu_s"]) == {"server", "database"}
