"""One update of the low level, one round of the high level: the same online and offline."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from hierebm.agents.last_good import LastGood, check_metrics
from hierebm.agents.state import AgentState
from hierebm.replay import CoveredGround, sample_transitions


def update_low_level(
    agent: AgentState, behavior_weight: float = 0.0, covered: CoveredGround | None = None
) -> None:
    """One gradient step on a batch of the replay buffer; log its metrics.

    Args:
        behavior_weight: of the behaviour term; at 0 a low level need not know of it.
        covered: of the replay buffer, where nothing is added to it any more.

    Raises:
        TrainingDiverged: a network diverged; the low level is what it was before.
    """
    c, replay, scales = agent.config, agent.replay_buffer, agent.scales
    replay.flush()
    at_will = scales is None or bool(scales.at_will.any())
    batch = sample_transitions(
        replay,
        c.batch_size,
        agent._reached,
        agent.rng,
        future=c.her_future,
        random=c.her_random,
        horizon=c.her_horizon,
        moving=None if at_will else agent.moving_rows,
        covered=covered,
    )
    weight = {"behavior_weight": behavior_weight} if behavior_weight else {}
    with agent.last_good.kept(agent.low_level):
        metrics = agent.low_level.update(batch, **weight)
        check_metrics(agent.low_level, metrics)
    _log_means(agent, metrics)
    agent.n_updates += 1


def train_high_level(
    agent: AgentState, effort: int = 1, covered: CoveredGround | None = None
) -> None:
    """One round: a new pool, the transition map up to date, the planner trained; log metrics.

    Args:
        effort: times that the usual number of gradient steps is taken.
        covered: of the replay buffer, where nothing is added to it any more.

    Raises:
        TrainingDiverged: a network diverged; the planner is what it was before the round.
    """
    high_level, replay = agent.high_level, agent.replay_buffer
    assert high_level is not None
    high_level.context.effort = effort
    replay.flush()

    def log(metrics: dict[str, float]) -> None:
        check_metrics(high_level, {k: v for k, v in metrics.items() if k.startswith("energy/")})
        _log_means(agent, metrics)

    with LastGood().kept(high_level):
        high_level.learn(replay, replay.n_added, agent.rng, log, _true_steps(agent), covered)


def _true_steps(agent: AgentState) -> Any:
    """What tells the true steps between goals, where the environment knows them and no wrapper has
    made other goals of its own."""
    if agent.env is None or agent.spaces is None:
        return None
    env = agent.env.env.unwrapped
    space = getattr(env, "single_observation_space", env.observation_space)
    goals = space.spaces.get("desired_goal") if isinstance(space, spaces.Dict) else None
    if goals is None or goals.shape != (agent.spaces.goal_dim,):
        return None
    return getattr(env, "shortest_path_steps", None)


def _log_means(agent: AgentState, metrics: dict[str, float]) -> None:
    """Log each metric as its mean until the next row of the log."""
    agent.logger.record_dict(metrics, mean=True)
