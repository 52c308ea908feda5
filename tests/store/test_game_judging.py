"""Nym or Not: what is asked, what a verdict is worth, and what trust comes of it; on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
from game_making import Table
from judging_making import BARE, PARTS, ask, items_of, judged, opened, prompt_key, say, truthful

from idiolect.game import rules, validity
from idiolect.game.desk import Game
from idiolect.game.refusals import BadAnswer, NotYours, OneOpenRound, RoundClosed
from idiolect.store.store import Store


@pytest.fixture
def table(store: Store) -> Table:
    return Table(store, words=PARTS)


def pair(table: Table, prompt: str, key: str):
    with table.game.books.read() as books:
        return books.pairs(prompt_key(books, prompt), [key])[key]


def trust(table: Table, key: int) -> tuple[float, float]:
    with table.game.books.read() as books:
        row = books.player(key)
    return round(row.trust_a, 6), round(row.trust_b, 6)


# ---------------------------------------------------------------------------------------------------------- what is asked


def test_a_round_asks_25_pairs_and_no_pair_comes_twice(table: Table) -> None:
    me, seen, gold = table.player("me"), [], 0
    for _ in range(4):
        _, items = opened(table, me)
        assert len(items) == 25
        assert [item.seq for item in items] == list(range(25))
        gold += sum(item.kind.startswith("gold") for item in items)
        seen += [(item.prompt, item.key) for item in items]
        table.game.judging.finish(me.key, _all(table, me))
        table.clock.tick(60)
    assert len(seen) == len(set(seen))
    assert 4 * 6 <= gold <= 4 * 7, "a quarter, rounded by chance"


def _all(table: Table, player) -> str:
    """Judge everything of the open round; its name."""
    with table.game.books.read() as books:
        row = books.open_round(player.key)
    assert row is not None
    for item in items_of(table, row):
        table.game.judging.judge(player.key, row.round, item.seq, truthful(PARTS, table)(item))
    return row.round


def test_between_40_and_60_percent_of_what_is_asked_holds(table: Table) -> None:
    report = judged(table, table.player("me"), truthful(PARTS, table))
    assert 10 <= sum(line.verdict == "yes" for line in report.lines) <= 15


def test_the_page_is_not_told_what_is_gold(table: Table) -> None:
    me = table.player("me")
    round, items = opened(table, me)
    asked = table.game.judging.asked(me.key, round.round)
    assert [one.display for one in asked] == [item.display for item in items]
    assert {one.word.relation for one in asked} == {"mero"}
    assert not {name for name in dir(asked[0]) if "kind" in name or "truth" in name}


def test_words_of_few_players_and_blocked_words_are_never_asked(table: Table) -> None:
    few, many, blocked = "cupholder", "tailpipe", "ashtray"
    made = [table.player(f"p{i}") for i in range(3)]
    for player, keys in zip(made, ((few, many, blocked), (many, blocked), (many, blocked)), strict=True):
        _give(table, player, "mero:car", *keys)
    table.game.moderation.block(table.player("mod", moderator=True), pair(table, "mero:car", blocked).key_)
    displays = set()
    for n in range(3):
        _, items = opened(table, table.player(f"judge{n}"))
        displays |= {item.display for item in items if item.kind == "game"}
    assert displays == {many}


def _give(table: Table, player, prompt: str, *keys: str) -> None:
    """A closed round of words that counts, on a base word of one's choice."""
    at = table.clock()
    with table.game.books.write() as books:
        key = prompt_key(books, prompt)
        row = books.add_round(
            round=f"w-{player.key}-{key}", player=player.key, prompt=key, relation="mero", mode="classic", timing="1x",
            seconds=20.0, served_at=at, started_at=at, closed_at=at, close_reason="finished", counts=True,
            n_accepted=len(keys), rules="1",
        )  # fmt: skip
        for seq, word in enumerate(keys):
            books.add_answer(row.key, seq=seq, received_at=at, raw=word, display=word, key=word, status="accepted")
        books.touch_pairs(key, [(word, word, False, False) for word in keys], at)
        books.recount_players(key, keys)
        game = table.game
        game.judging.on_closed(books, books.round(row.round), books.player(player.key), books.answers(row.key))  # type: ignore[arg-type]


