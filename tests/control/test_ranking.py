"""Near goals, critics choose among actions; only where the policy was held to a data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierebm.control.ranking import BETTER, NEAR, candidate_actions, choose_near_goals
from tests.control.test_ddpg_kernels import CONFIGS, batches, make


def _choose(predicted: list[float], worth: np.ndarray) -> np.ndarray:
    """Which candidate each row takes: 0 is the policy's, k + 1 the one of ``worth[:, k]``."""
    action = np.full((len(predicted), 2), 7.0, np.float32)

    def steps(rows: np.ndarray, candidates: torch.Tensor) -> torch.Tensor:
        own = bool((candidates == 7.0).all())
        assert candidates.shape == (len(rows), 1 if own else worth.shape[1], 2)
        of_rows = np.float32(predicted)[rows][:, None] if own else worth[rows]
        return torch.as_tensor(of_rows)

    chosen = choose_near_goals(action, steps)
    assert (action == 7.0).all(), "the policy's actions may be a buffer"
    known = np.concatenate([action[:1], candidate_actions(2).numpy()])
    return np.array([int(np.flatnonzero((known == row).all(1))[0]) for row in chosen])


def _worth(n: int) -> np.ndarray:
    return np.full((n, len(candidate_actions(2))), 20.0, np.float32)


def test_the_best_action_is_taken_near_and_the_policys_far() -> None:
    worth = _worth(3)
    worth[:, 4] = 0.5
    assert _choose([1.0, NEAR - 0.01, NEAR], worth).tolist() == [5, 5, 0]
    assert _choose([NEAR + 1.0], worth[:1]).tolist() == [0]


def test_an_action_that_is_hardly_better_does_not_count() -> None:
    worth = _worth(2)
    worth[0, 3], worth[1, 3] = 2.0 - BETTER + 0.01, 2.0 - BETTER - 0.01
    assert _choose([2.0, 2.0], worth).tolist() == [0, 4]


@pytest.mark.parametrize("action_dim", [1, 8])
def test_candidates_are_always_the_same_and_within_bounds(action_dim: int) -> None:
    first = candidate_actions(action_dim)
    assert torch.equal(first, candidate_actions(action_dim))
    assert first.abs().max() <= 1.0 and len(first.unique(dim=0)) == len(first)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", ["categorical", "scalar"])
def test_it_begins_with_the_behaviour_term_and_stays(
    name: str, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Critics that learned nothing yet find all actions about alike.
    monkeypatch.setattr("hierebm.control.ranking.BETTER", 1e-3)
    agent, (batch, other) = make(CONFIGS[name], kernels), batches(2)
    rows = batch.observation, batch.achieved_goal, batch.goal
    agent.update(batch)
    np.testing.assert_array_equal(agent.act(*rows), agent.policy(*rows))
    agent.update(batch, behavior_weight=1.0)
    agent.update(other)
    ranked, policy = agent.act(*rows), agent.policy(*rows)
    assert (ranked != policy).any() and np.abs(ranked).max() <= 1.0

    # What was chosen takes fewer steps by all critics, and the actor's choice is the other rows'.
    def steps(action: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            features = agent.features(*map(torch.as_tensor, rows))
            outputs = agent.critics(torch.cat([features, torch.as_tensor(action)], -1))
            return agent.head.distance(outputs).amax(0).numpy()

    changed = (ranked != policy).any(1)
    assert (steps(ranked) < steps(policy))[changed].all()
    assert (agent.distance(*rows) < NEAR)[changed].all()


def test_both_paths_choose_alike() -> None:
    reference, fast = (make(CONFIGS["categorical"], kernels) for kernels in (False, True))
    for batch in batches(5):
        reference.update(batch, behavior_weight=2.0)
        fast.update(batch, behavior_weight=2.0)
    fast.load_state_dict(reference.state_dict())
    rows = batch.observation, batch.achieved_goal, batch.goal
    np.testing.assert_allclose(fast.act(*rows), reference.act(*rows), atol=1e-5)


def test_a_loaded_agent_ranks_as_the_saved_one_and_older_files_do_not() -> None:
    saved, loaded = (make(CONFIGS["categorical"], None, seed) for seed in (0, 1))
    (batch,) = batches(1)
    saved.update(batch, behavior_weight=1.0)
    state = saved.state_dict()
    loaded.load_state_dict(state)
    rows = batch.observation, batch.achieved_goal, batch.goal
    np.testing.assert_array_equal(loaded.act(*rows), saved.act(*rows))
    del state["behavior"]
    loaded.load_state_dict(state)
    np.testing.assert_array_equal(loaded.act(*rows), saved.policy(*rows))
