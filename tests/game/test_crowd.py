"""Simulated company: as the desks would have left it, seen by newcomers, and by nobody else."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from reading_making import blobs, kind, location, postgres_socket, shared_database, store
from sqlalchemy import Table, select

from idiolect.game.choosing import N_FEATURED
from idiolect.game.crowd import N_LISTS, N_LISTS_LATER, PAST_S, STYLISED, cast_of, crowd_key, populate
from idiolect.game.desk import Game
from idiolect.game.minds import Mind
from idiolect.game.replaying import READY_S, Play, Replay, beyond_share
from idiolect.game.rules import DAY_ROUNDS, DAY_S, SECONDS
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.serve.security import derived
from idiolect.store.game import tables
from idiolect.store.game.records import Kind
from idiolect.store.store import Store

__all__ = ["blobs", "kind", "location", "postgres_socket", "shared_database", "store"]

BEGAN = 1_800_000_000.0


@dataclass
class Hand:
    """A clock for tests."""

    now: float = BEGAN

    def __call__(self) -> float:
        return self.now


def few(*ids: str) -> Vocabulary:
    """A vocabulary of some of the words that ship."""
    whole = vocabulary()
    return Vocabulary("test", {id: whole.words[id] for id in ids}, {id: whole.seeds[id] for id in ids}, whole.lexicon)


def rows(store: Store, table: Table, *without: str) -> list[dict[str, Any]]:
    with store._rows.read() as connection:
        found = connection.execute(select(table).order_by(table.c.id)).all()
    return [{name: value for name, value in row._mapping.items() if name not in ("id", *without)} for row in found]


def at_the_desk(game: Game, clock: Hand, plays: list[Play], players: dict[int, int]) -> None:
    """The same rounds, one request after another."""
    for play in plays:
        clock.now = play.started_at - READY_S
        row = game.rounds.issue(players[play.player], mode="classic", relations=["mero"])
        clock.now = play.started_at
        row = game.rounds.start(players[play.player], row.round)
        for seq, (ms, text) in enumerate(play.typed):
            clock.now = play.started_at + ms / 1000
            game.rounds.answer(players[play.player], row.round, seq, text, ms)
        assert row.deadline_at is not None
        clock.now = row.deadline_at
        game.rounds.finish(players[play.player], row.round)


@pytest.mark.parametrize("real", [False, True])
def test_a_replay_leaves_what_the_desks_leave(tmp_path: Path, real: bool) -> None:
    words = few("mero:eye")
    kinds: list[Any] = ["honest"] * 22 + ["stylised"] * 3 + ["spammer", "bot"]
    minds = [Mind(kind, seed, words, noise=0.3) for seed, kind in enumerate(kinds)]
    word = words.words["mero:eye"]
    plays = [Play(i, BEGAN + 60 * i, mind.answers(word, SECONDS["mero"])) for i, mind in enumerate(minds)]
    plays.insert(7, Play(98, BEGAN + 60 * 6.5, []))
    plays.insert(
        3, Play(99, BEGAN + 60 * 2.5, [(900, "eyes"), (1500, "Eye-lid"), (2000, "!!"), (2500, "a lens"), (3000, "LENSES")])
    )
    replay = Replay(word, words, real=real)
    for play in plays:
        replay.play(play)
    assert len({played.values["player"] for played in replay.rounds}) == len(plays)
    clock = Hand()
    with Store.open(tmp_path / "desk") as desk:
        game = Game(desk, clock=clock, rng=Random(1), words=words)
        game.prepare()
        kind: Kind = "guest" if real else "simulated"
        with game.books.write() as books:
            players = {play.player: books.add_player(f"p{play.player}", kind, BEGAN).key for play in plays}
        at_the_desk(game, clock, plays, players)
        found = [dict(row, player=next(p for p, key in players.items() if key == row["player"])) for row in
                 rows(desk, tables.rounds, "round", "prompt", "bonus")]  # fmt: skip
        made = [{**played.values, "n_accepted": len(played.keys)} for played in replay.rounds]
        assert [dict(sorted(row.items())) for row in made] == [dict(sorted(row.items())) for row in found]
        assert [answer for played in replay.rounds for answer in played.answers] == rows(desk, tables.answers, "round")
        pairs = rows(desk, tables.pairs, "prompt", "decided", "challenged", "yes_w", "no_w", "n_judges", "p_valid")
        assert sorted(replay.pairs(), key=lambda row: row["key"]) == sorted(pairs, key=lambda row: row["key"])
        (prompt,) = rows(desk, tables.prompts)
        assert replay.prompt().items() <= prompt.items()
        trust = {row["player"]: row["trust_a"] for row in rows(desk, tables.players)}
        for play in plays:
            assert trust[f"p{play.player}"] == pytest.approx(4 + 0.2 * replay.validated[play.player])
    if real:
        assert sum(row["state"] == "validated" for row in replay.pairs()) >= 5
        assert sum(row["gained"] > 0 for row in found) >= 3
        assert any("patterns" in row["flags"] for row in found)


def test_a_player_has_one_first_round_on_a_base_word() -> None:
    words = few("mero:eye")
    replay = Replay(words.words["mero:eye"], words, real=True)
    replay.play(Play(1, BEGAN, [(900, "lens")]))
    with pytest.raises(ValueError, match="has a round on mero:eye"):
        replay.play(Play(1, BEGAN + 60, [(900, "lid")]))


def test_company_for_the_first_words_of_every_relation(store: Store) -> None:
    words = vocabulary()
    game = Game(store, clock=Hand(), rng=Random(0))
    told: list[tuple[int, int]] = []
    made = populate(game, 16, 3, on_progress=lambda *step: told.append(step))
    assert (len(made.players), made.n_words, made.n_rounds, told[-1]) == (16, 12, 12 * N_LISTS, (12, 12))
    with game.books.read() as books:
        prompts = {p.prompt: p for p in books.prompts()}
        asked = [prompts[word.id] for relation in ("syn", "ant", "hypo", "mero") for word in words.of(relation)[:3]]
        for prompt in asked:
            given = books.given(prompt.key, None)
            assert (given.n_real, given.real) == (0, {})
            assert N_LISTS - 3 <= given.n_simulated <= N_LISTS
            pairs = books.pairs(prompt.key)
            assert set(given.simulated) <= set(pairs)
            assert {(pair.n_players, pair.state) for pair in pairs.values()} == {(0, "candidate")}
        assert {(p.n_players, p.n_rounds, p.score_sum) for p in prompts.values()} == {(0, 0, 0.0)}
        assert books.n_players_by_kind() == {"simulated": 16}
    rounds = rows(store, tables.rounds)
    assert all(BEGAN - PAST_S - DAY_S < row["served_at"] < row["closed_at"] < BEGAN for row in rounds)
    assert all(row["score_final"] == row["score_provisional"] and row["beyond"] == 0 for row in rounds)
    assert statistics.mean(row["score_final"] for row in rounds) > 100
    players = rows(store, tables.players)
    assert all(row["created"] < row["last_played"] < BEGAN for row in players)


def test_company_comes_once_and_is_the_same_for_a_seed(tmp_path: Path) -> None:
    def fill(folder: str, seed: int) -> list[list[dict[str, Any]]]:
        with Store.open(tmp_path / folder) as store:
            game = Game(store, clock=Hand(), rng=Random(5))
            assert populate(game, 5, 1, seed=seed).n_rounds == 20
            found = [rows(store, table) for table in (tables.players, tables.rounds, tables.answers, tables.pairs)]
            assert populate(game, 9, 1, seed=seed).players == ()
            assert found == [rows(store, table) for table in (tables.players, tables.rounds, tables.answers, tables.pairs)]
            assert len(populate(game, 3, 1, seed=seed + 1, again=True).players) == 3
            return found

    first = fill("a", 0)
    assert first == fill("b", 0)
    assert first != fill("c", 7)


def test_everybody_plays_about_as_often(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        game = Game(store, clock=Hand(), rng=Random(0), words=_many())
        made = populate(game, 20, N_FEATURED + 5)
        n = [sum(row["player"] == key for row in rows(store, tables.rounds)) for key in made.players]
        assert sum(n) == made.n_rounds == N_FEATURED * N_LISTS + 5 * N_LISTS_LATER
        assert max(n) - min(n) <= 2


def _many() -> Vocabulary:
    return few(*(word.id for word in vocabulary().of("mero")[: N_FEATURED + 5]))


def test_a_newcomer_is_compared_with_simulated_players_until_there_are_people(tmp_path: Path) -> None:
    words = few("mero:eye")
    clock = Hand()
    with Store.open(tmp_path / "store") as store:
        game = Game(store, clock=clock, rng=Random(0), words=words)
        populate(game, 12, 1)
        assert game.accounts.seated("").simulated
        newcomer = _play(game, clock, "lens", "eyelid", "zebra")
        assert (newcomer.n_real, newcomer.n_simulated, newcomer.provisional) == (0, 12, True)
        percents = {line.key: line.percent for line in newcomer.lines}
        assert percents["zebra"] == 0
        assert max(other.percent for other in newcomer.top) >= 25
        assert newcomer.score > 0
        for _ in range(4):
            assert _play(game, clock, "lens").n_simulated == 12
        sixth = _play(game, clock, "lens")
        assert (sixth.n_real, sixth.n_simulated, sixth.provisional) == (5, 0, False)
        assert [row["settled_at"] for row in rows(store, tables.rounds)[:12]] == [None] * 12
        assert [(board.places, board.own) for board in map(game.boards.board, ("mean", "total", "rounds", "streak"))] == (
            [((), None)] * 4
        )
        _share(store)
        release = game.exports.release(tmp_path)
        published = "".join(path.read_text() for path in release.folder.iterdir() if path.suffix in (".tsv", ".jsonl"))
        assert release.rows["pairs.tsv"] == 1
        assert "lens" in published
        simulated = {row["key"] for row in rows(store, tables.pairs) if row["n_players"] == 0}
        assert len(simulated) > 10
        answers = [line.split("\t")[2] for line in published.splitlines() if line.count("\t") > 3]
        assert simulated.isdisjoint(answers)


def _play(game: Game, clock: Hand, *texts: str) -> Any:
    player = game.accounts.guest()
    row = game.rounds.issue(player.key, mode="classic")
    game.rounds.start(player.key, row.round)
    for seq, text in enumerate(texts):
        clock.now += 1
        game.rounds.answer(player.key, row.round, seq, text, 1000 * seq)
    clock.now += 1
    return game.rounds.finish(player.key, row.round)


def _share(store: Store) -> None:
    """People agree to be counted in releases."""
    with store.game.write() as books:
        for row in range(1, 100):
            player = books.find_player(row)
            if player is not None and player.is_real:
                books.change_player(row, consent_aggregate=BEGAN)


def test_a_stylised_cast_has_spammers_in_it(tmp_path: Path) -> None:
    minds = cast_of(20, vocabulary(), STYLISED)
    assert [sum(mind.kind == kind for mind in minds) for kind in ("stylised", "spammer", "bot")] == [16, 2, 2]
    assert len({(mind.kind, mind.seed) for mind in minds}) == 20
    with Store.open(tmp_path) as store:
        game = Game(store, clock=Hand(), rng=Random(0), words=few("mero:eye"))
        made = populate(game, 10, 1, shares=STYLISED)
        assert [mind.kind for mind in made.minds].count("stylised") == 8
        flags = {row["player"]: row["flags"] for row in rows(store, tables.rounds)}
        bot = made.players[[mind.kind for mind in made.minds].index("bot")]
        assert '"alphabetical"' in flags[bot]
        assert '"fast"' in flags[bot]


def test_rounds_beyond_a_days_share() -> None:
    day = [BEGAN - BEGAN % DAY_S + 60 * i for i in range(DAY_ROUNDS + 2)]
    assert beyond_share({1: day, 2: day[:DAY_ROUNDS], 3: [*day[:DAY_ROUNDS], day[0] + DAY_S]}) == {1: set(day[DAY_ROUNDS:])}


def test_the_key_of_the_crowd_is_of_the_servers_secret() -> None:
    assert crowd_key("a") == derived("a", "simulated").hex()
    assert crowd_key("a") != crowd_key("b")
