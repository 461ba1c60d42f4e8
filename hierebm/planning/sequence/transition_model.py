"""The transition energy as it is learnt online: network, optimiser, running average, memories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierebm.nn.flat import FlatAdam, flat_parameters, polyak_
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.planning.sequence.transition_energy import (
    NegativeProposal,
    TransitionEnergy,
    info_nce_transitions,
    margin_penalty,
    squared_energy_loss,
)


class Ring:
    """The last ``capacity`` rows of what was added."""

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self.rows = torch.zeros(capacity, *shape)
        self.size = self.at = 0

    def add(self, rows: Tensor) -> None:
        """Remember ``rows`` (N, ...) in place of the oldest."""
        rows = rows.detach()[-len(self.rows) :]
        where = (self.at + torch.arange(len(rows))) % len(self.rows)
        self.rows[where] = rows.to(self.rows)
        self.at = (self.at + len(rows)) % len(self.rows)
        self.size = min(len(self.rows), self.size + len(rows))

    @property
    def contents(self) -> Tensor:
        """(size, ...) everything that is remembered, in no particular order."""
        return self.rows[: self.size]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n rows uniformly, with replacement."""
        return self.rows[torch.randint(self.size, (n,), generator=generator)]

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, as tensors and plain values."""
        return {"rows": self.rows[: self.size].clone(), "at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place."""
        self.size, self.at = len(state["rows"]), int(state["at"])
        self.rows[: self.size] = state["rows"]


class TransitionModel:
    """E(s, s') with everything that its training needs.

    Args:
        state_dim: D, length of a state.
        config: see :class:`SequenceConfig`.
        generator: source of initial parameters and of negatives.

    Attributes:
        energy: running average of the trained network; plans are made with it.
        states, missed, imagined: replayed states (M, D), and transitions (M, 2, D) that are
            negatives: executed ones that missed, and planned ones.
        typical, unlikely: running energies that 80% and 97% of the transitions stay below.
        nats: factor from energies to nats.
    """

    def __init__(self, state_dim: int, config: SequenceConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        c = config
        # The squared loss saturates at +-1/2 whatever the likelihood.
        likelihood = c.objective == "infonce"
        self.nats = 1.0 if likelihood else 10.0
        self._trained, self.energy = (
            TransitionEnergy(
                state_dim,
                width=c.width,
                depth=c.depth,
                n_features=c.n_features,
                octaves=c.octaves,
                parabola=1.0 if likelihood else 0.0,
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
        self.states = Ring(c.states_capacity, (state_dim,))
        self.missed = Ring(c.negatives_capacity, (2, state_dim))
        self.imagined = Ring(c.negatives_capacity, (2, state_dim))
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

    def update(self, pairs: Tensor) -> dict[str, float]:
        """One gradient step on transitions ``pairs`` (B, 2, D); returns ``energy/*`` metrics.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        c, g, net = self.config, self.generator, self._trained
        if self.n_updates == 0:
            self.fit_normalisation(pairs)
        self.states.add(pairs[:, 1])
        replayed, unit = self.states.contents, net.step_scale
        s, s_next = pairs[:, 0], pairs[:, 1]
        s_negative, s_next_negative = (
            self._proposal.sample(state, c.n_negatives, unit, replayed, g) for state in (s_next, s)
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
                c.normaliser_weight,
            )
            # Without wrong starts, nothing would ever be said about transitions *from* a place
            # that is never visited, and plans would creep through walls in small steps.
            loss = (
                loss
                + c.start_weight
                * info_nce_transitions(
                    positive,
                    negative_start,
                    log_q(s_next, s, unit, replayed),
                    log_q(s_next.unsqueeze(1), s_negative, unit, replayed),
                    0.0,
                )[0]
            )
            metrics["energy/log_z"] = float(log_z.detach().mean())
        else:
            loss = squared_energy_loss(positive, torch.cat([negative, negative_start], 1))
        for name, ring, weight in (
            ("missed", self.missed, c.missed_weight),
            ("imagined", self.imagined, c.imagined_weight),
        ):
            if ring.size and weight > 0:
                pair = ring.sample(max(1, len(pairs) // 2), g)
                wrong = net(pair[:, 0], pair[:, 1])
                loss = loss + weight * margin_penalty(wrong, wrong.new_tensor(self.unlikely))
                metrics[f"energy/{name}"] = float(wrong.detach().mean())
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss of the transition energy (objective={c.objective!r}) is "
                f"{float(loss.detach())} at update {self.n_updates}; "
                "check the states for NaN or lower learning_rate"
            )
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        decay = min(c.average, self.n_updates / (self.n_updates + 10.0))
        polyak_(self._flat_average, self._flat, 1.0 - decay)
        typical, unlikely = positive.detach().quantile(torch.tensor([0.8, 0.97])).tolist()
        self.typical = decay * self.typical + (1 - decay) * typical
        self.unlikely = decay * self.unlikely + (1 - decay) * unlikely
        self.n_updates += 1
        metrics["energy/loss"] = float(loss.detach())
        metrics["energy/positive"] = float(positive.detach().mean())
        metrics["energy/negative"] = float(negative.detach().mean())
        return metrics

    def priced(self, s: Tensor, s_next: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What plans pay for transitions (N, D), (N, D), in nats: (N,), and both gradients (N, D).

        max(0, E - E_80) + barrier * max(0, E - E_97)^2 + stretch / 2 * |d|^2. All but the
        least likely of the transitions seen are equally good: how often the behaviour chose one
        says nothing about a plan, and the low energy where it got stuck would attract plans to
        the walls. The barrier keeps a plan from paying once for a wall to save a long way round.
        """
        c, d = self.config, (s_next - s) / self.unit
        energy, to_first, to_second = self.energy.energy_and_grad(s, s_next)
        above = (energy - self.typical).clamp(min=0.0) * self.nats
        beyond = (energy - self.unlikely).clamp(min=0.0) * self.nats
        slope = (self.nats * ((above > 0) + 2.0 * c.barrier * beyond)).unsqueeze(-1)
        price = above + c.barrier * beyond.square() + 0.5 * c.stretch_weight * d.square().sum(-1)
        pull = c.stretch_weight * d / self.unit
        return price, to_first * slope - pull, to_second * slope + pull

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; learning goes on exactly where it was."""
        return {
            "trained": self._trained.state_dict(),
            "energy": self.energy.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "states": self.states.state_dict(),
            "missed": self.missed.state_dict(),
            "imagined": self.imagined.state_dict(),
            "counters": [self.n_updates, self.typical, self.unlikely],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, in place."""
        for name in ("_trained", "energy", "_optimiser", "states", "missed", "imagined"):
            getattr(self, name).load_state_dict(state[name.lstrip("_")])
        self.n_updates, self.typical, self.unlikely = state["counters"]
