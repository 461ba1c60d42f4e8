"""What is measured on experience before and while an agent learns: its clock, then its scales."""

from __future__ import annotations

import numpy as np

from hierebm.agents.state import AgentState
from hierebm.at_once import set_at_once
from hierebm.data import OfflineDataset
from hierebm.goal_env.adapter import GoalEnv
from hierebm.replay.clock import action_repeat_of, measure_action_repeat
from hierebm.replay.scales import (
    N_STATES,
    measure_again,
    measure_scales,
    moved_at_will,
    tell_still_axes,
)
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
    repeat = measure_action_repeat(replay, tolerance, time_limit)
    # Steps of another length: the two do not go into one buffer.
    new = {"replay": agent.empty_buffer(env.n_envs), "trained_at": 0, "planned_at": 0}
    set_at_once(agent, _action_repeat=repeat, **(new if repeat > 1 else {}))
    agent.tell_clock()


def measure_on_data(agent: AgentState, data: OfflineDataset, tolerance: FloatArray | None) -> int:
    """For how many steps of a data set one step of the agent should last.

    Args:
        tolerance: (goal_dim,) what counts as reached; an environment that was set says it itself.
    """
    rows = np.flatnonzero(~data.episode_end)
    rows = rows[:: -(-len(rows) // N_STATES)]
    achieved = data.achieved_goal[rows]
    time_limit = None
    if agent.env is not None:
        farthest = np.abs(achieved[0]) + np.abs(achieved).max(0) + np.float32(1.0)
        tolerance = agent.env.success_tolerance(achieved[0], farthest)
        time_limit = agent.env.max_episode_steps
    assert tolerance is not None
    if time_limit is None:
        time_limit = int(np.diff(np.flatnonzero(data.episode_end), prepend=-1).max()) - 1
    return action_repeat_of(data.achieved_goal[rows + 1] - achieved, tolerance, time_limit)


# Random actions go on for so many times as many steps as planned, at most.
LONGEST_WAIT = 10
# Steps of the agent between two looks.
LOOK_FREQ = 50


def waits_for_motion(agent: AgentState, enough: int) -> bool:
    """Whether random actions should go on, because nothing was seen yet that teaches anything.

    Where the achieved goal is that of an object, which does not move unless it is touched, there is
    nothing to learn until it was moved in a batch of rows; and a policy that has learned nothing
    touches it less often than random actions do.

    Args:
        enough: stored steps after which learning begins elsewhere.
    """
    replay = agent.replay_buffer
    if replay.n_added >= LONGEST_WAIT * enough:
        return False
    if (replay.n_added - enough) % LOOK_FREQ:
        return True
    replay.flush()
    if len(agent.moving_rows.rows()) >= agent.config.batch_size:
        return False
    return not moved_at_will(replay, agent._wide_tolerance()).any()


def fit_scales(agent: AgentState) -> None:
    """Scale inputs and tell how long a step is: from then on models can be trained and used."""
    assert agent.spaces is not None
    agent.replay_buffer.flush()
    scales = measure_scales(agent.replay_buffer, agent.spaces.bounds, agent.rng)
    scales = tell_still_axes(scales, agent.replay_buffer, agent._wide_tolerance())
    # Known from now on, should the environment break down.
    tolerance = agent._success_tolerance(scales)
    agent.low_level.fit_scale(scales)
    if agent.high_level is not None:
        agent.high_level.fit_scale(scales)
    # At the end: where learning was interrupted before, all of it is done again.
    set_at_once(agent, scales=scales, _tolerance=tolerance, _moving=None)


def fit_scales_again(agent: AgentState) -> None:
    """Measure again, with more experience, and mend the scales that were wrong."""
    replay = agent.replay_buffer
    assert agent.scales is not None and agent.spaces is not None
    replay.flush()
    # Where nothing has changed, nothing may depend on having looked.
    rng = np.random.default_rng(replay.n_added)
    scales = measure_again(agent.scales, replay, agent.spaces.bounds, rng)
    if scales is agent.scales:
        return
    # First: after an interrupt, nothing of another scale may come back.
    agent.last_good.forget()
    agent.low_level.refit_scale(scales)
    if agent.high_level is not None:
        agent.high_level.context.scales = scales
    agent.scales = scales
