"""What is measured on experience before and while an agent learns: its clock, then its scales."""

from __future__ import annotations

import numpy as np

from hierebm.agents.state import AgentState
from hierebm.goal_env.adapter import GoalEnv
from hierebm.replay.clock import measure_action_repeat
from hierebm.replay.scales import measure_again, measure_scales
from hierebm.types import FloatArray


def set_clock(agent: AgentState, env: GoalEnv, goal: FloatArray) -> None:
    """Choose for how long actions are held; a new replay buffer begins where that is for several.

    Args:
        env: where the stored steps of one environment step each were taken.
        goal: (goal_dim,) one of its goals, at which the success tolerance is looked up.
    """
    replay = agent.replay_buffer
    replay.flush()
    farthest = np.abs(goal) + np.abs(replay.achieved_goal).max(0) + np.float32(1.0)
    tolerance = env.success_tolerance(goal, farthest)
    time_limit = env.max_episode_steps or agent.episodes.time_limit
    agent.set_action_repeat(measure_action_repeat(replay, tolerance, time_limit))
    if agent.action_repeat > 1:
        # Steps of another length: the two do not go into one buffer.
        agent.make_buffer(env)


def fit_scales(agent: AgentState, env: GoalEnv) -> None:
    """Scale inputs and tell how long a step is: from then on models can be trained and used."""
    agent.replay_buffer.flush()
    agent.scales = measure_scales(agent.replay_buffer, env.spaces.bounds, agent.rng)
    agent.low_level.fit_scale(agent.scales)
    if agent.high_level is not None:
        agent.high_level.fit_scale(agent.scales)


def fit_scales_again(agent: AgentState, env: GoalEnv) -> None:
    """Measure again, with more experience, and mend the scales that were wrong."""
    replay = agent.replay_buffer
    assert agent.scales is not None
    replay.flush()
    # Where nothing has changed, nothing may depend on having looked.
    rng = np.random.default_rng(replay.n_added)
    scales = measure_again(agent.scales, replay, env.spaces.bounds, rng)
    if scales is agent.scales:
        return
    agent.scales = scales
    agent.low_level.refit_scale(scales)
    if agent.high_level is not None:
        agent.high_level.context.scales = scales
