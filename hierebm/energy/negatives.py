"""Where negatives come from, and which energy each source leads to.

Every source is a callable (model, y_pos (B, y_dim), x (B, x_dim) or None, index (B,) or None,
generator) -> ContrastiveBatch. ``index`` names the rows of the data set (or of a ring buffer), for
sources that keep something for each row. With InfoNCE the optimum is

- ``UniformNegatives``, ``PivotNegatives``: -E = log p(y | x) + c(x), a log density;
- ``ReplayNegatives``, ``MismatchedNegatives``: -E = log p(y | x) / q(y) + c(x), the log ratio to
  the replay's states or to the marginal of the data: resample candidates *from the same q* with it;
- ``HardNegatives``: as its base, where the correction is on (it is, by default).

Sources of the same kind may be trained side by side: the trainer sums their losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hierebm.energy.bounds import Bounds
from hierebm.energy.mcmc import langevin
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import ContrastiveBatch


class NegativeSource(Protocol):
    """Draws negatives for a batch of positives."""

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """The positives with their negatives."""


class UniformNegatives:
    """Uniform in the box [low, high].

    Args:
        low: (y_dim,) lower corner; the box must hold the data.
        high: (y_dim,) upper corner.
        k: negatives of each positive; without a condition, k negatives shared by the whole batch,
            which costs B + k evaluations instead of B (1 + k).
    """

    def __init__(self, low: Tensor, high: Tensor, k: int) -> None:
        if not bool((high > low).all()):
            raise ValueError(f"the box is empty: low {low.tolist()}, high {high.tolist()}")
        self.low, self.high, self.k = low, high, k

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """See ``NegativeSource``. The density is constant, so no correction is needed."""
        rows = 1 if x is None else len(y_pos)
        low, high = self.low.to(y_pos), self.high.to(y_pos)
        u = torch.rand((rows, self.k, y_pos.shape[-1]), generator=generator, device=y_pos.device)
        return ContrastiveBatch(y_pos, low + (high - low) * u, x)


class ReplayNegatives:
    """Uniform over stored states (N, y_dim), for example those of a replay buffer.

    Args:
        states: (N, y_dim), N >= 1; not copied, so that a ring buffer may go on filling it.
        k: negatives of each positive; without a condition, k negatives shared by the whole batch.
    """

    def __init__(self, states: Tensor, k: int) -> None:
        if not len(states):
            raise ValueError("states is empty: store some before drawing negatives from them")
        self.states, self.k = states, k

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """See ``NegativeSource``."""
        rows = 1 if x is None else len(y_pos)
        device = self.states.device
        pick = torch.randint(len(self.states), (rows, self.k), generator=generator, device=device)
        return ContrastiveBatch(y_pos, self.states[pick], x)


class MismatchedNegatives:
    """The y of other rows of the batch: real states that follow from another condition.

    Args:
        k: negatives of each positive, drawn with replacement.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """See ``NegativeSource``; needs a condition and at least two rows."""
        b = len(y_pos)
        if x is None or b < 2:
            raise ValueError("mismatched pairs need a condition x and a batch of two or more")
        device = y_pos.device
        offset = torch.randint(1, b, (b, self.k), generator=generator, device=device)
        pick = (torch.arange(b, device=device)[:, None] + offset) % b
        return ContrastiveBatch(y_pos, y_pos[pick], x)


