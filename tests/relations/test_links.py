"""Orientation, readers, splits and negatives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relations_making import REAL, write_evalution

from idiolect.errors import ConfigError, FileFormatError, InputError
from idiolect.relations.links import BENCHMARKS, LABELS, MIRROR, Link, both_ways, ends, orient
from idiolect.relations.readers import Benchmark, read_benchmark, read_game
from idiolect.relations.sampling import KINDS, negatives
from idiolect.relations.splits import SHARES, as_published, lexical, part_of, published, split

words = st.sampled_from([f"w{n}" for n in range(40)])
links = st.lists(st.builds(Link, words, words, st.sampled_from(LABELS)), max_size=60)

PAIRS = "relation\tbase\tanswer\tn_players\tU\tfreq\tn_yes\tn_no\tp_valid\tin_wn30\tdepth\toov\tfirst_month\trules_version"
NEGATIVES = "relation\tbase\tanswer\tn_yes\tn_no\tp_valid\tkind\trules_version"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize(
    ("benchmark", "row", "asked"),
    [
        ("EVALution", ("dog", "animal", "IsA"), ("animal", "dog", "hypo")),
        ("EVALution", ("finger", "hand", "PartOf"), ("hand", "finger", "mero")),
        ("EVALution", ("hand", "finger", "HasA"), ("hand", "finger", "mero")),
        ("EVALution", ("bottle", "glass", "MadeOf"), ("bottle", "glass", "mero")),
        ("EVALution", ("hot", "cold", "Antonym"), ("hot", "cold", "ant")),
        ("EVALution", ("sofa", "couch", "Synonym"), ("sofa", "couch", "syn")),
        ("EVALution", ("sea", "blue", "HasProperty"), ("sea", "blue", "none")),
        ("BLESS", ("dog", "animal", "hyper"), ("animal", "dog", "hypo")),
        ("BLESS", ("pistol", "barrel", "mero"), ("pistol", "barrel", "mero")),
        ("BLESS", ("dog", "cat", "coord"), ("dog", "cat", "none")),
        ("ROOT09", ("dog", "animal", "HYPER"), ("animal", "dog", "hypo")),
        ("K&H+N", ("dog", "animal", "hypo"), ("animal", "dog", "hypo")),
        ("K&H+N", ("hand", "finger", "mero"), ("hand", "finger", "mero")),
        ("CogALex-V", ("finger", "hand", "PART_OF"), ("hand", "finger", "mero")),
        ("CogALex-V", ("dog", "animal", "HYPER"), ("animal", "dog", "hypo")),
    ],
)
def test_rows_are_turned_to_what_the_game_asks(benchmark, row, asked):
    link = orient(benchmark, *row)
    assert (link.base, link.answer, link.label) == asked
    assert (*link.written, link.native) == row


def test_mirroring_twice_is_the_link_itself():
    for label in LABELS:
        link = Link("a", "b", label, native="x")
        assert link.mirrored().mirrored() == link
        assert link.mirrored().label == MIRROR[label]
        assert link.mirrored().written == link.written


def test_benchmarks_hold_no_label_of_a_wrong_direction():
    assert {label for labels in BENCHMARKS.values() for label, _ in labels.values()} == {"syn", "ant", "hypo", "mero", "none"}


# -------------------------------------------------------------------------------------------------------------- readers


def test_benchmark_is_read_and_words_are_spelt_as_the_lexicon_does(tmp_path):
    for part in ("train", "val", "test"):
        write(tmp_path / f"{part}.tsv", "Ice-Cream\tfood\tIsA", "hand\tfinger\tHasA")
    found = read_benchmark("EVALution", tmp_path)
    assert [(*link.words, link.label) for link in found.train] == [("food", "ice cream", "hypo"), ("hand", "finger", "mero")]
    assert found.natives == ("HasA", "IsA")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("secretword\tfood", "line 2: 2 columns"),
        ("secretword\t \tIsA", "line 2: a word is blank"),
        ("secretword\tfood\tIsa", "line 2: the label is none of EVALution's"),
    ],
)
def test_bad_benchmark_lines_are_named_and_not_quoted(tmp_path, line, says):
    for part in ("train", "val", "test"):
        write(tmp_path / f"{part}.tsv", "dog\tanimal\tIsA", line)
    with pytest.raises(FileFormatError, match=says) as caught:
        read_benchmark("EVALution", tmp_path)
    assert "secretword" not in str(caught.value)


def test_missing_file_and_unknown_benchmark(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_benchmark("BLESS", tmp_path)
    with pytest.raises(InputError, match="choose one of: EVALution"):
        read_benchmark("EVALUTION", tmp_path)


def test_counts_are_parts_with_votes(tmp_path):
    file = write(tmp_path / "gt5.tsv", "BASE_WORD\tINPUT_WORD\tRELATION_ID\tCNT", "knife\tblade\t787\t37")
    assert read_game(file) == [Link("knife", "blade", "mero", votes=37)]


def test_judged_pairs_count_by_how_sure_judges_were(tmp_path):
    file = write(
        tmp_path / "pairs.tsv",
        PAIRS,
        "mero\tbicycle\twheel\t20\t25\t0.8\t9\t1\t0.75\t1\t1\t0\t2025-01\t1",
        "syn\tbig\tlarge\t5\t10\t0.5\t0\t0\t0.5\t1\t1\t0\t2025-01\t1",
    )
    wheel, not_wheel, large = read_game(file)
    assert (wheel.label, wheel.weight, wheel.votes) == ("mero", pytest.approx(0.6), 20)
    assert (not_wheel.label, not_wheel.weight) == ("none", pytest.approx(0.2))
    assert (large.label, large.weight) == ("syn", 0.5)  # nobody judged it, so p_valid is only a prior


def test_refused_pairs_count_as_none(tmp_path):
    file = write(
        tmp_path / "negatives.tsv", NEGATIVES, "hypo\tfruit\tsalt\t0\t8\t0.1\tjudged\t1", "syn\thot\tsea\t0\t0\t\tfar\t1"
    )
    found = [(link.label, round(link.weight, 6)) for link in read_game(file)]
    assert found == [("hypo", 0.1), ("none", 0.9), ("none", 1.0)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("mero\tbicycle\twheel\tx\t25\t0.8\t9\t1\t0.75", "column n_players is not a number"),
        ("mero\tbicycle\twheel\t5\t25\t1.8\t9\t1\t0.75", "column freq is not between 0 and 1"),
        ("mero\tbicycle\twheel\t5\t25\tnan\t9\t1\t0.75", "column freq is not between 0 and 1"),
        ("part\tbicycle\twheel\t5\t25\t0.8\t9\t1\t0.75", "column relation is none of"),
        ("mero\t\twheel\t5\t25\t0.8\t9\t1\t0.75", "column base holds no word"),
        ("mero\tbicycle\twheel", "3 columns, and the header has 9"),
    ],
)
def test_bad_rows_of_players_are_named_and_not_quoted(tmp_path, row, says):
    file = write(tmp_path / "pairs.tsv", "\t".join(PAIRS.split("\t")[:9]), row)
    with pytest.raises(FileFormatError, match=f"line 2: {says}") as caught:
        read_game(file)
    assert "wheel" not in str(caught.value)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match="line 1 has none of the headers"):
        read_game(write(tmp_path / "a.tsv", "word\tword\tlabel"))
    with pytest.raises(FileFormatError, match="is empty"):
        read_game(write(tmp_path / "b.tsv"))


# --------------------------------------------------------------------------------------------------------------- splits


@given(links, st.integers(0, 5))
def test_lexical_parts_share_no_word_and_nothing_is_lost(found, seed):
    cut = lexical(found, seed)
    vocabularies = [{word for link in part for word in link.words} for part in (cut.train, cut.val, cut.test)]
    assert not (vocabularies[0] & vocabularies[1])
    assert not (vocabularies[0] & vocabularies[2])
    assert not (vocabularies[1] & vocabularies[2])
    assert len(cut.train) + len(cut.val) + len(cut.test) + cut.dropped == len(found)


@given(links, st.integers(0, 5))
def test_both_directions_of_a_pair_are_in_the_same_lexical_part(found, seed):
    cut = lexical(both_ways(found), seed)
    train, val, test = (ends(part) for part in (cut.train, cut.val, cut.test))
    assert not (train & test)
    assert not (train & val)
    assert not (val & test)
    assert all(Counter(part) == Counter(link.mirrored() for link in part) for part in (cut.train, cut.val, cut.test))


@given(links, links, links)
def test_published_parts_are_kept_apart_in_either_direction(train, val, test):
    cut = published(Benchmark("EVALution", tuple(train), tuple(val), tuple(test)))
    assert cut.test == tuple(test)
    assert not (ends(cut.train) & ends(cut.test))
    assert not (ends(cut.val) & ends(cut.test))
    assert not (ends(cut.train) & ends(cut.val))
    assert set(cut.train) <= set(train)
    assert len(cut.train) + len(cut.val) + cut.dropped == len(train) + len(val)


def test_native_split_is_just_as_published():
    whole = Benchmark("BLESS", (Link("a", "b", "mero"),), (), (Link("b", "a", "mero"),))
    assert as_published(whole).train == whole.train
    assert split(whole, "published").train == ()


def test_shares_of_words_are_met_and_words_stay_where_they_are():
    counts = Counter(part_of(f"word{n}", 3) for n in range(4000))
    assert [counts[i] / 4000 for i in range(3)] == pytest.approx(SHARES, abs=0.03)
    assert part_of("dog", 1) == part_of("dog", 1)
    with pytest.raises(ConfigError, match="add up to 1"):
        lexical([], 0, (0.5, 0.5, 0.5))


# ------------------------------------------------------------------------------------------------------------ negatives

TRUE = [Link(f"base{i % 7}", f"part{i}", "mero") for i in range(30)] + [Link(f"base{i}", f"kind{i}", "hypo") for i in range(7)]


def test_four_kinds_one_each():
    found = negatives(TRUE, 0)
    assert len(found) == 4 * len(TRUE)
    assert Counter(link.label for link in found[2::4]) == {"holo": 30, "hyper": 7}  # reversed
    assert {link.label for link in found[1::4]} | {link.label for link in found[3::4]} == {"none"}
    for true, other, elsewhere in zip(TRUE, found[::4], found[1::4], strict=True):
        assert (other.base, other.label != true.label) == (true.base, True)
        assert (elsewhere.answer, elsewhere.base != true.base) == (true.answer, True)


@given(links, st.integers(0, 3))
def test_no_negative_is_a_pair_that_is_known_to_hold(found, seed):
    made = negatives(found, seed, kinds=("elsewhere", "random"))
    assert not ends(made) & ends(found)
    assert all(link.label == "none" and link.base != link.answer for link in made)


def test_negatives_hang_on_their_link_and_the_seed():
    assert negatives(TRUE, 1) == negatives(TRUE, 1)
    assert negatives(TRUE, 1) != negatives(TRUE, 2)
    assert not [link for link in negatives([Link("a", "b", "syn")], 0, kinds=("reversed",))]
    assert set(KINDS) == {"other", "elsewhere", "reversed", "random"}


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.mark.skipif(not (REAL / "EVALution").is_dir(), reason="the benchmarks are not on this machine")
def test_benchmarks_have_the_sizes_they_are_published_with():
    sizes = {"EVALution": (5160, 372, 1846), "BLESS": (18582, 1327, 6637)}
    for name, expected in sizes.items():
        found = read_benchmark(name, REAL / name)
        assert (len(found.train), len(found.val), len(found.test)) == expected
    assert Counter(link.label for link in read_benchmark("EVALution", REAL / "EVALution").train) == {
        "hypo": 1327, "ant": 1095, "none": 903, "syn": 759, "mero": 1076,
    }  # fmt: skip


@pytest.mark.skipif(not (REAL / "knowyournyms").is_dir(), reason="the first game's counts are not on this machine")
def test_the_first_games_parts_are_all_read():
    found = read_game(REAL / "knowyournyms" / "relations_gt5.tsv")
    assert (len(found), sum(link.votes for link in found)) == (645, 6006)


def test_written_benchmarks_are_read_back(tmp_path):
    folder = write_evalution(tmp_path / "e", TRUE)
    assert {(*link.words, link.label) for link in read_benchmark("EVALution", folder).links} == {
        (*link.words, link.label) for link in TRUE
    }
