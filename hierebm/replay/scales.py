"""How large inputs are and how far a step goes: measured on what was seen, before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import BoolArray, FloatArray

# Stored states that the scales are measured on, and the fewest that they may stand on.
N_STATES, FEWEST_STATES = 10_000, 50
# A full-speed step is the 95% quantile of the steps seen. An axis on which that is less than this
# share of the range moves rarely or never, as a block that is pushed, or the world is large.
FULL_SPEED, SMALL_STEP = 0.95, 0.01
# An axis whose moves are less than this share of its range does not move, it trembles.
TREMBLING = 1e-4
# Bounds are not believed that are this many times as wide as what was seen.
TOO_WIDE = 20.0
# Entries are constant that vary by no more than this many roundings of float32, or by this much.
ROUNDINGS, NOTHING = 4.0, 1e-7
# An axis is moved at will if this share of the steps moves it by more than these shares of full
# speed and of the success tolerance.
OFTEN, AT_WILL, TOO_FINE = 0.2, 0.05, 0.005
# On the other axes, a step is at least this share of the success tolerance.
COARSE = 0.1
# A scale that is wrong by this factor is measured again.
WRONG = 2.0

Range = tuple[FloatArray, FloatArray]
"""Shift and scale that take values to about [-1, 1]."""


@dataclass(frozen=True)
class InputScales:
    """Shift and scale of observations and goals, and the length of a step; all float32."""

    observation_shift: FloatArray
    """(obs_dim,)"""
    observation_scale: FloatArray
    """(obs_dim,) positive"""
    goal_shift: FloatArray
    """(goal_dim,)"""
    goal_scale: FloatArray
    """(goal_dim,) positive"""
    step: FloatArray
    """(goal_dim,) how far the achieved goal moves in one step at full speed, along each axis."""
    at_will: BoolArray = field(default_factory=lambda: np.ones((), np.bool_))
    """(goal_dim,), or one for all: whether the agent moves that axis whenever it wants. It does not
    where an object has to be touched first."""


def measure_scales(
    replay: EpisodeReplay, given: Callable[[str], Range], rng: np.random.Generator
) -> InputScales:
    """Scale inputs by the spaces' bounds or, where those are too wide to be believed, by what was
    seen: mean and twice the standard deviation, and 1 or the magnitude where an entry is constant.

    Args:
        replay: stored states.
        given: (middle, half range) by the bounds of "observation" and of "desired_goal", infinite
            half ranges included.
        rng: source of the draw of states.

    Raises:
        RuntimeError: nothing was stored yet.
    """
    rows = replay.sample_rows(N_STATES, rng)
    achieved = replay.achieved_goal[rows]
    observation = _range(given("observation"), replay.observation[rows])
    goal = _range(given("desired_goal"), np.concatenate([achieved, replay.goal[rows]]))
    moved = np.abs(replay.achieved_goal[replay.later(rows, np.ones_like(rows))] - achieved)
    step = _full_speed(moved, goal[1])
    return InputScales(observation[0], observation[1], goal[0], goal[1], step)


def moved_at_will(
    replay: EpisodeReplay, tolerance: FloatArray, step: FloatArray | None = None
) -> BoolArray:
    """(goal_dim,) which axes of the achieved goal the agent moves whenever it wants.

    Args:
        replay: stored states.
        tolerance: (goal_dim,) how far from a goal, along each axis, it counts as reached.
        step: (goal_dim,) a step at full speed; None: nothing but the tolerance is looked at.
    """
    rows = replay.newest_rows(N_STATES)
    moved = np.abs(replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows])
    least = TOO_FINE * tolerance
    if step is not None:
        least = np.maximum(least, AT_WILL * step)
    result: BoolArray = (moved > least).mean(0) >= OFTEN
    return result


def tell_still_axes(
    scales: InputScales, replay: EpisodeReplay, tolerance: FloatArray
) -> InputScales:
    """The same scales with what is known of axes that the agent does not move at will.

    What is seen to move on them may be no more than the trembling of an object that lies still, or
    a world in which one coordinate never changes: their step is not finer than a part of the
    success tolerance.

    Args:
        tolerance: (goal_dim,) how far from a goal, along each axis, it counts as reached.
    """
    at_will = moved_at_will(replay, tolerance, scales.step)
    coarse = np.maximum(scales.step, COARSE * tolerance).astype(np.float32)
    return replace(scales, at_will=at_will, step=np.where(at_will, scales.step, coarse))


def measure_again(
    scales: InputScales,
    replay: EpisodeReplay,
    given: Callable[[str], Range],
    rng: np.random.Generator,
) -> InputScales:
    """The same scales but for entries whose range turned out to be another one by a factor of two.

    The shift of goals and the length of a step stay: what is learned depends on them by sines.
    Nothing changed is the same object.
    """
    rows = replay.sample_rows(N_STATES, rng)
    observed, goals = replay.observation[rows], replay.goal[rows]
    shift, scale = _range(given("observation"), observed)
    old_shift, old_scale = scales.observation_shift, scales.observation_scale
    wrong = _is_wrong(old_scale, scale) | (np.abs(shift - old_shift) > old_scale)
    goals = np.concatenate([replay.achieved_goal[rows], goals])
    middle, goal_scale = _range(given("desired_goal"), goals)
    # Seen from the shift that stays.
    goal_scale = np.sqrt(np.square(goal_scale) + np.square(2.0 * (middle - scales.goal_shift)))
    wrong_goal = _is_wrong(scales.goal_scale, goal_scale)
    if not wrong.any() and not wrong_goal.any():
        return scales
    return replace(
        scales,
        observation_shift=np.where(wrong, shift, old_shift),
        observation_scale=np.where(wrong, scale, old_scale),
        goal_scale=np.where(wrong_goal, goal_scale, scales.goal_scale),
    )


def _is_wrong(scale: FloatArray, measured: FloatArray) -> BoolArray:
    result: BoolArray = np.maximum(measured / scale, scale / measured) > WRONG
    return result


def _range(bounds: Range, values: FloatArray) -> Range:
    """Shift and scale of (n, dim) values: the bounds where they are plausible, else as seen."""
    middle, half_range = bounds
    shift, scale = _seen(values)
    outermost = np.abs(values - np.where(np.isfinite(middle), middle, 0.0)).max(0)
    plausible = (half_range > 0.0) & (half_range <= TOO_WIDE * scale)
    plausible &= outermost <= 2.0 * half_range
    return np.where(plausible, middle, shift), np.where(plausible, half_range, scale)


def _seen(values: FloatArray) -> Range:
    """Mean and twice the standard deviation of (n, dim) values; of a constant its magnitude."""
    wide = values.astype(np.float64)
    mean, spread = wide.mean(0), 2.0 * wide.std(0)
    noise = ROUNDINGS * np.finfo(np.float32).eps * np.abs(wide).max(0)
    constant = spread <= np.maximum(noise, NOTHING)
    scale = np.where(constant, np.maximum(np.abs(mean), 1.0), spread)
    return mean.astype(np.float32), scale.astype(np.float32)


def _full_speed(moved: FloatArray, scale: FloatArray) -> FloatArray:
    """(goal_dim,) length of a step at full speed, of (n, goal_dim) steps on axes of such scales."""
    step = np.quantile(moved, FULL_SPEED, axis=0)
    # Half of the way is travelled in steps of that length or longer: whatever the share of steps
    # in which the axis moves at all.
    lengths = np.sort(moved.astype(np.float64), axis=0)
    travelled = lengths.cumsum(0)
    half = (travelled < travelled[-1] / 2.0).sum(0)
    typical = lengths[half, np.arange(lengths.shape[1])]
    step = np.where(step < SMALL_STEP * scale, np.maximum(step, typical), step)
    result: FloatArray = np.where(step < TREMBLING * scale, SMALL_STEP * scale, step)
    return result.astype(np.float32)
