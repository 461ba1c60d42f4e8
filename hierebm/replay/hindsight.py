"""Hindsight relabelling (Andrychowicz et al. 2017, arXiv 1707.01495) for distance learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import BoolArray, FloatArray, ReachedFn


@dataclass(frozen=True)
class TransitionBatch:
    """A relabelled minibatch; every array has ``n`` rows, float32 unless said otherwise."""

    observation: FloatArray
    achieved_goal: FloatArray
    action: FloatArray
    next_observation: FloatArray
    next_achieved_goal: FloatArray
    goal: FloatArray
    reached: BoolArray
    """The next state reaches the (relabelled) goal: one step is left."""
    failure: BoolArray
    """The episode ended there without reaching any goal: the goal is never reached."""
    followed: BoolArray
    """The goal is a state that followed soon in the same episode: the action led to it."""


def sample_transitions(
    replay: EpisodeReplay,
    n: int,
    reached: ReachedFn,
    rng: np.random.Generator,
    *,
    future: float = 0.4,
    random: float = 0.25,
    horizon: float = 10.0,
) -> TransitionBatch:
    """Draw ``n`` transitions and give each a goal from one of three sources.

    * a state that followed in the same episode, geometrically soon (share ``future``): *near*;
    * a random stored state (share ``random``): *far*;
    * the goal that the low level was really chasing at that step (the rest): what the planner
      asks for, walls between included. Without this source a critic believes in short cuts.

    The terminal flag is recomputed for the new goal. Truncation is bootstrapped through.

    Args:
        replay: where the transitions are stored.
        n: number of transitions; the shares are rounded to whole rows.
        reached: says whether an achieved goal reaches a goal.
        rng: source of all randomness.
        future, random: shares of the sources, in [0, 1] and together at most 1.
        horizon: mean number of steps to the future state, at least 1.

    Raises:
        ValueError: shares or a horizon out of range.
        RuntimeError: nothing was stored yet.
    """
    if min(future, random) < 0.0 or future + random > 1.0 + 1e-9:
        raise ValueError(
            "the shares of relabelled goals must not be negative nor sum to more than 1, got "
            f"future={future}, random={random}"
        )
    if not horizon >= 1.0:
        raise ValueError(f"horizon must be at least 1 step, got {horizon}")
    rows = replay.sample_rows(n, rng)
    observation, achieved_goal, goal, action, next_observation, next_achieved_goal = (
        replay.transitions(rows)
    )

    n_future = round(future * n)
    n_random = min(round(random * n), n - n_future)
    ahead = rng.geometric(1.0 / horizon, size=n_future)
    ahead = np.minimum(ahead, replay.steps_left(rows[:n_future]))
    goal[:n_future] = replay.achieved_goal[replay.later(rows[:n_future], ahead)]
    goal[n_future : n_future + n_random] = replay.achieved_goal[replay.sample_rows(n_random, rng)]

    return TransitionBatch(
        observation=observation,
        achieved_goal=achieved_goal,
        action=action,
        next_observation=next_observation,
        next_achieved_goal=next_achieved_goal,
        goal=goal,
        reached=reached(next_achieved_goal, goal),
        failure=replay.failure[rows],
        followed=np.arange(n) < n_future,
    )
