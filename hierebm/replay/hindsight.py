"""Hindsight relabelling (Andrychowicz et al. 2017, arXiv 1707.01495) for distance learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierebm.replay.covered import CoveredGround
from hierebm.replay.episodes import EpisodeReplay
from hierebm.replay.moving import MovingRows
from hierebm.types import BoolArray, FloatArray, IntArray, ReachedFn

# Where the achieved goal moves now and then only: of the goals from the future, the share that may
# be reached already where the row begins; of all other rows, the share that is drawn from those
# that move; and how many rows are looked at for one whose goal is not reached yet.
STAYING, MOVING, LOOKED_AT = 0.2, 0.6, 4


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


def sample_transitions(
    replay: EpisodeReplay,
    n: int,
    reached: ReachedFn,
    rng: np.random.Generator,
    *,
    future: float = 0.4,
    random: float = 0.25,
    horizon: float = 10.0,
    moving: MovingRows | None = None,
    covered: CoveredGround | None = None,
) -> TransitionBatch:
    """Draw ``n`` transitions and give each a goal from one of three sources.

    * a state that followed in the same episode, geometrically soon (share ``future``): *near*;
    * a random stored state (share ``random``): *far*;
    * the goal that the low level was really chasing at that step (the rest): what the planner
      asks for, walls between included. Without this source a critic believes in short cuts.

    Where a block is pushed now and then, nearly every goal from the future is already reached where
    the row begins and teaches to stay, no more. With ``moving``, most of these rows are replaced by
    rows before the block moves, with a goal from anywhere later in their episodes (filtered
    hindsight, Manela & Biess 2021, arXiv 1905.06280), and most of the others, too (episodes in
    which much moves first, Zhao & Tresp 2018, arXiv 1810.01363).

    With ``covered``, for data that others recorded, half of the rows and of the random goals are
    drawn evenly over the visited ground, and all goals but those from the future lie a little
    beside what was ever achieved.

    The terminal flag is recomputed for the new goal. Truncation is bootstrapped through.

    Args:
        replay: where the transitions are stored.
        n: number of transitions; the shares are rounded to whole rows.
        reached: says whether an achieved goal reaches a goal.
        rng: source of all randomness.
        future, random: shares of the sources, in [0, 1] and together at most 1.
        horizon: mean number of steps to the future state, at least 1.
        moving: the rows to prefer, of the same buffer; None: all alike.
        covered: of the same buffer; None: rows and goals as they come.

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
    draw = (replay if covered is None else covered).sample_rows
    rows = draw(n, rng)

    n_future = round(future * n)
    n_random = min(round(random * n), n - n_future)
    ahead = rng.geometric(1.0 / horizon, size=n_future)
    ahead = np.minimum(ahead, replay.steps_left(rows[:n_future]))
    followed_by = replay.later(rows[:n_future], ahead)
    anywhere = draw(n_random, rng)
    if moving is not None:
        _prefer_moving(rows, followed_by, moving, reached, rng)
    observation, achieved_goal, goal, action, next_observation, next_achieved_goal = (
        replay.transitions(rows)
    )
    goal[:n_future] = replay.achieved_goal[followed_by]
    goal[n_future : n_future + n_random] = replay.achieved_goal[anywhere]
    arrived = next_achieved_goal
    if covered is not None:
        goal[n_future:] = covered.around(goal[n_future:], rng)
        arrived = covered.overshot(next_achieved_goal, goal)

    return TransitionBatch(
        observation=observation,
        achieved_goal=achieved_goal,
        action=action,
        next_observation=next_observation,
        next_achieved_goal=next_achieved_goal,
        goal=goal,
        reached=reached(arrived, goal),
        failure=replay.failure[rows],
    )


def _prefer_moving(
    rows: IntArray,
    followed_by: IntArray,
    moving: MovingRows,
    reached: ReachedFn,
    rng: np.random.Generator,
) -> None:
    """Replace rows by moving ones, in place.

    Args:
        rows: (n,) of which the first have a goal from the future.
        followed_by: (n_future,) the rows of those goals.
    """
    candidates = moving.rows()
    if not len(candidates):
        return
    replay, n_future = moving.replay, len(followed_by)
    achieved = replay.achieved_goal
    idle = np.flatnonzero(reached(achieved[rows[:n_future]], achieved[followed_by]))
    idle = idle[: max(0, len(idle) - round(STAYING * n_future))]
    new = candidates[rng.integers(len(candidates), size=LOOKED_AT * len(idle))]
    later = replay.later(new, rng.integers(1, replay.steps_left(new) + 1))
    teaching = np.flatnonzero(~reached(achieved[new], achieved[later]))[: len(idle)]
    idle = idle[: len(teaching)]
    rows[idle], followed_by[idle] = new[teaching], later[teaching]
    others = n_future + rng.permutation(len(rows) - n_future)
    others = others[: round(MOVING * len(others))]
    rows[others] = candidates[rng.integers(len(candidates), size=len(others))]