def test_nobody_judges_their_own_answers(table: Table) -> None:
    made = [table.player(f"p{i}") for i in range(3)]
    for player in made:
        _give(table, player, "mero:car", "tailpipe")
    _, mine = opened(table, made[0])
    _, theirs = opened(table, table.player("other"))
    assert "tailpipe" not in {item.key for item in mine}
    assert "tailpipe" in {item.key for item in theirs}


def test_a_model_is_asked_about_only_where_it_is_unsure(table: Table) -> None:
    model = [("upholstery", 0.5), ("ballast", 0.95), ("rudder", 0.2), ("flibbertigib", 0.5), ("arse", 0.6)]
    game = Game(table.store, clock=table.clock, rng=table.game.rng, words=PARTS, candidates=lambda _: model)
    round = game.judging.start(table.player("me"), ("mero",), "1x")
    assert {item.key for item in items_of(table, round) if item.kind == "model"} == {"upholstery"}


def test_where_there_is_too_little_to_ask_there_is_no_round(store: Store) -> None:
    table = Table(store, words=BARE)
    me = table.player("me")
    assert table.game.judging.offer(me, ("mero",), "1x") is None
    with pytest.raises(NotYours, match="not enough pairs"):
        table.game.judging.start(me, ("mero",), "1x")
    assert table.game.rounds.issue(me.key, ("mero",), "judge").mode == "classic"


# -------------------------------------------------------------------------------------------------------------- the clock


def test_a_verdict_can_be_changed_and_taken_back_until_the_round_is_closed(table: Table) -> None:
    me = table.player("me")
    round, items = opened(table, me)
    judge = table.game.judging.judge
    for verdict in ("yes", "yes", "no"):
        assert judge(me.key, round.round, 0, verdict, 400)
    assert judge(me.key, round.round, 1, "unsure")
    assert judge(me.key, round.round, 2, "yes")
    assert judge(me.key, round.round, 2, None), "taken back"
    report = table.game.judging.finish(me.key, round.round)
    assert [(line.seq, line.verdict) for line in report.lines] == [(0, "no"), (1, "unsure")]
    with pytest.raises(RoundClosed, match="is over"):
        judge(me.key, round.round, 0, "yes")
    assert table.game.judging.finish(me.key, round.round) == report
    with table.game.books.read() as books:
        assert len(books.asked(me.key)) == 2, "what was not judged may come again"
    assert items[0].verdict is None


def test_verdicts_count_until_a_moment_after_the_deadline(table: Table) -> None:
    me = table.player("me")
    round, _ = opened(table, me)
    table.clock.tick(rules.JUDGE_SECONDS + rules.GRACE_S)
    assert table.game.judging.judge(me.key, round.round, 0, "yes")
    table.clock.tick(0.1)
    assert not table.game.judging.judge(me.key, round.round, 1, "yes")
    report = table.game.judging.report(me.key, round.round)
    assert [line.seq for line in report.lines] == [0]
    assert report.round.close_reason == "expired"


def test_the_server_closes_a_round_that_nobody_finished(table: Table) -> None:
    me = table.player("me")
    round, items = opened(table, me)
    table.game.judging.judge(me.key, round.round, 3, truthful(PARTS, table)(items[3]))
    table.clock.tick(rules.JUDGE_SECONDS + rules.CLOSE_S + 0.1)
    assert table.game.rounds.close_overdue() == 1
    report = table.game.judging.report(me.key, round.round)
    assert [line.seq for line in report.lines] == [3]
    assert report.score == 7


def test_a_page_without_javascript_sends_all_at_once(table: Table) -> None:
    me = table.player("me")
    round, _ = opened(table, me)
    report = table.game.judging.finish(me.key, round.round, {0: "yes", 1: "no", 99: "yes"})
    assert [line.seq for line in report.lines] == [0, 1]
    late, _ = opened(table, me)
    table.clock.tick(60)
    assert table.game.judging.finish(me.key, late.round, {0: "yes"}).lines == ()


