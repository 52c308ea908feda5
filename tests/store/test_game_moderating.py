"""What players object to and what moderators decide, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
from game_making import BICYCLE, Table
from judging_making import PARTS, ask, prompt_key, say

from idiolect.game.moderating import is_disliked
from idiolect.game.refusals import BadInput, NotAllowed, NotYours, TooMany
from idiolect.store.game.moderating import DislikedRow
from idiolect.store.game.records import PairRow, PlayerRow
from idiolect.store.store import Store

ARGUED = "Every bicycle of my street has one."


@pytest.fixture
def table(store: Store) -> Table:
    return Table(store)


@pytest.fixture
def moderator(table: Table) -> PlayerRow:
    return table.player("mod", moderator=True)


def pair(table: Table, key: str, prompt: str = "mero:bicycle") -> PairRow:
    with table.game.books.read() as books:
        return books.pairs(prompt_key(books, prompt), [key])[key]


def notices(table: Table, player: PlayerRow) -> list[tuple[str, dict]]:
    with table.game.books.write() as books:
        return [(notice.kind, dict(notice.body)) for notice in books.take_notices(player.key, table.clock())]


def acts(table: Table, moderator: PlayerRow) -> list[tuple[str, str, str]]:
    return [(act.actor, act.action, act.subject) for act in table.game.moderation.acts(moderator)]


# ------------------------------------------------------------------------------------------------------------- challenges


def test_an_accepted_challenge_validates_the_pair_and_pays_all_givers_once(table: Table, moderator: PlayerRow) -> None:
    one, two, none = table.player("one"), table.player("two"), table.player("none")
    first, second, other = table.play(one, "basket"), table.play(two, "Baskets", "wheel"), table.play(none, "wheel")
    key = pair(table, "basket").key_
    challenge = table.game.moderation.challenge(one, key, f"  {ARGUED} ")
    again = table.game.moderation.challenge(two, key, "Mine, too.")
    [open_, _] = table.game.moderation.challenges(moderator)
    assert (open_.challenge.key, open_.challenge.sentence, open_.word.key, open_.pair.key) == (
        challenge, ARGUED, "bicycle", "basket",
    )  # fmt: skip

    table.game.moderation.decide_challenge(moderator, challenge, accept=True)
    assert (pair(table, "basket").state, pair(table, "basket").challenged) == ("validated", True)
    for player, before, more in ((one, first, 25), (two, second, 25), (none, other, 0)):
        assert table.game.rounds.report(player.key, before.round.round).score == before.score + more
    assert table.game.moderation.challenges(moderator) == [], "the other on the same pair is decided by it"
    assert notices(table, one) == [("bonus", {"pair": key, "points": 25}), ("challenge", {"pair": key, "accepted": True})]
    for decided in (challenge, again):
        with pytest.raises(BadInput, match="decided already"):
            table.game.moderation.decide_challenge(moderator, decided, accept=True)
    assert table.game.rounds.report(one.key, first.round.round).score == first.score + 25
    assert acts(table, moderator) == [(f"player {moderator.key}", "accept", f"challenge {challenge}")]


def test_a_denied_challenge_changes_nothing_but_is_answered(table: Table, moderator: PlayerRow) -> None:
    me = table.player("me")
    before = table.play(me, "soul")
    challenge = table.game.moderation.challenge(me, pair(table, "soul").key_, ARGUED)
    table.game.moderation.decide_challenge(moderator, challenge, accept=False)
    assert pair(table, "soul").state == "candidate"
    assert table.game.rounds.report(me.key, before.round.round).score == before.score
    assert notices(table, me) == [("challenge", {"pair": pair(table, "soul").key_, "accepted": False})]


def test_nobody_decides_about_their_own_challenge(table: Table, moderator: PlayerRow) -> None:
    table.play(moderator, "soul")
    challenge = table.game.moderation.challenge(moderator, pair(table, "soul").key_, ARGUED)
    with pytest.raises(NotAllowed):
        table.game.moderation.decide_challenge(moderator, challenge, accept=True)
    assert pair(table, "soul").state == "candidate"


def test_only_own_answers_without_points_are_challenged_and_three_at_a_time(table: Table) -> None:
    me, other = table.player("me"), table.player("other")
    table.play(me, "wheel", "soul", "ghost", "basket", "bag")
    challenge = table.game.moderation.challenge
    with pytest.raises(NotYours, match="no points"):
        challenge(me, pair(table, "wheel").key_, ARGUED)
    with pytest.raises(NotYours, match="no points"):
        challenge(other, pair(table, "soul").key_, ARGUED)
    with pytest.raises(NotYours, match="no such answer"):
        challenge(me, 10**6, ARGUED)
    for sentence in ("", " \u200b ", "x" * 141, "a\0b", "a\ud800"):
        with pytest.raises(BadInput, match="140"):
            challenge(me, pair(table, "soul").key_, sentence)
    for key in ("soul", "ghost", "basket"):
        challenge(me, pair(table, key).key_, "x" * 140)
    with pytest.raises(BadInput, match="already"):
        challenge(me, pair(table, "soul").key_, ARGUED)
    with pytest.raises(TooMany, match="3 challenges"):
        challenge(me, pair(table, "bag").key_, ARGUED)


# ------------------------------------------------------------------------------------------------------------- complaints


def shown(table: Table, viewer: PlayerRow) -> set[str]:
    """What a player sees of others' answers."""
    return {other.key for other in table.play(viewer, "frame").top}


