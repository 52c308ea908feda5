"""A simulated crowd: what holds is validated, who is not serious is seen."""

from __future__ import annotations

from idiolect.game.trial import crowd_trial


def test_a_crowd_with_one_in_five_unserious_validates_what_holds_and_sees_them():
    figures = crowd_trial(250, seed=1)
    assert figures.n_judgements >= 250 * 120
    assert figures.n_validated > 500
    assert figures.precision >= 0.95
    assert figures.recall > 0.3
    assert figures.caught >= 0.88
    assert figures.wronged <= 0.01
    assert "250 players" in str(figures)


def test_a_trial_is_a_function_of_its_seed():
    assert crowd_trial(20, seed=2) == crowd_trial(20, seed=2) != crowd_trial(20, seed=3)