def test_rounds_of_others_do_not_exist(table: Table) -> None:
    me, other = table.player("me"), table.player("other")
    round, _ = opened(table, me)
    for call in (
        lambda: table.game.judging.judge(other.key, round.round, 0, "yes"),
        lambda: table.game.judging.finish(other.key, round.round),
        lambda: table.game.judging.report(other.key, round.round),
        lambda: table.game.judging.asked(other.key, "no such round"),
    ):
        with pytest.raises(NotYours):
            call()
    with pytest.raises(BadAnswer, match="no pair"):
        table.game.judging.judge(me.key, round.round, 25, "yes")
    with pytest.raises(BadAnswer, match="yes, no or unsure"):
        table.game.judging.judge(me.key, round.round, 0, "maybe")  # type: ignore[arg-type]


def test_one_open_round(table: Table) -> None:
    me = table.player("me")
    first = table.game.judging.start(me, ("mero",), "1x")
    with pytest.raises(RoundClosed, match="not begun"):
        table.game.judging.judge(me.key, first.round, 0, "yes")
    second, _ = opened(table, me)  # the first was never started, and is put away
    assert items_of(table, first) == []
    with pytest.raises(OneOpenRound):
        table.game.judging.start(me, ("mero",), "1x")
    table.clock.tick(60)
    third = table.game.judging.start(me, ("mero",), "1x")
    assert third.round not in (first.round, second.round)


def test_a_skipped_round_is_no_vote_and_its_pairs_may_come_again(table: Table) -> None:
    me = table.player("me")
    round, items = opened(table, me)
    game = next(item for item in items if item.kind == "seed")
    table.game.judging.judge(me.key, round.round, game.seq, "yes")
    table.game.rounds.skip(me.key, round.round)
    with table.game.books.read() as books:
        assert books.votes({game.pair}) == []
    table.game.judging.start(me, ("mero",), "1x")
    assert items_of(table, round) == []


# --------------------------------------------------------------------------------------------------------------- its worth


def test_seven_points_for_agreeing_with_the_majority_of_others(table: Table) -> None:
    judges = [table.player(f"p{i}") for i in range(7)]
    first = say(table, judges[0], "mero:car", "trunk", "yes")
    assert (first.score, first.lines[0].provisional, first.lines[0].percent_yes) == (7, True, None)
    assert say(table, judges[1], "mero:car", "trunk", "yes").score == 7
    against = say(table, judges[2], "mero:car", "trunk", "no")
    assert (against.score, against.lines[0].percent_yes, against.agreed) == (0, 100, 0)
    unsure = say(table, judges[3], "mero:car", "trunk", "unsure")
    assert (unsure.score, unsure.agreed, unsure.round.score_final) == (0, None, 0)
    last = say(table, judges[4], "mero:car", "trunk", "yes")
    assert (last.score, last.lines[0].percent_yes, last.lines[0].n_others) == (7, 67, 3)


def test_provisional_points_are_final_with_five_other_votes(table: Table) -> None:
    me = table.player("me")
    mine = say(table, me, "mero:car", "trunk", "no").round.round
    for i in range(5):
        waits = table.game.judging.report(me.key, mine)
        assert (waits.round.score_final, waits.lines[0].provisional) == (None, True)
        say(table, table.player(f"p{i}"), "mero:car", "trunk", "yes")
        say(table, table.player(f"u{i}"), "mero:car", "trunk", "unsure")  # no vote
    settled = table.game.judging.report(me.key, mine)
    assert (settled.round.score_final, settled.lines[0].provisional) == (7, False), "what was promised is kept"


