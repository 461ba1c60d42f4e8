"""One update of the low level, one round of the high level: the same online and offline."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from hierebm.agents.batches import device_batches, sample_batch
from hierebm.agents.last_good import LastGood, check_metrics
from hierebm.agents.state import AgentState
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.device_learner import CHECK_EVERY
from hierebm.replay import CoveredGround


def update_low_level(
    agent: AgentState,
    n: int = 1,
    behavior_weight: float = 0.0,
    covered: CoveredGround | None = None,
) -> None:
    """n gradient steps on batches of the replay buffer; log their metrics.

    Args:
        behavior_weight: of the behaviour term; at 0 a low level need not know of it.
        covered: of the replay buffer, where nothing is added to it any more.

    Raises:
        TrainingDiverged: a network diverged; the low level is what it was before. A low level on a
            GPU may say so up to ``CHECK_EVERY`` updates later, or in :func:`look_at_updates`.
    """
    low_level = agent.low_level
    if isinstance(low_level, CapturedDDPG):
        source = device_batches(agent, covered)
        for start in range(0, n, CHECK_EVERY):
            some = min(n - start, CHECK_EVERY)
            with agent.last_good.kept(low_level, some):
                low_level.update_from(source, some, behavior_weight)
            agent.n_updates += some
        return
    weight = {"behavior_weight": behavior_weight} if behavior_weight else {}
    for _ in range(n):
        batch = sample_batch(agent, covered)
        with agent.last_good.kept(low_level):
            metrics = low_level.update(batch, **weight)
            check_metrics(low_level, metrics)
        _log_means(agent, metrics)
        agent.n_updates += 1


def look_at_updates(agent: AgentState) -> None:
    """Wait for the updates that a GPU still makes, and log their metrics: before anything is shown,
    saved or told to callbacks.

    Raises:
        TrainingDiverged: a network diverged; the low level is what it was before.
    """
    if isinstance(agent.low_level, CapturedDDPG):
        with agent.last_good.kept(agent.low_level, 0):
            metrics = agent.low_level.take_metrics()
        _log_means(agent, metrics)


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
