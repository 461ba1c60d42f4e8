"""Goals of many axes: what moves together, what the agent cannot move, and a map that helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hierebm import HierarchicalEBMAgent
from tests.many_axes import TOLERANCE, ManyAxes
from tests.pushing import SeveralObjects
from tests.toys import SMALL


@pytest.mark.parametrize(
    "axes", [(6, 0, False), (3, 3, False), (3, 3, True), (2, 13, False)], ids=str
)
def test_it_learns_plans_and_is_restored(axes: tuple[int, int, bool], tmp_path: Path) -> None:
    env = ManyAxes(*axes)
    agent = HierarchicalEBMAgent(seed=0, **SMALL).learn(env, 700)
    known = agent.high_level.context.transition_map
    points = agent.replay_buffer.achieved_goal[agent.replay_buffer.newest_rows(50)]
    assert known.knows(points).any()
    plan = agent.plan(env.reset(seed=0)[0])
    assert np.isfinite(plan.nodes).all()
    agent.save(tmp_path / "a.zip")
    loaded = HierarchicalEBMAgent.load(tmp_path / "a.zip", env=env)
    again = loaded.high_level.context.transition_map
    assert np.array_equal(known.spacing, again.spacing)
    assert np.array_equal(known.least_steps(points, points), again.least_steps(points, points))
    observation, _ = env.reset(seed=1)
    assert np.array_equal(agent.predict(observation)[0], loaded.predict(observation)[0])


def test_what_the_agent_cannot_move_does_not_set_landmarks_apart() -> None:
    agents = [
        HierarchicalEBMAgent(seed=0, **SMALL).learn(ManyAxes(2, still), 1200) for still in (0, 4)
    ]
    alone, beside = (agent.high_level.context.transition_map for agent in agents)
    # Six axes that all move set them apart by six times as much.
    assert beside.spacing[:2] == pytest.approx(alone.spacing, rel=0.3)
    landmarks = beside.landmarks * beside.spacing
    assert np.ptp(landmarks[:, 2:], axis=0) == pytest.approx(0.0, abs=1e-5)
    assert 0.5 < len(landmarks) / len(alone.landmarks) < 2.0
    assert beside.connected_share() > 0.8
    # Nothing asks for an object to be elsewhere.
    for seed in range(5):
        observation, _ = ManyAxes(2, 4).reset(seed=seed)
        nodes = agents[1].plan(observation).nodes
        assert (np.abs(nodes[:, 2:] - observation["achieved_goal"][2:]) < TOLERANCE).all()


def test_a_post_that_never_moves_is_told_from_a_hand_and_a_block() -> None:
    env = SeveralObjects(trembling := 1e-5)
    agent = HierarchicalEBMAgent(seed=0, **SMALL).learn(env, 900)
    assert agent.n_updates > 0
    scales = agent.scales
    assert scales is not None and scales.at_will.tolist() == [True] * 2 + [False] * 4
    # Two post axes that trembled by whole steps would set all landmarks apart.
    assert (scales.step[4:] > 100 * trembling).all()
    frequencies = agent.low_level.features.fourier.frequencies
    moved = (frequencies != 0.0).any(1).tolist()
    assert moved == ([True] * 2 + [False] * 4) * 2, "it stops at no wall"
    known = agent.high_level.context.transition_map
    post = known.landmarks[:, 4:] * known.spacing[4:]
    assert np.abs(post - SeveralObjects.POST).max() < 1e-3
    for seed in range(3):
        nodes = agent.plan(env.reset(seed=seed)[0]).nodes
        assert np.abs(nodes[:, 4:] - SeveralObjects.POST).max() < 1e-3
