"""The agent's clock: for how many environment steps an action is held, measured from experience.

All that the agent knows is counted in its own steps: how far critics look, how long edges are, how
far apart landmarks lie. The natural unit of length is the success tolerance: finer than that, no
two points of goal space can be told apart.
"""

from __future__ import annotations

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.replay.scales import FULL_SPEED
from hierebm.types import FloatArray

# A step at full speed goes at most this many success tolerances.
STEP_LENGTH = 1.0
# An episode has at least this many steps.
STEPS_PER_EPISODE = 50
# An axis is moved at will if half of the steps move it by more than this share of full speed.
AT_WILL = 0.05


def measure_action_repeat(
    replay: EpisodeReplay, tolerance: FloatArray, max_episode_steps: int | None
) -> int:
    """How many environment steps one step of the agent should take; at least 1.

    Args:
        replay: steps of one environment step each, with exploring actions.
        tolerance: (goal_dim,) how far from a goal, along each axis, it counts as reached.
        max_episode_steps: the time limit, if there is one.
    """
    rows = replay.newest_rows(replay.n_added)
    after = replay.later(rows, 1)
    moved = replay.achieved_goal[after] - replay.achieved_goal[rows]
    return action_repeat_of(moved, tolerance, max_episode_steps)


def action_repeat_of(
    moved: FloatArray, tolerance: FloatArray, max_episode_steps: int | None
) -> int:
    """The same of (n, goal_dim) moves of the achieved goal in n environment steps."""
    moved = np.abs(moved)
    usual, fast = np.quantile(moved, [0.5, FULL_SPEED], axis=0)
    # Nothing can be said of the speed of what is pushed now and then.
    at_will = usual > AT_WILL * fast
    if not at_will.any():
        return 1
    lengths = np.linalg.norm(moved[:, at_will] / tolerance[at_will], axis=1)
    repeat = STEP_LENGTH / max(float(np.quantile(lengths, FULL_SPEED)), 1e-6)
    if max_episode_steps is not None:
        repeat = min(repeat, max_episode_steps / STEPS_PER_EPISODE)
    return max(1, int(repeat))
