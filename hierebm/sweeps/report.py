"""One table and one picture of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hierebm.cli.values import format_rows
from hierebm.plotting.drawing import CURVES, DPI, FAINT, INK, plain_axes
from hierebm.sweeps.files import COMPLETE, FAILED, PRUNED, Row, read_curve, read_result
from hierebm.sweeps.queue import Queue
from hierebm.sweeps.study import Study, Variant

NOT_DONE = "not done"
_NO = object()
# Of more variants in one picture, the rest is grey.
MOST_COLOURS = 6


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    Attributes:
        folder: its own.
        seed: its own.
        status: complete, pruned, failed or not done.
        success: at the end, nan unless it is complete.
        curve: env steps, seconds and success.
        error: of a failed one.
    """

    folder: str
    seed: int
    status: str
    success: float
    curve: list[Row]
    error: str = ""

    def first(self, threshold: float, what: str) -> float:
        """Env steps or seconds at the first point of the curve with that success; inf: never."""
        return next((row[what] for row in self.curve if row["success"] >= threshold), math.inf)


@dataclass(frozen=True)
class Line:
    """One variant in one environment, over all seeds.

    Attributes:
        variant, world: which.
        status: complete if every trial is; else failed, pruned or not done.
        success: mean over seeds; nan unless complete.
        interval: 95%, of the mean over seeds (Student's t); nan with one seed.
        threshold: the success that is waited for.
        trials: one for each seed.
    """

    variant: Variant
    world: str
    status: str
    success: float
    interval: tuple[float, float]
    threshold: float
    trials: list[Ended]

    def to_threshold(self, what: str) -> tuple[float, int]:
        """Median of ``env_steps`` or ``seconds`` over seeds, inf if half of them never got there,
        and how many did.
        """
        first = [trial.first(self.threshold, what) for trial in self.trials]
        return float(np.median(first)), sum(map(math.isfinite, first))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for what is not known, or not reached."""
        (steps, reached), (seconds, _) = map(self.to_threshold, ("env_steps", "seconds"))
        return {
            "variant": self.variant.name, "agent": self.variant.agent,
            "settings": self.variant.settings, "env": self.world, "status": self.status,
            "success": _known(self.success), "ci95": [_known(bound) for bound in self.interval],
            "threshold": self.threshold, "env_steps": _known(steps), "seconds": _known(seconds),
            "reached": reached,
            "trials": [asdict(trial) | {"success": _known(trial.success)} for trial in self.trials],
        }  # fmt: skip


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def lines_of(queue: Queue, study: Study) -> list[Line]:
    """The lines of the table: what is complete first, by success over all environments."""
    groups = []
    for variant in queue.variants():
        trials = queue.trials_of(variant)
        by_world = {
            world.name: [_ended(t.path, t.seed) for t in trials if t.world == world.name]
            for world in study.envs
        }
        is_pruned = any(e.status == PRUNED for of_world in by_world.values() for e in of_world)
        lines = [
            _line(variant, world, ended, is_pruned, study.threshold)
            for world, ended in by_world.items()
        ]
        rank = (any(line.status != COMPLETE for line in lines),
                -float(np.mean([line.success for line in lines])))  # fmt: skip
        groups.append((rank, lines))
    groups.sort(key=lambda group: (group[0][0], 0.0 if group[0][0] else group[0][1]))
    return [line for _, lines in groups for line in lines]


def _ended(folder: Path, seed: int) -> Ended:
    result = read_result(folder) or {"status": NOT_DONE}
    success = result.get("success", math.nan)
    error = result.get("error", "")
    return Ended(str(folder), seed, result["status"], success, read_curve(folder), error)


def _line(
    variant: Variant, world: str, trials: list[Ended], is_pruned: bool, threshold: float
) -> Line:
    statuses = [trial.status for trial in trials]
    if is_pruned:
        # Those that were not begun any more belong to it.
        trials = [t for t in trials if t.status != NOT_DONE]
        status = PRUNED
    else:
        status = next((s for s in (FAILED, NOT_DONE) if s in statuses), COMPLETE)
    values = [trial.success for trial in trials]
    success = float(np.mean(values)) if status == COMPLETE else math.nan
    return Line(variant, world, status, success, interval_of(values), threshold, trials)


def interval_of(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean of rates (Student's t), within [0, 1]; nan for fewer than two."""
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    mean = float(np.mean(values))
    return max(0.0, mean - half), min(1.0, mean + half)