def test_gold_is_scored_against_gold_and_moves_trust_once(table: Table) -> None:
    me = table.player("me")
    report = say(table, me, "mero:car", "wheel", "yes", kind="gold_pos")
    assert (report.score, report.lines[0].truth, report.round.score_final) == (7, "yes", 7)
    assert trust(table, me.key) == (5, 1)
    table.game.judging.finish(me.key, report.round.round)
    assert trust(table, me.key) == (5, 1)
    assert say(table, me, "mero:hand", "tire", "yes", kind="gold_neg").score == 0
    assert trust(table, me.key) == (5, 3)
    assert say(table, me, "mero:tree", "keyboard", "unsure", kind="gold_neg").score == 0
    assert trust(table, me.key) == (5, 3)
    with table.game.books.read() as books:
        assert books.votes({(prompt_key(books, "mero:car"), "wheel")}) == [], "gold is no vote"


def test_votes_make_a_pair_valid_or_not(table: Table) -> None:
    for i in range(4):
        assert pair_state(table, "mero:car", "trunk") in (None, "candidate")
        say(table, table.player(f"p{i}"), "mero:car", "trunk", "yes")
        say(table, table.player(f"q{i}"), "mero:car", "petal", "no")
    known = pair(table, "mero:car", "trunk")
    assert (known.state, known.n_judges, known.yes_w, known.no_w) == ("validated", 4, pytest.approx(3.2), 0)
    assert known.p_valid == pytest.approx(4.2 / 5.2)
    assert pair_state(table, "mero:car", "petal") == "candidate"
    say(table, table.player("q4"), "mero:car", "petal", "no")
    assert pair_state(table, "mero:car", "petal") == "rejected"


def pair_state(table: Table, prompt: str, key: str) -> str | None:
    with table.game.books.read() as books:
        row = books.pairs(prompt_key(books, prompt), [key]).get(key)
    return None if row is None else row.state


def test_simulated_players_and_open_rounds_count_for_nobody(table: Table) -> None:
    for i in range(6):
        say(table, table.player(f"s{i}", "simulated"), "mero:car", "trunk", "no")
        _give(table, table.player(f"t{i}", "simulated"), "mero:car", "tailpipe")
    open_ = ask(table, table.player("open"), ("mero:car", "trunk"))
    with table.game.books.read() as books:
        assert books.votes({(prompt_key(books, "mero:car"), "trunk")}) == []
        row = books.round(open_.round)
        assert row is not None
        table.game.judging.judge(row.player, row.round, 0, "no")
        assert books.all_votes() == []
    assert say(table, table.player("me"), "mero:car", "trunk", "yes").lines[0].n_others == 0
    assert (pair(table, "mero:car", "trunk").n_judges, pair_state(table, "mero:car", "tailpipe")) == (1, "candidate")


# --------------------------------------------------------------------------------------------------------------- its trust


def test_three_givers_validate_and_gain_trust_once(table: Table) -> None:
    made = [table.player(f"p{i}") for i in range(3)]
    for player in made:
        assert pair_state(table, "mero:car", "tailpipe") != "validated"
        _give(table, player, "mero:car", "tailpipe")
    assert pair_state(table, "mero:car", "tailpipe") == "validated"
    assert {trust(table, player.key) for player in made} == {(4.2, 1)}
    with table.game.books.write() as books:
        assert validity.refresh(books, {(prompt_key(books, "mero:car"), "tailpipe")}, 1.0) == []
    assert {trust(table, player.key) for player in made} == {(4.2, 1)}
    for i in range(14):
        say(table, table.player(f"q{i}"), "mero:car", "tailpipe", "no")
    assert pair_state(table, "mero:car", "tailpipe") == "rejected"
    assert {trust(table, player.key) for player in made} == {(4, 1.5)}