def test_two_complaints_hide_an_answer_until_a_moderator_has_seen_it(table: Table, moderator: PlayerRow) -> None:
    table.crowd(5, "basket", "wheel")
    key, complainers = pair(table, "basket").key_, [table.player(f"c{i}") for i in range(3)]
    complain = table.game.moderation.complain
    assert not complain(complainers[0], key)
    assert not complain(complainers[0], key), "one player counts once"
    assert "basket" in shown(table, table.player("a"))
    assert complain(complainers[1], key)
    assert "basket" not in shown(table, table.player("b"))
    [found] = table.game.moderation.complaints(moderator)
    assert (found.pair.key, len(found.complaints)) == ("basket", 2)

    table.game.moderation.decide_complaint(moderator, found.complaints[0].key, uphold=False)
    assert "basket" in shown(table, table.player("c"))
    assert table.game.moderation.complaints(moderator) == []
    assert not complain(complainers[2], key)
    [again] = table.game.moderation.complaints(moderator)
    table.game.moderation.decide_complaint(moderator, again.complaints[0].key, uphold=True)
    assert "basket" not in shown(table, table.player("d"))
    assert pair(table, "basket").state == "blocked"
    with pytest.raises(BadInput, match="decided already"):
        table.game.moderation.decide_complaint(moderator, again.complaints[0].key, uphold=False)
    with pytest.raises(NotYours, match="no such complaint"):
        table.game.moderation.decide_complaint(moderator, 10**6, uphold=True)
    assert [action for _, action, _ in acts(table, moderator)] == ["uphold", "dismiss", "hide"]


def test_a_dismissed_complaint_does_not_make_the_next_two_weightless(table: Table, moderator: PlayerRow) -> None:
    table.crowd(5, "basket")
    key = pair(table, "basket").key_
    table.game.moderation.complain(table.player("c0"), key)
    [found] = table.game.moderation.complaints(moderator)
    table.game.moderation.decide_complaint(moderator, found.complaints[0].key, uphold=False)
    hidden = [table.game.moderation.complain(table.player(f"c{i}"), key) for i in (1, 2)]
    assert hidden == [False, True]


def test_nobody_complains_about_what_they_cannot_have_seen(table: Table) -> None:
    table.play(table.player("giver"), "zyzzyvas")
    key, complain = pair(table, "zyzzyvas").key_, table.game.moderation.complain
    curious, judge = table.player("curious"), table.player("judge")
    with pytest.raises(NotYours, match="no such answer"):
        complain(curious, key)
    running = ask(table, judge, ("mero:bicycle", "zyzzyvas"))
    table.game.judging.judge(judge.key, running.round, 0, "no")
    with pytest.raises(NotYours, match="no such answer"):
        complain(judge, key)
    table.game.judging.finish(judge.key, running.round)
    assert not complain(judge, key), "who was asked has seen it"
    table.crowd(3, "basket")
    assert not complain(curious, pair(table, "basket").key_)
    with pytest.raises(NotYours, match="no such answer"):
        complain(curious, 10**6)


