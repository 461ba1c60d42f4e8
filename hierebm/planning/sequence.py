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
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hierebm.nn.modules import FlatAdam, flat_parameters, polyak_
from hierebm.planning.sequence_chains import (
    bending,
    least_costs,
    resample,
    sample_sequences,
    stiffness_inverse,
    valid_transitions,
)
from hierebm.planning.transition_energy import (
    NegativeProposal,
    TransitionEnergy,
    info_nce_transitions,
    margin_penalty,
    squared_energy_loss,
)


@dataclass
class SequenceConfig:
    """Settings of :class:`SequencePlanner`. "Unit" is the rms length of a transition per axis.

    Attributes:
        transition_steps: k, the number of environment steps between planned states; the caller
            draws its training pairs accordingly.
        objective: "infonce" (E is -log p(s'|s)) or "squared" (the loss of the paper's code).
        width, depth, n_features, octaves: see TransitionEnergy.
        learning_rate: of Adam.
        average: decay of the running average of the weights that plans are made with.
        n_negatives: negatives per transition.
        local_scales, global_share, replay_share: see NegativeProposal.
        normaliser_weight: weight of (log Z)^2, "infonce" only.
        imagined_weight: weight of the planner's own transitions as negatives (the paper's).
        missed_weight: weight of executed transitions that missed, as negatives.
        negatives_capacity: how many of either are remembered.
        states_capacity: how many replayed states are remembered.
        chains: sequences per query.
        lattice_states: replayed states that initial sequences are drawn through; 0 for none.
        lattice_temperature: of those draws.
        lattice_refresh: updates after which their energies are computed again.
        noise: standard deviation of noisy initial chains, in units.
        levels: number of resolutions; each halves the distance between the states.
        langevin_steps: per level.
        langevin_step_size: relative to a Newton step of a random walk's energy.
        temperature: at the start of each level; falls linearly to 0.
        acceleration_weight: weight of |s_t+1 - 2 s_t + s_t-1|^2 / 2 in units, as in the paper.
        state_cost: nats that one more planned state must save.
        snap: whether planned states are moved to the nearest replayed ones at the end.
        max_transitions: longest plan, at the coarsest level.
        replan_deviation: distance from the planned path, in units, that asks for a new plan.
    """

    transition_steps: int = 8
    objective: str = "infonce"
    width: int = 96
    depth: int = 2
    n_features: int = 48
    octaves: tuple[float, ...] = (0.5, 1.0, 2.0)
    learning_rate: float = 5e-3
    average: float = 0.99
    n_negatives: int = 16
    local_scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    global_share: float = 0.25
    replay_share: float = 0.0
    normaliser_weight: float = 0.1
    imagined_weight: float = 0.0
    missed_weight: float = 0.3
    negatives_capacity: int = 10_000
    states_capacity: int = 20_000
    chains: int = 32
    lattice_states: int = 256
    lattice_temperature: float = 0.3
    lattice_refresh: int = 100
    noise: float = 0.5
    levels: int = 2
    langevin_steps: int = 15
    langevin_step_size: float = 0.3
    temperature: float = 0.3
    acceleration_weight: float = 0.2
    state_cost: float = 1.0
    snap: bool = True
    max_transitions: int = 24
    replan_deviation: float = 1.5

    def __post_init__(self) -> None:
        if self.objective not in ("infonce", "squared"):
            raise ValueError(f"objective must be 'infonce' or 'squared', got {self.objective!r}")
        for name in ("chains", "levels", "max_transitions", "n_negatives", "transition_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        # JSON gives lists back.
        self.octaves, self.local_scales = tuple(self.octaves), tuple(self.local_scales)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``SequenceConfig(**d)`` gives the configuration back."""
        return asdict(self)


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


class _Ring:
    """The last ``capacity`` rows of what was added."""

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self.rows = torch.zeros(capacity, *shape)
        self.size = self.at = 0

    def add(self, rows: Tensor) -> None:
        rows = rows.detach()[-len(self.rows) :]
        where = (self.at + torch.arange(len(rows))) % len(self.rows)
        self.rows[where] = rows.to(self.rows)
        self.at = (self.at + len(rows)) % len(self.rows)
        self.size = min(len(self.rows), self.size + len(rows))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.rows[torch.randint(self.size, (n,), generator=generator)]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows[: self.size].clone(), "at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.size, self.at = len(state["rows"]), int(state["at"])
        self.rows[: self.size] = state["rows"]


class SequencePlanner:
    """Learns E(s, s') online and plans sequences of states with it.

    Args:
        state_dim: D, length of a state (of an achieved goal, in the agents).
        config: see :class:`SequenceConfig`.
        generator: source of all random numbers, unless ``plan`` is given its own.
    """

    def __init__(
        self, state_dim: int, config: SequenceConfig | None, generator: torch.Generator
    ) -> None:
        self.config = c = config or SequenceConfig()
        self.state_dim, self.generator = state_dim, generator
        parabola = 1.0 if c.objective == "infonce" else 0.0
        self._trained, self.energy = (
            TransitionEnergy(
                state_dim,
                width=c.width,
                depth=c.depth,
                n_features=c.n_features,
                octaves=c.octaves,
                parabola=parabola,
                generator=generator,
            )
            for _ in range(2)
        )
        self.energy.load_state_dict(self._trained.state_dict())
        self.energy.requires_grad_(False)
        self._flat = flat_parameters(self._trained)
        self._flat_average = flat_parameters(self.energy)
        self._optimiser = FlatAdam(self._flat, lr=c.learning_rate)
        self._proposal = NegativeProposal(c.local_scales, c.global_share, c.replay_share)
        self._states = _Ring(c.states_capacity, (state_dim,))
        self._missed = _Ring(c.negatives_capacity, (2, state_dim))
        self._imagined = _Ring(c.negatives_capacity, (2, state_dim))
        self.n_updates = 0
        # Running energies: of staying, which a planned transition is charged relative to, and of
        # barely likely transitions.
        self._likely = self._unlikely = 0.0
        self._lattice: tuple[Tensor, Tensor] | None = None
        self._lattice_update = -1

    # ---------------------------------------------------------------- learning

    def fit_normalisation(self, pairs: Tensor) -> None:
        """Take units from transitions (B, 2, D). ``update`` calls it on its first batch."""
        self._trained.set_normalisation(pairs)
        self.energy.set_normalisation(pairs)

    def update(self, pairs: Tensor) -> dict[str, float]:
        """One gradient step on transitions ``pairs`` (B, 2, D); returns ``energy/*`` metrics.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        c, g, net = self.config, self.generator, self._trained
        if self.n_updates == 0:
            self.fit_normalisation(pairs)
        self._states.add(pairs[:, 1])
        replayed, unit = self._states.rows[: self._states.size], net.step_scale
        s, s_next = pairs[:, 0], pairs[:, 1]
        s_negative = self._proposal.sample(s, c.n_negatives, unit, replayed, g)
        positive = net(s, s_next)
        negative = net(s.unsqueeze(1), s_negative)
        metrics = {}
        if c.objective == "infonce":
            log_q = self._proposal.log_prob
            loss, log_z = info_nce_transitions(
                positive,
                negative,
                log_q(s, s_next, unit, replayed),
                log_q(s.unsqueeze(1), s_negative, unit, replayed),
                c.normaliser_weight,
            )
            metrics["energy/log_z"] = float(log_z.detach().mean())
        else:
            loss = squared_energy_loss(positive, negative)
        for name, ring, weight in (
            ("missed", self._missed, c.missed_weight),
            ("imagined", self._imagined, c.imagined_weight),
        ):
            if ring.size and weight > 0:
                pair = ring.sample(max(1, len(pairs) // 2), g)
                wrong = net(pair[:, 0], pair[:, 1])
                loss = loss + weight * margin_penalty(wrong, wrong.new_tensor(self._unlikely))
                metrics[f"energy/{name}"] = float(wrong.detach().mean())
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss of the transition energy (objective={c.objective!r}) is {float(loss)} "
                f"at update {self.n_updates}; check the states for NaN or lower learning_rate"
            )
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        decay = min(c.average, self.n_updates / (self.n_updates + 10.0))
        polyak_(self._flat_average, self._flat, 1.0 - decay)
        with torch.no_grad():
            likely = float(net(s, s).median())
            unlikely = float(positive.quantile(0.9))
        self._likely = decay * self._likely + (1 - decay) * likely
        self._unlikely = decay * self._unlikely + (1 - decay) * unlikely
        self.n_updates += 1
        metrics["energy/loss"] = float(loss.detach())
        metrics["energy/positive"] = float(positive.detach().mean())
        metrics["energy/negative"] = float(negative.detach().mean())
        return metrics

    def add_negatives(self, pairs: Tensor) -> None:
        """Remember executed transitions (N, 2, D) that missed: from where, to where planned."""
        self._missed.add(pairs)

    # ---------------------------------------------------------------- planning

    @torch.no_grad()
    def plan(
        self,
        start: Tensor,
        goal: Tensor,
        n_states: int | None = None,
        generator: torch.Generator | None = None,
        warm_start: Tensor | None = None,
    ) -> SequencePlan:
        """Plan from ``start`` (B, D) to ``goal`` (B, D).

        Args:
            n_states: length of the plan with both ends; by default the length that
                ``state_cost`` asks for.
            generator: source of random numbers; the planner's own by default.
            warm_start: (B, T', D) a previous plan (what is left of it) to start one chain from.
        """
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
        if c.snap and self._states.size:
            x = self._snapped(x, length)
        energies, cost = self._costs(x, length)
        best = cost.view(batch, -1).argmin(1) + torch.arange(batch) * c.chains
        x, energies, length = x[best], energies[best], length[best]
        longest = int(length.max())
        if c.imagined_weight > 0:
            row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
            self._imagined.add(torch.stack([x[row, t], x[row, t + 1]], 1))
        states = x[:, : longest + 1]
        return SequencePlan(states, energies[:, :longest], energies.sum(1), length + 1)

    def _initial_chains(
        self,
        start: Tensor,
        goal: Tensor,
        wanted: int | None,
        warm_start: Tensor | None,
        g: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Chains (B * chains, S, D), query by query, and their transitions (B * chains,)."""
        c, unit, batch, n = self.config, self.energy.step_scale, len(start), self.config.chains
        through = None
        if c.lattice_states > 0 and self._states.size >= 8:
            path_length, through = self._lattice_chains(start, goal, wanted, n - n // 4, g)
            length = path_length.unsqueeze(1).expand(-1, n)
        else:
            # A random walk's energy d^2 / (2 T) + state_cost * T is least at T = d / sqrt(2 cost);
            # without knowledge of the way round, detours are tried as well.
            distance = ((goal - start) / unit).norm(dim=-1, keepdim=True)
            length = distance / math.sqrt(2.0 * max(c.state_cost, 1e-3)) * (1 + torch.arange(n) % 3)
            length = length if wanted is None else torch.full_like(length, wanted)
            length = length.round().clamp(1, c.max_transitions).long()
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
        if self._lattice is None or self.n_updates - self._lattice_update >= c.lattice_refresh:
            m = min(c.lattice_states, self._states.size)
            states = self._states.rows[torch.randperm(self._states.size, generator=g)[:m]]
            self._lattice = states, self._pair_energies(states, states)
            self._lattice_update = self.n_updates
        states, table = self._lattice
        # No transition is free: an energy below the likeliest is noise, and would be repeated.
        fee = c.state_cost - self._likely
        table, first, last = (
            (energies + fee).clamp(min=0.1 * c.state_cost)
            for energies in (
                table,
                self._pair_energies(start, states),
                self._pair_energies(goal, states, backward=True),
            )
        )
        if wanted is None:
            direct = self.energy.energy_and_grad(start, goal)[0] + fee
            length = least_costs(direct, first, table, last, c.max_transitions).argmin(1) + 1
        else:
            length = torch.full((len(start),), min(wanted, c.max_transitions))
        picked = sample_sequences(first, table, last, length, n, c.lattice_temperature, g)
        inner = torch.where((picked < 0).unsqueeze(-1), math.nan, states[picked.clamp(min=0)])
        ends = inner.new_full((len(start), n, 1, self.state_dim), math.nan)
        return length, torch.cat([ends, inner, ends], 2)

    def _snapped(self, x: Tensor, length: Tensor) -> Tensor:
        """Replace inner states by the nearest replayed ones: places that were really visited."""
        unit, states = self.energy.step_scale, self._states.rows[: self._states.size]
        inner = valid_transitions(length, x.shape[1])
        inner = torch.cat([inner[:, 1:], inner.new_zeros(len(x), 2)], 1).roll(1, 1)
        ours = x[inner] / unit
        nearest = [torch.cdist(part, states / unit).argmin(1) for part in ours.split(512)]
        x = x.clone()
        if len(ours):
            x[inner] = states[torch.cat(nearest)]
        return x

    def _pair_energies(self, a: Tensor, b: Tensor, backward: bool = False) -> Tensor:
        """Energies (A, B) of transitions from a to b, or from b to a; inf beyond 5 units."""
        unit = self.energy.step_scale
        i, j = (torch.cdist(a / unit, b / unit) < 5.0).nonzero(as_tuple=True)
        table = torch.full((len(a), len(b)), math.inf)
        for rows, columns in zip(i.split(2048), j.split(2048), strict=True):
            pair = (b[columns], a[rows]) if backward else (a[rows], b[columns])
            table[rows, columns] = self.energy.energy_and_grad(*pair)[0]
        return table

    def _costs(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (N, S - 1) of the transitions, and what chains are compared by (N,)."""
        c = self.config
        row, t = valid_transitions(length, x.shape[1]).nonzero(as_tuple=True)
        energies = torch.zeros(len(x), x.shape[1] - 1)
        energies[row, t] = self.energy.energy_and_grad(x[row, t], x[row, t + 1])[0]
        bend = c.acceleration_weight * 4.0 ** (c.levels - 1)
        bend = bend * bending(x / self.energy.step_scale, length)[0]
        return energies, energies.sum(1) + (c.state_cost - self._likely) * length + bend

    def _langevin(self, x: Tensor, length: Tensor, level: int, g: torch.Generator) -> Tensor:
        """Annealed Langevin dynamics of the inner states of all chains, preconditioned.

        ds = -h P grad + sqrt(2 h temperature P) noise, in units of transitions; P is the covariance
        of a random walk with both ends held (:func:`stiffness_inverse`).
        """
        c, unit, size = self.config, self.energy.step_scale, x.shape[1]
        # Twice as many states are half as far apart: a quarter of the energy, and of its noise.
        bend = c.acceleration_weight * 4.0**level
        if size < 3:
            return x
        used = valid_transitions(length, size)
        row, t = used.nonzero(as_tuple=True)
        tables = [stiffness_inverse(int(n), size, bend) for n in range(1, size)]
        covariance = torch.stack([p for p, _ in tables])[length - 1]
        root = torch.stack([r for _, r in tables])[length - 1]
        x = x.clone()
        for step in range(c.langevin_steps):
            _, to_first, to_second = self.energy.energy_and_grad(x[row, t], x[row, t + 1])
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

    # ---------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; learning and planning go on exactly where they were."""
        return {
            "trained": self._trained.state_dict(),
            "energy": self.energy.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "states": self._states.state_dict(),
            "missed": self._missed.state_dict(),
            "imagined": self._imagined.state_dict(),
            "lattice": self._lattice,
            "counters": [self.n_updates, self._lattice_update, self._likely, self._unlikely],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place."""
        self._trained.load_state_dict(state["trained"])
        self.energy.load_state_dict(state["energy"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._states.load_state_dict(state["states"])
        self._missed.load_state_dict(state["missed"])
        self._imagined.load_state_dict(state["imagined"])
        self._lattice = state["lattice"]
        self.n_updates, self._lattice_update, self._likely, self._unlikely = state["counters"]
