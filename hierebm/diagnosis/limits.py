"""What limits an agent, by its figures, and what to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hierebm.diagnosis.figures import Figures

# ------------------------------------------------------------------ thresholds
# An agent that succeeds so often while it explores has no limit that matters; over so many
# episodes the rate is known to about a tenth.
SOLVED, ENOUGH_EPISODES = 0.9, 20
# Success tolerance over the length of a step, in mazes of several kinds: from 1 to 5 one default
# solves them all, from 10 on it fails in large ones, as distances of more than a few steps cannot
# be told apart. Far below 1, an agent steps over its goals; lengths are known to about a fifth.
TOO_COARSE, GOOD, TOO_FINE = 0.8, 5.0, 10.0
# The ratio to aim at: the middle of what is good.
AIM = 2.5
# A tolerance of half the world's range along every axis reaches nearly all goals from its centre.
WHOLE_WORLD = 0.5
# Share of goal space along an axis that is no tolerance, but rounding.
NO_TOLERANCE = 1e-6
# The default agent has its first successes after about so many updates.
FEW_UPDATES = 1000
# The achieved goal of a maze moves in nearly every step, a block under random actions in one of
# a hundred. In the four rooms a quarter of the relabelled goals teach nothing, and 45% to an agent
# that often stands at walls. Where nothing moves it is at least the share from the future, 62%.
HARDLY_MOVES, TEACHES_NOTHING = 0.05, 0.6
# Entries of actions at a bound: a policy that hurries is there for most of the way, one that
# cannot do anything else always.
SATURATED = 0.98
# A trajectory is at least as long as the shortest way: predictions above twice its length are not
# learned yet.
OVERESTIMATED = 2.0
# Shares of goals, ground and tasks. What is missing to one half alone explains a failure.
FEW = 0.5
# Far less than the share of 95% up to which an edge counts as safe.
MISSED, ENOUGH_SUBGOALS = 0.8, 50
# A path takes longer than predicted (1.1 times in mazes, detours apart).
LONG_PATH = 0.8
# Failures as frequent as that leave little else.
FAILURES = 0.3


@dataclass(frozen=True)
class Limit:
    """One thing that limits an agent."""

    name: str
    """For programs."""
    finding: str
    """What was found, with the figures, in words."""
    advice: str
    """What to try."""


def clock_fits(ratio: float | None) -> str | None:
    """A word for success tolerance over step: "good", "rather fine", "too fine", "too coarse"."""
    if ratio is None:
        return None
    if ratio < TOO_COARSE:
        return "too coarse"
    return "good" if ratio <= GOOD else "rather fine" if ratio < TOO_FINE else "too fine"


def find_limits(f: Figures) -> list[Limit]:
    """What limits the agent, most important first: what spoils most of the rest comes first."""
    if f.step is None:
        return [
            Limit(
                "nothing learned",
                f"Nothing is learned yet: the agent has made {f.timesteps:,} environment steps, "
                f"and the first {f.learning_starts:,} only collect experience.",
                f"Call learn for many more than {f.learning_starts:,} steps.",
            )
        ]
    if oddities := list(_task(f)):
        return oddities
    if f.recent_episodes >= ENOUGH_EPISODES and (f.success_rate or 0.0) >= SOLVED:
        return []
    limits = [*_clock(f), *_experience(f), *_low_level(f), *_ground(f), *_paths(f)]
    if f.success_rate is not None and f.success_rate < FEW:
        if not f.has_high_level:
            limits.append(_ONE_POLICY)
        elif not limits:
            limits.append(_UNEXPLAINED)
    return limits


def _task(f: Figures) -> Iterator[Limit]:
    if not f.success_tolerance or not f.goal_range:
        return
    shares = [t / r for t, r in zip(f.success_tolerance, f.goal_range, strict=True)]
    if min(shares) >= WHOLE_WORLD:
        yield Limit(
            "everything counts as reached",
            "The success tolerance is as large as the world: every goal counts as reached.",
            "Look at compute_reward of the environment: it must pay more only near the goal.",
        )
    if min(shares) <= NO_TOLERANCE and not f.successes:
        yield Limit(
            "nothing counts as reached",
            "The success tolerance is zero: a goal counts only if it is met exactly, and none "
            "ever was.",
            "Let compute_reward count goals as reached within a distance that one step can meet.",
        )


def _clock(f: Figures) -> Iterator[Limit]:
    ratio, word = f.tolerance_in_steps, clock_fits(f.tolerance_in_steps)
    if ratio is None:
        return
    better = max(1, round(f.action_repeat * ratio / AIM))
    if word == "too fine":
        yield Limit(
            "clock too fine",
            f"The clock is too fine: it takes {ratio:.0f} steps to cross the success tolerance, "
            "so that distances of more than a few steps cannot be told apart.",
            f"Hold each action for about {better} environment steps: action_repeat={better} "
            f"(now {f.action_repeat}).",
        )
    if word == "too coarse" and f.action_repeat > 1:
        yield Limit(
            "clock too coarse",
            f"The clock is too coarse: a step is {1 / max(ratio, 1e-9):.1f} times the success "
            "tolerance, and the agent steps over its goals.",
            f"Hold actions for fewer environment steps: action_repeat={better} "
            f"(now {f.action_repeat}).",
        )
    elif word == "too coarse":
        yield Limit(
            "clock too coarse",
            f"A step at full speed is {1 / max(ratio, 1e-9):.1f} times the success tolerance: an "
            "agent that does not slow down steps over its goals.",
            "Use smaller actions, a shorter time step, or a larger success tolerance in the "
            "environment.",
        )


def _experience(f: Figures) -> Iterator[Limit]:
    if f.moving is not None and f.moving < HARDLY_MOVES:
        yield Limit(
            "achieved goal hardly moves",
            f"The achieved goal moves in {_percent(f.moving)} of the steps: exploration does "
            "not touch what has to be moved, and relabelled goals teach nothing.",
            "Begin some episodes near or at the object, take longer episodes, or explore more: "
            "random_actions, action_noise.",
        )
    elif f.already_reached is not None and f.already_reached > TEACHES_NOTHING:
        yield Limit(
            "relabelled goals teach nothing",
            f"{_percent(f.already_reached)} of the relabelled goals are reached before the "
            "transition: they teach nothing.",
            "Take goals from farther ahead (her_horizon), or more of them from anywhere "
            "(her_random).",
        )
    if f.trainable and f.updates < FEW_UPDATES:
        yield Limit(
            "few updates",
            f"The low level has had {f.updates:,} updates; the first successes take about "
            f"{FEW_UPDATES:,}.",
            "Learn for more steps, or update more often (train_freq, gradient_steps).",
        )
    elif f.has_high_level and not f.can_plan:
        yield Limit(
            "no plans yet",
            "The high level has not been trained yet.",
            "Learn for more steps, or train it earlier (energy_train_freq).",
        )


def _low_level(f: Figures) -> Iterator[Limit]:
    if f.saturated_actions is not None and f.saturated_actions > SATURATED:
        yield Limit(
            "actor saturated",
            f"{_percent(f.saturated_actions)} of the low level's actions are at their bounds, "
            "whatever the goal: the actor cannot steer any more.",
            "Train again with a smaller actor_lr; where it happens again, check the scale of the "
            "observations.",
        )
    longest = OVERESTIMATED * (f.experienced_steps or 0.0)
    if f.predicted_steps is not None and f.predicted_steps > longest:
        yield Limit(
            "near goals not learned",
            f"The low level does not know near goals yet: states that were "
            f"{f.experienced_steps:.0f} steps apart look {f.predicted_steps:.0f} steps apart.",
            "Learn for more steps, or update more often (gradient_steps).",
        )
    if f.failure_rate is not None and f.failure_rate > FAILURES:
        yield Limit(
            "failures",
            f"{_percent(f.failure_rate)} of the episodes end in a failure: terminated without "
            "the goal being reached.",
            "If these ends are no real failures, let the environment truncate there instead of "
            "terminating.",
        )


def _ground(f: Figures) -> Iterator[Limit]:
    if f.known_goals is not None and f.known_goals < FEW:
        yield Limit(
            "goals outside known ground",
            f"{_percent(f.known_goals)} of the desired goals lie where the agent has been.",
            "Learn for more steps, take longer episodes, or explore more"
            + (" (explore_share)." if f.has_high_level else " (action_noise, random_actions)."),
        )
    # In many dimensions, few landmarks are joined both ways, and paths are found all the same.
    has_paths = f.path_verified is not None and f.path_verified >= SOLVED
    if f.connected_ground is not None and f.connected_ground < FEW and not has_paths:
        yield Limit(
            "ground in pieces",
            f"The known ground is in pieces: the largest has {_percent(f.connected_ground)} of "
            "the landmarks, and no path leads from one to another.",
            "Learn for more steps, take longer episodes, or begin episodes where the pieces meet.",
        )


def _paths(f: Figures) -> Iterator[Limit]:
    if f.path_verified is not None and f.path_verified < FEW:
        yield Limit(
            "no verified path",
            f"{_percent(f.path_verified)} of the tasks have a path that experience verifies.",
            "Learn for more steps; if the goals lie on known ground, use more nodes: n_subgoals.",
        )
    # Where most episodes are ended by it, the longest one is the time limit.
    limit = f.longest_episode if (f.time_limit_rate or 0.0) >= FEW else None
    if limit is not None and (f.path_steps or 0.0) > LONG_PATH * limit:
        yield Limit(
            "episodes too short",
            f"Paths to the goals take {f.path_steps:.0f} steps, and an episode has {limit:.0f}.",
            "Give the environment a longer time limit.",
        )
    reached = f.subgoals_reached if f.subgoals >= ENOUGH_SUBGOALS else None
    if reached is not None and reached < MISSED:
        yield Limit(
            "subgoals missed",
            f"{_percent(reached)} of the subgoals are reached in time; 95% is the aim.",
            "Take nearer subgoals (a smaller safe_edge), or train the low level more "
            "(gradient_steps).",
        )


_ONE_POLICY = Limit(
    "one policy for all goals",
    "One policy alone has to reach all goals, near and far.",
    "Use HierarchicalEBMAgent, which puts subgoals on the way.",
)
_UNEXPLAINED = Limit(
    "nothing stands out",
    "No single figure explains the low success.",
    "Learn for more steps, and evaluate without exploration noise: "
    "hierebm.evaluation.evaluate(agent, env).",
)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