def test_complaints_of_whom_nobody_trusts_hide_nothing(table: Table, moderator: PlayerRow) -> None:
    table.crowd(5, "basket")
    key, complain = pair(table, "basket").key_, table.game.moderation.complain
    doubtful = [
        table.player("liar", trust_a=1.0, trust_b=3.0),
        table.player("limited", state="limited"),
        table.player("machine", "simulated"),
        table.player("one", origin="a" * 64),
        table.player("same", origin="a" * 64),
    ]
    assert [complain(player, key) for player in doubtful] == [False] * 5
    with table.game.books.read() as books:
        assert books.published(pair(table, "basket").prompt, table.clock()).pairs == {}
        assert books.n_complaining(key) == 1, "two of one network are one"
    [found] = table.game.moderation.complaints(moderator)
    assert len(found.complaints) == 5, "moderators see all of them"
    assert complain(table.player("fair"), key)


# ------------------------------------------------------------------------------------------------------------------ words


def test_a_fresh_round_lists_no_word_that_is_hidden(table: Table, moderator: PlayerRow) -> None:
    table.crowd(20, "wheel", "basket", "seat")
    table.game.moderation.block(moderator, pair(table, "basket").key_)
    for name in ("a", "b"):
        table.game.moderation.complain(table.player(name), pair(table, "seat").key_)
    report = table.play(table.player("me"), "wheel", "basket", mode="fresh")
    assert (report.round.mode, report.round.flags["taboo"]) == ("fresh", ["wheel"])


def test_words_wait_are_shown_and_blocked(table: Table, moderator: PlayerRow) -> None:
    delicate = next(key for key, severity in BICYCLE.lexicon.severity.items() if severity == "review")
    crowd = table.crowd(5, delicate, "wheel")
    [waits] = table.game.moderation.waiting(moderator)
    assert (waits.pair.key, waits.word.id) == (delicate, "mero:bicycle")
    assert delicate not in shown(table, table.player("a"))
    table.game.moderation.show(moderator, waits.pair.key_)
    assert table.game.moderation.waiting(moderator) == []
    assert delicate in shown(table, table.player("b"))
    with table.game.books.read() as books:
        before = [books.player(player.key).trust_b for player in crowd]
    table.game.moderation.block(moderator, waits.pair.key_, slur=True)
    assert delicate not in shown(table, table.player("c"))
    with table.game.books.read() as books:
        assert [books.player(player.key).trust_b for player in crowd] == [b + 1 for b in before]
    table.game.moderation.block(moderator, waits.pair.key_, slur=True)
    with table.game.books.read() as books:
        assert [books.player(player.key).trust_b for player in crowd] == [b + 1 for b in before], "charged once"
    table.game.moderation.show(moderator, waits.pair.key_)
    assert pair(table, delicate).state == "validated", "five gave it"


def test_whoever_is_no_moderator_may_decide_nothing(table: Table, moderator: PlayerRow) -> None:
    me = table.player("me")
    table.play(me, "soul")
    key, desk = pair(table, "soul").key_, table.game.moderation
    challenge = desk.challenge(me, key, ARGUED)
    banned = table.player("banned", moderator=True, state="banned")
    for player in (me, banned):
        for call in (
            lambda who: desk.challenges(who),
            lambda who: desk.complaints(who),
            lambda who: desk.waiting(who),
            lambda who: desk.to_retire(who),
            lambda who: desk.acts(who),
            lambda who: desk.flagged(who),
            lambda who: desk.decide_challenge(who, challenge, accept=True),
            lambda who: desk.decide_complaint(who, 1, uphold=True),
            lambda who: desk.block(who, key),
            lambda who: desk.show(who, key),
            lambda who: desk.retire(who, "mero:bicycle"),
            lambda who: desk.limit(who, "me", "ok"),
        ):
            with pytest.raises(NotAllowed):
                call(player)
    assert pair(table, "soul").state == "candidate"
    assert acts(table, moderator) == []


# ------------------------------------------------------------------------------------------------------------- base words


@pytest.mark.parametrize(
    ("n_passers", "n_players", "concrete", "expected"),
    [(38, 12, False, True), (37, 13, False, False), (38, 11, False, False), (38, 12, True, False), (43, 7, True, True)],
)
def test_a_base_word_is_proposed_where_too_few_of_fifty_play(n_passers, n_players, concrete, expected) -> None:
    assert is_disliked(DislikedRow(1, concrete, n_passers, n_players)) is expected


