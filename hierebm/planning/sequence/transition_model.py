"""The transition energy as it is learned online: network, optimiser, running average, memories."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierebm.at_once import set_at_once
from hierebm.errors import TrainingDiverged
from hierebm.nn.flat import FlatAdam, flat_parameters, polyak_
from hierebm.nn.trusted import check_network
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.planning.sequence.folded import FoldedEnergy, pull, squares, steps_of
from hierebm.planning.sequence.transition_energy import (
    NegativeProposal,
    TransitionEnergy,
    info_nce_transitions,
    margin_penalty,
    squared_energy_loss,
)
from hierebm.types import LARGEST, FloatArray

# The figures are from docs/experiments, "What is each part of the sequence optimiser worth?". Where
# a constant gives none, its value was chosen by hand, on other queries than those of the benchmark,
# and no other has been measured.

# Of Adam.
LEARNING_RATE = 5e-3
# Decay of the running average of the weights that plans are made with: about 100 updates.
AVERAGE = 0.99
# Negative ends, and as many negative starts, for each transition.
N_NEGATIVES = 8
# Weight of the mean squared log normaliser (self-normalised energies, Devlin et al. 2014).
NORMALISER_WEIGHT = 0.1
# Missed transitions remembered; the paper's code keeps as many of its negatives.
MISSED_CAPACITY = 10_000
# Replayed states remembered, for the lattice, the snapping and the box of the negatives.
STATES_CAPACITY = 20_000
# Energies above those of 80% of the transitions seen cost something. With 50%, plans on the open
# plane were 3 to 4% too long: the energy overfits to how often transitions were chosen.
FREE_SHARE = 0.8
# Energies above those of 97% are taken for walls.
FEASIBLE_SHARE = 0.97
# Weight of the squared energy beyond FEASIBLE_SHARE. Plans blocked by a wall: on four_rooms 5%
# without it and none with 2; on serpentine a quarter with 2 and at most 7% with 10 (where plans
# were also allowed to be longer).
BARRIER = 10.0
# Weight of |d|^2 / 2 in units of a transition: straight and even where the energy has no opinion.
# Without it the 90% quantile of plan length over shortest path is 1.08 on four_rooms, not 1.05.
STRETCH_WEIGHT = 0.25
# Units; states of the lattice farther apart are not joined. A random walk's energy of that is 12.5
# nats.
JOINED = 5.0
# What turns energies into nats: the squared loss saturates at +-1/2 whatever the likelihood.
NATS = {"infonce": 1.0, "squared": 10.0}


class Ring:
    """The last ``capacity`` rows of what was added.

    Args:
        capacity: number of rows.
        shape: of a row.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self.rows = torch.zeros(capacity, *shape)
        self.size = self.at = 0

    def add(self, rows: Tensor) -> None:
        """Remember ``rows`` (N, ...) in place of the oldest."""
        rows = rows.detach()[-len(self.rows) :]
        where = (self.at + torch.arange(len(rows))) % len(self.rows)
        self.rows[where] = rows.to(self.rows)
        at = (self.at + len(rows)) % len(self.rows)
        set_at_once(self, at=at, size=min(len(self.rows), self.size + len(rows)))

    @property
    def contents(self) -> Tensor:
        """(size, ...) everything that is remembered, in no particular order."""
        return self.rows[: self.size]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n rows (n, ...) uniformly, with replacement."""
        return self.rows[torch.randint(self.size, (n,), generator=generator)]

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, as tensors and plain values."""
        return {"rows": self.rows[: self.size].clone(), "at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place. Raises ValueError for other rows."""
        rows, at = state["rows"], int(state["at"])
        if rows.shape[1:] != self.rows.shape[1:] or len(rows) > len(self.rows):
            raise ValueError(f"rows {tuple(rows.shape)} are none of {tuple(self.rows.shape)}")
        if not 0 <= at < len(self.rows) or not bool((rows.abs() <= LARGEST).all()):
            raise ValueError("remembered states are in no order, or not finite, or far too large")
        self.size, self.at = len(rows), at
        self.rows[: self.size] = rows


class TransitionModel:
    """E(s, s') with everything that its training needs.

    Args:
        state_dim: D, length of a state.
        config: see :class:`SequenceConfig`.
        generator: source of initial parameters and of negatives.

    Attributes:
        energy: running average of the trained network; plans are made with it.
        states: replayed states (M, D).
        missed: executed transitions (M, 2, D) that missed; they are negatives.
        typical, unlikely: running energies that 80% and 97% of the transitions stay below.
    """

    def __init__(self, state_dim: int, config: SequenceConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        # A parabola has no bounds, but the squared loss wants energies within +-1/2.
        parabola = 1.0 if config.objective == "infonce" else 0.0
        self._trained, self.energy = (
            TransitionEnergy(state_dim, parabola=parabola, generator=generator) for _ in range(2)
        )
        self.energy.load_state_dict(self._trained.state_dict())
        self.energy.requires_grad_(False)
        self._flat = flat_parameters(self._trained)
        self._flat_average = flat_parameters(self.energy)
        self._optimiser = FlatAdam(self._flat, lr=LEARNING_RATE, name="transition energy")
        self._proposal = NegativeProposal()
        self.states = Ring(STATES_CAPACITY, (state_dim,))
        self.missed = Ring(MISSED_CAPACITY, (2, state_dim))
        # Of the current average; None until it is asked for.
        self._folded: FoldedEnergy | None = None
        self.n_updates = 0
        self.typical = self.unlikely = 0.0

    @property
    def unit(self) -> Tensor:
        """(D,) rms length of a transition along each axis."""
        return self.energy.step_scale

    def fit_normalisation(self, pairs: Tensor) -> None:
        """Take units from transitions (B, 2, D). ``update`` calls it on its first batch."""
        self._trained.set_normalisation(pairs)
        self.energy.set_normalisation(pairs)
        self._folded = None

    def update(self, pairs: Tensor) -> dict[str, float]:
        """One gradient step on transitions ``pairs`` (B, 2, D); returns ``energy/*`` metrics.

        Raises:
            TrainingDiverged: if the loss is not finite.
        """
        if self.n_updates == 0:
            self.fit_normalisation(pairs)
        self.states.add(pairs[:, 1])
        loss, positive, metrics = self._loss(pairs)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                "training diverged: the loss of the transition energy "
                f"(objective={self.config.objective!r}) is {float(loss.detach())} at update "
                f"{self.n_updates}; check the states for NaN and for outliers"
            )
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step(loss)
        # Early on the average is over all updates: the initial weights are forgotten at once.
        decay = min(AVERAGE, self.n_updates / (self.n_updates + 10.0))
        polyak_(self._flat_average, self._flat, 1.0 - decay)
        self._folded = None
        shares = torch.tensor([FREE_SHARE, FEASIBLE_SHARE])
        typical, unlikely = positive.quantile(shares).tolist()
        set_at_once(
            self,
            typical=decay * self.typical + (1 - decay) * typical,
            unlikely=decay * self.unlikely + (1 - decay) * unlikely,
            n_updates=self.n_updates + 1,
        )
        return metrics

    def _loss(self, pairs: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Scalar loss of transitions (B, 2, D), their energies (B,) without gradient, metrics."""
        c, g, net = self.config, self.generator, self._trained
        replayed, unit = self.states.contents, net.step_scale
        s, s_next = pairs[:, 0], pairs[:, 1]
        s_negative, s_next_negative = (
            self._proposal.sample(state, N_NEGATIVES, unit, replayed, g) for state in (s_next, s)
        )
        positive = net(s, s_next)
        negative = net(s.unsqueeze(1), s_next_negative)
        negative_start = net(s_negative, s_next.unsqueeze(1))
        metrics = {}
        if c.objective == "infonce":
            log_q = self._proposal.log_prob
            loss, log_z = info_nce_transitions(
                positive,
                negative,
                log_q(s, s_next, unit, replayed),
                log_q(s.unsqueeze(1), s_next_negative, unit, replayed),
                NORMALISER_WEIGHT,
            )
            # Negative starts: without them nothing is said about transitions *from* a region that
            # is never visited, and plans creep through walls in small steps. In a box with one
            # wall 17% of the plans went round it without, all with them; on four_rooms, where the
            # lattice and the snapping help, .97 and 1.0 were not blocked.
            loss_of_starts, _ = info_nce_transitions(
                positive,
                negative_start,
                log_q(s_next, s, unit, replayed),
                log_q(s_next.unsqueeze(1), s_negative, unit, replayed),
                0.0,
            )
            loss = loss + loss_of_starts
            metrics["energy/log_z"] = float(log_z.detach().mean())
        else:
            loss = squared_energy_loss(positive, torch.cat([negative, negative_start], 1))
        # Active learning (Du, Lin & Mordatch 2019): plans that failed correct the energy.
        if self.missed.size and c.missed_weight > 0:
            pair = self.missed.sample(max(1, len(pairs) // 2), g)
            wrong = net(pair[:, 0], pair[:, 1])
            loss = loss + c.missed_weight * margin_penalty(wrong, wrong.new_tensor(self.unlikely))
            metrics["energy/missed"] = float(wrong.detach().mean())
        metrics["energy/loss"] = float(loss.detach())
        metrics["energy/positive"] = float(positive.detach().mean())
        metrics["energy/negative"] = float(negative.detach().mean())
        return loss, positive.detach(), metrics

    @property
    def folded(self) -> FoldedEnergy:
        """The energy that plans are made with, for small batches."""
        if self._folded is None:
            self._folded = FoldedEnergy(self.energy)
        return self._folded

    def energies(self, s: Tensor, s_next: Tensor) -> Tensor:
        """Energies (N,) of transitions (N, D), (N, D), world units."""
        return torch.from_numpy(self.folded.energy(self._in_units(s, s_next)))

    def costs(self, s: Tensor, s_next: Tensor) -> Tensor:
        """Costs in a plan (N,) of transitions (N, D), (N, D), world units, as
        :meth:`cost_and_grad`."""
        return torch.from_numpy(self.costs_in_units(self._in_units(s, s_next)))

    def _in_units(self, s: Tensor, s_next: Tensor) -> FloatArray:
        pairs: FloatArray = torch.cat([s / self.unit, s_next / self.unit], 1).numpy()
        return pairs

    def costs_in_units(self, pairs: FloatArray) -> FloatArray:
        """Costs (N,) of transitions (N, 2 D) in units, as :meth:`cost_and_grad`."""
        return self._cost(self.folded.energy(pairs), squares(steps_of(pairs)))[0]

    def cost_and_grad(self, pairs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cost in a plan of transitions (N, 2 D), in units: nats (N,), and the gradient (N, 2 D).

        max(0, E - E_80) + BARRIER * max(0, E - E_97)^2 + STRETCH_WEIGHT / 2 * |d|^2, with E in
        nats, d = s' - s in units, E_80 and E_97 the running quantiles. All but the least likely of
        the transitions seen are equally good: how often the behaviour chose one says nothing about
        a plan, and the low energy where it got stuck would attract plans to the walls. The barrier
        keeps a plan from paying once for a wall to save a long detour.
        """
        steps = steps_of(pairs)
        energy, gradient = self.folded.energy_and_grad(pairs)
        cost, slope = self._cost(energy, squares(steps))
        gradient *= slope[:, None]
        pull(gradient, steps, STRETCH_WEIGHT)
        return cost, gradient

    def _cost(self, energy: FloatArray, squared: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cost (N,) of transitions of some energy and squared length (N,), and its slope (N,) in
        the energy."""
        nats = np.float32(NATS[self.config.objective])
        above = nats * np.maximum(energy - np.float32(self.typical), 0.0)
        beyond = nats * np.maximum(energy - np.float32(self.unlikely), 0.0)
        slope = nats * ((above > 0) + np.float32(2.0 * BARRIER) * beyond)
        cost = above + np.float32(BARRIER) * beyond * beyond
        return cost + np.float32(0.5 * STRETCH_WEIGHT) * squared, slope

    def pair_costs(self, a: Tensor, b: Tensor, backward: bool = False) -> Tensor:
        """Costs (A, B) of transitions from a (A, D) to b (B, D), or from b to a, in nats.

        Pairs farther apart than JOINED units cost inf.
        """
        unit = self.unit
        i, j = (torch.cdist(a / unit, b / unit) < JOINED).nonzero(as_tuple=True)
        table = torch.full((len(a), len(b)), math.inf)
        for rows, columns in zip(i.split(2048), j.split(2048), strict=True):
            pair = (b[columns], a[rows]) if backward else (a[rows], b[columns])
            table[rows, columns] = self.costs(*pair)
        return table

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; learning goes on exactly where it was."""
        return {
            "trained": self._trained.state_dict(),
            "energy": self.energy.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "states": self.states.state_dict(),
            "missed": self.missed.state_dict(),
            "counters": [self.n_updates, self.typical, self.unlikely],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place."""
        for name in ("_trained", "energy", "_optimiser", "states", "missed"):
            getattr(self, name).load_state_dict(state[name.lstrip("_")])
        self._folded = None
        for network in (self._trained, self.energy):
            check_network(network, "transition energy")
        n_updates, typical, unlikely = state["counters"]
        if n_updates < 0 or not max(abs(typical), abs(unlikely)) <= LARGEST:
            raise ValueError(f"counters {state['counters']} are none of a transition energy")
        self.n_updates, self.typical, self.unlikely = (
            int(n_updates),
            float(typical),
            float(unlikely),
        )
