"""Planning by the energy of whole sequences of states (Du, Lin & Mordatch 2019, arXiv 1909.06878).

A plan is a sequence s_0 ... s_T with both ends given and p(sequence) proportional to
exp(-sum_t E(s_t, s_t+1)), E learned from pairs of states at most k environment steps apart: the
model of the paper, which fixes the start and draws the end to the goal. The most likely sequence
is looked for coarse to fine, with many chains in one batch (:meth:`SequenceOptimizer.plan`):

1. initial chains, along the way that experience knows or the cheapest ways over *replayed* states
   and the straight line, along the previous plan, and with noise around these;
2. annealed Langevin dynamics on the whole sequence, preconditioned by the sequence's own stiffness;
3. states inserted between the states, Langevin again; of the chains of least cost, the one that is
   shortest over visited ground is the plan.

The paper optimises with MPPI or Langevin dynamics. In the log of its code, the agent needed 1514
steps to the goal with plans of 15 states, 110 with plans of 5; steps 1 and 3, which are ours, are
there to make long plans work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierebm.planning.sequence.chains import (
    SequencePlan,
    along,
    resample,
    valid_transitions,
)
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.planning.sequence.ground import Ground
from hierebm.planning.sequence.lattice import Lattice
from hierebm.planning.sequence.relaxation import chain_costs, relax
from hierebm.planning.sequence.transition_model import TransitionModel
from hierebm.types import LARGEST

# "Unit" is the rms length of a transition along each axis. The figures are from docs/experiments,
# "What is each part of the sequence optimiser worth?". Where a constant gives none, its value was
# chosen by hand, on other queries than those of the benchmark, and no other has been measured.

# Updates between two draws of the lattice: as many as the averaged weights remember.
REFRESH = 100
# Ways over the lattice that chains begin along, besides the straight line.
WAYS = 3
# Chains that are left at each finer level: one in so many.
KEPT = 4
# Units; standard deviation of the noise around the ways that chains begin along, at most.
NOISE = 0.5
# Units between the states of the coarsest chains along a way.
UNITS_ALONG = 2.4


Watch = Callable[[Tensor, Tensor, Tensor], None]
"""Told of chains (N, S, D), their transitions (N,) and their costs (N,), nats."""


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
        # Some replayed states (M, D) and the model's costs (M, M) of the transitions among them.
        self._replayed: tuple[Tensor, Tensor] | None = None
        # Over these, with what ground costs besides; None until it is asked for.
        self._lattice: Lattice | None = None
        # Where replayed states are, as of the same update.
        self.ground: Ground | None = None
        """None before the first update."""

    # ------------------------------------------------------------------- learning

    def update(self, pairs: Tensor) -> dict[str, float]:
        """One gradient step on transitions ``pairs`` (B, 2, D); returns ``energy/*`` metrics.

        Raises:
            TrainingDiverged: if the loss is not finite.
        """
        metrics = self.model.update(pairs)
        # Here and not in plan(): planning must not change what is learned or planned later.
        if self.model.n_updates % REFRESH == 1:
            self._refresh()
        return metrics

    @torch.no_grad()
    def _refresh(self) -> None:
        replayed = self.model.states.contents
        if self.config.lattice_states > 0:
            chosen = torch.randperm(len(replayed), generator=self.generator)
            states = replayed[chosen[: self.config.lattice_states]]
            self._replayed = states, self.model.pair_costs(states, states)
        self.ground, self._lattice = Ground(replayed.numpy(), self.model.unit.numpy()), None

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
        ways: Sequence[Sequence[Tensor]] | None = None,
        n_plans: int = 1,
        refine: bool = False,
        watch: Watch | None = None,
        snap: bool = True,
    ) -> SequencePlan:
        """Plan from ``start`` (B, D) to ``goal`` (B, D), world units.

        Args:
            n_states: length of the plan with both ends; by default the length that
                ``state_cost`` asks for.
            generator: source of random numbers; the optimiser's own by default.
            warm_start: (B, T', D) a previous plan (what is left of it) to start one chain from.
            ways: for each query, ways (m, D) from start to goal that all other chains start
                along, in turn; by default over replayed states.
            n_plans: plans for each query, the cheapest over visited ground first.
            refine: relax one chain alone, along the first way, at the finest level: where that way
                is known to lead there, others need not be looked for.
            watch: told of all chains before every Langevin step, and of the plans.
            snap: False leaves plans where they are, whatever the setting says.

        Returns:
            B * n_plans plans, query by query.

        Raises:
            ValueError: if the shapes do not fit, ``n_states`` is less than 2, or there are fewer
                chains than plans.
        """
        if start.shape != goal.shape or start.dim() != 2 or start.shape[1] != self.state_dim:
            raise ValueError(
                f"start and goal must both be (B, {self.state_dim}), "
                f"got {tuple(start.shape)} and {tuple(goal.shape)}"
            )
        if n_states is not None and n_states < 2:
            raise ValueError(f"n_states counts both ends and must be >= 2, got {n_states}")
        c, g, batch = self.config, generator or self.generator, len(start)
        chains, levels = (1, [c.levels - 1]) if refine else (c.chains, list(range(c.levels)))
        if not 1 <= n_plans <= chains:
            raise ValueError(
                f"n_plans must be from 1 to {chains}, the number of chains, got {n_plans}"
            )
        if ways is None:
            ways = self._ways(start, goal, g)
        if warm_start is not None:
            # As in the paper's code, which begins with its last plan.
            again = torch.cat([start.unsqueeze(1), warm_start[:, 1:-1], goal.unsqueeze(1)], 1)
            ways = [[*some, last] for some, last in zip(ways, again, strict=True)]
        x, length = self._chains_along(ways, n_states, chains, levels[0], g)
        # Coarse to fine is ours.
        for level in levels:
            if level > levels[0]:
                kept = max(n_plans, chains // KEPT**level)
                x, length = self._cheapest(x, length, level - 1, batch, kept)
                finer = 2 * length
                if n_states is not None and level == levels[-1]:
                    finer = torch.full_like(length, n_states - 1)
                x, length = resample(x, length, finer), finer
            x = self._relaxed(x, length, level, g, watch)
        # Chains are taken: MPPI's average of candidates would mix both sides of a wall.
        if snap and c.snap and self.ground is not None:
            x, length = self._on_ground(x, length, batch, n_plans, insert=n_states is None)
        else:
            x, length = self._cheapest(x, length, levels[-1], batch, n_plans)
        if watch is not None:
            watch(x, length, self._chain_costs(x, length, levels[-1]))
        longest = int(length.max())
        row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
        energies = torch.zeros(len(x), longest)
        energies[row, t] = self.model.energies(x[row, t], x[row, t + 1])
        states = x[:, : longest + 1]
        return SequencePlan(states, energies, energies.sum(1), length + 1)

    def energies(self, states: Tensor) -> Tensor:
        """(T, D) -> (T - 1,) energy of each transition."""
        return self.model.energies(states[:-1], states[1:])

    def costs(self, s: Tensor, s_next: Tensor) -> Tensor:
        """(N, D), (N, D) -> (N,) what transitions cost in a plan, nats."""
        return self.model.costs(s, s_next)

    def _ways(self, start: Tensor, goal: Tensor, g: torch.Generator) -> Sequence[list[Tensor]]:
        """Ways (m, D) from each start to its goal: over the lattice, where there is one, and the
        straight line."""
        c = self.config
        straight = torch.stack([start, goal], 1)
        if self._replayed is None:
            return [[line] for line in straight]
        states, costs = self._replayed
        if self._lattice is None:
            self._lattice = Lattice(states, self._over_ground(costs, states, states))
        first = self._over_ground(self.model.pair_costs(start, states), start, states)
        last = self.model.pair_costs(goal, states, backward=True)
        last = self._over_ground(last, goal, states)
        direct = (self.model.costs(start, goal) + self._extra_costs(start, goal)).tolist()
        ways = []
        for i, line in enumerate(straight):
            drawn = self._lattice.ways(first[i], last[i], direct[i], c.state_cost, WAYS, g)
            ways.append([torch.cat([line[:1], inner, line[1:]]) for inner in drawn] + [line])
        return ways

    def _over_ground(self, costs: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Costs (A, B) of transitions between a (A, D) and b (B, D), with those of the ground."""
        i, j = torch.isfinite(costs).nonzero(as_tuple=True)
        priced = costs.clone()
        priced[i, j] += self._extra_costs(a[i], b[j])
        return priced

    def _extra_costs(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, D), (N, D) -> (N,) a nat for each unit that ground which was not visited counts as
        more than its length."""
        if self.ground is None or not len(a):
            return torch.zeros(len(a))
        return torch.from_numpy(self.ground.extra_costs(a.numpy(), b.numpy())).float()

    def _chains_along(
        self,
        ways: Sequence[Sequence[Tensor]],
        n_states: int | None,
        n: int,
        level: int,
        g: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Chains (B * n, S, D) as fine as a level has them, query by query, and their transitions
        (B * n,).

        They begin along the ways, in turn; the later ones with more noise.
        """
        c, unit = self.config, self.model.unit
        turns = [some[i % len(some)] for some in ways for i in range(n)]
        longest = max(len(turn) for turn in turns)
        # Padding repeats the last point.
        padded = torch.stack([torch.cat([w, w[-1:].expand(longest - len(w), -1)]) for w in turns])
        if n_states is None:
            lengths = (padded.diff(dim=1) / unit).norm(dim=-1).sum(1)
            length = (lengths / UNITS_ALONG).round().clamp(1, c.max_transitions).long() * 2**level
        else:
            wanted = max(1, math.ceil((n_states - 1) / 2 ** (c.levels - 1 - level)))
            length = torch.full((len(turns),), wanted)
        size = int(length.max()) + 1
        x, at = along(padded, length, size), torch.arange(size)
        amount = torch.cat([torch.arange(n) // len(some) for some in ways]) * NOISE / n
        noise = torch.randn(x.shape, generator=g) * unit * amount.view(-1, 1, 1)
        inner = (at > 0) & (at < length.unsqueeze(1))
        return x + noise * inner.unsqueeze(-1), length

    def _cheapest(
        self, x: Tensor, length: Tensor, level: int, batch: int, n: int
    ) -> tuple[Tensor, Tensor]:
        """The n cheapest chains of each of the queries, and their transitions."""
        if len(x) == batch:
            return x, length
        cost = self._chain_costs(x, length, level).view(batch, -1)
        best = cost.topk(max(n, 1), largest=False).indices
        rows = (best + torch.arange(batch).unsqueeze(1) * cost.shape[1]).flatten()
        return x[rows], length[rows]

    def _relaxed(
        self, x: Tensor, length: Tensor, level: int, g: torch.Generator, watch: Watch | None
    ) -> Tensor:
        """Chains (N, S, D) after the Langevin steps of one level."""
        unit = self.model.unit

        def told(now: Tensor) -> None:
            if watch is not None:
                watch(now * unit, length, self._chain_costs(now * unit, length, level))

        steps, seen = self.config.langevin_steps, None if watch is None else told
        relaxed = relax(self.model, x / unit, length, level, steps, g, seen) * unit
        # Bit for bit.
        relaxed[:, 0] = x[:, 0]
        beyond = torch.arange(x.shape[1]) >= length.unsqueeze(1)
        return torch.where(beyond.unsqueeze(-1), x, relaxed)

    def _chain_costs(self, x: Tensor, length: Tensor, level: int) -> Tensor:
        """What chains (N, S, D) of ``length`` (N,) transitions are compared by, nats (N,)."""
        return chain_costs(self.model, x / self.model.unit, length, level, self.config.state_cost)

    def _on_ground(
        self, x: Tensor, length: Tensor, batch: int, n: int, insert: bool
    ) -> tuple[Tensor, Tensor]:
        """Of chains (B * m, S, D), the n of each query that cost least once they are laid out over
        visited ground; round corners, with more states, if asked for."""
        ground = self.ground
        assert ground is not None
        rows = zip(x.numpy(), length.tolist(), strict=True)
        laid = [ground.led_over(s[: steps + 1], insert) for s, steps in rows]
        costs = np.array([ground.costs(s[:-1], s[1:]).sum() for s in laid]).reshape(batch, -1)
        best = costs.argsort(1, kind="stable")[:, :n] + np.arange(batch)[:, None] * costs.shape[1]
        plans = [torch.from_numpy(laid[k]) for k in best.flatten().tolist()]
        longest = max(len(plan) for plan in plans)
        padded = [torch.cat([p, p[-1:].expand(longest - len(p), -1)]) for p in plans]
        return torch.stack(padded), torch.tensor([len(plan) - 1 for plan in plans])

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; learning and planning go on exactly where they were."""
        return {
            "model": self.model.state_dict(),
            "lattice": self._replayed,
            "ground": None if self.ground is None else torch.from_numpy(self.ground.states),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place; ValueError for other shapes."""
        # Older files have no ground: it is looked at again after the next updates.
        replayed, ground = state["lattice"], state.get("ground")
        if replayed is not None:
            states, costs = replayed
            n = len(states)
            fits = states.shape == (n, self.state_dim) and costs.shape == (n, n) and n > 0
            if not fits or not bool((states.abs() <= LARGEST).all() and (costs >= 0.0).all()):
                raise ValueError("the lattice is none of states and the costs between them")
            replayed = states.float(), costs.float()
        if ground is not None:
            fits = ground.shape == (len(ground), self.state_dim) and len(ground) > 0
            if not fits or not bool((ground.abs() <= LARGEST).all()):
                raise ValueError("the ground is none of replayed states")
        self.model.load_state_dict(state["model"])
        self._replayed, self._lattice = replayed, None
        if ground is not None:
            self.ground = Ground(ground.float().numpy(), self.model.unit.numpy())
