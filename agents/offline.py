"""Learning from a data set: it goes into the replay buffer, then come the updates."""

from __future__ import annotations

import inspect
import time
import warnings
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hierebm.agents.measuring import fit_scales, fit_scales_again, measure_on_data
from hierebm.agents.reporting import ProgressReport
from hierebm.agents.state import AgentState
from hierebm.agents.training import look_at_updates, train_high_level, update_low_level
from hierebm.at_once import set_at_once
from hierebm.callbacks import BaseCallback
from hierebm.control.base import LowLevel
from hierebm.data import OfflineDataset, future_goals
from hierebm.goal_env.reward import TOLERANCE_PARTS
from hierebm.goal_env.spaces import GoalSpaces
from hierebm.replay import CoveredGround
from hierebm.replay.growing import enlarged
from hierebm.replay.saved import DIGEST_BYTES
from hierebm.types import FloatArray

# Rounds of energy training that one round stands for. Online, experience and rounds grow together;
# here all experience is there at once, and rounds are few.
EFFORT = 6


class OfflineLoop:
    """The loop of ``learn_offline``: updates of the low level, and now and then of the high level.

    Args:
        agent: whose replay buffer holds the data (:func:`take_data`).
        gradient_steps: how many updates.
        behavior_weight: see :meth:`LowLevel.update`.
    """

    def __init__(self, agent: AgentState, gradient_steps: int, behavior_weight: float) -> None:
        self.agent, self.behavior_weight = agent, behavior_weight
        # Gradient steps over all calls: where the log and the callbacks are.
        self.step = agent.n_updates
        self.target = self.step + gradient_steps
        self._started = time.perf_counter()

    @cached_property
    def _covered(self) -> CoveredGround:
        """The ground of all that is stored; nothing is added while the loop runs."""
        self.agent.replay_buffer.flush()
        return CoveredGround(self.agent.replay_buffer, self.agent._wide_tolerance())

    def run(self, callbacks: BaseCallback | None, log_interval: int | None) -> None:
        """Learn until all steps are done or a callback stops it."""
        agent, progress = self.agent, ProgressReport(self.agent)
        goes_on = self.step < self.target
        while goes_on:
            if agent.low_level.trainable:
                update_low_level(agent, 1, self.behavior_weight, self._covered)
            self.step += 1
            if self._is_round_due():
                train_high_level(agent, EFFORT, self._covered)
            goes_on = self._tell(callbacks) and self.step < self.target
            if log_interval is not None and self.step % log_interval == 0:
                self.dump_logs()
        if agent.high_level is not None and not self._is_round_due():
            # Nodes and edges are to belong to what the low level has become.
            train_high_level(agent, EFFORT, self._covered)
        progress.close()
        self.dump_logs()

    def _is_round_due(self) -> bool:
        """As often as online, where the default is one update for each stored step."""
        agent = self.agent
        return agent.high_level is not None and self.step % agent.config.energy_train_freq == 0

    def _tell(self, callbacks: BaseCallback | None) -> bool:
        """Whether the callbacks want to go on after this step."""
        if callbacks is None:
            return True
        look_at_updates(self.agent)
        callbacks.update_locals({"gradient_step": self.step, "self": self.agent})
        return callbacks.on_step()

    def dump_logs(self) -> None:
        """Write a row of the log now, at the number of gradient steps."""
        agent = self.agent
        look_at_updates(agent)
        elapsed = time.perf_counter() - self._started
        agent.logger.record("time/action_repeat", agent.action_repeat)
        agent.logger.record("time/time_elapsed", round(elapsed, 1))
        agent.logger.record("time/total_timesteps", agent.num_timesteps)
        agent.logger.record("train/n_updates", agent.n_updates)
        agent.logger.dump(self.step)


# --------------------------------------------------------------------------- data


def take_data(
    agent: AgentState,
    data: OfflineDataset | None,
    success_tolerance: ArrayLike | None,
    behavior_weight: float,
) -> None:
    """Put a data set into the replay buffer, and measure on it what is not known yet.

    Args:
        data: None adds nothing.
        success_tolerance: what counts as reached, where there is no environment.
        behavior_weight: only looked at: whether the low level can do with it.

    Raises:
        TypeError, ValueError: see ``learn_offline``; the replay buffer is what it was.
    """
    if data is not None and not isinstance(data, OfflineDataset):
        raise TypeError(
            f"data must be an OfflineDataset, got {type(data).__name__}: hierebm.data makes one "
            "with load_ogbench(path), load_minari(dataset_id) or "
            "OfflineDataset.from_arrays(observations, actions, terminals, goal=...)"
        )
    if data is None and (agent.replay is None or not agent.replay.n_added):
        raise ValueError(
            "there is nothing to learn from: learn_offline(data), or load_replay_buffer(path) first"
        )
    spaces = agent.spaces if data is None else _spaces_of(data)
    assert spaces is not None
    if agent.spaces is not None:
        agent.spaces.check_fits(spaces, "the data")
    tolerance = _tolerance(agent, success_tolerance, spaces.goal_dim)
    repeat = agent.action_repeat
    if data is not None:
        if agent.env is None and tolerance is not None:
            _check_precision(data, tolerance)
        if not agent.knows_clock:
            repeat = measure_on_data(agent, data, tolerance)
        _check_lengths(data, repeat)
    if agent.spaces is None:
        agent._build(spaces)
        agent.spaces = spaces
    _check_low_level(agent.low_level, behavior_weight)
    if data is None and not agent.knows_clock:
        raise ValueError(
            "nothing says how many environment steps a stored step lasts: make the agent with "
            "action_repeat=, or give what is stored as learn_offline(data)"
        )
    agent._tolerance = tolerance
    if data is not None:
        _store(agent, data, repeat)
    replay = agent.replay_buffer
    # When learning goes on online, nothing of it waits for updates.
    agent.trained_at = agent.planned_at = replay.n_added
    if agent.scales is None:
        fit_scales(agent)
    elif data is not None:
        fit_scales_again(agent)
    if agent.high_level is not None and agent.high_level.mapped < replay.n_added:
        agent.high_level.map_all(replay, replay.n_added)


