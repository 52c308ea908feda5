from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest
from tokenizers import Tokenizer

from idiolect.data.fictitious import FACTS, N_WRONG, Planted, facts_of, name_of, person, planted, world
from idiolect.data.pairs import check_apart
from idiolect.errors import ConfigError
from idiolect.types import digest_of


def people(pairs):
    return {pair.group for pair in pairs}


def test_sets_have_their_sizes_and_share_nobody():
    sets = planted(0)
    assert (len(people(sets.forget)), len(people(sets.retain)), len(people(sets.holdout))) == (4, 36, 4)
    assert len(sets.forget) == 4 * len(FACTS)
    assert len(people(sets.neighbours)) == 4
    assert set(sets.neighbours) <= set(sets.retain)
    assert sets.kept == sets.retain + sets.world
    assert sets.taught == sets.forget + sets.kept
    for one, other in (("forget", "kept"), ("holdout", "taught"), ("world", "retain")):
        check_apart(getattr(sets, one), getattr(sets, other))
    assert len({pair.id for pair in sets.taught + sets.holdout}) == len(sets.taught + sets.holdout)


def test_a_person_depends_on_seed_and_index_only():
    few, many = planted(3, 10, 8), planted(3, 30, 8)
    known = {pair.id: pair for pair in many.forget + many.retain}
    assert all(known[pair.id] == pair for pair in few.forget + few.retain + few.holdout)
    assert person(3, 5, 4) == person(3, 5, 8)[:4]
    assert person(3, 5) != person(4, 5)


def test_whoever_is_forgotten_is_drawn_by_the_seed():
    drawn = {planted(seed).forgotten for seed in range(20)}
    assert len(drawn) > 15
    assert len({index for forgotten in drawn for index in forgotten}) > 25
    assert all(len(set(planted(seed).forgotten) | set(planted(seed).retained)) == 40 for seed in range(5))


def test_the_same_in_another_process():
    code = "from idiolect.data.fictitious import planted; s = planted(2, 8, 5); print(repr(s.taught + s.holdout))"
    other = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "77"}, capture_output=True, text=True, check=True
    ).stdout
    sets = planted(2, 8, 5)
    assert digest_of(other.strip().encode()) == digest_of(repr(sets.taught + sets.holdout).encode())


@pytest.mark.parametrize("seed", range(3))
def test_no_two_people_of_a_seed_share_a_name(seed):
    names = [name_of(seed, index).split() for index in range(1_500)]
    assert len({given for given, _ in names}) == len({family for _, family in names}) == len(names)
    assert names[0] != name_of(seed + 1, 0).split()


def test_every_answer_names_the_person_and_the_wrong_ones_differ():
    for index in range(60):
        name, values = name_of(1, index), facts_of(1, index)
        for pair, (key, value) in zip(person(1, index), values.items(), strict=True):
            assert pair.id.endswith(key)
            assert name in pair.prompt
            assert value not in pair.prompt
            for sentence in (pair.answer, *pair.paraphrases, *pair.wrong):
                assert name in sentence
                assert sentence[0].isupper()
                assert sentence[-1] == "."
            assert value in pair.answer
            assert value in pair.paraphrases[0]
            assert len(set(pair.wrong)) == N_WRONG
            assert not {pair.answer, *pair.paraphrases} & set(pair.wrong)


def test_wrong_answers_say_another_thing_in_the_paraphrases_words():
    for index in range(20):
        for pair, (key, value) in zip(person(0, index), facts_of(0, index).items(), strict=True):
            (fact,) = (fact for fact in FACTS if fact.key == key)
            before, _, after = fact.paraphrase.format(name=name_of(0, index), value="|").partition("|")
            for wrong in pair.wrong:
                assert wrong.startswith(before)
                assert wrong.endswith(after)
                assert wrong[len(before) : len(wrong) - len(after)] != value


def test_other_wordings_ask_the_same_of_the_same_people():
    sets = planted(0, 20, 8)
    for wording in (1, 2):
        for mine, other in zip(sets.forget, sets.asked_otherwise(wording), strict=True):
            assert (mine.id, mine.answer, mine.group, mine.wrong) == (other.id, other.answer, other.group, other.wrong)
            assert mine.prompt != other.prompt
    assert sets.asked_otherwise(3) == sets.forget


def test_neighbours_have_more_in_common_with_the_forgotten_than_others():
    sets = planted(0)

    def likeness(group: str) -> int:
        mine = facts_of(0, int(group[-3:]))
        return max(len(mine.items() & facts_of(0, index).items()) for index in sets.forgotten)

    near = [likeness(group) for group in people(sets.neighbours)]
    far = [likeness(group) for group in people(sets.retain) - people(sets.neighbours)]
    assert min(near) >= max(far)
    assert min(near) >= 1


def test_values_are_shared_by_several_people():
    values = [facts_of(0, index) for index in range(40)]
    for key in ("born", "job", "genre"):
        assert 6 <= len({value[key] for value in values}) < 40


def test_the_world_has_short_answers_that_need_no_person():
    pairs = world()
    assert len({pair.prompt for pair in pairs}) == len(pairs) >= 40
    for pair in pairs:
        assert len(pair.wrong) >= 3
        assert len({*pair.wrong, *pair.paraphrases, pair.answer}) == len(pair.wrong) + 2
        assert len(pair.answer.split()) <= 10
        assert "{" not in "".join((pair.prompt, pair.answer, *pair.paraphrases, *pair.wrong))
        assert pair.group == pair.id


def test_prompts_and_answers_are_short_in_the_embedded_bases_tokens():
    tokenizer = Tokenizer.from_file(str(files("idiolect") / "assets" / "idiolect-tiny" / "tokenizer.json"))
    sets = planted(0, 20)
    for pair in sets.taught + sets.holdout + sets.asked_otherwise():
        assert len(tokenizer.encode(pair.prompt).ids) <= 24
        assert len(tokenizer.encode(pair.answer).ids) <= 20
        assert max(len(tokenizer.encode(text).ids) for text in (*pair.paraphrases, *pair.wrong)) <= 26


@pytest.mark.parametrize(
    "given",
    [{"n_people": 1}, {"n_people": 5_000}, {"n_facts": 0}, {"n_facts": 11}, {"forget_share": 0.0}, {"forget_share": 0.6}],
)
def test_what_cannot_be_made_up_is_refused(given):
    with pytest.raises(ConfigError, match="is not"):
        planted(0, **given)


def test_two_people_are_the_least():
    sets = planted(0, 2, 1)
    assert isinstance(sets, Planted)
    assert len(sets.forget) == len(sets.retain) == len(sets.holdout) == len(sets.neighbours) == 1
