"""Sharing, assembling, withdrawing and passing on pieces by commands, on a random base; and every slip on the way."""

from __future__ import annotations

import shutil

import pytest
from cli_running import documents, error_of, people, write_lines

TASK = ("--task", "LaMP-2N")
QUICK = ("--gate-steps", "2")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_base):
    """A store with three trained people, who share, and two newcomers; made once, by commands."""
    from typer.testing import CliRunner

    from idiolect.cli.app import app

    folder = tmp_path_factory.mktemp("pieces")
    sharers = write_lines(folder / "sharers.jsonl", people(3))
    newcomers = write_lines(folder / "newcomers.jsonl", people(2, n_items=2, prefix="n"))
    base_people = write_lines(folder / "base.jsonl", people(2, prefix="b"))
    store = ["--store", str(folder / "store")]
    on = [*store, "--base", str(tiny_base)]
    for words in (
        ["history", "import", str(sharers), *store],
        ["train", "--stage", "task", *TASK, "--data", str(base_people), "--epochs", "1", *on],
        ["train", "--all", *TASK, "--epochs", "1", *on],
        ["history", "import", str(newcomers), *store],
        ["pieces", "share", "p00", "p01", "p02", *TASK, *QUICK, *on],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def on(made, tmp_path, tiny_base):
    """Options that name a store of the test's own and the base."""
    shutil.copytree(made / "store", tmp_path / "store")
    return ("--store", tmp_path / "store", "--base", tiny_base)


def pool_of(run, on):
    (pool,) = documents(run("pieces", "list", *on[:2], "--json"))
    return pool


def test_shared_once(run, on):
    pool = pool_of(run, on)
    assert (pool["n_pieces"], pool["n_people"], pool["key"]["task"]) == (12, 3, "LaMP-2N")
    again = documents(run("pieces", "share", "p00", "p01", "p02", *TASK, *QUICK, *on, "--json"))
    assert (again["shared"], again["kept"], again["tokens"]) == ({}, {"p00": 4, "p01": 4, "p02": 4}, 0)
    text = run("pieces", "share", "p00", *TASK, "--layers", "1", *QUICK, *on)
    assert "2 pieces withdrawn, 0 adapters with them" in text.stdout
    assert f"pool {pool['digest'][:12]}: 10 pieces of 3 people" in text.stdout
    rows = documents(run("pieces", "list", "--user", "p00", *on[:2], "--json"))
    assert [".layers.1." in row["module"] for row in rows] == [True, True]
    assert str(rows[0]["id"]) in run("pieces", "list", "--user", "p00", *on[:2]).stdout
    assert "shares nothing" in run("pieces", "list", "--user", "n00", *on[:2]).stderr
    assert pool["digest"][:12] in run("pieces", "list", *on[:2]).stdout


def test_a_share_by_lot_and_only_directions(run, on):
    words = ("pieces", "share", "p00", *TASK, *QUICK, "--share-ratio", "0.5", "--seed", "3", "--direction-only", *on, "--json")
    n = documents(run(*words))["shared"]["p00"]
    assert 0 < n < 4
    assert documents(run(*words))["kept"] == {"p00": n}


def test_sharers_chosen_by_their_histories(run, on):
    words = ("pieces", "share", "--select", "5", *TASK, *QUICK, *on)
    assert "none of 3 candidates has 11 items" in error_of(run(*words, code=3))
    result = run(*words, "--min-items", "3", "--json")
    selected = documents(result)["selected"]
    assert (selected["wanted"], selected["n_candidates"]) == (5, 3)
    assert 1 <= len(selected["chosen"]) <= 3
    assert f"{len(selected['chosen'])} sharer" in result.stderr
    assert "of 5 wanted, from 3 candidates in 3 clusters" in result.stderr
    chosen = documents(run(*words, "--min-items", "3", "--strategy", "random", "--json"))["selected"]["chosen"]
    assert chosen == ["p00", "p01", "p02"]


def test_newcomers_answer_with_pieces(run, on):
    done = documents(run("pieces", "assemble", "--all", *TASK, *on, "--json"))
    assert [one["user"] for one in done["people"]] == ["n00", "n01"]
    assert all(one["new"] and one["n_pieces"] == 12 and one["size_bytes"] < 3000 for one in done["people"])
    again = run("pieces", "assemble", "n00", "n01", *TASK, *on)
    assert again.stdout.count("there already") == 3
    rows = documents(run("adapters", "list", "--user", "n00", *on[:2], "--json"))
    assert [(row["kind"], row["is_head"]) for row in rows] == [("assembled", True)]
    assert "assembled" in run("adapters", "list", *on[:2]).stdout
    both = documents(run("generate", "n00", "The senator votes", *TASK, "--compare", *on, "--json"))
    assert both["probabilities"] != both["without"]["probabilities"]
    assert "12 × piece" in run("adapters", "show", rows[0]["digest"], *on[:2]).stdout


def test_settings_and_too_few_pieces(run, on):
    result = run("pieces", "assemble", "n00", *TASK, "-k", "9", "--temperature", "0.5", "--combine", "factor", *on, "--json")
    assert documents(result)["n_short"] == 4
    assert "4 modules of pool" in result.stderr
    shown = documents(run("pieces", "inspect", "n00", *TASK, *on, "--json"))
    assert (shown["k"], shown["temperature"], shown["combine"], shown["n_history"]) == (9, 0.5, "factor", 2)
    run("pieces", "assemble", "n00", *TASK, "--max-history", "1", *on)
    assert documents(run("pieces", "inspect", "n00", *TASK, *on, "--json"))["n_history"] == 1


def test_one_newcomer_without_a_history_stops_nobody(run, on, tmp_path):
    run("history", "import", write_lines(tmp_path / "e.jsonl", [{"user_id": "e", "profile": [], "query": []}]), *on[:2])
    result = run("pieces", "assemble", "e", "n00", *TASK, *on, "--json", code=2)
    assert list(documents(result)["problems"]) == ["e"]
    assert "idiolect: e: there is no history to assemble from" in result.stderr
    assert [one["user"] for one in documents(result)["people"]] == ["n00"]


def test_withdrawal(run, on):
    run("pieces", "assemble", "n00", "n01", *TASK, *on)
    before = documents(run("adapters", "list", *on[:2], "--json"))
    preview = documents(run("pieces", "revoke", "--user", "p00", "--dry-run", *on, "--json"))
    assert (len(preview["pieces"]), sorted(one["user"] for one in preview["adapters"])) == (4, ["n00", "n01"])
    assert "nothing was changed" in run("pieces", "revoke", "--user", "p00", "--dry-run", *on).stdout
    assert documents(run("adapters", "list", *on[:2], "--json")) == before
    text = run("pieces", "revoke", "--user", "p00", *on).stdout
    assert "4 pieces withdrawn, 2 adapters with them" in text
    assert "2 assembled, 0 there already" in text
    assert pool_of(run, on)["n_people"] == 2


def test_withdrawal_of_single_pieces_and_of_pools(run, on):
    run("pieces", "assemble", "n00", *TASK, *on)
    piece = documents(run("pieces", "list", "--user", "p01", *on[:2], "--json"))[0]["id"]
    done = run("pieces", "revoke", str(piece), "--no-reassemble", *on)
    assert "to assemble theirs anew: idiolect pieces assemble n00 --task LaMP-2N" in done.stderr
    assert str(piece) in error_of(run("pieces", "revoke", str(piece), *on, code=3))
    run("pieces", "assemble", "n00", *TASK, *on)
    gone = run("pieces", "revoke", "--pool", pool_of(run, on)["digest"][:9], *on, "--json")
    assert len(documents(gone)["pieces"]) == 11
    assert "nothing is left in pool" in gone.stderr
    assert "there is no pool yet" in run("pieces", "list", *on[:2]).stderr


@pytest.mark.parametrize("json", [True, False])
def test_who_lost_an_adapter_with_a_person_gets_another(run, on, json):
    run("pieces", "assemble", "n00", *TASK, *on)
    result = run("history", "delete", "p00", "--yes", *on, *(["--json"] if json else []))
    (row,) = documents(run("adapters", "list", "--user", "n00", *on[:2], "--json"))
    if json:
        (again,) = documents(result)["reassembled"]
        assert [(one["user"], one["digest"]) for one in again["people"]] == [("n00", row["digest"])]
    else:
        assert "4 pieces withdrawn, 1 adapter of others with them" in result.stdout
        assert "1 assembled, 0 there already" in result.stdout
    assert "to assemble theirs anew" not in result.stderr


def test_who_lost_an_adapter_with_a_person_where_it_cannot_be_made_anew(run, on, other_base, tmp_path):
    run("pieces", "assemble", "n00", *TASK, *on)
    left = run("history", "delete", "p00", "--yes", "--no-reassemble", *on)
    assert "to assemble theirs anew: idiolect pieces assemble n00 --task LaMP-2N" in left.stderr
    assert documents(run("adapters", "list", "--user", "n00", *on[:2], "--json")) == []
    for user, base, words in (("p01", other_base, "made on another base"), ("p02", tmp_path / "nowhere", "nothing is left")):
        run("pieces", "assemble", "n00", *TASK, *on)
        done = run("history", "delete", user, "--yes", *on[:2], "--base", base)
        assert f"{user} is gone" in done.stdout
        assert "idiolect: n00: " in done.stderr
        assert words in done.stderr
        assert ("idiolect pieces assemble n00" in done.stderr) == (user == "p01")


def test_exports_on_record(run, on, tmp_path):
    assert documents(run("pieces", "list", "--exports", *on[:2], "--json")) == []
    assert "no export is on record" in run("pieces", "list", "--exports", *on[:2]).stderr
    run("pieces", "assemble", "n00", *TASK, *on)
    run("adapters", "export", "n00", *TASK, "--out", tmp_path / "n00", *on)
    run("adapters", "export", "p01", *TASK, "--out", tmp_path / "p01", *on)
    pool = pool_of(run, on)["digest"]
    run("pieces", "export", pool, "--out", tmp_path / "pool.safetensors", *on)
    run("pieces", "revoke", "--user", "p00", *on)
    rows = documents(run("pieces", "list", "--exports", *on[:2], "--json"))
    assert [(row["kind"], row["user_id"], row["place"], row["stale"]) for row in rows] == [
        ("pool", None, str(tmp_path / "pool.safetensors"), True),
        ("adapter", "p01", str(tmp_path / "p01"), False),
        ("adapter", "n00", str(tmp_path / "n00"), True),
    ]
    stale = documents(run("pieces", "list", "--exports", "--stale", *on[:2], "--json"))
    assert stale == [row for row in rows if row["stale"]]
    mine = documents(run("pieces", "list", "--exports", "--user", "n00", *on[:2], "--json"))
    assert mine == rows[2:]
    text = run("pieces", "list", "--exports", *on[:2]).stdout
    assert pool[:12] in text
    assert text.count("●") == 2
    assert error_of(run("pieces", "list", "--stale", *on[:2], code=2)).startswith("InputError: ")
    assert error_of(run("pieces", "list", "--exports", "--user", "zoe", *on[:2], code=3)).startswith("PersonNotFound: ")


def test_a_pool_goes_out_and_comes_in(run, on, made, tmp_path, tiny_base):
    digest, file = pool_of(run, on)["digest"], tmp_path / "pool.safetensors"
    done = documents(run("pieces", "export", digest[:9], "--out", file, "--note", "for research", *on, "--json"))
    assert (done["pool"], done["n_pieces"], done["size_bytes"]) == (digest, 12, file.stat().st_size)
    other = ("--store", tmp_path / "other", "--base", tiny_base)
    taken = run("pieces", "import", file, *other)
    assert "12 new pieces, 0 there already" in taken.stdout
    assert "its note: for research" in taken.stderr
    assert "its task adapter is not in this store" in taken.stderr
    run("train", "--stage", "task", *TASK, "--data", made / "base.jsonl", "--epochs", "1", *other)
    run("history", "import", made / "newcomers.jsonl", *other[:2])
    assert documents(run("pieces", "import", file, *other, "--json"))["usable"]
    assert len(documents(run("pieces", "assemble", "--all", *TASK, *other, "--json"))["people"]) == 2
    run("pieces", "revoke", "--user", "p00", *on)
    assert "still holds" in run("pieces", "revoke", "--user", "p01", *on).stderr


def test_what_a_pool_costs(run, on):
    digest = pool_of(run, on)["digest"]
    run("pieces", "assemble", "n00", *TASK, *on)
    facts = documents(run("pieces", "inspect", digest[:9], *on, "--json"))
    assert (facts["n_people"], facts["n_adapters"], list(facts["ratio"])) == (3, 1, ["10", "100", "1000", "10000"])
    text = run("pieces", "inspect", digest[:9], *on).stdout
    for words in ("S = 3", "MiB", "per person, mean of 1 adapter", "10,000", "3 in each of 4 modules"):
        assert words in text
    text = run("pieces", "inspect", "n00", *TASK, *on).stdout
    assert "as it is now" in text
    assert text.count("_proj") == 4


USAGE = {
    "nobody named": (("share", *TASK), 2, "InputError"),
    "both named and chosen": (("share", "p00", "--select", "2", *TASK), 2, "InputError"),
    "unknown sharer": (("share", "zoe", *TASK), 3, "PersonNotFound"),
    "layers that are no numbers": (("share", "p00", "--layers", "a,b", *TASK), 2, "ConfigError"),
    "no layer at all": (("share", "p00", "--layers", ",", *TASK), 2, "ConfigError"),
    "gates that cannot be": (("share", "p00", "--gate-steps", "0", *TASK), 2, "ConfigError"),
    "unknown newcomer": (("assemble", "zoe", *TASK), 3, "PersonNotFound"),
    "all and one": (("assemble", "n00", "--all", *TASK), 2, "InputError"),
    "no k": (("assemble", "n00", "-k", "0", *TASK), 2, "ConfigError"),
    "no temperature": (("assemble", "n00", "--temperature", "0", *TASK), 2, "ConfigError"),
    "a temperature without end": (("assemble", "n00", "--temperature", "inf", *TASK), 2, "ConfigError"),
    "unknown pool": (("assemble", "n00", "--pool", "beef", *TASK), 3, "PieceNotFound"),
    "no pool of the base itself": (("assemble", "n00", "--bare", *TASK), 3, "PieceNotFound"),
    "no task adapter": (("assemble", "n00", "--task", "LaMP-3"), 3, "TaskAdapterNotFound"),
    "nothing to withdraw": (("revoke",), 2, "InputError"),
    "unknown piece": (("revoke", "17"), 3, "PieceNotFound"),
    "unknown person": (("revoke", "--user", "zoe"), 3, "PersonNotFound"),
    "pool to export": (("export", "beef", "--out", "x"), 3, "PieceNotFound"),
    "no file": (("import", "nowhere.safetensors"), 2, "FileFormatError"),
    "person without a task": (("inspect", "n00"), 2, "InputError"),
    "nothing assembled": (("inspect", "n00", *TASK), 3, "AdapterNotFound"),
    "a trained one": (("inspect", "p00", *TASK), 2, "InputError"),
    "unknown digest": (("inspect", "beef"), 3, "AdapterNotFound"),
}


@pytest.mark.parametrize("name", USAGE)
def test_one_line_for_every_slip(run, made, tiny_base, name):
    words, code, error = USAGE[name]
    on = ("--store", made / "store", "--base", tiny_base)
    assert error_of(run("pieces", *words, *on, code=code)).startswith(f"{error}: ")


def test_a_pool_of_another_base(run, on, other_base, tmp_path):
    digest, file = pool_of(run, on)["digest"], tmp_path / "pool.safetensors"
    run("pieces", "export", digest, "--out", file, *on)
    foreign = ("--store", tmp_path / "other", "--base", other_base)
    assert error_of(run("pieces", "import", file, *foreign, code=4)).startswith("BaseMismatch: ")
    here = (*on[:2], "--base", other_base)
    assert error_of(run("pieces", "assemble", "n00", *TASK, "--pool", digest, *here, code=4)).startswith("BaseMismatch: ")
    assert error_of(run("pieces", "export", digest, "--out", tmp_path / "y", *here, code=4)).startswith("BaseMismatch: ")
    # Whoever withdraws needs no base at all.
    assert "4 pieces withdrawn" in run("pieces", "revoke", "--user", "p00", *on[:2], "--base", tmp_path / "nowhere").stdout