def test_below_one_half_votes_and_answers_count_for_nobody_and_back(table: Table) -> None:
    bad, others = table.player("bad"), [table.player(f"p{i}") for i in range(3)]
    say(table, bad, "mero:car", "trunk", "yes")
    _give(table, bad, "mero:car", "tailpipe")
    for player in others[:2]:
        _give(table, player, "mero:car", "tailpipe")
    for player in others:
        say(table, player, "mero:car", "trunk", "yes")
    assert (pair_state(table, "mero:car", "trunk"), pair_state(table, "mero:car", "tailpipe")) == ("validated", "validated")

    for n, base in enumerate(("hand", "tree", "house")):
        say(table, bad, f"mero:{base}", f"wrong{n}", "yes", kind="gold_neg")
    with table.game.books.read() as books:
        assert books.player(bad.key).state == "limited"
        assert [(act.actor, act.action, act.subject) for act in books.acts(9)] == [("rules", "limited", f"player {bad.key}")]
    assert (pair(table, "mero:car", "trunk").n_judges, pair(table, "mero:car", "tailpipe").n_players) == (3, 2)
    assert (pair_state(table, "mero:car", "trunk"), pair_state(table, "mero:car", "tailpipe")) == ("candidate", "candidate")
    assert judged(table, bad, truthful(PARTS, table)).score > 0, "they play on"

    with table.game.books.read() as books:
        assert books.player(bad.key).state == "ok"
    assert pair(table, "mero:car", "tailpipe").n_players == 3


def test_who_was_limited_by_a_moderator_stays_limited(table: Table) -> None:
    bad, moderator = table.player("bad"), table.player("mod", moderator=True)
    table.game.moderation.limit(moderator, "bad", "limited")
    say(table, bad, "mero:car", "wheel", "yes", kind="gold_pos")
    with table.game.books.read() as books:
        assert books.player(bad.key).state == "limited"


def test_counting_again_changes_nothing(table: Table) -> None:
    for i in range(3):
        judged(table, table.player(f"p{i}"), truthful(PARTS, table))
    _give(table, table.player("giver"), "mero:car", "tailpipe")
    with table.game.books.write() as books:
        rows = {row.key: books.pairs(row.key) for row in books.prompts()}
        for prompt, pairs in rows.items():
            assert validity.refresh(books, {(prompt, key) for key in pairs}, 1.0) == []
        assert {row.key: books.pairs(row.key) for row in books.prompts()} == rows
    assert sum(map(len, rows.values())) > 20


def test_slurs_cost_trust_and_odd_rounds_are_marked(table: Table) -> None:
    slur = next(key for key, severity in PARTS.lexicon.severity.items() if severity == "slur")
    me, other = table.player("me"), table.player("other")
    words = ("axle", "bumper", "chassis", "door", "engine", "fender")
    first = table.play(me, *words, slur)
    assert trust(table, me.key) == (4, 2)
    flags = _flags(table, first.round.round)
    assert flags == ["alphabetical", "fast"]
    with table.game.books.write() as books:
        _, prompt = first.word.id, first.round.prompt
        row = books.add_round(
            round="copy", player=other.key, prompt=prompt, relation="mero", mode="classic", timing="1x", seconds=20.0,
            served_at=table.clock(), closed_at=table.clock(), close_reason="finished", rules="1", flags='{"kept":1}',
        )  # fmt: skip
        for seq, word in enumerate(words):
            books.add_answer(row.key, seq=seq, received_at=9.0 + 2 * seq, raw=word, display=word, key=word, status="accepted")
        table.game.judging.on_closed(books, books.round("copy"), other, books.answers(row.key))  # type: ignore[arg-type]
    assert _flags(table, "copy") == ["alphabetical", "identical"]
    with table.game.books.read() as books:
        copied = books.round("copy")
    assert copied is not None
    assert copied.flags["kept"] == 1


def _flags(table: Table, round: str) -> list[str]:
    with table.game.books.read() as books:
        row = books.round(round)
    assert row is not None
    return row.flags.get("patterns", [])


def test_a_round_that_always_says_yes_is_marked(table: Table) -> None:
    report = judged(table, table.player("me"), lambda _: "yes")
    assert _flags(table, report.round.round) == ["constant"]


def test_judged_points_beyond_the_days_share_do_not_count(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idiolect.game.counting.DAY_ROUNDS", 2)
    me = table.player("me")
    beyond = [say(table, me, "mero:car", key, "yes").round.beyond for key in ("trunk", "bumper", "door")]
    assert beyond == [False, False, True]
    assert table.game.boards.board("total", me.key).own.value == 14  # type: ignore[union-attr]