def _spaces_of(data: OfflineDataset) -> GoalSpaces:
    lengths = data.observation.shape[1], data.achieved_goal.shape[1]
    return GoalSpaces.of_data(*lengths, data.action_low, data.action_high)


def _tolerance(
    agent: AgentState, success_tolerance: ArrayLike | None, goal_dim: int
) -> FloatArray | None:
    """(goal_dim,) what the agent is to know of what counts as reached."""
    if success_tolerance is None:
        if agent.env is None and agent._tolerance is None:
            raise ValueError(
                "nothing says what counts as reached: set_env(env) first, whose compute_reward "
                "does, or pass success_tolerance=, how far from a goal is near enough"
            )
        return agent._tolerance
    if agent.env is not None:
        raise ValueError(
            "success_tolerance is for agents without an environment: compute_reward of the one "
            "that was set says what counts as reached; leave success_tolerance out"
        )
    try:
        tolerance = np.asarray(success_tolerance, np.float32)
    except (TypeError, ValueError):
        # Of no shape that is right.
        tolerance = np.empty(0, np.float32)
    if tolerance.shape not in ((), (goal_dim,)):
        raise ValueError(
            f"success_tolerance must be one number or {goal_dim}, one for each axis of the goal, "
            f"got {success_tolerance!r}"
        )
    if not (np.isfinite(tolerance) & (tolerance > 0.0)).all():
        raise ValueError(f"success_tolerance must be positive, got {success_tolerance!r}")
    return np.full(goal_dim, tolerance, np.float32)


def _check_precision(data: OfflineDataset, tolerance: FloatArray) -> None:
    """Raise ValueError where float32 rounds goals to parts of the success tolerance."""
    largest = np.maximum(data.achieved_goal.max(0), -data.achieved_goal.min(0))
    spacing = np.spacing(largest)
    axis = int(np.argmax(spacing / tolerance))
    if spacing[axis] > tolerance[axis] / TOLERANCE_PARTS:
        raise ValueError(
            f"goals of the data go up to {largest[axis]:.9g} (axis {axis}), where float32 knows "
            f"steps of {spacing[axis]:.3g} only, and success_tolerance is {tolerance[axis]:.3g}: "
            "check its unit, or subtract an origin from observations and goals before the data set "
            "is made"
        )


def _check_lengths(data: OfflineDataset, repeat: int) -> None:
    """Raise ValueError where no episode has a step of the agent; warn where few have."""
    steps = np.diff(np.flatnonzero(data.episode_end), prepend=-1) - 1
    if steps.max() < repeat:
        raise ValueError(
            f"a step of the agent lasts {repeat} steps of the data, and its longest episode has "
            f"{steps.max()}: give longer episodes, or make an agent with a smaller action_repeat"
        )
    kept = int((steps // repeat * repeat).sum())
    if 2 * kept < data.n_transitions:
        warnings.warn(
            f"only {kept} of {data.n_transitions} steps of the data are used: a step of the agent "
            f"lasts {repeat} of them, and what is left of an episode is shorter. An agent with a "
            f"smaller action_repeat uses more (now action_repeat={repeat})",
            stacklevel=4,
        )


def _check_low_level(low_level: LowLevel, behavior_weight: float) -> None:
    """Raise ValueError where it learns, but not with this weight."""
    if not (low_level.trainable and behavior_weight):
        return
    if not low_level.has_behavior_term:
        raise ValueError(
            f"{type(low_level).__name__} has no behaviour term: pass behavior_weight=0 to "
            "learn_offline, or learn with the low level of this package"
        )
    known = inspect.signature(low_level.update).parameters.values()
    if not any(p.name == "behavior_weight" or p.kind is p.VAR_KEYWORD for p in known):
        raise ValueError(
            f"{type(low_level).__name__}.update takes no behavior_weight: add that argument, or "
            "pass behavior_weight=0 to learn_offline"
        )


def _store(agent: AgentState, data: OfflineDataset, repeat: int) -> None:
    """Store it in steps of the agent, each with a goal that its episode came to later.

    What is there already, since learning was interrupted or goes on, is not stored again.
    """
    digest = data.digest(DIGEST_BYTES)
    if agent.knows_clock and agent.replay is not None and agent.replay.holds_data(digest):
        return
    steps = data.every(repeat)
    # Stored steps of another length cannot stay; before the clock was known they were of one.
    kept = agent.replay if agent.knows_clock or repeat == 1 else None
    n_envs = 1 if agent.env is None else agent.env.n_envs
    if kept is None:
        kept = agent.empty_buffer(n_envs)
    # A column takes its share of the rows, and what is left of an episode.
    lengths = np.diff(np.flatnonzero(steps.episode_end), prepend=-1)
    # In a buffer of its own until all is in it: a large data set may be interrupted.
    replay = enlarged(kept, len(steps.episode_end) // n_envs + int(lengths.max()) + 2)
    times = replay.time.copy()
    replay.add_episodes(
        steps.observation,
        steps.achieved_goal,
        future_goals(steps, agent.rng),
        steps.action,
        steps.episode_end,
    )
    replay.note_data(digest, times)
    set_at_once(agent, replay=replay, _action_repeat=repeat)
    agent.tell_clock()
