"""Rounds by the server's clock, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from random import Random

import pytest
from game_making import BICYCLE, Table, small

from idiolect.errors import StoreBusy
from idiolect.game import choosing, rules
from idiolect.game.clock import server_clock
from idiolect.game.desk import Game
from idiolect.game.refusals import BadAnswer, NotYours, OneOpenRound, RoundClosed, TooMany
from idiolect.store.game.records import PromptRow
from idiolect.store.store import Store


@pytest.fixture
def table(store: Store) -> Table:
    return Table(store)


# ------------------------------------------------------------------------------------------------------------- one round


def test_a_round_of_eight_others_scores_as_in_the_example(table: Table) -> None:
    answers = {"wheel": 8, "seat": 6, "chain": 5, "bell": 1}
    for i in range(8):
        table.play(table.player(f"p{i}"), *(word for word, n in answers.items() if i < n))
    for i in range(3):  # eleven closed rounds before the twelfth
        table.play(table.player(f"silent{i}"))
    report = table.play(table.player("me"), "Wheels", "the seat", "wheel", "bicycle", "spokes", "soul")
    assert [(line.key, line.status, line.points) for line in report.lines] == [
        ("wheel", "accepted", 150),
        ("seat", "accepted", 75),
        ("wheel", "duplicate", 0),
        ("bicycle", "echo", 0),
        ("spoke", "accepted", 50),
        ("soul", "accepted", 0),
    ]
    assert (report.score, report.pioneer, report.n_others, report.provisional) == (275, 0, 8, False)
    assert [(other.key, other.percent, other.mine) for other in report.top] == [
        ("wheel", 100, True),
        ("seat", 75, True),
        ("chain", 63, False),
    ], "the bell, which one player gave and no dictionary knows as a part, is not shown"
    assert [other.key for other in report.missed] == ["chain"]
    assert report.only_you == ("spokes", "soul")


def test_the_fifth_other_settles_a_provisional_round(table: Table) -> None:
    me = table.player("me")
    first = table.play(me, "wheel", "basket")
    assert (first.score, first.provisional, first.pioneer) == (50 + 40, True, 40)
    table.crowd(4, "basket", "seat")
    assert table.game.rounds.report(me.key, first.round.round).provisional
    table.crowd(1, "basket", start=9)
    settled = table.game.rounds.report(me.key, first.round.round)
    assert not settled.provisional
    assert (settled.score, settled.round.gained, settled.round.n_agreed) == (190, 100, 5)
    assert [line.points for line in settled.lines] == [50, 100]
    with table.game.books.write() as books:
        (notice,) = books.take_notices(me.key, table.clock())
        assert notice.body == {"round": first.round.round, "prompt": "mero:bicycle", "gained": 100, "n_agreed": 5}
        assert books.take_notices(me.key, table.clock()) == []
    table.crowd(3, "horn", start=20)
    assert table.game.rounds.report(me.key, first.round.round) == settled, "a settled round stays as it is"


def test_settling_never_takes_points_away(table: Table) -> None:
    table.crowd(8, "wheel", kind="simulated")
    me = table.player("me")
    first = table.play(me, "wheel")
    assert (first.n_real, first.n_simulated) == (0, 8)
    assert first.score == 150 + 40
    table.crowd(5, "seat")
    settled = table.game.rounds.report(me.key, first.round.round)
    assert (settled.score, settled.round.gained, settled.provisional) == (190, 0, False)


def test_real_players_take_the_place_of_simulated_ones(table: Table) -> None:
    table.crowd(6, "wheel", kind="simulated")
    table.crowd(5, "seat")
    report = table.play(table.player("me"), "wheel", "seat")
    assert (report.n_real, report.n_simulated) == (5, 0)
    assert [line.percent for line in report.lines] == [0, 100]


def test_nobody_scores_by_their_own_earlier_rounds(table: Table) -> None:
    table.crowd(5, "seat")
    me = table.player("me")
    first = table.play(me, "bell")
    again = table.play(me, "bell")
    assert again.round.repeat
    assert [line.percent for line in (*first.lines, *again.lines)] == [0, 0]
    with table.game.books.read() as books:
        assert not books.round(again.round.round).counts  # type: ignore[union-attr]
        assert books.prompts("mero")[0].n_players == 6


def test_players_of_little_trust_do_not_count(table: Table) -> None:
    table.crowd(5, "seat")
    liar = table.player("liar", trust_a=1.0, trust_b=3.0)
    table.play(liar, "bell")
    report = table.play(table.player("me"), "bell")
    assert report.n_others == 5
    assert report.lines[0].percent == 0


def test_pasted_answers_earn_nothing_and_pasted_rounds_count_for_nobody(table: Table) -> None:
    table.crowd(5, "seat")
    report = table.play(table.player("paster"), "seat", "wheel", pasted=True)
    assert [(line.status, line.points) for line in report.lines] == [("pasted", 0), ("pasted", 0)]
    assert table.play(table.player("me"), "seat").n_others == 5


def test_rounds_beyond_the_day_are_marked(table: Table) -> None:
    me = table.player("me")
    for _ in range(rules.DAY_ROUNDS):
        assert not table.play(me, "bell").round.beyond
    assert table.play(me, "bell").round.beyond
    table.clock.tick(rules.DAY_S)
    assert not table.play(me, "bell").round.beyond


# ------------------------------------------------------------------------------------------------------------- the clock


def test_answers_count_until_a_moment_after_the_deadline(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic")
    table.clock.tick(500)  # reading the rules takes no time from the round
    started = table.game.rounds.start(me.key, round.round)
    assert started.deadline_at == table.clock() + 20
    table.clock.tick(20 + rules.GRACE_S)
    assert table.game.rounds.answer(me.key, round.round, 0, "wheel").status == "accepted"
    table.clock.tick(0.001)
    assert table.game.rounds.answer(me.key, round.round, 1, "seat").status == "late"
    report = table.game.rounds.finish(me.key, round.round)
    assert [(line.status, line.points) for line in report.lines] == [("accepted", 50), ("late", 0)]


def test_finishing_twice_gives_one_report(table: Table) -> None:
    me = table.player("me")
    report = table.play(me, "wheel")
    table.clock.tick(3)
    assert table.game.rounds.finish(me.key, report.round.round, ["seat"]) == report


@pytest.mark.parametrize("timing", ["1x", "2x", "10x", "off"])
def test_time_is_chosen_before_the_round(table: Table, timing: rules.Timing) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic", timing=timing)
    assert round.seconds == {"1x": 20, "2x": 40, "10x": 200, "off": None}[timing]
    table.game.rounds.start(me.key, round.round)
    table.clock.tick(199)
    late = timing in ("1x", "2x")
    assert table.game.rounds.answer(me.key, round.round, 0, "wheel").status == ("late" if late else "accepted")


def test_starting_again_does_not_stop_the_clock(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic")
    first = table.game.rounds.start(me.key, round.round)
    table.clock.tick(7)
    assert table.game.rounds.start(me.key, round.round) == first


def test_the_server_closes_what_nobody_finishes(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic")
    table.game.rounds.start(me.key, round.round)
    table.game.rounds.answer(me.key, round.round, 0, "wheel")
    table.clock.tick(20 + rules.CLOSE_S)
    assert table.game.rounds.close_overdue() == 0
    table.clock.tick(0.1)
    assert table.game.rounds.close_overdue() == 1
    report = table.game.rounds.report(me.key, round.round)
    assert (report.round.close_reason, report.score) == ("expired", 90)
    with pytest.raises(RoundClosed):
        table.game.rounds.answer(me.key, round.round, 1, "seat")


def test_a_server_that_was_gone_settles_what_was_running(table: Table, store: Store) -> None:
    others = table.crowd(4, "seat")
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic")
    table.game.rounds.start(me.key, round.round)
    table.game.rounds.answer(me.key, round.round, 0, "seat")
    table.clock.tick(3600)
    again = table.open()  # nothing of the first process is left but the store
    assert again.rounds.close_overdue() == 1
    report = again.rounds.report(me.key, round.round)
    assert [(line.key, line.status) for line in report.lines] == [("seat", "accepted")]
    again_me = table.player("fifth")
    table.play(again_me, "bell")
    with table.game.books.read() as books:
        assert books.last_rounds(others[0].key, 1)[0].score_final is not None


def test_the_clock_goes_on_evenly_when_the_computers_time_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = [1000.0], [50.0]
    monkeypatch.setattr("time.time", lambda: wall[0])
    monkeypatch.setattr("idiolect.game.clock._steady", lambda: steady[0])
    clock = server_clock()
    wall[0], steady[0] = 400.0, 53.0
    assert clock() == 1003.0


# ------------------------------------------------------------------------------------------------------------- refusals


def test_rounds_of_others_are_not_there(table: Table) -> None:
    me, other = table.player("me"), table.player("other")
    round = table.game.rounds.issue(me.key, mode="classic")
    for name in (round.round, "no-such-round", "\0", "\ud800"):
        with pytest.raises(NotYours):
            table.game.rounds.start(other.key, name)
    with pytest.raises(NotYours):
        table.game.rounds.report(other.key, round.round)


def test_a_player_has_one_open_round(table: Table) -> None:
    me = table.player("me")
    first = table.game.rounds.issue(me.key, mode="classic")
    second = table.game.rounds.issue(me.key, mode="classic")  # the first was never seen
    assert table.game.rounds.current(me.key) == second
    with pytest.raises(RoundClosed):
        table.game.rounds.start(me.key, first.round)
    table.game.rounds.start(me.key, second.round)
    with pytest.raises(OneOpenRound) as refused:
        table.game.rounds.issue(me.key, mode="classic")
    assert refused.value.round == second.round
    table.clock.tick(100)
    third = table.game.rounds.issue(me.key, mode="classic")
    assert table.game.rounds.report(me.key, second.round).round.close_reason == "expired"
    assert table.game.rounds.current(me.key) == third


def test_a_number_holds_one_answer(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    with pytest.raises(RoundClosed):
        table.game.rounds.answer(me.key, round, 0, "wheel")
    table.game.rounds.start(me.key, round)
    first = table.game.rounds.answer(me.key, round, 0, "wheel")
    assert table.game.rounds.answer(me.key, round, 0, "wheel") == first
    assert table.game.rounds.answer(me.key, round, 0, "seat").seq == 1, "another window's answer is kept beside it"
    for seq in (-1, 10_000):
        with pytest.raises(BadAnswer):
            table.game.rounds.answer(me.key, round, seq, "bell")
    assert table.game.rounds.remove(me.key, round, 0)
    assert [line.key for line in table.game.rounds.finish(me.key, round).lines] == ["seat"]


def test_forty_answers_are_enough(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    table.game.rounds.start(me.key, round)
    for seq in range(rules.MAX_ANSWERS):
        table.game.rounds.answer(me.key, round, seq, f"part {seq}")
    with pytest.raises(TooMany):
        table.game.rounds.answer(me.key, round, 99, "one more")


STRANGE = {
    "10 kB": ("wheel " * 1700, "too_long"),
    "control": ("wh\x00ee\x1bl", "accepted"),
    "emoji": ("🚲", "malformed"),
    "right to left": ("\u202eגלגל", "accepted"),
    "other script": ("колесо", "accepted"),
    "half a pair": ("wheel\ud83d", "malformed"),
    "markup": ("<img src=x onerror=alert(1)>", "malformed"),
    "blank": (" \t\n", "ignored"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_is_typed_is_kept_and_read(table: Table, name: str) -> None:
    text, status = STRANGE[name]
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    table.game.rounds.start(me.key, round)
    assert table.game.rounds.answer(me.key, round, 0, text, ms=-5).status == status
    (kept,) = table.game.rounds.entered(me.key, round)
    assert len(kept.raw) <= rules.MAX_RAW
    assert kept.ms == 0
    table.game.rounds.finish(me.key, round)


def test_a_page_without_scripts_sends_all_at_once(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    table.game.rounds.start(me.key, round)
    table.game.rounds.answer(me.key, round, 0, "wheel")
    report = table.game.rounds.finish(me.key, round, ["wheel", " ", "seat", "bell"])
    assert [line.key for line in report.lines] == ["wheel", "seat", "bell"]


def test_a_locked_database_loses_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", timeout_s=0.05) as store:
        table = Table(store)
        me = table.player("me")
        round = table.game.rounds.issue(me.key, mode="classic").round
        table.game.rounds.start(me.key, round)
        other = sqlite3.connect(tmp_path / "store" / "idiolect.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            table.game.rounds.answer(me.key, round, 0, "wheel")
        other.execute("ROLLBACK")
        other.close()
        assert table.game.rounds.answer(me.key, round, 0, "wheel").status == "accepted"


# ------------------------------------------------------------------------------------------------------------- modes


def test_fresh_rounds_list_what_most_say(table: Table) -> None:
    for i in range(20):
        table.play(table.player(f"p{i}"), *(["wheel", "seat"] if i < 10 else ["wheel"]))
    me = table.player("me")
    report = table.play(me, "wheel", "seat", "bell", mode="fresh")
    assert report.round.mode == "fresh"
    assert report.round.flags["taboo"] == ["seat", "wheel"]
    assert [(line.status, line.points) for line in report.lines] == [("taboo", 0), ("taboo", 0), ("accepted", 0)]


def test_without_frequent_answers_fresh_is_classic(table: Table) -> None:
    table.crowd(19, "wheel")
    assert table.play(table.player("me"), "wheel", mode="fresh").round.mode == "classic"


def test_my_view_needs_consent_and_counts_for_nobody(table: Table) -> None:
    assert table.play(table.player("shy"), "bell", mode="my_view").round.mode == "classic"
    table.crowd(5, "bell")
    open_ = table.player("open", consent_personal=1.0)
    report = table.play(open_, "bell", "soul", mode="my_view")
    assert (report.round.mode, report.score, [line.percent for line in report.lines]) == ("my_view", 20, [None, None])
    assert report.top == ()
    assert table.play(table.player("next"), "soul").lines[0].percent == 0


# ------------------------------------------------------------------------------------------------------------- choosing


def test_no_base_word_comes_twice_until_all_were_played(store: Store) -> None:
    words = [("mero", w) for w in ("bicycle", "tree", "house", "clock", "ship")]
    table = Table(store, small(words))  # type: ignore[arg-type]
    me = table.player("me")
    seen = [table.play(me, "thing").word.key for _ in words]
    assert sorted(seen) == sorted(word for _, word in words)
    again = table.play(me, "thing")
    assert again.round.repeat
    assert again.word.key == seen[0], "the one that was longest ago"


def test_a_skipped_word_stays_away(store: Store) -> None:
    table = Table(store, small([("mero", "bicycle"), ("mero", "tree")]))
    me = table.player("me")
    for _ in range(3):
        round = table.game.rounds.issue(me.key, mode="classic")
        table.game.rounds.start(me.key, round.round)
        _, word = table.game.rounds.round(me.key, round.round)
        assert word is not None
        if word.key == "bicycle":
            table.game.rounds.skip(me.key, round.round)
            break
        table.game.rounds.finish(me.key, round.round)
    for _ in range(4):
        report = table.play(me, "root")
        assert report.word.key == "tree"


def test_a_round_with_an_answer_is_not_skipped(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    table.game.rounds.start(me.key, round)
    table.game.rounds.answer(me.key, round, 0, "bicycle")
    table.game.rounds.answer(me.key, round, 1, "wheel")
    with pytest.raises(RoundClosed):
        table.game.rounds.skip(me.key, round)
    table.game.rounds.remove(me.key, round, 1)
    table.game.rounds.skip(me.key, round)
    with pytest.raises(RoundClosed):
        table.game.rounds.report(me.key, round)


def prompt(key: int, **values: int) -> PromptRow:
    counts = {"n_players": 0, "n_rounds": 0, "score_sum": 0, "score_squares": 0, **values}
    return PromptRow(key, f"mero:{key}", "mero", key, True, "active", **counts)


def test_buckets_have_their_shares() -> None:
    prompts = [prompt(i, n_players=(0, 2, 40, 9)[i % 4]) for i in range(300)]
    rng = Random(7)
    drawn = [choosing.choose(prompts, {}, set(), 0.0, rng).prompt for _ in range(4000)]  # type: ignore[union-attr]
    shown = {p.key for p in choosing.featured(prompts)}
    assert len(shown) == 40
    settled = sum(p.n_players == 40 for p in drawn) / 4000
    assert settled == pytest.approx(0.1, abs=0.02)
    begun_or_new = [p for p in drawn if p.key not in shown and p.n_players < 5]
    assert len(begun_or_new) / 4000 == pytest.approx(0.3 * (1 - 26.7 / 150), abs=0.03)


def test_retired_words_are_not_asked() -> None:
    retired = [PromptRow(1, "mero:1", "mero", 0, True, "retired", 0, 0, 0, 0)]
    assert choosing.choose(retired, {}, set(), 0.0, Random(0)) is None


def test_good_players_get_harder_words_first() -> None:
    easy = prompt(1, n_rounds=20, score_sum=4000, score_squares=850_000)
    hard = prompt(2, n_rounds=20, score_sum=1000, score_squares=80_000)
    best = choosing.Record(30, 212.0)
    assert choosing.matched([easy, hard], [easy, hard], best) == [hard]
    assert choosing.matched([easy], [easy, hard], best) == [easy], "a bucket is never emptied"
    assert choosing.matched([easy, hard], [easy, hard], choosing.Record(19, 212.0)) == [easy, hard]


def test_after_a_week_a_word_may_come_again_to_compare(store: Store) -> None:
    table = Table(store, small([("hypo", f"word{i}") for i in range(100)]))
    me = table.player("me")
    first = {table.play(me, "thing").word.id for _ in range(3)}
    table.clock.tick(rules.RETEST_S + 1)
    repeats = [r for r in (table.play(me, "thing") for _ in range(80)) if r.round.repeat]
    assert 1 <= len(repeats) <= 12
    assert {r.word.id for r in repeats} <= first


# ------------------------------------------------------------------------------------------------------------- did you mean


def test_a_slip_may_be_mended_after_the_round(table: Table) -> None:
    table.crowd(5, "wheel")
    me = table.player("me")
    report = table.play(me, "whel", "bell")
    assert report.lines[0].meant == "wheel"
    mended = table.game.rounds.accept_suggestion(me.key, report.round.round, 0)
    assert (mended.lines[0].key, mended.lines[0].points, mended.lines[0].meant) == ("wheel", 150, None)
    assert mended.score == report.score + 150
    assert table.game.rounds.entered(me.key, report.round.round)[0].raw == "whel"
    with pytest.raises(BadAnswer):
        table.game.rounds.accept_suggestion(me.key, report.round.round, 0)
    with table.game.books.read() as books:
        assert books.pairs(report.round.prompt, ["wheel", "whel"])["wheel"].n_players == 6  # type: ignore[arg-type]


def test_bicycle_is_prepared_once(store: Store) -> None:
    game = Game(store, words=BICYCLE)
    assert (game.prepare(), game.prepare()) == (1, 0)


def test_a_correction_counts_like_an_answer(table: Table) -> None:
    typo = table.play(table.player("typist"), "whel")
    mended = table.game.rounds.accept_suggestion(typo.round.player, typo.round.round, 0)
    assert mended.lines[0].key == "wheel"
    with table.game.books.read() as books:
        pairs = books.pairs(mended.round.prompt)  # type: ignore[arg-type]
        assert "whel" not in pairs, "nobody gives it any more"
        assert pairs["wheel"].n_players == 1
        (prompt,) = books.prompts("mero")
    counted = (prompt.n_players, prompt.n_rounds, prompt.score_sum)
    with table.game.books.write() as books:
        books.recount_prompts([prompt.key])
        (again,) = books.prompts("mero")
    assert (again.n_players, again.n_rounds, again.score_sum) == counted


def test_an_answer_that_was_given_twice_survives_taking_one_back(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    table.game.rounds.start(me.key, round)
    table.game.rounds.answer(me.key, round, 0, "wheel")
    assert table.game.rounds.answer(me.key, round, 1, "wheels").status == "duplicate"
    assert table.game.rounds.remove(me.key, round, 0)
    assert [(line.key, line.status) for line in table.game.rounds.finish(me.key, round).lines] == [("wheel", "accepted")]


def test_a_round_that_ran_out_is_of_the_day_it_was_played(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic").round
    table.game.rounds.start(me.key, round)
    deadline = table.clock() + 20
    table.clock.tick(3 * rules.DAY_S)
    assert table.game.rounds.report(me.key, round).round.closed_at == deadline + rules.CLOSE_S


def test_a_round_without_a_clock_lasts_a_day_from_its_start(table: Table) -> None:
    me = table.player("me")
    round = table.game.rounds.issue(me.key, mode="classic", timing="off").round
    table.clock.tick(rules.IDLE_S - 1)
    table.game.rounds.start(me.key, round)
    table.clock.tick(3600)
    assert table.game.rounds.close_overdue() == 0
    table.clock.tick(rules.IDLE_S)
    assert table.game.rounds.close_overdue() == 1


def test_numbers_of_deleted_players_are_not_given_again(table: Table) -> None:
    gone = table.player("gone")
    table.game.accounts.delete(gone.key)
    assert table.player("new").key > gone.key
