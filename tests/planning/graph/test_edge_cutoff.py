"""The cutoff that follows from what was reached: it finds the truth, and forgets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from hierebm import HierarchicalEBMAgent
from hierebm.planning.graph.edge_cutoff import PRECISION, EdgeCutoff


def _set_subgoal(
    edge_cutoff: EdgeCutoff, n: int, height: float, slope: float, seed: int = 0
) -> np.ndarray:
    """(n, 2) outcomes of subgoals 2 to 20 steps away, the chance falling as told."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(2.0, 20.0, n)
    reached = rng.random(n) < 1.0 / (1.0 + np.exp(-(height + slope * np.log(steps))))
    for d, y in zip(steps, reached, strict=True):
        edge_cutoff.add(d, bool(y))
    return np.stack([steps, reached], 1)


def test_the_cutoff_is_where_the_chance_falls_below_95_percent() -> None:
    edge_cutoff = EdgeCutoff(safe_edge=15.0)
    _set_subgoal(edge_cutoff, 900, 16.0, -6.0)
    edge_cutoff.refit(2.0, 20.0)
    true = np.exp((16.0 - np.log(19.0)) / 6.0)
    assert edge_cutoff.safe_edge == pytest.approx(true, rel=0.15)


def test_the_fit_is_the_posterior_mode() -> None:
    edge_cutoff = EdgeCutoff(safe_edge=8.0)
    steps, reached = _set_subgoal(edge_cutoff, 60, 9.0, -4.0).T.astype(np.float32)

    def loss(b: np.ndarray) -> float:
        logit = b[0] + b[1] * np.log(steps / 8.0)
        likelihood = (reached * logit - np.logaddexp(0.0, logit)).sum()
        return float(0.5 * (PRECISION * (b - edge_cutoff._prior) ** 2).sum() - likelihood)

    mode = minimize(loss, edge_cutoff._prior, tol=1e-10).x
    assert edge_cutoff._fit() == pytest.approx(mode, abs=1e-3)


def test_without_outcomes_the_configured_cutoff_stays() -> None:
    edge_cutoff = EdgeCutoff(safe_edge=7.0)
    edge_cutoff.refit(2.0, 20.0)
    assert edge_cutoff.safe_edge == pytest.approx(7.0)


def test_near_subgoals_say_little_about_far_ones() -> None:
    edge_cutoff = EdgeCutoff(safe_edge=8.0)
    for _ in range(1000):
        edge_cutoff.add(4.0, True)
    edge_cutoff.refit(2.0, 20.0)
    assert 8.0 < edge_cutoff.safe_edge < 10.0


def test_success_moves_it_out_failure_in_and_old_outcomes_are_forgotten() -> None:
    edge_cutoff = EdgeCutoff(safe_edge=8.0)
    _set_subgoal(edge_cutoff, 1000, 50.0, -1.0)
    edge_cutoff.refit(4.0, 20.0)
    assert edge_cutoff.safe_edge == pytest.approx(20.0)
    _set_subgoal(edge_cutoff, 1000, -5.0, -1.0)
    edge_cutoff.refit(4.0, 20.0)
    assert edge_cutoff.safe_edge == pytest.approx(4.0)
    copy = EdgeCutoff(safe_edge=8.0)
    copy.load_state_dict(edge_cutoff.state_dict())
    assert copy.safe_edge == pytest.approx(4.0)
    copy.refit(1.0, 20.0)
    edge_cutoff.refit(1.0, 20.0)
    assert copy.safe_edge == edge_cutoff.safe_edge


@pytest.mark.parametrize("calibrate", [True, False])
def test_an_agent_plans_with_the_cutoff_that_it_learned(calibrate: bool) -> None:
    agent = HierarchicalEBMAgent(
        seed=0,
        calibrate_cutoff=calibrate,
        learning_starts=200,
        energy_train_freq=200,
        energy_gradient_steps=1,
        hidden_sizes=(16, 16),
        # No subgoals are chased but those that are told below.
        direct_episodes=1.0,
        batch_size=16,
    ).learn("PointMassGoal-v0", 600)
    context = agent.high_level.context
    assert context.safe_edge == pytest.approx(8.0)
    if context.edge_cutoff is not None:
        for _ in range(1000):
            context.edge_cutoff.add(15.0, True)
    agent.learn(total_timesteps=200, reset_num_timesteps=False)
    cutoff = context.safe_edge
    assert context.edges.config.safe_edge == cutoff
    assert agent.config.safe_edge == 8.0
    assert (context.edge_cutoff is not None) == calibrate
    assert 15.0 < cutoff <= 20.0 if calibrate else cutoff == 8.0
    if context.edge_cutoff is not None:
        for _ in range(1000):
            context.edge_cutoff.add(3.0, False)
        agent.learn(total_timesteps=200, reset_num_timesteps=False)
        assert context.safe_edge == pytest.approx(8.0), "it only grows"


def _try_edges(edge_cutoff: EdgeCutoff, n: int, share: float, seed: int = 0) -> None:
    """Tries of which the low level predicts more than the fastest trajectories, and which take
    that share of the difference, give or take three steps."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        fewest = rng.uniform(4.0, 8.0)
        expected = fewest + rng.uniform(0.5, 8.0)
        spent = max(fewest + share * (expected - fewest) + rng.normal(0.0, 3.0), 1.0)
        edge_cutoff.add(fewest, True, fewest=fewest, expected=expected, spent=spent)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_tries_take_tells_what_fewest_steps_are_worth(share: float) -> None:
    edge_cutoff = EdgeCutoff(safe_edge=8.0)
    _try_edges(edge_cutoff, 900, share)
    edge_cutoff.refit(2.0, 20.0)
    assert share - 0.3 < edge_cutoff.expected_share <= share, "from below: with caution"


def test_tries_of_long_ago_do_not_count() -> None:
    edge_cutoff = EdgeCutoff(safe_edge=8.0)
    _try_edges(edge_cutoff, 700, 1.0)
    _try_edges(edge_cutoff, 200, 0.0, seed=1)
    edge_cutoff.refit(2.0, 20.0)
    assert edge_cutoff.expected_share == 0.0


def test_without_luck_or_without_evidence_fewest_steps_count() -> None:
    no_luck, young, never_told = (EdgeCutoff(safe_edge=8.0) for _ in range(3))
    _try_edges(no_luck, 900, 0.0)
    _try_edges(young, 3, 1.0)
    for _ in range(100):
        never_told.add(5.0, True, fewest=5.0, expected=5.0, spent=9.0)
    for edge_cutoff in (no_luck, young, never_told):
        edge_cutoff.refit(2.0, 20.0)
        assert edge_cutoff.expected_share == 0.0


def test_outcomes_of_older_files_are_taken_and_new_ones_restored() -> None:
    edge_cutoff, old, new = (EdgeCutoff(safe_edge=8.0) for _ in range(3))
    _try_edges(edge_cutoff, 200, 1.0)
    edge_cutoff.refit(2.0, 20.0)
    state = edge_cutoff.state_dict()
    new.load_state_dict(state)
    assert new.expected_share == edge_cutoff.expected_share > 0.5
    old.load_state_dict({"outcomes": state["outcomes"][:, :2], "safe_edge": state["safe_edge"]})
    assert (old.outcomes == edge_cutoff.outcomes).all()
    old.refit(2.0, 20.0)
    assert old.expected_share == 0.0
    assert old.safe_edge == edge_cutoff.safe_edge
