"""Releases and what players are given of their own."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from reading_making import NOON, WORDS, Crowd, blobs, kind, location, postgres_socket, shared_database, store  # noqa: F401

from idiolect.errors import ConfigError, StoreBusy, StoreError
from idiolect.game.exports import NEGATIVES, PAIRS, Exports, _row
from idiolect.game.moderating import Moderation
from idiolect.relations.readers import read_game

BIKE, BIRD, SPORT = "mero:bicycle", "hypo:bird", "hypo:sport"
CANARY = "zyzzyvas"


@pytest.fixture
def crowd(store: Any) -> Crowd:  # noqa: F811
    return Crowd(store)


@pytest.fixture
def exports(crowd: Crowd) -> Exports:
    return Exports(crowd.store.game, WORDS, lambda: crowd.now)


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def answers(folder: Path) -> set[tuple[str, str]]:
    return {(row["base"], row["answer"]) for row in table(folder, "pairs.tsv")}


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_pair_is_published_from_the_fifth_player_on(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    five = crowd.players(5)
    for player in five:
        crowd.round(player, BIKE, ["wheel", "bell"] if player is not five[0] else ["wheel", CANARY])
    made = exports.release(tmp_path)
    assert answers(made.folder) == {("bicycle", "wheel")}
    (row,) = table(made.folder, "pairs.tsv")
    assert tuple(row) == PAIRS
    assert row == {
        "relation": "mero", "base": "bicycle", "answer": "wheel", "n_players": "5", "U": "5", "freq": "1.0000", "n_yes": "",
        "n_no": "", "p_valid": "", "in_wn30": "1", "depth": str(WORDS.seeds[BIKE]["wheel"]), "oov": "0",
        "first_month": "2025-03", "rules_version": "1",
    }  # fmt: skip
    (line,) = map(json.loads, (made.folder / "distributions.jsonl").read_text().splitlines())
    assert (line["U"], line["given"], line["other"]) == (5, {"wheel": 5}, 5)
    assert CANARY.encode() not in everything(made.folder)
    assert made.rows == {"pairs.tsv": 1, "negatives.tsv": 0, "distributions.jsonl": 1}


def test_a_larger_k_holds_more_back_and_a_smaller_one_is_refused(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    for player in crowd.players(5):
        crowd.round(player, BIKE, ["wheel"])
    assert not answers(exports.release(tmp_path, k=6).folder)
    with pytest.raises(ConfigError, match="k is 4"):
        exports.release(tmp_path, k=4)


@pytest.mark.parametrize(
    ("kind_", "values"),
    [
        ("account", {"consent_aggregate": None}),
        ("simulated", {}),
        ("account", {"trust_b": 9.0}),
        ("account", {"state": "banned"}),
    ],
)
def test_nobody_else_is_counted(crowd: Crowd, exports: Exports, tmp_path: Path, kind_: str, values: dict[str, Any]) -> None:
    for player in crowd.players(4):
        crowd.round(player, BIKE, ["wheel"])
    for player in crowd.players(3, "q", kind_, **values):
        crowd.round(player, BIKE, ["wheel"])
    assert not answers(exports.release(tmp_path).folder)
    crowd.round(crowd.player("last"), BIKE, ["wheel", "seat"])
    (row,) = table(exports.release(tmp_path).folder, "pairs.tsv")
    assert (row["n_players"], row["U"]) == ("5", "5")


def test_pasted_answers_repeats_and_second_rounds_are_not_counted(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    *four, last = crowd.players(5)
    for player in four:
        crowd.round(player, BIKE, ["wheel"])
    crowd.round(last, BIKE, ["seat", "wheel"], pasted=["wheel"])
    crowd.round(last, BIKE, ["wheel"], repeat=True)
    crowd.round(last, BIKE, ["wheel"])
    assert not answers(exports.release(tmp_path).folder)


@pytest.mark.parametrize("change", [{"state": "blocked"}, {"review": True}, {"decided": "blocked"}, {"decided": "hidden"}])
def test_what_moderators_keep_back_is_kept_back(crowd: Crowd, exports: Exports, tmp_path: Path, change: dict[str, Any]) -> None:
    for player in crowd.players(5):
        crowd.round(player, BIKE, ["wheel"])
    with crowd.store.game.write() as books:
        asked = books.prompt_named(BIKE)
        assert asked is not None
        books.change_pair(books.pairs(asked.key)["wheel"].key_, **change)
    assert not answers(exports.release(tmp_path).folder)


def test_refused_pairs_and_distractors_are_negatives(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    players = crowd.players(6)
    for player in players:
        crowd.round(player, BIKE, ["wheel", "seat"])
        crowd.round(player, "mero:tree", ["leaf", "wheel"])
        crowd.judge(player, BIKE, [("soul", "no"), (CANARY, "no"), ("chain", "yes")])
        crowd.judge(player, SPORT, [("idea", "no")], kind="gold_neg")
    made = exports.release(tmp_path)
    rows = table(made.folder, "negatives.tsv")
    assert tuple(rows[0]) == NEGATIVES
    judged = [row for row in rows if row["kind"] == "judged"]
    assert [(row["base"], row["answer"], row["n_yes"], row["n_no"]) for row in judged] == [("bicycle", "soul", "0", "6")]
    assert float(judged[0]["p_valid"]) == pytest.approx(1 / 6.8, abs=1e-4)
    drawn = {(row["base"], row["answer"]) for row in rows if row["kind"] == "distractor"}
    assert drawn == {("bicycle", "leaf"), ("tree", "seat")}  # not published of these bases; "wheel" is of both
    assert all(row["p_valid"] == "" for row in rows if row["kind"] == "distractor")
    assert CANARY.encode() not in everything(made.folder)


def test_distractors_pass_over_what_is_published_and_nothing_else(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    private = crowd.player("private", consent_aggregate=None)
    for player in crowd.players(5):
        crowd.round(player, BIKE, ["wheel"])
        crowd.round(player, "mero:tree", ["leaf"])
    crowd.round(private, BIKE, ["leaf"])
    made = exports.release(tmp_path)
    drawn = {(row["base"], row["answer"]) for row in table(made.folder, "negatives.tsv") if row["kind"] == "distractor"}
    assert drawn == {("bicycle", "leaf"), ("tree", "wheel")}, "that one player gave it is not to be seen"


def test_nobody_can_draw_the_distractors_again(crowd: Crowd, tmp_path: Path) -> None:
    with crowd.at_once():
        for player in crowd.players(5):
            crowd.round(player, BIKE, ["wheel"])
            crowd.round(player, "mero:tree", [f"leaf {letter}" for letter in "abcdefghijklmnop"])
    seeds = (1, 3, 1, None)
    drawn = []
    for n, seed in enumerate(seeds):
        rng = None if seed is None else Random(seed)
        made = Exports(crowd.store.game, WORDS, lambda: crowd.now, rng).release(tmp_path / f"out{n}")
        drawn.append([row["answer"] for row in table(made.folder, "negatives.tsv") if row["base"] == "bicycle"])
    assert [len(found) for found in drawn] == [1, 1, 1, 1]
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1], "the lot hangs on nothing that is published"


def test_votes_of_few_are_not_published(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    players = crowd.players(5)
    for player in players:
        crowd.round(player, BIKE, ["wheel"])
    for n, player in enumerate(players):
        (row,) = table(exports.release(tmp_path).folder, "pairs.tsv")
        assert (row["n_yes"], row["n_no"], row["p_valid"]) == ("", "", ""), f"{n} judged it"
        crowd.judge(player, BIKE, [("wheel", "yes")])
    made = exports.release(tmp_path)
    (row,) = table(made.folder, "pairs.tsv")
    assert (row["n_yes"], row["n_no"], row["p_valid"]) == ("5", "0", "0.8333")
    assert {link.label for link in read_game(tmp_path / "nyms-1" / "pairs.tsv")} == {"mero"}


def test_votes_of_running_and_skipped_rounds_are_not_published(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    players = crowd.players(6)
    for player in players:
        crowd.round(player, BIKE, ["wheel"])
    rounds = [crowd.judge(player, BIKE, [("soul", "no")]) for player in players]
    for name, change in (
        (rounds[0], {"closed_at": None, "close_reason": None}),
        (rounds[1], {"close_reason": "skipped"}),
    ):
        with crowd.store.game.write() as books:
            books.change_round(books.round(name).key, **change)  # type: ignore[union-attr]
    assert table(exports.release(tmp_path).folder, "negatives.tsv") == [], "four votes are no five"
    with crowd.store.game.write() as books:
        books.change_round(books.round(rounds[1]).key, close_reason="expired")  # type: ignore[union-attr]
    (row,) = table(exports.release(tmp_path).folder, "negatives.tsv")
    assert (row["answer"], row["n_no"]) == ("soul", "5")


def test_classifiers_read_what_is_written(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    for player in crowd.players(5):
        crowd.round(player, BIKE, ["wheel"])
        crowd.round(player, "mero:tree", ["leaf"])
        crowd.judge(player, BIKE, [("soul", "no")])
    made = exports.release(tmp_path)
    links = read_game(made.folder / "pairs.tsv")
    assert {(link.base, link.answer, link.label) for link in links} >= {("bicycle", "wheel", "mero"), ("tree", "leaf", "mero")}
    assert len(read_game(made.folder / "negatives.tsv")) >= 2


def test_a_release_is_checked_and_on_record(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    for player in crowd.players(5):
        crowd.round(player, BIKE, ["wheel"])
    made = exports.release(tmp_path)
    sums = (made.folder / "SHA256SUMS").read_bytes()
    for line in sums.decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((made.folder / name).read_bytes()).hexdigest() == digest
    assert sums.decode().count("\n") == 4
    with crowd.store.game.read() as books:
        (release,) = books.releases()
    assert (release.release, release.k_min, release.n_rows, release.digest) == (
        "nyms-1",
        5,
        2,
        hashlib.sha256(sums).hexdigest(),
    )
    assert exports.release(tmp_path).release == "nyms-2"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store" and path.name != "blobs") == [
        "nyms-1",
        "nyms-2",
    ]
    assert (tmp_path / "nyms-1" / "pairs.tsv").read_bytes() == (tmp_path / "nyms-2" / "pairs.tsv").read_bytes()


def test_a_folder_that_is_there_is_left_alone_and_nothing_is_on_record(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "nyms-1").mkdir()
    with pytest.raises(StoreError, match="'nyms-1'"):
        exports.release(tmp_path)
    assert not list((tmp_path / "nyms-1").iterdir())
    assert not list(tmp_path.glob(".release-*"))
    with crowd.store.game.read() as books:
        assert books.releases() == []


def test_who_left_is_in_no_later_release(crowd: Crowd, exports: Exports, tmp_path: Path) -> None:
    gone = crowd.player("canary-id", handle="Canary Handle", handle_key="canary handle")
    for player in [gone, *crowd.players(4)]:
        crowd.round(player, BIKE, ["wheel", CANARY])
    first = exports.release(tmp_path)
    assert ("bicycle", CANARY) in answers(first.folder)
    crowd.now += 60
    with crowd.store.game.write() as books:
        books.delete_player(gone.key, crowd.now)
    for player in crowd.players(2, "later"):
        crowd.round(player, BIKE, ["wheel"])
    second = exports.release(tmp_path)
    assert answers(second.folder) == {("bicycle", "wheel")}
    whole = everything(second.folder).lower()
    assert not any(word in whole for word in (CANARY.encode(), b"canary-id", b"canary handle"))
    said = (second.folder / "card.md").read_text()
    assert "since `nyms-1`: 1 player had everything of theirs removed" in said
    assert "whoever left the game" in said, "not only those who were in a release"


def test_who_takes_consent_back_while_it_is_written_is_not_in_it(crowd: Crowd, tmp_path: Path) -> None:
    players = crowd.players(5)
    for player in players:
        crowd.round(player, BIKE, ["wheel"])
    calls = []

    class Between(Exports):
        def _put(self, *given: Any) -> bool:
            if not calls:
                with crowd.store.game.write() as books:
                    books.change_player(players[0].key, consent_aggregate=None)
            calls.append(1)
            return super()._put(*given)

    made = Between(crowd.store.game, WORDS, lambda: crowd.now).release(tmp_path)
    assert len(calls) == 2
    assert not answers(made.folder)

    class Always(Exports):
        def _put(self, *given: Any) -> bool:
            crowd.now += 1
            with crowd.store.game.write() as books:
                books.delete_player(crowd.player(f"x{len(calls)}").key, crowd.now)
            calls.append(1)
            return super()._put(*given)

    with pytest.raises(StoreBusy, match="try again"):
        Always(crowd.store.game, WORDS, lambda: crowd.now).release(tmp_path)
    assert not list(tmp_path.glob(".release-*"))


@pytest.mark.parametrize("what", ["round", "judgement", "pair", "player"])
def test_what_goes_while_a_release_is_written_is_not_in_it(crowd: Crowd, tmp_path: Path, what: str) -> None:
    *four, last = crowd.players(5)
    for player in (*four, last):
        given = crowd.round(player, BIKE, ["wheel"])
        judged = crowd.judge(player, BIKE, [("soul", "no")])
    moderator = crowd.player("mod", moderator=True, consent_aggregate=None)
    desk = Moderation(crowd.store.game, WORDS, lambda: crowd.now)
    with crowd.store.game.read() as books:
        wheel = books.pairs(books.prompt_named(BIKE).key)["wheel"].key_  # type: ignore[union-attr]

    def happens() -> None:
        if what == "pair":
            desk.block(moderator, wheel)
        elif what == "player":
            desk.limit(moderator, last.player, "banned")
        else:
            with crowd.store.game.write() as books:
                rows = {"round": books.round(given), "judgement": books.round(judged)}
                if what == "round":
                    books.change_round(rows["round"].key, player=moderator.key)  # type: ignore[union-attr]
                else:
                    books.judge([(one.key_, None, None) for one in books.judgements(rows[what].key)], NOON)  # type: ignore[union-attr]

    calls = []

    class Between(Exports):
        def _put(self, *given: Any) -> bool:
            if not calls:
                happens()
            calls.append(1)
            return super()._put(*given)

    made = Between(crowd.store.game, WORDS, lambda: crowd.now).release(tmp_path)
    assert len(calls) == 2
    refused = [row["answer"] for row in table(made.folder, "negatives.tsv") if row["kind"] == "judged"]
    assert (answers(made.folder), refused) == (
        {("bicycle", "wheel")} if what == "judgement" else set(),
        ["soul"] if what in ("round", "pair") else [],
    )


def test_no_cell_breaks_the_table_or_is_a_formula() -> None:
    line = _row(["=1+1", "-x", "@a", "+b", "a\tb\nc\r\u2028d", 7, "it's"])
    assert line == "'=1+1\t'-x\t'@a\t'+b\ta b c  d\t7\tit's\n"


def test_players_get_everything_of_theirs_and_nothing_of_others(crowd: Crowd, exports: Exports) -> None:
    ana, ben = crowd.player("ana"), crowd.player("ben")
    for n in range(3):
        crowd.round(ana, [BIKE, BIRD, SPORT][n], ["wheel", CANARY], flags='{"pioneer": 40}')
    crowd.judge(ana, SPORT, [("chess", "no")])
    crowd.round(ben, BIKE, ["horn"])
    with crowd.store.game.write() as books:
        asked = books.prompt_named(BIKE)
        assert asked is not None
        books.add_pass(ana.key, asked.key, NOON, 900)
        books.add_notice(ana.key, "settled", {"gained": 80}, NOON)
        books.add_session("secret-token-hash", ana.key, NOON)
        books.put_portrait(ana.key, "done", NOON, {"words": []})
        books.add_challenge(books.pairs(asked.key)["wheel"].key_, ana.key, "It turns.", NOON)
    parts = list(exports.everything(ana.key))
    whole = b"".join(parts)
    said = json.loads(whole)
    assert said["player"]["player"] == "ana"
    assert said["player"]["consent_personal"] == 1.0
    assert [one["prompt"] for one in said["rounds"]][:3] == [BIKE, BIRD, SPORT]
    assert [answer["raw"] for answer in said["rounds"][0]["answers"]] == ["Wheel ", "Zyzzyvas "]
    assert said["rounds"][0]["flags"] == {"pioneer": 40}
    assert [(one["prompt"], one["key"], one["verdict"]) for one in said["judgements"]] == [(SPORT, "chess", "no")]
    assert [one["ms"] for one in said["passes"]] == [900]
    assert said["notices"][0]["body"] == {"gained": 80}
    assert [(one["prompt"], one["answer"], one["sentence"]) for one in said["challenges"]] == [(BIKE, "wheel", "It turns.")]
    assert said["portraits"][0]["state"] == "done"
    assert said["complaints"] == []
    assert len(said["sessions"]) == 1
    assert not any(word in whole for word in (b"horn", b"ben", b"argon2-hash", b"secret-token-hash"))
    assert len(parts) > 10
    assert json.loads(b"".join(exports.everything(ben.key)))["rounds"][0]["answers"][0]["key"] == "horn"


def test_nobody_reads_ahead_in_their_own_export(crowd: Crowd, exports: Exports) -> None:
    ana = crowd.player("ana")
    crowd.round(ana, BIKE, ["wheel"])
    over = crowd.judge(ana, SPORT, [("chess", "yes")], kind="gold_pos")
    crowd.judge(ana, SPORT, [("polo", "no"), ("golf", "no")], kind="gold_neg")
    ahead = crowd.round(ana, BIRD, [])
    with crowd.store.game.write() as books:
        running = books.round("judge1740916800000003")
        assert running is not None
        books.change_round(running.key, closed_at=None, close_reason=None)
        books.change_round(books.round(ahead).key, started_at=None, closed_at=NOON, close_reason="abandoned")  # type: ignore[union-attr]

    def said() -> dict[str, Any]:
        return json.loads(b"".join(exports.everything(ana.key)))

    assert [(one["key"], one["kind"]) for one in said()["judgements"]] == [("chess", "gold_pos")]
    assert BIRD not in {one["prompt"] for one in said()["rounds"]}, "its base word was not shown yet"
    with crowd.store.game.write() as books:
        books.change_round(running.key, closed_at=NOON, close_reason="finished")
        books.change_round(books.round(ahead).key, started_at=NOON)  # type: ignore[union-attr]
    assert [one["key"] for one in said()["judgements"]] == ["chess", "polo", "golf"]
    assert BIRD in {one["prompt"] for one in said()["rounds"]}
    assert over


def test_a_complaint_names_no_answer_that_is_hidden(crowd: Crowd, exports: Exports) -> None:
    ana, *others = crowd.players(6)
    for other in others:
        crowd.round(other, BIKE, ["wheel"])
    crowd.round(others[0], BIKE, [CANARY], mode="my_view")
    with crowd.store.game.write() as books:
        known = books.pairs(books.prompt_named(BIKE).key)  # type: ignore[union-attr]
        for key in ("wheel", CANARY):
            books.add_complaint(known[key].key_, ana.key, NOON)

    def named() -> list[str | None]:
        return [one["answer"] for one in json.loads(b"".join(exports.everything(ana.key)))["complaints"]]

    assert named() == ["wheel", None]
    with crowd.store.game.write() as books:
        books.change_pair(known["wheel"].key_, review=True)
    assert named() == [None, None]


def test_long_histories_come_in_pages(crowd: Crowd, exports: Exports) -> None:
    ana = crowd.player("ana")
    names = [crowd.round(ana, prompt, ["wheel"]) for prompt in list(WORDS.words)[:205]]
    said = json.loads(b"".join(exports.everything(ana.key)))
    assert [one["round"] for one in said["rounds"]] == names
