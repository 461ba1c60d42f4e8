"""The figures of a diagnosis by name. None: it cannot be told."""

from __future__ import annotations

from dataclasses import dataclass

PerAxis = tuple[float, ...]
"""A number for each axis of goal space."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is known of an agent. Steps are the agent's: an action is held for ``action_repeat``
    environment steps.
    """

    agent: str
    """Name of the agent's class."""
    env: str | None = None
    """Id of the environment; None where none is set, or it has none."""
    timesteps: int = 0
    """Environment steps of learning."""
    learning_starts: int = 0
    """Those that pass before anything is learned."""
    updates: int = 0
    """Updates of the low level."""
    trainable: bool = True
    """Whether the low level learns at all."""
    has_replay: bool = False
    """Whether there is stored experience to look at."""
    has_high_level: bool = False
    """Whether the agent is one with subgoals."""
    can_plan: bool = False
    """Whether its high level has learned enough to plan."""

    action_repeat: int = 1
    """Environment steps for which an action is held."""
    goal_range: PerAxis | None = None
    """How large goal space is: by its bounds or, where those are infinite, as far as was seen."""
    step: PerAxis | None = None
    """How far the achieved goal moves in one step at full speed."""
    success_tolerance: PerAxis | None = None
    """How far from a goal, along one axis, it still counts as reached."""
    tolerance_in_steps: float | None = None
    """Success tolerance over step, on the fastest of the axes that count and move."""

    episodes: int = 0
    """Episodes that ended since the beginning."""
    successes: int = 0
    """Those among them that succeeded."""
    recent_episodes: int = 0
    """Episodes that the next six figures are of: the last ones, exploration noise included."""
    success_rate: float | None = None
    reached_rate: float | None = None
    """Share in which the goal was ever reached."""
    mean_return: float | None = None
    time_limit_rate: float | None = None
    """Share that the time limit ended."""
    failure_rate: float | None = None
    """Share that ended in a failure terminal."""
    longest_episode: float | None = None
    """Steps."""

    known_goals: float | None = None
    """Share of the desired goals that lie where the agent has been."""
    landmarks: int | None = None
    """Landmarks of the transition map."""
    connected_ground: float | None = None
    """Share of the landmarks in the largest strongly connected component."""

    tasks: int = 0
    """Tasks that plans were made for."""
    tasks_from: str | None = None
    """"episodes": starts and goals of the last episodes; "states": pairs of stored states."""
    path_found: float | None = None
    """Share of the tasks with a path from start to goal."""
    path_verified: float | None = None
    """Share of the tasks with such a path, verified by experience on every edge."""
    path_steps: float | None = None
    """Median steps of the verified paths."""
    verified_edges: float | None = None
    """Share of the edges among stored states that experience verifies."""

    subgoals: int = 0
    """Remembered subgoals that were chased over a verified edge while learning."""
    subgoals_reached: float | None = None
    """Share of them that was reached in time."""
    safe_edge: float | None = None
    """Predicted steps up to which an edge counts as safe, as calibrated."""
    configured_safe_edge: float | None = None
    """The same as it was set."""

    experienced_steps: float | None = None
    """Stored states that were so many steps apart (mean) ..."""
    predicted_steps: float | None = None
    """... are so many steps apart by the low level (median)."""
    saturated_actions: float | None = None
    """Share of its actions there, entry by entry, that are at a bound."""

    already_reached: float | None = None
    """Share of the relabelled goals that were reached before the transition: they teach nothing."""
    moving: float | None = None
    """Share of the stored steps in which the achieved goal moves, along any axis."""
    still_axes: tuple[int, ...] | None = None
    """Axes of goal space that rarely move."""