def table(lines: Sequence[Line], *, markdown: bool = False) -> str:
    """The table as text."""
    goal = f"{lines[0].threshold:g}".removeprefix("0") if lines else ""
    head = ["variant", "env", "seeds", "success", "95% interval", f"env steps to {goal}",
            f"seconds to {goal}", "settings"]  # fmt: skip
    # What all have in common tells nothing.
    told = [{"agent": line.variant.agent, **line.variant.settings} for line in lines]
    own = [
        " ".join(
            f"{k}={_short(v)}" for k, v in one.items() if any(o.get(k, _NO) != v for o in told)
        )
        for one in told
    ]
    rows = [head, *([*_cells(line), text] for line, text in zip(lines, own, strict=True))]
    if not markdown:
        return format_rows(rows)
    rows.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cells(line: Line) -> list[str]:
    if line.status != COMPLETE:
        measured = [line.status, "", "", ""]
    else:
        low, high = line.interval
        told = "" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        measured = [f"{line.success:.3f}", told, _first(line, "env_steps"), _first(line, "seconds")]
    return [line.variant.name, line.world, str(len(line.trials)), *measured]


def _first(line: Line, what: str) -> str:
    median, reached = line.to_threshold(what)
    of = "" if reached == len(line.trials) else f" ({reached} of {len(line.trials)})"
    digits = 1 if what == "seconds" and median < 10.0 else 0
    return (f"{median:.{digits}f}" if math.isfinite(median) else "not reached") + of


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace(" ", "")


def draw(lines: Sequence[Line], study: Study, path: Path) -> None:
    """Success over env steps, and over seconds: a column for each environment; mean of the seeds
    with its 95% interval.
    """
    from matplotlib.figure import Figure

    worlds = [world.name for world in study.envs]
    names = list(dict.fromkeys(line.variant.name for line in lines))
    colours = dict(zip(names[:MOST_COLOURS], cycle(CURVES)))
    size = (4.6 * len(worlds) + 1.0, 7.0)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(2, len(worlds), squeeze=False, sharey=True)
    for column, world in enumerate(worlds):
        for line in reversed([line for line in lines if line.world == world]):
            curves = [trial.curve for trial in line.trials if trial.curve]
            if not curves:
                continue
            n = min(map(len, curves))
            success = np.array([[row["success"] for row in curve[:n]] for curve in curves])
            colour = colours.get(line.variant.name, FAINT)
            label = line.variant.name if line.variant.name in colours else None
            bounds = np.array([interval_of(list(at)) for at in success.T])
            for ax, what in zip(axes[:, column], ("env_steps", "seconds"), strict=True):
                x = np.mean([[row[what] for row in curve[:n]] for curve in curves], axis=0)
                ax.plot(x, success.mean(axis=0), color=colour, linewidth=2, marker="o",
                        markersize=3, label=label)  # fmt: skip
                if label is not None:
                    ax.fill_between(x, *bounds.T, color=colour, alpha=0.14, linewidth=0)
        axes[0, column].set_title(world, loc="left", color=INK, fontsize=11, fontweight="bold")
        for ax, what in zip(axes[:, column], ("env steps", "seconds of learning"), strict=True):
            ax.axhline(study.threshold, color=FAINT, linewidth=1, linestyle=":", zorder=0)
            ax.set(ylim=(-0.02, 1.02), xlim=(0, None))
            ax.set_xlabel(what, color=INK)
            plain_axes(ax)
    for ax in axes[:, 0]:
        ax.set_ylabel("success rate", color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", frameon=False,
                  ncols=min(len(labels), 3) or 1)  # fmt: skip
    figure.savefig(path)