class PivotNegatives:
    """Data plus noise, without bias: positive and negatives are noised from one hidden pivot.

    For each row a scale s is drawn, a pivot m = y+ + s e, and negatives y-_k = m + s e_k. Given m,
    the likelihood that candidate i is the data is p(y_i | x) N(m; y_i, s) prod_{j != i} N(y_j; m,
    s), in which the product of all Gaussians is common: the posterior is p(y_i | x) / sum, with no
    density of the noise left. So InfoNCE over the set has the log density as its optimum at every
    scale, where data + noise around y+ itself would not (the positive would sit in the middle).
    One negative drawn around y+ itself, by symmetric noise, is conditional NCE (Ceylan & Gutmann
    2018, arXiv:1806.03664); the loss at one scale is the stabilised energy discrepancy of Schroeder
    et al. 2023 (arXiv:2307.06431) with w = 1, there derived as a contrast of the data with its
    blurred self.

    Args:
        scales: standard deviations (in units of y, per coordinate if ``unit`` is given). Small ones
            teach the shape of the ridge, large ones the balance of distant parts.
        k: negatives of each positive.
        unit: (y_dim,) units of the scales, for example the standard deviation of the data.
        rows: use at most that many rows of each batch; None for all.
    """

    def __init__(
        self,
        scales: Sequence[float],
        k: int,
        unit: Tensor | None = None,
        rows: int | None = None,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be positive, got {scales!r}")
        self.scales = torch.tensor(list(scales))
        self.k, self.unit, self.rows = k, unit, rows

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """See ``NegativeSource``."""
        y_pos, x = y_pos[: self.rows], None if x is None else x[: self.rows]
        b, dim = y_pos.shape
        device = y_pos.device
        pick = torch.randint(len(self.scales), (b, 1, 1), generator=generator, device=device)
        scale = self.scales.to(y_pos)[pick]
        if self.unit is not None:
            scale = scale * self.unit.to(y_pos)
        noise = torch.randn((b, self.k + 1, dim), generator=generator, device=device)
        pivot = y_pos[:, None] + scale * noise[:, :1]
        return ContrastiveBatch(y_pos, pivot + scale * noise[:, 1:], x)


class HardNegatives:
    """Prioritised mining: of a pool drawn by ``base``, keep k with probability ~ exp(-E / T).

    Low-energy negatives teach most, but bias most: chosen in proportion to exp(-E) they are
    samples of the model, no longer of q. With ``correct`` the log of that preference goes into
    log q, and the optimum stays that of the base. Without it (for margin ranking, which has no
    q) ``semi_hard`` masks negatives at or below the energy of the positive: among them are false
    negatives, states as likely as the data, and pushing those up collapses the energy.

    Args:
        base: the source of the pool.
        k: negatives kept of the base's pool.
        temperature: T > 0 of the priority.
        correct: account for the priority in log q.
        semi_hard: mask negatives with E- <= E+.
    """

    def __init__(
        self,
        base: NegativeSource,
        k: int,
        temperature: float = 1.0,
        correct: bool = True,
        semi_hard: bool = False,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.base, self.k, self.temperature = base, k, temperature
        self.correct, self.semi_hard = correct, semi_hard

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """See ``NegativeSource``."""
        pool = self.base(model, y_pos, x, index, generator)
        if pool.y_neg.shape[1] < self.k:
            raise ValueError(f"the pool holds {pool.y_neg.shape[1]} negatives, k={self.k} is more")
        condition = None if x is None else x[:, None]
        with torch.no_grad():
            energy = model(pool.y_neg, condition)
            energy_pos = model(y_pos, x)
        priority = -energy / self.temperature
        u = torch.rand(energy.shape, generator=generator, device=energy.device).clamp(min=1e-20)
        # Draws with replacement would make log q exact; top-k of Gumbel keys keeps them different.
        chosen = (priority - torch.log((-torch.log(u)).clamp(min=1e-20))).topk(self.k, -1).indices
        rows = chosen[..., None].expand(*chosen.shape, y_pos.shape[-1])
        y_neg = pool.y_neg.gather(1, rows)
        energy_neg = energy.gather(1, chosen)
        log_q_neg, log_q_pos = pool.log_q_neg, pool.log_q_pos
        if log_q_neg is not None:
            log_q_neg = log_q_neg.gather(1, chosen)
        if self.correct:
            extra_neg, extra_pos = -energy_neg / self.temperature, -energy_pos / self.temperature
            log_q_neg = extra_neg if log_q_neg is None else log_q_neg + extra_neg
            log_q_pos = extra_pos if log_q_pos is None else log_q_pos + extra_pos
        mask = energy_neg > energy_pos[:, None] if self.semi_hard else None
        if mask is not None and len(y_neg) == 1 and len(y_pos) > 1:
            y_neg = y_neg.expand(len(y_pos), -1, -1)
            log_q_neg = None if log_q_neg is None else log_q_neg.expand(len(y_pos), -1)
        return ContrastiveBatch(y_pos, y_neg, x, log_q_neg, log_q_pos, mask)


class LangevinNegatives:
    """Samples of the model itself by short Langevin chains that go on from update to update.

    Persistent contrastive divergence (Tieleman 2008); the restarts are those of the sample replay
    buffer of Du & Mordatch 2019 (arXiv:1903.08689). For a conditional energy a stored chain is of
    use only under its own condition, so the chains are kept *per row of the data* (``index``):
    when a row comes again, its chain goes on from where it stopped. Without a condition any chain
    serves any row.

    Args:
        rows: rows of the data set or ring buffer, or the number of chains without a condition.
        low: (y_dim,) chains start uniformly in [low, high] and stay inside.
        high: (y_dim,).
        steps: Langevin steps at each visit.
        step_size: their size, in units of y squared.
        restart: probability that a chain starts again from a uniform draw.
        generator: draws the first chains.
    """

    def __init__(
        self,
        rows: int,
        low: Tensor,
        high: Tensor,
        *,
        steps: int = 10,
        step_size: float = 1e-3,
        restart: float = 0.05,
        generator: torch.Generator | None = None,
    ) -> None:
        if rows < 1 or not 0.0 <= restart <= 1.0:
            raise ValueError(f"need rows >= 1 and restart in [0, 1], got {rows} and {restart}")
        self.bounds: Bounds = (low, high)
        self.steps, self.step_size, self.restart = steps, step_size, restart
        self.chains = self._fresh(rows, generator)

    def _fresh(self, n: int, generator: torch.Generator | None) -> Tensor:
        low, high = self.bounds
        u = torch.rand((n, len(low)), generator=generator, device=low.device)
        return low + (high - low) * u

    def __call__(
        self,
        model: EnergyMLP,
        y_pos: Tensor,
        x: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | None,
    ) -> ContrastiveBatch:
        """See ``NegativeSource``; a conditional energy needs ``index``."""
        b = len(y_pos)
        if x is None:
            index = torch.randint(
                len(self.chains), (b,), generator=generator, device=self.chains.device
            )
        elif index is None:
            raise ValueError(
                "persistent chains of a conditional energy need the index of each row of the batch"
            )
        start = self.chains[index]
        again = torch.rand((b, 1), generator=generator, device=start.device) < self.restart
        start = torch.where(again, self._fresh(b, generator), start)
        chains = langevin(
            model,
            start[:, None],
            None if x is None else x[:, None],
            steps=self.steps,
            step_size=self.step_size,
            generator=generator,
            bounds=self.bounds,
            max_move=(self.bounds[1] - self.bounds[0]) * 0.05,
        )
        self.chains[index] = chains[:, 0]
        y_neg = chains.view(1, b, -1) if x is None else chains
        return ContrastiveBatch(y_pos, y_neg, x)
