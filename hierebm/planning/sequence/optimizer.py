"""Planning by the energy of whole sequences of states (Du, Lin & Mordatch 2019, arXiv 1909.06878).

A plan is a sequence s_0 ... s_T with both ends given and p(sequence) proportional to
exp(-sum_t E(s_t, s_t+1)), E learned from pairs of states at most k environment steps apart: the
model of the paper, which fixes the start and draws the end to the goal. The most likely sequence
is looked for coarse to fine, with many chains in one batch (:meth:`SequenceOptimizer.plan`):

1. initial chains, from the exact posterior over sequences of *replayed* states, from straight
   lines, from noise around them and from the previous plan;
2. annealed Langevin dynamics on the whole sequence, preconditioned by the sequence's own stiffness;
3. states inserted between the states, Langevin again; the chain of least cost is the plan.

The paper optimises with MPPI or Langevin dynamics. In the log of its code, the agent needed 1514
steps to the goal with plans of 15 states, 110 with plans of 5; steps 1 and 3, which are ours, are
there to make long plans work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hierebm.planning.sequence.chains import (
    along,
    bending,
    least_costs,
    resample,
    sample_sequences,
    stiffness_inverses,
    valid_transitions,
)
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.planning.sequence.transition_model import TransitionModel
from hierebm.types import LARGEST

# "Unit" is the rms length of a transition along each axis. The figures are from docs/experiments,
# "What is each part of the sequence optimiser worth?". Where a constant gives none, its value was
# chosen by hand, on other queries than those of the benchmark, and no other has been measured.

# Nats; sequences of lattice states are drawn with p proportional to exp(-cost / this): close to the
# least cost, but not all the same.
LATTICE_TEMPERATURE = 0.3
# Updates between two draws of the lattice: as many as the averaged weights remember.
LATTICE_REFRESH = 100
# Units; lattice states farther apart are not joined. A random walk's energy of that is 12.5 nats.
LATTICE_RADIUS = 5.0
# Units; smallest standard deviation of the noise around straight initial chains.
NOISE = 0.5
# Units between the states of the coarsest chains along a way.
UNITS_ALONG = 1.5
# Step of the Langevin dynamics, relative to a Newton step of a random walk's energy.
STEP_SIZE = 0.3
# Nats; temperature at the start of a level. It falls linearly to 0 over ANNEALED_SHARE of the
# steps; the rest only descends.
TEMPERATURE, ANNEALED_SHARE = 0.3, 0.75
# Units; the farthest that the gradient moves a state in one step: a wall's gradient is steep.
MAX_MOVE = 0.5
# Weight of |s_t+1 - 2 s_t + s_t-1|^2 / 2 in units, the paper's penalty. Without it plans on
# four_rooms are 6% longer than the shortest path instead of 1.5%.
ACCELERATION_WEIGHT = 1.0
# Units from the planned path that ask for a new plan.
REPLAN_DEVIATION = 1.5


@dataclass
class SequencePlan:
    """Planned sequences for B queries; plans shorter than the longest are padded with the goal.

    Attributes:
        states: (B, T, D), first the start, last the goal; world units.
        energies: (B, T - 1) energy of each transition, 0 in the padding.
        total_energy: (B,) their sum.
        n_states: (B,) number of states of each plan without padding.
    """

    states: Tensor
    energies: Tensor
    total_energy: Tensor
    n_states: Tensor


class SequenceOptimizer:
    """Learns E(s, s') online and finds the most likely sequences of states with it.

    Args:
        state_dim: D, length of a state (of an achieved goal, in the agents).
        config: settings; None takes the defaults.
        generator: source of all random numbers, unless ``plan`` is given its own.
    """

    def __init__(
        self, state_dim: int, config: SequenceConfig | None, generator: torch.Generator
    ) -> None:
        self.config = config or SequenceConfig()
        self.state_dim, self.generator = state_dim, generator
        self.model = TransitionModel(state_dim, self.config, generator)
        # Some replayed states (M, D) and the costs (M, M) of the transitions among them.
        self._lattice: tuple[Tensor, Tensor] | None = None

    # ------------------------------------------------------------------- learning

    def update(self, pairs: Tensor) -> dict[str, float]:
        """One gradient step on transitions ``pairs`` (B, 2, D); returns ``energy/*`` metrics.

        Raises:
            TrainingDiverged: if the loss is not finite.
        """
        metrics = self.model.update(pairs)
        # Here and not in plan(): planning must not change what is learned or planned later.
        if self.config.lattice_states > 0 and self.model.n_updates % LATTICE_REFRESH == 1:
            self._refresh_lattice()
        return metrics

    @torch.no_grad()
    def _refresh_lattice(self) -> None:
        replayed = self.model.states.contents
        chosen = torch.randperm(len(replayed), generator=self.generator)
        states = replayed[chosen[: self.config.lattice_states]]
        self._lattice = states, self._pair_costs(states, states)

    def add_negatives(self, pairs: Tensor) -> None:
        """Remember executed transitions (N, 2, D) that missed: from where, to where planned."""
        self.model.missed.add(pairs)

    # ------------------------------------------------------------------- planning

    @torch.no_grad()
    def plan(
        self,
        start: Tensor,
        goal: Tensor,
        n_states: int | None = None,
        generator: torch.Generator | None = None,
        warm_start: Tensor | None = None,
        way: Tensor | None = None,
    ) -> SequencePlan:
        """Plan from ``start`` (B, D) to ``goal`` (B, D), world units.

        Args:
            n_states: length of the plan with both ends; by default the length that
                ``state_cost`` asks for.
            generator: source of random numbers; the optimiser's own by default.
            warm_start: (B, T', D) a previous plan (what is left of it) to start one chain from.
            way: (B, T', D) a way that experience leads along, to start all other chains from.

        Raises:
            ValueError: if the shapes do not fit, or ``n_states`` is less than 2.
        """
        if start.shape != goal.shape or start.dim() != 2 or start.shape[1] != self.state_dim:
            raise ValueError(
                f"start and goal must both be (B, {self.state_dim}), "
                f"got {tuple(start.shape)} and {tuple(goal.shape)}"
            )
        if n_states is not None and n_states < 2:
            raise ValueError(f"n_states counts both ends and must be >= 2, got {n_states}")
        c, g, batch = self.config, generator or self.generator, len(start)
        wanted = None
        if n_states is not None:
            wanted = max(1, math.ceil((n_states - 1) / 2 ** (c.levels - 1)))
        if way is None:
            x, length = self._initial_chains(start, goal, wanted, warm_start, g)
        else:
            x, length = self._chains_along(way, wanted, warm_start, g)
        # Coarse to fine is ours. On four_rooms one level leaves 89% of the straight segments free
        # of walls, two 94%, three 96% at 1.6 times the time.
        for level in range(c.levels):
            if level > 0:
                finer = 2 * length
                if n_states is not None and level == c.levels - 1:
                    finer = torch.full_like(length, n_states - 1)
                x, length = resample(x, length, finer), finer
            x = self._langevin(x, length, level, g)
        # One chain is taken: MPPI's average of candidates would mix both sides of a wall.
        cost = self._chain_costs(x, length).view(batch, -1)
        best = cost.argmin(1) + torch.arange(batch) * c.chains
        x, length = x[best], length[best]
        if c.snap and self.model.states.size:
            x = self._snapped(x, length)
        longest = int(length.max())
        row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
        energies = torch.zeros(batch, longest)
        energies[row, t] = self.model.energy(x[row, t], x[row, t + 1])
        states = x[:, : longest + 1]
        return SequencePlan(states, energies, energies.sum(1), length + 1)

    def _initial_chains(
        self,
        start: Tensor,
        goal: Tensor,
        wanted: int | None,
        warm_start: Tensor | None,
        g: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Chains (B * chains, S, D), query by query, and their transitions (B * chains,).

        A quarter are lines and noise, the others sequences of replayed states.
        """
        c, unit, batch, n = self.config, self.model.unit, len(start), self.config.chains
        through = None
        if self._lattice is not None and c.lattice_states > 0:
            path_length, through = self._lattice_chains(start, goal, wanted, n - n // 4, g)
            length = path_length.unsqueeze(1).expand(-1, n)
        else:
            # A random walk's energy d^2 / (2 T) + state_cost * T is least at T = d / sqrt(2 cost);
            # without knowledge of the shortest path, detours are tried as well.
            distance = ((goal - start) / unit).norm(dim=-1, keepdim=True)
            length = distance / math.sqrt(2.0 * max(c.state_cost, 1e-3)) * (1 + torch.arange(n) % 3)
            length = length.round().clamp(1, c.max_transitions).long()
            length = length if wanted is None else torch.full_like(length, wanted)
        size = int(length.max()) + 1
        when = (torch.arange(size) / length.unsqueeze(-1)).clamp(max=1.0).unsqueeze(-1)
        x = torch.lerp(start.view(batch, 1, 1, -1), goal.view(batch, 1, 1, -1), when)
        # The first three chains are straight lines; noise grows over the rest.
        amount = NOISE * ((torch.arange(n) // 3) % 8).view(1, n, 1, 1)
        noise = torch.randn(x.shape, generator=g) * unit * amount
        x = x + noise * ((when > 0) & (when < 1))
        if through is not None:
            x[:, n // 4 :] = torch.where(through.isnan(), x[:, n // 4 :], through)
        if warm_start is not None:
            # As in the paper's code, which begins with its last plan.
            old = torch.full((batch,), warm_start.shape[1] - 1)
            again = torch.cat([start.unsqueeze(1), warm_start[:, 1:-1], goal.unsqueeze(1)], 1)
            x[:, -1] = resample(again, old, length[:, -1], size)
        return x.flatten(0, 1), length.flatten()

    def _chains_along(
        self, way: Tensor, wanted: int | None, warm_start: Tensor | None, g: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`_initial_chains`, all along a way (B, T', D), with noise that grows."""
        c, unit, batch, n = self.config, self.model.unit, len(way), self.config.chains
        if wanted is None:
            lengths = (way.diff(dim=1) / unit).norm(dim=-1).sum(1)
            length = (lengths / UNITS_ALONG).round().clamp(1, c.max_transitions).long()
        else:
            length = torch.full((batch,), wanted)
        size = int(length.max()) + 1
        x = along(way, length, size).unsqueeze(1).repeat(1, n, 1, 1)
        amount = NOISE * (torch.arange(n) / n).view(1, n, 1, 1)
        inner = (torch.arange(size) < length.unsqueeze(-1)) & (torch.arange(size) > 0)
        noise = torch.randn(x.shape, generator=g) * unit * amount
        x = x + noise * inner.view(batch, 1, size, 1)
        if warm_start is not None:
            x[:, -1] = along(warm_start, length, size)
            x[:, -1, 0] = way[:, 0]
        return x.flatten(0, 1), length.repeat_interleave(n)

    def energies(self, states: Tensor) -> Tensor:
        """(T, D) -> (T - 1,) energy of each transition."""
        with torch.no_grad():
            energies: Tensor = self.model.energy(states[:-1], states[1:])
        return energies

    def _lattice_chains(
        self, start: Tensor, goal: Tensor, wanted: int | None, n: int, g: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Lengths (B,), and n draws per query from p(sequence) restricted to replayed states.

        The length is that of the least cost (min-plus products, Bellman's recursion), the draws are
        exact (forward filtering, backward sampling; Scott 2002). Draws (B, n, S, D) have NaN where
        they say nothing: at both ends and where no sequence exists.
        """
        c = self.config
        assert self._lattice is not None
        states, table = self._lattice
        table, first, last = (
            costs + c.state_cost
            for costs in (
                table,
                self._pair_costs(start, states),
                self._pair_costs(goal, states, backward=True),
            )
        )
        if wanted is None:
            direct = self.model.cost_and_grad(start, goal)[0] + c.state_cost
            length = least_costs(direct, first, table, last, c.max_transitions).argmin(1) + 1
        else:
            length = torch.full((len(start),), wanted)
        picked = sample_sequences(first, table, last, length, n, LATTICE_TEMPERATURE, g)
        inner = torch.where((picked < 0).unsqueeze(-1), math.nan, states[picked.clamp(min=0)])
        ends = inner.new_full((len(start), n, 1, self.state_dim), math.nan)
        return length, torch.cat([ends, inner, ends], 2)

    def _langevin(self, x: Tensor, length: Tensor, level: int, g: torch.Generator) -> Tensor:
        """Annealed Langevin dynamics of the inner states of all chains (N, S, D).

        ds = -h P grad + sqrt(2 h temperature P) noise, in units of transitions: the paper's
        Langevin dynamics, preconditioned by a constant matrix (Roberts & Stramer 2002). P is the
        covariance of a random walk with both ends held (:func:`stiffness_inverses`).
        """
        c, unit, size = self.config, self.model.unit, x.shape[1]
        # Twice as many states are half as far apart: a quarter of the energy, and of its noise.
        bend = ACCELERATION_WEIGHT * 4.0**level
        if size < 3:
            return x
        used = valid_transitions(length, size)
        row, t = used.nonzero(as_tuple=True)
        covariance, root = (table[length - 1] for table in stiffness_inverses(size, bend))
        x = x.clone()
        for step in range(c.langevin_steps):
            _, to_first, to_second = self.model.cost_and_grad(x[row, t], x[row, t + 1])
            gradient = bend * bending(x / unit, length)[1]
            gradient[row, t] += to_first * unit
            gradient[row, t + 1] += to_second * unit
            temperature = TEMPERATURE / 4.0**level
            temperature *= max(0.0, 1.0 - (step + 1) / (ANNEALED_SHARE * c.langevin_steps))
            move = -STEP_SIZE * covariance @ gradient[:, 1:-1]
            longest = move.norm(dim=-1).amax(1).clamp(min=MAX_MOVE).view(-1, 1, 1)
            move = move * (MAX_MOVE / longest)
            if temperature > 0:
                noise = torch.randn(move.shape, generator=g)
                move = move + math.sqrt(2.0 * STEP_SIZE * temperature) * (root @ noise)
            x[:, 1:-1] += move * unit
        return x

    def _chain_costs(self, x: Tensor, length: Tensor) -> Tensor:
        """What chains (N, S, D) of ``length`` (N,) transitions are compared by, nats (N,)."""
        c = self.config
        row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
        costs = torch.zeros(len(x), x.shape[1] - 1)
        costs[row, t] = self.model.cost_and_grad(x[row, t], x[row, t + 1])[0]
        bend = ACCELERATION_WEIGHT * 4.0 ** (c.levels - 1)
        return costs.sum(1) + c.state_cost * length + bend * bending(x / self.model.unit, length)[0]

    def _pair_costs(self, a: Tensor, b: Tensor, backward: bool = False) -> Tensor:
        """Costs (A, B) of transitions from a (A, D) to b (B, D), or from b to a, in nats.

        Pairs farther apart than LATTICE_RADIUS cost inf.
        """
        unit = self.model.unit
        i, j = (torch.cdist(a / unit, b / unit) < LATTICE_RADIUS).nonzero(as_tuple=True)
        table = torch.full((len(a), len(b)), math.inf)
        for rows, columns in zip(i.split(2048), j.split(2048), strict=True):
            pair = (b[columns], a[rows]) if backward else (a[rows], b[columns])
            table[rows, columns] = self.model.cost_and_grad(*pair)[0]
        return table

    def _snapped(self, x: Tensor, length: Tensor) -> Tensor:
        """Chains (N, S, D) with inner states replaced by the nearest replayed ones.

        Replayed states are never in walls, those that Langevin dynamics leaves are: without this
        step, which is ours, 42% of the plans on four_rooms are blocked, with it none.
        """
        unit, states = self.model.unit, self.model.states.contents
        at = torch.arange(x.shape[1])
        inner = (at > 0) & (at < length.unsqueeze(1))
        ours = x[inner] / unit
        nearest = [torch.cdist(part, states / unit).argmin(1) for part in ours.split(512)]
        x = x.clone()
        if len(ours):
            x[inner] = states[torch.cat(nearest)]
        return x

    # -------------------------------------------------------------- following plans

    def has_deviated(self, position: Tensor, before: Tensor, subgoal: Tensor) -> Tensor:
        """Whether positions (B, D) are too far off the path from one planned state to the next.

        The paper's code plans again on such a deviation.

        Args:
            before, subgoal: (B, D) planned states, the one left behind and the one ahead.

        Returns:
            (B,) bool: farther from the straight line than REPLAN_DEVIATION units.
        """
        unit = self.model.unit
        segment, travelled = (subgoal - before) / unit, (position - before) / unit
        share = (travelled * segment).sum(-1) / segment.square().sum(-1).clamp(min=1e-9)
        off = travelled - share.clamp(0.0, 1.0).unsqueeze(-1) * segment
        return off.norm(dim=-1) > REPLAN_DEVIATION

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; learning and planning go on exactly where they were."""
        return {"model": self.model.state_dict(), "lattice": self._lattice}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place; ValueError for other shapes."""
        lattice = state["lattice"]
        if lattice is not None:
            states, costs = lattice
            n = len(states)
            fits = states.shape == (n, self.state_dim) and costs.shape == (n, n) and n > 0
            if not fits or not bool((states.abs() <= LARGEST).all() and (costs >= 0.0).all()):
                raise ValueError("the lattice is none of states and the costs between them")
            lattice = states.float(), costs.float()
        self.model.load_state_dict(state["model"])
        self._lattice = lattice
