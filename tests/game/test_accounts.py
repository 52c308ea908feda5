"""Accounts: what may be one, taking over, consents, and leaving without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from account_making import BEGAN, PASSWORD, Counting, Desk
from hypothesis import given
from hypothesis import strategies as st

from idiolect.errors import DependencyMissing, IdiolectError, PersonNotFound, StoreBusy
from idiolect.game import consents
from idiolect.game.accounts import GUEST_S, SESSION_S, streak
from idiolect.game.consents import Wish
from idiolect.game.passwords import RESERVED, Passwords, check_password, checked_handle, folded
from idiolect.game.refusals import BadField, HandleTaken, NotAllowed, WrongLogin
from idiolect.game.validity import refresh
from idiolect.game.vocabulary import vocabulary
from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.types import AdapterManifest

LEXICON = vocabulary().lexicon
AGREED = Wish(aggregate=True, personal=True, adult=True)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store.open(tmp_path / "store", timeout_s=5) as store:
        yield Desk(store)


# -- handles and passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handle", ["Ada", "ada_1", "a.b-c", "007", "Zoë", "Øyvind", "Наташа", "東京タワー", "김민수", "x" * 20, "ＡＤＡ", "देवी"]
)
def test_handles(handle: str) -> None:
    assert checked_handle(f" {handle} ", LEXICON) == checked_handle(handle, LEXICON)


@pytest.mark.parametrize(
    "handle",
    [
        "", "ab", "x" * 21, "a b", "_ada", ".ada", "-ada", "ada!", "<ada>", "ada\n1", "a\u200bda", "ada\u202e", "\u0301ada",
        "q\u0301\u0301\u0302b", "аda", "adα", "Ada東京", "ada☺", "ad\ud800a", "ad\0a", "a/b", "a@b.c", "½½½",
    ],
)  # fmt: skip
def test_what_is_no_handle(handle: str) -> None:
    with pytest.raises(BadField) as caught:
        checked_handle(handle, LEXICON)
    assert caught.value.field == "handle"
    assert not handle or handle not in str(caught.value)


@pytest.mark.parametrize("handle", [*sorted(RESERVED), "GUEST", "Ｇuest"])
def test_handles_that_would_pass_for_the_games_own(handle: str) -> None:
    with pytest.raises(BadField):
        checked_handle(handle, LEXICON)


def test_blocked_words_are_no_handles_whole_or_as_a_part() -> None:
    blocked = next(key for key in sorted(LEXICON.severity) if key.isalpha() and 4 <= len(key) <= 8 and key.isascii())
    for handle in (blocked, blocked.upper(), f"the_{blocked}", f"{blocked}-1", f"x.{blocked}", f"{blocked}99"):
        with pytest.raises(BadField):
            checked_handle(handle, LEXICON)
    # Exact words only: a name that contains one is a name.
    assert checked_handle(f"qz{blocked}qz", LEXICON) == f"qz{blocked}qz"


@given(st.text(max_size=24))
def test_any_text_is_a_handle_or_refused_for_the_field(text: str) -> None:
    try:
        shown = checked_handle(text, LEXICON)
    except BadField:
        return
    assert 3 <= len(shown) <= 20
    assert folded(folded(shown)) == folded(shown)
    assert checked_handle(shown, LEXICON) == shown


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 129, "aaaaaaaaaaaa", "1234567890", "QWERTYUIOP", "ada.lovelace", "ab\ud800" + "c" * 10]
)
def test_what_is_no_password(password: str) -> None:
    with pytest.raises(BadField) as caught:
        check_password(password, "Ada.Lovelace")
    assert caught.value.field == "password"
    assert len(password) < 6 or password not in str(caught.value)


def test_passwords_of_any_script_and_length() -> None:
    for password in ("abcdefghi1", "x1y2" * 32, "пароль из слов", "   spaces   ", "パスワードは長い方がよい"):
        check_password(password, "Ada")


def test_password_is_kept_as_argon2id_and_read_in_every_spelling() -> None:
    passwords = Passwords(Counting())
    kept = passwords.hashed("zoë is here")
    assert kept.startswith("$argon2id$")
    assert passwords.fits("zoe\u0308 is here", kept)
    assert not passwords.fits("zoe is here", kept)
    assert not passwords.fits("x\ud800", kept)
    assert not passwords.fits("anything at all", None)


def test_default_hashing_takes_the_memory_of_rfc_9106() -> None:
    kept = Passwords().hashed(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_without_argon2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "argon2", None)
    with pytest.raises(DependencyMissing, match=r"idiolect\[serve\]"):
        Passwords().hashed(PASSWORD)


# -- sign-up and log-in --------------------------------------------------------------------------------------------------


def test_handles_are_unique_without_case(desk: Desk) -> None:
    desk.accounts.sign_up(None, "Zoë", PASSWORD)
    for handle in ("zoë", "ZOË", "zoe\u0308", "Ｚoë"):
        with pytest.raises(HandleTaken):
            desk.accounts.sign_up(None, handle, PASSWORD)
    desk.accounts.sign_up(None, "Zoe", PASSWORD)


def test_guest_who_signs_up_is_the_same_player(desk: Desk) -> None:
    guest = desk.accounts.guest()
    desk.play(guest, "wheel")
    made = desk.accounts.sign_up(guest, "Ada", PASSWORD, Wish(aggregate=True))
    assert (made.key, made.player, made.kind, made.handle) == (guest.key, guest.player, "account", "Ada")
    assert (made.consent_aggregate, made.consent_personal, made.consent_pieces) == (desk.clock(), None, None)
    with pytest.raises(NotAllowed):
        desk.accounts.sign_up(made, "Eve", PASSWORD)


def test_failed_sign_up_leaves_nothing(desk: Desk) -> None:
    guest = desk.accounts.guest()
    with pytest.raises(BadField):
        desk.accounts.sign_up(guest, "Ada", PASSWORD, Wish(personal=True))
    row = desk.row(guest)
    assert row == guest
    desk.accounts.sign_up(None, "Ada", PASSWORD)


def test_two_sign_ups_of_one_guest_make_one_account(desk: Desk) -> None:
    guest = desk.accounts.guest()
    desk.accounts.sign_up(guest, "Ada", PASSWORD)
    with pytest.raises(NotAllowed):
        desk.accounts.sign_up(guest, "Eve", PASSWORD)  # a second tab, which saw the guest
    row = desk.row(guest)
    assert row is not None
    assert row.handle == "Ada"


def test_guest_who_is_gone_by_now_signs_up_as_somebody_new(desk: Desk) -> None:
    guest = desk.accounts.guest()
    desk.accounts.delete(guest.key)
    made = desk.accounts.sign_up(guest, "Ada", PASSWORD)
    assert (made.kind, made.handle) == ("account", "Ada")
    assert made.player != guest.player


def test_log_in_by_any_spelling_of_the_handle(desk: Desk) -> None:
    made = desk.accounts.sign_up(None, "Zoë", PASSWORD)
    assert desk.accounts.log_in(None, "ZOE\u0308", PASSWORD) == made
    for handle, password in (
        ("Zoë", "not the one"),
        ("Eve", PASSWORD),
        ("", ""),
        ("Zoë", ""),
        ("a\ud800", PASSWORD),
        ("a\0", "x"),
    ):
        with pytest.raises(WrongLogin):
            desk.accounts.log_in(None, handle, password)


def test_unknown_handle_costs_a_hash_too(desk: Desk) -> None:
    desk.accounts.sign_up(None, "Ada", PASSWORD)
    asked = []
    for handle in ("Ada", "Nobody"):
        before = desk.hasher.n_verified
        with pytest.raises(WrongLogin):
            desk.accounts.log_in(None, handle, "not the one")
        asked.append(desk.hasher.n_verified - before)
    assert asked == [1, 1]


def test_dated_hash_is_made_anew_at_log_in(desk: Desk) -> None:
    made = desk.accounts.sign_up(None, "Ada", PASSWORD)
    later = desk.reopened(Counting(time_cost=2))
    after = later.log_in(None, "Ada", PASSWORD)
    assert "t=1" in (made.password or "")
    assert "t=2" in (after.password or "")
    assert later.log_in(None, "Ada", PASSWORD).password == after.password


def test_password_can_be_changed_and_ends_other_sessions(desk: Desk) -> None:
    made = desk.accounts.sign_up(None, "Ada", PASSWORD)
    for token in ("here", "there"):
        desk.accounts.sit(made.key, token, instead_of="")
    with pytest.raises(WrongLogin):
        desk.accounts.change_password(made.key, "not the one", "another long one", "here")
    with pytest.raises(BadField):
        desk.accounts.change_password(made.key, PASSWORD, "short", "here")
    desk.accounts.change_password(made.key, PASSWORD, "another long one", "here")
    assert desk.accounts.seated("here").player is not None
    assert desk.accounts.seated("there").player is None
    desk.accounts.log_in(None, "Ada", "another long one")


def test_secret_is_made_once_for_a_store(desk: Desk) -> None:
    secret = desk.accounts.secret()
    assert len(secret) == 64
    assert desk.reopened(Counting()).secret() == secret


# -- merging -------------------------------------------------------------------------------------------------------------


def test_merged_guest_leaves_the_accounts_own_rounds_and_counts_as_one_player(desk: Desk) -> None:
    account = desk.accounts.sign_up(None, "Ada", PASSWORD)
    own = {desk.play(account, "one", "two") for _ in range(2)}
    guest = desk.accounts.guest()
    for _ in range(4):
        desk.play(guest, "two", "three")
    merged = desk.accounts.log_in(guest, "Ada", PASSWORD)
    assert merged.key == account.key
    assert desk.row(guest) is None
    with desk.game.books.read() as books:
        ids = {prompt.prompt for prompt in books.prompts() if prompt.key in own}
    for prompt, (n_players, n_rounds, score_sum, keys) in desk.counts().items():
        assert (n_players, n_rounds, score_sum) == (1, 1, 40.0)
        assert keys == ({"one": 1, "two": 1} if prompt in ids else {"two": 1, "three": 1})
    standing = desk.accounts.standing(account.key)
    assert (standing.n_rounds, standing.total, standing.streak) == (4, 160, 1)


@pytest.mark.parametrize("open_of_account", [False, True])
def test_open_round_of_the_guest_goes_on_unless_the_account_has_one(desk: Desk, open_of_account: bool) -> None:
    account = desk.accounts.sign_up(None, "Ada", PASSWORD)
    guest = desk.accounts.guest()
    round = desk.game.rounds.issue(guest.key, mode="classic")
    if open_of_account:
        own = desk.game.rounds.issue(account.key, mode="classic")
    desk.accounts.log_in(guest, "Ada", PASSWORD)
    current = desk.game.rounds.current(account.key)
    assert current is not None
    assert current.round == (own.round if open_of_account else round.round)


def test_judgements_passes_challenges_complaints_and_notices_go_over(desk: Desk) -> None:
    account = desk.accounts.sign_up(None, "Ada", PASSWORD)
    guest = desk.accounts.guest()
    giver = desk.accounts.guest()
    prompt = desk.play(giver, "wheel", "seat")
    with desk.game.books.write() as books:
        pairs = books.pairs(prompt)
        for player, keys in ((account, ["wheel"]), (guest, ["wheel", "seat"])):
            round = books.add_round(
                round=f"judge-{player.key}", player=player.key, prompt=None, relation="mero", mode="judge", timing="1x",
                served_at=BEGAN, started_at=BEGAN, closed_at=BEGAN, close_reason="finished", rules="1",
            )  # fmt: skip
            items = [{"prompt": prompt, "key": key, "display": key, "seq": n, "kind": "game"} for n, key in enumerate(keys)]
            books.add_judgements(round.key, player.key, items)
            books.judge([(row.key_, "yes", 500) for row in books.judgements(round.key)], BEGAN)
            for key in keys:
                books.add_challenge(pairs[key].key_, player.key, "it is", BEGAN)
                books.add_complaint(pairs[key].key_, player.key, BEGAN)
            books.add_pass(player.key, prompt, BEGAN, None)
            books.add_notice(player.key, "settled", {"n": player.key}, BEGAN)
    desk.accounts.log_in(guest, "Ada", PASSWORD)
    with desk.game.books.write() as books:
        assert books.asked(account.key) == {(prompt, "wheel"), (prompt, "seat")}
        assert len(books.challenges(player=account.key)) == 2
        assert all(books.has_complained(pair.key_, account.key) for pair in pairs.values())
        assert len(books.take_notices(account.key, BEGAN)) == 2
        assert {key: pair.n_judges for key, pair in books.pairs(prompt).items()} == {"wheel": 1, "seat": 1}


def test_evidence_about_the_guest_counts_for_the_account(desk: Desk) -> None:
    account = desk.accounts.sign_up(None, "Ada", PASSWORD)
    guest = desk.accounts.guest()
    with desk.game.books.write() as books:
        books.add_trust(guest.key, a=2, b=6)
        books.add_trust(account.key, a=1)
    merged = desk.accounts.log_in(guest, "Ada", PASSWORD)
    assert (merged.trust_a, merged.trust_b) == (7, 7)


def test_standing_follows_from_the_evidence_of_both(desk: Desk) -> None:
    account = desk.accounts.sign_up(None, "Ada", PASSWORD)
    prompts = {desk.play(account, "wheel") for _ in range(4)}
    guest = desk.accounts.guest()
    with desk.game.books.write() as books:
        books.add_trust(guest.key, b=2.5)  # four to three and a half: trusted, and so is the account
        books.add_trust(account.key, b=2.0)
    merged = desk.accounts.log_in(guest, "Ada", PASSWORD)
    assert (merged.trust_a, merged.trust_b, merged.state) == (4, 5.5, "limited")
    with desk.game.books.read() as books:
        assert {books.pairs(prompt)["wheel"].n_players for prompt in prompts} == {0}


@pytest.mark.parametrize("state", ["limited", "banned"])
def test_nobody_leaves_a_bad_name_behind_by_logging_in(desk: Desk, state: str) -> None:
    desk.accounts.sign_up(None, "Ada", PASSWORD)
    guest = desk.accounts.guest()
    with desk.game.books.write() as books:
        books.change_player(guest.key, state=state)
    desk.accounts.log_in(guest, "Ada", PASSWORD)
    assert desk.row(guest) is not None


# -- consents ------------------------------------------------------------------------------------------------------------


def test_consents_are_off_and_each_by_itself(desk: Desk) -> None:
    player = desk.accounts.guest()
    assert set(consents.given(player).values()) == {None}
    now = desk.clock()
    player = desk.accounts.change(player.key, Wish(aggregate=True))
    assert consents.given(player) == {"aggregate": now, "personal": None, "pieces": None}
    desk.clock.tick(10)
    player = desk.accounts.change(player.key, Wish(aggregate=True, personal=True, adult=True))
    assert consents.given(player) == {"aggregate": now, "personal": now + 10, "pieces": None}
    player = desk.accounts.change(player.key, Wish(pieces=True))
    player = desk.accounts.change(player.key, Wish(aggregate=False))
    assert consents.given(player) == {"aggregate": None, "personal": now + 10, "pieces": now + 10}
    player = desk.accounts.change(player.key, Wish(personal=False))
    assert set(consents.given(player).values()) == {None}


@pytest.mark.parametrize("wish", [Wish(personal=True), Wish(personal=True, adult=False), Wish(pieces=True, adult=True)])
def test_consents_that_cannot_be(desk: Desk, wish: Wish) -> None:
    player = desk.accounts.guest()
    with pytest.raises(BadField):
        desk.accounts.change(player.key, wish, timing="2x")
    assert desk.row(player) == player  # neither the consent nor the setting


def test_version_is_the_one_that_was_shown_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consents, "VERSIONS", (("1", 0.0), ("2", 100.0)))
    assert [consents.version_at(at) for at in (0, 99.9, 100, 1e9)] == ["1", "1", "2", "2"]


def test_taking_the_personal_consent_back_forgets_the_history_and_keeps_the_player(desk: Desk) -> None:
    player = desk.accounts.guest()
    desk.accounts.change(player.key, Wish(personal=True, adult=True))
    desk.play(player, "wheel")
    person = desk.history(player)
    assert desk.store.has_person(person)
    desk.accounts.change(player.key, Wish(personal=False))
    assert desk.store.has_person(person)  # nobody's request waits for that
    assert desk.accounts.finish_leaving() == 0
    assert not desk.store.has_person(person)
    row = desk.row(player)
    assert row is not None
    assert row.person is None
    assert desk.accounts.standing(player.key).n_rounds == 1


def test_consent_given_again_while_the_history_is_still_there_keeps_the_account(desk: Desk) -> None:
    player = desk.accounts.sign_up(None, "Ada", PASSWORD, AGREED)
    desk.play(player, "wheel")
    person = desk.game.histories.sync(player.key).person
    desk.broken = StoreBusy("training holds the store")
    desk.accounts.change(player.key, Wish(personal=False))
    desk.accounts.change(player.key, Wish(personal=True))
    with pytest.raises(StoreBusy):
        desk.game.histories.sync(player.key)
    desk.accounts.change(player.key, Wish(personal=False))
    desk.accounts.change(player.key, Wish(personal=True))
    assert desk.accounts.finish_leaving() == 1
    desk.broken = None
    assert desk.accounts.finish_leaving() == 0
    assert desk.row(player) is not None
    assert not desk.store.has_person(person)
    assert desk.game.histories.sync(player.key).n_new == 1
    assert desk.accounts.standing(player.key).n_rounds == 1


def test_who_takes_the_aggregate_consent_back_has_taught_nothing(desk: Desk) -> None:
    teacher, other = (desk.accounts.sign_up(None, name, PASSWORD, AGREED) for name in ("Ada", "Eve"))
    desk.play(teacher, "wheel")
    people = [desk.game.histories.sync(player.key).person for player in (teacher, other)]
    shared = AdapterManifest("task", "NYM-1", "base", "base", 2, 4.0, ("q_proj",))
    digest = desk.store.publish(shared, b"weights", parents=[Parent("person", people[0], people[0])])
    own = AdapterManifest("user", "NYM-1", "base", "base", 2, 4.0, ("q_proj",), user_id=people[1], task_adapter=digest)
    desk.store.publish(own, b"more weights")
    for player in (teacher, other):
        with desk.game.books.write() as books:
            books.put_portrait(player.key, "done", 1.0, {"trained": True})
    desk.accounts.change(other.key, Wish(aggregate=False))  # taught nobody: what they have stays
    with desk.game.books.read() as books:
        assert books.leaving() == []
    desk.accounts.change(teacher.key, Wish(aggregate=False))
    with desk.game.books.read() as books:
        assert books.leaving() == [people[0]]
        assert teacher.key not in books.consenting()
        portrait = books.portrait(teacher.key)
    assert portrait is not None
    assert (portrait.state, portrait.body) == ("waiting", {})
    assert desk.accounts.finish_leaving() == 0
    assert desk.row(teacher) is not None
    assert desk.game.histories.sync(teacher.key).n_new == 1  # their own consent holds


# -- leaving -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["guest", "account"])
def test_deleting_is_as_if_they_had_never_played(desk: Desk, kind: str) -> None:
    others = [desk.accounts.guest() for _ in range(3)]
    for other in others[:2]:
        for _ in range(4):
            desk.play(other, "wheel", "seat")
    before = desk.counts()
    player = desk.accounts.guest()
    if kind == "account":
        player = desk.accounts.sign_up(player, "Ada", PASSWORD)
    desk.accounts.sit(player.key, "token", instead_of="")
    for _ in range(4):
        desk.play(player, "wheel", "something of mine")
    person = desk.history(player)
    assert desk.counts() != before
    desk.accounts.delete(player.key)
    assert desk.counts() == before
    assert desk.row(player) is None
    assert desk.accounts.seated("token").player is None
    assert not desk.store.has_person(person)
    assert desk.n_scrubbed == 1
    with desk.game.books.read() as books:
        assert books.removals_since(0.0) == 1
        assert books.leaving() == []
    desk.accounts.delete(player.key)  # once more changes nothing
    with desk.game.books.read() as books:
        assert books.removals_since(0.0) == 1


def test_deleted_players_words_are_nowhere_in_the_database(desk: Desk) -> None:
    player = desk.accounts.sign_up(None, "Unmistakable", PASSWORD)
    desk.play(player, "zyxwvutsrq")
    desk.accounts.delete(player.key)
    desk.store.compact()
    left = b"".join(file.read_bytes() for file in Path(desk.store.place).glob("idiolect.db*"))
    assert b"zyxwvutsrq" not in left
    assert b"nmistakable" not in left
    assert player.player.encode() not in left


def test_validated_pair_is_none_any_more_when_those_who_gave_it_leave(desk: Desk) -> None:
    players = [desk.accounts.guest() for _ in range(3)]
    prompts = {desk.play(player, "wheel") for player in players for _ in range(4)}
    with desk.game.books.write() as books:
        refresh(books, {(prompt, "wheel") for prompt in prompts}, desk.clock())
        assert {books.pairs(prompt)["wheel"].state for prompt in prompts} == {"validated"}
    desk.accounts.delete(players[0].key)
    with desk.game.books.read() as books:
        assert {books.pairs(prompt)["wheel"].state for prompt in prompts} == {"candidate"}


def test_coming_and_going_gains_no_trust(desk: Desk) -> None:
    players = [desk.accounts.guest() for _ in range(2)]
    for player in players:
        for _ in range(4):
            desk.play(player, "wheel")
    found = []
    for _ in range(3):
        third = desk.accounts.guest()
        for _ in range(4):
            desk.play(third, "wheel")
        found.append(desk.row(players[0]))
        desk.accounts.delete(third.key)
        found.append(desk.row(players[0]))
    assert [row.trust_a for row in found if row is not None] == pytest.approx([4.8, 4.0] * 3)


def test_who_came_after_a_pair_was_valid_pays_nothing_when_it_is_so_no_more(desk: Desk) -> None:
    players = [desk.accounts.guest() for _ in range(4)]
    for player in players:
        for _ in range(4):
            desk.play(player, "wheel")
    for player in players[:2]:
        desk.accounts.delete(player.key)
    assert [row.trust_a for row in map(desk.row, players[2:]) if row is not None] == pytest.approx([4.0, 4.0])


def test_wiping_is_tried_again_until_it_is_done(desk: Desk) -> None:
    accounts = desk.accounts
    assert accounts.tidy()  # what a server before this one left
    assert accounts.tidy()
    assert desk.n_scrubbed == 1
    player = accounts.guest()
    desk.read_by_others = True
    accounts.delete(player.key)
    assert not accounts.tidy()
    desk.read_by_others = False
    assert accounts.tidy()
    assert accounts.tidy()
    assert desk.n_scrubbed == 4


@pytest.mark.parametrize("error", [StoreBusy("training holds the store"), RuntimeError("the server stopped")])
def test_forgetting_that_was_cut_off_is_done_later(desk: Desk, error: Exception) -> None:
    player = desk.accounts.guest()
    person = desk.history(player)
    desk.broken = error
    if isinstance(error, IdiolectError):
        desk.accounts.delete(player.key)
    else:
        with pytest.raises(RuntimeError):
            desk.accounts.delete(player.key)
    assert desk.row(player) is None
    assert desk.store.has_person(person)
    with desk.game.books.read() as books:
        assert books.leaving() == [person]
    desk.broken = None
    assert desk.reopened(Counting()).finish_leaving() == 0
    assert not desk.store.has_person(person)
    with desk.game.books.read() as books:
        assert books.leaving() == []


def test_history_that_is_gone_already_is_no_obstacle(desk: Desk) -> None:
    with desk.game.books.write() as books:
        books.note_leaving("nyms-nobody")
    assert desk.accounts.finish_leaving() == 0
    with desk.game.books.read() as books:
        assert books.leaving() == []


def test_forgetting_the_person_takes_the_player_along(desk: Desk) -> None:
    player = desk.accounts.guest()
    person = desk.history(player)
    desk.store.delete_person(person)
    assert desk.row(player) is None


def test_purge_deletes_old_guests_and_sessions_only(desk: Desk) -> None:
    old = desk.accounts.guest()
    desk.play(old, "wheel")
    account = desk.accounts.sign_up(None, "Ada", PASSWORD)
    desk.accounts.sit(account.key, "old", instead_of="")
    with desk.game.books.write() as books:
        crowd = books.add_player("s", "simulated", desk.clock())
    desk.clock.tick(GUEST_S - 10)
    new = desk.accounts.guest()
    desk.accounts.sit(account.key, "new", instead_of="")
    assert desk.accounts.purge() == 0
    desk.clock.tick(20)
    assert desk.accounts.purge() == 1
    assert [desk.row(player) is None for player in (old, account, crowd, new)] == [True, False, False, False]
    with desk.game.books.read() as books:
        assert (books.seen("old"), books.seen("new") is not None) == (None, True)
    assert all(n_players == 0 for n_players, *_ in desk.counts().values())


def test_sessions_end_when_they_are_not_used(desk: Desk) -> None:
    player = desk.accounts.guest()
    desk.accounts.sit(player.key, "token", instead_of="")
    desk.clock.tick(SESSION_S)
    assert desk.accounts.seated("token").renewed
    assert not desk.accounts.seated("token").renewed
    desk.clock.tick(SESSION_S + 1)
    assert desk.accounts.seated("token").player is None


def test_sitting_down_ends_what_the_seat_was_before(desk: Desk) -> None:
    one, two = desk.accounts.guest(), desk.accounts.guest()
    desk.accounts.sit(one.key, "a", instead_of="")
    desk.accounts.sit(two.key, "b", instead_of="a")
    assert desk.accounts.seated("a").player is None
    seated = desk.accounts.seated("b").player
    assert seated is not None
    assert seated.key == two.key
    desk.accounts.log_out("b")
    assert desk.accounts.seated("b").player is None


def test_moderators_are_appointed_by_handle_and_it_is_noted(desk: Desk) -> None:
    desk.accounts.sign_up(None, "Ada", PASSWORD)
    assert desk.accounts.appoint("ADA").moderator
    assert not desk.accounts.appoint("ada", moderator=False).moderator
    with pytest.raises(PersonNotFound):
        desk.accounts.appoint("Eve")
    with desk.game.books.read() as books:
        assert [(act.actor, act.action) for act in books.acts(5)] == [("operator", "dismiss"), ("operator", "appoint")]


@pytest.mark.parametrize(
    ("days", "n"), [([], 0), ([10], 1), ([9], 1), ([8], 0), ([10, 9, 8], 3), ([9, 8, 6], 2), ([10, 8], 1), ([11, 10], 1)]
)
def test_streak_on_day_10(days: list[int], n: int) -> None:
    assert streak(days, 10) == n
