"""An energy over pairs of states, E(s, s'), low where s' can be reached from s within k steps.

Du, Lin & Mordatch (2019, arXiv 1909.06878) learn a model of the transitions of an environment as
an energy and plan by minimising the energy of whole sequences. Here are the network, the negatives
that it is trained against, and the objectives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierebm.energy.losses import info_nce_rows
from hierebm.nn.layers import MLP, RandomFourierFeatures

# Where the Fourier features look, as shares of the straight line from s to s'. With 64 features of
# the joint pair instead, 7% of the pairs across walls had an energy below the 90% quantile of free
# pairs; with these, 0.5%.
WAYPOINTS = (0.0, 0.5, 1.0)
# Scales of their frequencies, radians per typical transition. With octaves of 1 to 8, 62% of the
# pairs across walls fell below that quantile.
OCTAVES = (0.5, 1.0, 2.0)
# Fourier frequencies over all octaves, and the hidden layers of the network: chosen by hand, no
# other sizes have been measured.
N_FEATURES, WIDTH, DEPTH = 48, 96, 2
# Standard deviations of the Gaussian negatives, in typical transitions: from inside a transition to
# several beyond. Chosen by hand.
LOCAL_SCALES = (0.5, 1.0, 2.0, 4.0)
# Share of negatives from the box around all data. Chosen by hand.
GLOBAL_SHARE = 0.25


class TransitionEnergy(nn.Module):
    """E(s, s') = 1/2 |d|^2 + MLP(m, d, Fourier features of (s, s')).

    m is the pair's midpoint in units of the world, d = s' - s in units of a typical transition.
    The Fourier features see both states in units of a typical transition as well, so that their
    frequencies need no knowledge of the size of the world: a wall that matters to a planner is
    about as thick as a transition is long. The parabola is the energy of a random walk; the
    network only learns what differs from it, and far from all data the energy still rises.

    Args:
        state_dim: D, length of a state.
        width, depth: hidden layers of the network (SiLU).
        n_features: number of Fourier frequencies, over all octaves.
        octaves: scales of the frequencies, radians per typical transition.
        parabola: weight of |d|^2 / 2; 0 leaves the bare network, as in the paper.
        generator: source of the initial parameters and of the frequencies.

    Attributes:
        centre, state_scale: (D,) mean and standard deviation of the states, world units.
        step_scale: (D,) rms length of a transition, world units: the "typical transition".
    """

    centre: Tensor
    state_scale: Tensor
    step_scale: Tensor

    # Buffers that inputs are divided by: positive in every file.
    divisors: ClassVar[tuple[str, ...]] = ("state_scale", "step_scale")

    def __init__(
        self,
        state_dim: int,
        *,
        width: int = WIDTH,
        depth: int = DEPTH,
        n_features: int = N_FEATURES,
        octaves: Sequence[float] = OCTAVES,
        parabola: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.parabola = parabola
        self.fourier = RandomFourierFeatures(state_dim, n_features, octaves, generator)
        in_dim = 2 * state_dim + len(WAYPOINTS) * self.fourier.out_dim
        self.mlp = MLP(in_dim, [width] * depth, 1, "silu", generator)
        self.register_buffer("centre", torch.zeros(state_dim))
        self.register_buffer("state_scale", torch.ones(state_dim))
        self.register_buffer("step_scale", torch.ones(state_dim))

    @torch.no_grad()
    def set_normalisation(self, pairs: Tensor) -> None:
        """Fit the units from transitions ``pairs`` (B, 2, D); the energy changes with them.

        Dimensions that never move get the unit of the one that moves most, so that nothing is
        divided by zero.
        """
        states = pairs.reshape(-1, self.state_dim)
        steps = pairs[:, 1] - pairs[:, 0]
        self.centre.copy_(states.mean(0))
        for scale, measured in (
            (self.state_scale, states.std(0)),
            (self.step_scale, steps.square().mean(0).sqrt()),
        ):
            largest = measured.max()
            unit = torch.where(largest > 0, largest, torch.ones_like(largest))
            scale.copy_(torch.where(measured > 1e-3 * unit, measured, unit))

    def forward(self, s: Tensor, s_next: Tensor) -> Tensor:
        """Energies (...) of transitions (..., D), (..., D), broadcast against each other."""
        s, s_next = torch.broadcast_tensors(s, s_next)
        d = (s_next - s) / self.step_scale
        m = (0.5 * (s + s_next) - self.centre) / self.state_scale
        origin = (s - self.centre) / self.step_scale
        waves = [self.fourier(origin + part * d) for part in WAYPOINTS]
        learned = self.mlp(torch.cat([m, d, *waves], -1)).squeeze(-1)
        return learned + 0.5 * self.parabola * d.square().sum(-1)


@dataclass(frozen=True)
class NegativeProposal:
    """q(s' | s): what the transitions are told apart from, with its density known.

    A mixture of Gaussians around s (the local structure: how far, how straight) and of states
    drawn from a box around all data (everything else). Because log q is known and subtracted, the
    energy becomes -log p(s' | s) itself and not a ratio to the states' own density: a plan is not
    drawn towards rarely visited regions, and one that no trajectory enters (the inside of a wall)
    gets a high energy although no replayed state lies there.

    Args:
        local_scales: standard deviations of the Gaussians, in typical transitions.
        global_share: share of negatives drawn from the box.
    """

    local_scales: tuple[float, ...] = LOCAL_SCALES
    global_share: float = GLOBAL_SHARE

    def sample(
        self,
        s: Tensor,
        n: int,
        step_scale: Tensor,
        states: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw negatives (B, n, D), in world units.

        Args:
            s: (B, D) states.
            n: negatives for each of them.
            step_scale: (D,) length of a typical transition.
            states: (M, D) replayed states; the box is around them.
            generator: source of the draws.
        """
        batch, dim = s.shape
        n_global = min(n, max(1, round(self.global_share * n)))
        n_local = n - n_global
        scales = torch.tensor(self.local_scales, dtype=s.dtype, device=s.device)
        which = torch.randint(len(scales), (batch, n_local), generator=generator)
        noise = torch.randn(batch, n_local, dim, generator=generator)
        local = s.unsqueeze(1) + noise * scales[which].unsqueeze(-1) * step_scale
        low, width = self._box(states, step_scale)
        everywhere = low + width * torch.rand(batch, n_global, dim, generator=generator)
        return torch.cat([local, everywhere], 1)

    def log_prob(self, s: Tensor, s_next: Tensor, step_scale: Tensor, states: Tensor) -> Tensor:
        """log q(s' | s) (...) of pairs (..., D), (..., D), broadcast against each other.

        A density in d = (s' - s) / step_scale, so nats per volume of a typical transition;
        ``step_scale`` and ``states`` as in :meth:`sample`.
        """
        d = (s_next - s) / step_scale
        dim, squared = d.shape[-1], d.square().sum(-1)
        parts = []
        share = math.log1p(-self.global_share) - math.log(len(self.local_scales))
        for scale in self.local_scales:
            constant = share - dim * (math.log(scale) + 0.5 * math.log(2 * math.pi))
            parts.append(constant - 0.5 * squared / scale**2)
        low, width = self._box(states, step_scale)
        inside = ((s_next >= low) & (s_next <= low + width)).all(-1)
        flat = math.log(self.global_share) - (width / step_scale).log().sum()
        parts.append(torch.where(inside, flat, flat.new_tensor(-math.inf)).expand_as(squared))
        return torch.logsumexp(torch.stack(parts), 0)

    @staticmethod
    def _box(states: Tensor, step_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Corner and widths of the box: all data and half a typical transition around it."""
        low, high = states.amin(0) - 0.5 * step_scale, states.amax(0) + 0.5 * step_scale
        return low, high - low


def info_nce_transitions(
    positive: Tensor,
    negative: Tensor,
    log_q_positive: Tensor,
    log_q_negative: Tensor,
    normaliser_weight: float,
) -> tuple[Tensor, Tensor]:
    """InfoNCE with known proposal density, and a self-normalised energy.

    loss = -mean log softmax_0(-E - log q) + w mean (log Z)^2, with Z(s) the importance estimate of
    the integral of exp(-E(s, .)). At the optimum -E = log p(s'|s) + c(s) (Ma & Collins 2018,
    ranking NCE); the sum over a sequence needs c to be the same for all s, which the second
    term fixes at 0.

    Args:
        positive, log_q_positive: (B,) energy and proposal log density of each transition.
        negative, log_q_negative: (B, K) the same of its negatives.
        normaliser_weight: w.

    Returns:
        Scalar loss and the (B,) estimates of log Z.
    """
    rows = info_nce_rows(positive, negative, log_q_negative, log_q_positive)
    # The positive is one more draw in the estimate: without it log Z would be noisier, and the
    # same term is already in the softmax.
    log_z = rows - positive - log_q_positive - math.log(1 + negative.shape[1])
    return rows.mean() + normaliser_weight * log_z.square().mean(), log_z


def squared_energy_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """mean E+ - mean E- + mean E+^2 + mean E-^2, the loss of the paper's code; a scalar.

    Takes energies of transitions (B,) and of their negatives (B, K).
    Its optimum is E = (q - p) / (2 (p + q)), between -1/2 (only transitions) and 1/2 (only
    negatives): a feasibility score that saturates, not a log density.
    """
    return positive.mean() - negative.mean() + positive.square().mean() + negative.square().mean()


def margin_penalty(negative: Tensor, threshold: Tensor) -> Tensor:
    """Mean of softplus(threshold - E-): push pairs above the energy of the positives and stop.

    Args:
        negative: (N,) energies of pairs that are not transitions.
        threshold: scalar energy.
    """
    return F.softplus(threshold - negative).mean()
