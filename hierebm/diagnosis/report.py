"""A diagnosis as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from hierebm.diagnosis.figures import Figures, PerAxis
from hierebm.diagnosis.limits import SOLVED, Limit, clock_fits, find_limits

Self = TypeVar("Self", bound="Diagnosis")
# Columns of a line and of its label; limits that are written out: whoever has solved these looks
# again.
WIDTH, LABEL, SHOWN = 100, 12, 3


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Figures):
    """The figures and what follows from them; ``print`` it for the report."""

    clock: str | None = None
    """"good", "rather fine", "too fine" or "too coarse"."""
    limits: list[Limit]
    """What limits the agent now, most important first, each with what to try."""

    @classmethod
    def of(cls: type[Self], figures: Figures) -> Self:
        """The diagnosis that follows from the figures."""
        values = {f.name: getattr(figures, f.name) for f in fields(Figures)}
        clock = clock_fits(figures.tolerance_in_steps)
        return cls(**values, clock=clock, limits=find_limits(figures))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-serialisable values."""
        return asdict(self)

    def __str__(self) -> str:
        blocks = _headline(self), "\n".join(_lines(self)), "\n".join(_limits(self))
        return "\n\n".join(block for block in blocks if block)


def _lines(d: Diagnosis) -> Iterator[str]:
    lines = {
        "Episodes": _episodes(d),
        "Clock": _clock(d),
        "Experience": _experience(d),
        "Low level": _low_level(d),
        "Ground": _ground(d),
        "Paths": _paths(d),
        "Subgoals": _subgoals(d),
    }
    for label, parts in lines.items():
        if text := "; ".join(parts):
            yield textwrap.fill(
                text,
                WIDTH,
                initial_indent=f"{label:<{LABEL}}",
                subsequent_indent=" " * LABEL,
            )
    if d.step is not None and (unknown := _unknown(d)):
        yield textwrap.fill(
            f"{'Not known':<{LABEL}}{unknown}", WIDTH, subsequent_indent=" " * LABEL
        )


def _headline(d: Diagnosis) -> str:
    where = "" if d.env is None else f" in {d.env}"
    return f"{d.agent}{where} after {d.timesteps:,} environment steps and {d.updates:,} updates"


def _episodes(d: Diagnosis) -> Iterator[str]:
    if d.success_rate is None:
        return
    so_far = f"{d.successes:,} of {d.episodes:,} so far"
    yield f"success {_percent(d.success_rate)} of the last {d.recent_episodes} ({so_far})"
    if d.reached_rate is not None and d.reached_rate != d.success_rate:
        yield f"goal ever reached in {_percent(d.reached_rate)}"
    yield f"mean return {d.mean_return:.3g}"
    yield f"{_percent(d.time_limit_rate)} hit time limit"
    if d.failure_rate:
        yield f"{_percent(d.failure_rate)} failed"


def _clock(d: Diagnosis) -> Iterator[str]:
    if d.step is None or d.success_tolerance is None:
        return
    held = "step" if d.action_repeat == 1 else "steps"
    yield f"{d.action_repeat} env {held} per action"
    yield f"full step {_axes(d.step)}"
    in_steps = "" if d.clock is None else f" = {d.tolerance_in_steps:.2g} steps: {d.clock}"
    yield f"success tolerance {_axes(d.success_tolerance)}{in_steps}"


def _experience(d: Diagnosis) -> Iterator[str]:
    if d.moving is not None:
        yield f"the achieved goal moves in {_percent(d.moving)} of the steps"
    if d.still_axes:
        yield f"rarely along axis {', '.join(map(str, d.still_axes))}"
    if d.already_reached is not None:
        yield f"{_percent(d.already_reached)} of the relabelled goals teach nothing"


def _low_level(d: Diagnosis) -> Iterator[str]:
    if d.predicted_steps is None:
        return
    experienced, predicted = f"{d.experienced_steps:.0f}", f"{d.predicted_steps:.1f}"
    yield f"states {experienced} steps apart are predicted {predicted} apart"
    yield f"{_percent(d.saturated_actions)} of the actions are at a bound"


def _ground(d: Diagnosis) -> Iterator[str]:
    if d.known_goals is not None:
        yield f"{_percent(d.known_goals)} of the goals lie where the agent has been"
    if d.landmarks is not None:
        yield f"{_percent(d.connected_ground)} of {d.landmarks:,} landmarks are connected"


def _paths(d: Diagnosis) -> Iterator[str]:
    if d.path_verified is not None:
        what = "tasks" if d.tasks_from == "episodes" else "pairs of stored states"
        length = "" if d.path_steps is None else f" ({d.path_steps:.0f} steps)"
        any_path = f"{_percent(d.path_found)} any path"
        verified = f"{_percent(d.path_verified)} of {d.tasks} {what} have a verified path"
        yield f"{verified}{length}, {any_path}"
    if d.verified_edges is not None:
        yield f"{_percent(d.verified_edges)} of edges verified"


def _subgoals(d: Diagnosis) -> Iterator[str]:
    if d.subgoals_reached is not None:
        yield f"{_percent(d.subgoals_reached)} of the last {d.subgoals:,} reached in time"
    if d.safe_edge is not None:
        yield f"safe up to {d.safe_edge:.1f} predicted steps (set: {d.configured_safe_edge:g})"


def _unknown(d: Diagnosis) -> str:
    """What could not be told, and why."""
    missing = []
    if not d.has_replay:
        missing.append("what experience teaches (no replay buffer)")
    if d.success_rate is None:
        missing.append("success (no episode is remembered)")
    return ", ".join(missing)


def _limits(d: Diagnosis) -> Iterator[str]:
    if not d.limits:
        yield from textwrap.wrap(_no_limits(d), WIDTH)
        return
    yield "What limits it now, most important first"
    for i, limit in enumerate(d.limits[:SHOWN], start=1):
        for start, text in ((f"{i}. ", limit.finding), ("   Try: ", limit.advice)):
            yield textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent="   ")
    if names := [limit.name for limit in d.limits[SHOWN:]]:
        yield textwrap.fill(f"Then: {', '.join(names)}.", WIDTH, subsequent_indent="   ")


def _no_limits(d: Diagnosis) -> str:
    if d.success_rate is None:
        return "Nothing limits it: no figure stands out."
    if d.success_rate >= SOLVED:
        return "Nothing limits it: it reaches its goals."
    return (
        "No figure stands out. These episodes are those of learning, the first ones and exploring "
        "included: see how it does now by hierebm.evaluation.evaluate(agent, env)."
    )


def _axes(values: PerAxis) -> str:
    """Axes that are equal, or many, are said in short."""
    texts = [f"{value:.3g}" for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return f"({', '.join(texts)})" if len(texts) <= 4 else f"{min(values):.3g} to {max(values):.3g}"


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.0f}%"
