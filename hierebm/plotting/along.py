"""The energy along a planned sequence of states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from hierebm.plotting.drawing import INK, PATH, colorbar, dots, finish, mark_ends, plain_axes
from hierebm.plotting.maps import Pair, maps_of
from hierebm.plotting.world import World

if TYPE_CHECKING:
    from hierebm.planning.graph.plan import Plan


def plot_energy_along(
    plan: Plan,
    world: World,
    *,
    pairs: Sequence[Pair] | None = None,
    title: str = "Energy along the sequence",
) -> Figure:
    """The states of a sequence, coloured by the energy of the transition to each, and its curve.

    Args:
        plan: of the sequence planner.
        world: its walls are drawn underneath, its success tolerance around the goal.
        pairs: of goal axes, a map for each; default: those with the largest spread.
        title: of the figure.
    """
    states, energies = plan.path_points, np.asarray(plan.energies, float)[plan.path]
    figure, maps, below = maps_of(states, world, states[-1], pairs, below=0.24)
    assert below is not None
    known = np.isfinite(energies)
    marked = None
    for on in maps:
        seen = on.of(states)
        on.ax.plot(*seen.T, color=INK, linewidth=1, zorder=4)
        marked = dots(on.ax, seen[known], c=energies[known], s=34, cmap="viridis_r",
                      edgecolors="white", linewidths=0.7, zorder=5)  # fmt: skip
        mark_ends(on.ax, seen[0], seen[-1])
    colorbar(figure, [on.ax for on in maps], marked, "energy E(s, s'), nats")
    finish(figure, maps[0].ax, title)
    lengths = np.linalg.norm(np.diff(states, axis=0), axis=1)
    travelled = np.concatenate([[0.0], lengths.cumsum()])
    below.plot(travelled[known], energies[known], ".-", color=PATH, linewidth=2)
    below.set_xlabel("distance along the sequence", color=INK)
    below.set_ylabel("energy, nats", color=INK)
    plain_axes(below)
    return figure