def test_base_words_that_people_skip_are_proposed_and_retired_by_a_moderator(table: Table, moderator: PlayerRow) -> None:
    with table.game.books.write() as books:
        prompt = prompt_key(books, "mero:bicycle")
        for i in range(50):
            kind = "guest" if i < 49 else "simulated"
            key = books.add_player(f"p{i}", kind, 1.0).key
            for _ in range(2):  # a player counts once
                books.add_pass(key, prompt, 1.0, None)
    assert table.game.moderation.to_retire(moderator) == []
    table.play(table.player("fan"), "wheel")
    [found] = table.game.moderation.to_retire(moderator)
    assert (found.word.id, found.row.n_passers, found.row.n_players) == ("mero:bicycle", 49, 1)
    with pytest.raises(NotYours, match="no such base word"):
        table.game.moderation.retire(moderator, "mero:unicorn")
    table.game.moderation.retire(moderator, "mero:bicycle")
    assert table.game.moderation.to_retire(moderator) == []
    with table.game.books.read() as books:
        assert books.prompt(prompt).status == "retired"
    assert acts(table, moderator) == [(f"player {moderator.key}", "retired", f"prompt {prompt}")]


# ---------------------------------------------------------------------------------------------------------------- players


def test_a_limited_players_answers_count_for_nobody(table: Table, moderator: PlayerRow) -> None:
    crowd = table.crowd(3, "basket")
    assert pair(table, "basket").state == "validated"
    table.game.moderation.limit(moderator, crowd[0].player, "limited")
    assert (pair(table, "basket").state, pair(table, "basket").n_players) == ("candidate", 2)
    table.game.moderation.limit(moderator, crowd[0].player, "ok")
    assert (pair(table, "basket").state, pair(table, "basket").n_players) == ("validated", 3)
    with pytest.raises(NotYours, match="no such player"):
        table.game.moderation.limit(moderator, "nobody", "limited")
    with pytest.raises(NotAllowed, match="each other"):
        table.game.moderation.limit(moderator, moderator.player, "banned")


def test_players_to_look_at_are_named_with_what_is_odd_about_them(table: Table, moderator: PlayerRow) -> None:
    fine, bad = table.player("fine"), table.player("bad", trust_a=1, trust_b=2, state="limited")
    odd, machine = table.player("odd"), table.player("machine", "simulated", state="limited")
    words = ("axle", "bell", "chain", "frame", "pedal", "wheel")
    for player in (fine, bad):
        table.play(player, "wheel", "chain")
    for player in (odd, machine):
        table.play(player, *words)
    table.play(odd, *reversed(words))
    found = table.game.moderation.flagged(moderator)
    assert [(one.player.player, one.n_rounds, one.flags) for one in found] == [
        ("bad", 1, ()),
        ("odd", 2, ("fast × 2", "alphabetical × 1")),
    ]
    table.clock.tick(31 * 86400)
    assert [one.player.player for one in table.game.moderation.flagged(moderator)] == ["bad"]


def test_a_banned_player_is_signed_out(table: Table, moderator: PlayerRow) -> None:
    bad = table.player("bad")
    with table.game.books.write() as books:
        books.add_session("f" * 64, bad.key, 1.0)
    table.game.moderation.limit(moderator, "bad", "banned")
    with table.game.books.read() as books:
        assert books.player_by_token("f" * 64) is None


def test_judges_like_coins_are_shown_once_there_are_votes_enough(store: Store) -> None:
    table = Table(store, words=PARTS)
    keys = [f"part{n}" for n in range(50)]
    with table.game.books.write() as books:
        prompt = prompt_key(books, "mero:car")
        for judge in range(6):
            key = books.add_player(f"p{judge}", "guest", 1.0).key
            row = books.add_round(
                round=f"r{judge}", player=key, relation="mero", mode="judge", timing="1x", served_at=1.0, started_at=1.0,
                closed_at=2.0, close_reason="finished", rules="1",
            )  # fmt: skip
            said = ["yes" if (judge * 37 + n * n) % 7 < 3 else "no" for n in range(50)] if judge == 5 else None
            books.add_judgements(
                row.key,
                key,
                [
                    {"prompt": prompt, "key": word, "display": word, "seq": n, "kind": "game",
                     "verdict": said[n] if said else "yes" if n < 25 else "no"}
                    for n, word in enumerate(keys)
                ],
            )  # fmt: skip
    assert table.game.moderation.recompute_reliabilities() == []
    [poor] = table.game.moderation.recompute_reliabilities(least_votes=299)
    with table.game.books.read() as books:
        assert books.player(poor.player).player == "p5"
    assert poor.n_votes == 50
    assert say(table, table.player("late"), "mero:car", "part0", "yes").score == 7
