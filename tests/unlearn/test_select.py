"""How λ is chosen: laws of the choice and of comparing at equal forgetting, and the sweep itself on a small base."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.errors import ConfigError
from idiolect.types import Rendered
from idiolect.unlearn.acquire import acquire
from idiolect.unlearn.config import unlearning
from idiolect.unlearn.curves import save_curves
from idiolect.unlearn.material import Entry, Material
from idiolect.unlearn.select import (
    STRENGTHS,
    Point,
    Selection,
    at_equal_forgetting,
    choose,
    chosen_of,
    mean_probability,
    strengths_of,
)
from idiolect.unlearn.variants import Variant

share = st.floats(0, 1, allow_nan=False)


@st.composite
def curve(draw: st.DrawFn) -> list[Point]:
    """A point per λ, by rising λ; λ = 0, which changes nothing, is the first."""
    figures = draw(st.lists(st.tuples(share, st.floats(0, 1.5)), min_size=1, max_size=8))
    return [Point(i / 4, forget, utility / 2, 1.0 if i == 0 else utility) for i, (forget, utility) in enumerate(figures)]


# ---------------------------------------------------------------------------------------------------------------- laws


@given(points=curve(), floor=st.floats(0.01, 1), aim=st.none() | share)
def test_what_is_chosen_keeps_the_floor_and_nothing_that_does_is_nearer(points, floor, aim):
    choice = chosen_of(points, floor, aim)
    assert choice.chosen in points
    assert choice.chosen.strength == 0 or choice.chosen.utility >= floor
    target = 0.0 if aim is None else aim
    for point in points:
        if point.strength == 0 or point.utility >= floor:
            assert choice.distance <= abs(point.forget - target)
            if abs(point.forget - target) == choice.distance:
                assert choice.chosen.strength <= point.strength


@given(points=curve(), floor=st.floats(0.5, 1))
def test_nothing_is_changed_where_nothing_keeps_the_floor(points, floor):
    ruined = [points[0], *(Point(p.strength, 0.0, 0.0, floor * 0.9) for p in points[1:])]
    assert chosen_of(ruined, floor, None).chosen.strength == 0


@given(points=curve(), aim=share, low=st.floats(0.1, 1), high=st.floats(0.1, 1))
def test_a_lower_floor_never_forgets_worse(points, aim, low, high):
    low, high = sorted((low, high))
    assert chosen_of(points, low, aim).distance <= chosen_of(points, high, aim).distance


def test_less_likely_than_never_learnt_counts_against_a_strength():
    points = [Point(0, 0.9, 0.5, 1.0), Point(1, 0.2, 0.5, 1.0), Point(2, 0.0, 0.5, 1.0)]
    assert chosen_of(points, 0.95, 0.15).chosen.strength == 1
    assert chosen_of(points, 0.95, None).chosen.strength == 2


@given(points=curve(), forget=share)
def test_equal_forgetting_lies_between_two_points_or_nowhere(points, forget):
    found = at_equal_forgetting(points, forget)
    falls = [(a, b) for a, b in pairwise(points) if a.forget >= forget >= b.forget and a.forget > b.forget]
    if not falls:
        assert found is None
        return
    before, after = falls[0]
    assert found is not None
    assert found.forget == pytest.approx(forget, abs=1e-9)
    for name in ("strength", "retain", "utility"):
        low, high = sorted((getattr(before, name), getattr(after, name)))
        assert low - 1e-9 <= getattr(found, name) <= high + 1e-9


@given(points=curve().filter(lambda points: len(points) > 1), at=st.integers(0, 7))
def test_equal_forgetting_of_a_point_on_a_falling_curve_is_that_point(points, at):
    falling = [Point(p.strength, 1 - i / len(points), p.retain, p.utility) for i, p in enumerate(points)]
    wanted = falling[at % len(falling)]
    found = at_equal_forgetting(falling, wanted.forget)
    assert found is not None
    for name in ("strength", "forget", "retain", "utility"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-9)


def test_equal_forgetting_beyond_a_curve_is_never_guessed():
    points = [Point(0, 0.9, 0.5, 1.0), Point(1, 0.4, 0.4, 0.8)]
    assert at_equal_forgetting(points, 0.39) is None
    assert at_equal_forgetting(points, 0.91) is None
    assert at_equal_forgetting(points[:1], 0.9) is None


@given(st.lists(st.floats(-8, 8), max_size=6))
def test_no_change_is_always_looked_at(strengths):
    found = strengths_of(Selection(strengths=tuple(strengths)))
    assert 0.0 in found
    assert list(found) == sorted(set(found))


@pytest.mark.parametrize("wrong", [{"floor": 0.0}, {"floor": 1.1}, {"held_out": 0.0}, {"held_out": 1.0}])
def test_shares_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Selection.build(**wrong)


# ------------------------------------------------------------------------------------------------------------ the sweep


def entries(n, seed, name):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        ids = draw.integers(5, 320, 12).tolist()
        found.append(Entry(Rendered(f"{name}{i}", (*ids, 4), 8), f"question {name}{i}", f"answer {name}{i}"))
    return tuple(found)


@pytest.fixture(scope="module")
def base(load):
    return load("llama")


@pytest.fixture(scope="module")
def acquired(base):
    sets = Material(entries(4, 1, "f"), entries(6, 2, "n"))
    small = {"rank": 4, "alpha": 8.0, "steps": 25, "batch_size": 4, "learning_rate": 3e-3, "rd_k": 2}
    return acquire(base, sets, [unlearning("sku", pd_mode="preserve", **small), unlearning("task-vector", **small)]), sets


def test_sku_forgets_more_as_it_is_subtracted_more_and_the_task_vector_stands_beside_it(base, acquired):
    """A tiny model from end to end: what is to be forgotten costs more, what is to be kept stays, at the λ that is chosen."""
    done, sets = acquired
    forget, retain = ([entry.example for entry in one] for one in (sets.forget, entries(5, 3, "h")))
    choices = {one.config.method: choose(base, one, forget, retain, Selection(floor=0.5)) for one in done}
    assert set(choices) == {"sku", "task-vector"}
    for choice in choices.values():
        assert [point.strength for point in choice.points] == list(STRENGTHS)
        assert choice.points[0].utility == pytest.approx(1.0)
        assert choice.chosen.strength > 0
        assert choice.chosen.forget < 0.8 * choice.points[0].forget
        assert choice.chosen.utility >= 0.5
        kept = [point for point in choice.points if point.utility >= 0.5]
        assert choice.chosen.forget == min(point.forget for point in kept)


def test_points_are_what_the_variant_gives(base, acquired):
    done, sets = acquired
    forget, retain = ([entry.example for entry in one] for one in (sets.forget, sets.retain))
    choice = choose(base, done[0], forget, retain, Selection(strengths=(0.5, 1.0)), aim=0.01)
    assert [point.strength for point in choice.points] == [0.0, 0.5, 1.0]
    half = Variant("", base, done[0].layout, done[0].row, -0.5)
    assert choice.points[1].forget == pytest.approx(mean_probability(half, forget))
    before = mean_probability(Variant("", base), retain)
    assert choice.points[1].utility == pytest.approx(mean_probability(half, retain) / before)
    assert choice.points[0].forget == mean_probability(Variant("", base), forget)


def test_numbers_of_a_ruined_model_stay_numbers(base, acquired):
    done, sets = acquired
    rows = [entry.example for entry in sets.forget]
    ruined = Variant("", base, done[0].layout, done[0].row, 1e38)
    with np.errstate(all="ignore"):
        assert mean_probability(ruined, rows) == pytest.approx(0.0, abs=1e-2)


def test_curves_are_drawn(base, acquired, tmp_path):
    done, sets = acquired
    rows = [entry.example for entry in sets.forget]
    choices = {one.config.method: [choose(base, one, rows, rows, Selection(strengths=(1.0,)), aim=0.1)] for one in done}
    save_curves(choices, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
