"""Planning by the energy of whole sequences of states (Du, Lin & Mordatch 2019, arXiv 1909.06878).

A plan is a sequence s_0 ... s_T with both ends given and p(sequence) proportional to
exp(-sum_t E(s_t, s_t+1)), E learned from pairs of states at most k environment steps apart. The
most likely sequence is looked for coarse to fine, with many chains in one batch:

1. initial chains, from the exact posterior over sequences of *replayed* states (forward messages,
   backward samples), from straight lines, from noise around them and from the previous plan;
2. annealed Langevin dynamics on the whole sequence, preconditioned by the sequence's own stiffness;
3. states inserted between the states, Langevin again; the chain of lowest energy is the plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hierebm.planning.sequence.chains import (
    bending,
    least_costs,
    resample,
    sample_sequences,
    stiffness_inverses,
    valid_transitions,
)
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.planning.sequence.transition_model import TransitionModel

__all__ = ["SequenceConfig", "SequenceOptimizer", "SequencePlan"]


@dataclass
class SequencePlan:
    """Planned sequences for B queries; plans shorter than the longest are padded with the goal.

    Attributes:
        states: (B, T, D), first the start, last the goal.
        energies: (B, T - 1) energy of each transition, 0 in the padding.
        total_energy: (B,) their sum.
        n_states: (B,) number of states of each plan without padding.
    """

    states: Tensor
    energies: Tensor
    total_energy: Tensor
    n_states: Tensor


class SequenceOptimizer:
    """Learns E(s, s') online and plans sequences of states with it.

    Args:
        state_dim: D, length of a state (of an achieved goal, in the agents).
        config: see :class:`SequenceConfig`.
        generator: source of all random numbers, unless ``plan`` is given its own.
    """

    def __init__(
        self, state_dim: int, config: SequenceConfig | None, generator: torch.Generator
    ) -> None:
        self.config = config or SequenceConfig()
        self.state_dim, self.generator = state_dim, generator
        self.model = TransitionModel(state_dim, self.config, generator)
        # Some replayed states (M, D) and the prices (M, M) of the transitions among them.
        self._lattice: tuple[Tensor, Tensor] | None = None

    def update(self, pairs: Tensor) -> dict[str, float]:
        """One gradient step on transitions ``pairs`` (B, 2, D); returns ``energy/*`` metrics.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        metrics = self.model.update(pairs)
        # Here and not in plan(): planning must not change what is learnt or planned later.
        if (
            self.config.lattice_states > 0
            and self.model.n_updates % self.config.lattice_refresh == 1
        ):
            self._refresh_lattice()
        return metrics

    @torch.no_grad()
    def _refresh_lattice(self) -> None:
        replayed = self.model.states.contents
        chosen = torch.randperm(len(replayed), generator=self.generator)
        states = replayed[chosen[: self.config.lattice_states]]
        self._lattice = states, self._pair_prices(states, states)

    def add_negatives(self, pairs: Tensor) -> None:
        """Remember executed transitions (N, 2, D) that missed: from where, to where planned."""
        self.model.missed.add(pairs)

    def has_deviated(self, position: Tensor, before: Tensor, subgoal: Tensor) -> Tensor:
        """Whether positions (B, D) are too far off the way from one planned state to the next.

        Args:
            before, subgoal: (B, D) planned states, the one left behind and the one ahead.

        Returns:
            (B,) bool: further from the straight line than ``replan_deviation`` units.
        """
        unit = self.model.unit
        way, walked = (subgoal - before) / unit, (position - before) / unit
        share = (walked * way).sum(-1) / way.square().sum(-1).clamp(min=1e-9)
        off = walked - share.clamp(0.0, 1.0).unsqueeze(-1) * way
        return off.norm(dim=-1) > self.config.replan_deviation

    @torch.no_grad()
    def plan(
        self,
        start: Tensor,
        goal: Tensor,
        n_states: int | None = None,
        generator: torch.Generator | None = None,
        warm_start: Tensor | None = None,
        remember: bool = False,
    ) -> SequencePlan:
        """Plan from ``start`` (B, D) to ``goal`` (B, D).

        Args:
            n_states: length of the plan with both ends; by default the length that
                ``state_cost`` asks for.
            generator: source of random numbers; the planner's own by default.
            warm_start: (B, T', D) a previous plan (what is left of it) to start one chain from.
            remember: whether the planned transitions may become negatives (``imagined_weight``).

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
        x, length = self._initial_chains(start, goal, wanted, warm_start, g)
        for level in range(c.levels):
            if level > 0:
                finer = 2 * length
                if n_states is not None and level == c.levels - 1:
                    finer = torch.full_like(length, n_states - 1)
                x, length = resample(x, length, finer), finer
            x = self._langevin(x, length, level, g)
        cost = self._costs(x, length).view(batch, -1)
        best = cost.argmin(1) + torch.arange(batch) * c.chains
        x, length = x[best], length[best]
        if c.snap and self.model.states.size:
            x = self._snapped(x, length)
        longest = int(length.max())
        row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
        energies = torch.zeros(batch, longest)
        energies[row, t] = self.model.energy(x[row, t], x[row, t + 1])
        if remember:
            self.model.imagined.add(torch.stack([x[row, t], x[row, t + 1]], 1))
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
        """Chains (B * chains, S, D), query by query, and their transitions (B * chains,)."""
        c, unit, batch, n = self.config, self.model.unit, len(start), self.config.chains
        through = None
        if self._lattice is not None and c.lattice_states > 0:
            path_length, through = self._lattice_chains(start, goal, wanted, n - n // 4, g)
            length = path_length.unsqueeze(1).expand(-1, n)
        else:
            # A random walk's energy d^2 / (2 T) + state_cost * T is least at T = d / sqrt(2 cost);
            # without knowledge of the way round, detours are tried as well.
            distance = ((goal - start) / unit).norm(dim=-1, keepdim=True)
            length = distance / math.sqrt(2.0 * max(c.state_cost, 1e-3)) * (1 + torch.arange(n) % 3)
            length = length.round().clamp(1, c.max_transitions).long()
            length = length if wanted is None else torch.full_like(length, wanted)
        size = int(length.max()) + 1
        when = (torch.arange(size) / length.unsqueeze(-1)).clamp(max=1.0).unsqueeze(-1)
        x = torch.lerp(start.view(batch, 1, 1, -1), goal.view(batch, 1, 1, -1), when)
        # The first three chains are straight lines; noise grows over the rest.
        amount = c.noise * ((torch.arange(n) // 3) % 8).view(1, n, 1, 1)
        noise = torch.randn(x.shape, generator=g) * unit * amount
        x = x + noise * ((when > 0) & (when < 1))
        if through is not None:
            x[:, n // 4 :] = torch.where(through.isnan(), x[:, n // 4 :], through)
        if warm_start is not None:
            old = torch.full((batch,), warm_start.shape[1] - 1)
            again = torch.cat([start.unsqueeze(1), warm_start[:, 1:-1], goal.unsqueeze(1)], 1)
            x[:, -1] = resample(again, old, length[:, -1], size)
        return x.flatten(0, 1), length.flatten()

    def _lattice_chains(
        self, start: Tensor, goal: Tensor, wanted: int | None, n: int, g: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Lengths (B,), and n draws per query from p(sequence) restricted to replayed states."""
        c = self.config
        assert self._lattice is not None
        states, table = self._lattice
        table, first, last = (
            prices + c.state_cost
            for prices in (
                table,
                self._pair_prices(start, states),
                self._pair_prices(goal, states, backward=True),
            )
        )
        if wanted is None:
            direct = self.model.priced(start, goal)[0] + c.state_cost
            length = least_costs(direct, first, table, last, c.max_transitions).argmin(1) + 1
        else:
            length = torch.full((len(start),), wanted)
        picked = sample_sequences(first, table, last, length, n, c.lattice_temperature, g)
        inner = torch.where((picked < 0).unsqueeze(-1), math.nan, states[picked.clamp(min=0)])
        ends = inner.new_full((len(start), n, 1, self.state_dim), math.nan)
        return length, torch.cat([ends, inner, ends], 2)

    def _snapped(self, x: Tensor, length: Tensor) -> Tensor:
        """Replace inner states by the nearest replayed ones: places that were really visited."""
        unit, states = self.model.unit, self.model.states.contents
        at = torch.arange(x.shape[1])
        inner = (at > 0) & (at < length.unsqueeze(1))
        ours = x[inner] / unit
        nearest = [torch.cdist(part, states / unit).argmin(1) for part in ours.split(512)]
        x = x.clone()
        if len(ours):
            x[inner] = states[torch.cat(nearest)]
        return x

    def _pair_prices(self, a: Tensor, b: Tensor, backward: bool = False) -> Tensor:
        """Prices (A, B) of transitions from a to b, or from b to a; inf beyond 5 units."""
        unit = self.model.unit
        i, j = (torch.cdist(a / unit, b / unit) < 5.0).nonzero(as_tuple=True)
        table = torch.full((len(a), len(b)), math.inf)
        for rows, columns in zip(i.split(2048), j.split(2048), strict=True):
            pair = (b[columns], a[rows]) if backward else (a[rows], b[columns])
            table[rows, columns] = self.model.priced(*pair)[0]
        return table

    def _costs(self, x: Tensor, length: Tensor) -> Tensor:
        """What chains are compared by, (N,)."""
        c = self.config
        row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
        prices = torch.zeros(len(x), x.shape[1] - 1)
        prices[row, t] = self.model.priced(x[row, t], x[row, t + 1])[0]
        bend = c.acceleration_weight * 4.0 ** (c.levels - 1)
        return (
            prices.sum(1) + c.state_cost * length + bend * bending(x / self.model.unit, length)[0]
        )

    def _langevin(self, x: Tensor, length: Tensor, level: int, g: torch.Generator) -> Tensor:
        """Annealed Langevin dynamics of the inner states of all chains, preconditioned.

        ds = -h P grad + sqrt(2 h temperature P) noise, in units of transitions; P is the covariance
        of a random walk with both ends held (:func:`stiffness_inverses`).
        """
        c, unit, size = self.config, self.model.unit, x.shape[1]
        # Twice as many states are half as far apart: a quarter of the energy, and of its noise.
        bend = c.acceleration_weight * 4.0**level
        if size < 3:
            return x
        used = valid_transitions(length, size)
        row, t = used.nonzero(as_tuple=True)
        covariance, root = (table[length - 1] for table in stiffness_inverses(size, bend))
        x = x.clone()
        for step in range(c.langevin_steps):
            _, to_first, to_second = self.model.priced(x[row, t], x[row, t + 1])
            gradient = bend * bending(x / unit, length)[1]
            gradient[row, t] += to_first * unit
            gradient[row, t + 1] += to_second * unit
            h, temperature = c.langevin_step_size, c.temperature / 4.0**level
            temperature *= max(0.0, 1.0 - (step + 1) / (0.75 * c.langevin_steps))
            move = -h * covariance @ gradient[:, 1:-1]
            # A wall's gradient is steep: no state jumps further than half a transition.
            longest = move.norm(dim=-1).amax(1).clamp(min=0.5).view(-1, 1, 1)
            move = move * (0.5 / longest)
            if temperature > 0:
                noise = torch.randn(move.shape, generator=g)
                move = move + math.sqrt(2.0 * h * temperature) * (root @ noise)
            x[:, 1:-1] += move * unit
        return x

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; learning and planning go on exactly where they were."""
        return {"model": self.model.state_dict(), "lattice": self._lattice}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place."""
        self.model.load_state_dict(state["model"])
        self._lattice = state["lattice"]
