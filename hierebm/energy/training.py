"""Fitting an energy to data: one gradient step at a time, or to a budget."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hierebm.energy.negatives import NegativeSource, PivotNegatives, UniformNegatives
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import Objective, get_objective
from hierebm.errors import TrainingDiverged
from hierebm.nn.flat import FlatAdam, flat_parameters


@dataclass
class TrainingConfig:
    """How to fit an energy. JSON-serialisable.

    Attributes:
        objective: a name of ``hierebm.energy.objectives.OBJECTIVES``.
        objective_options: keyword arguments of the objective.
        steps: updates of ``fit_energy``; the learning rate falls to zero over them.
        batch_size: positives of each update.
        learning_rate: of Adam, at its peak.
        warmup: share of the steps over which the learning rate rises.
        averaging: decay of the exponential average of the weights that is kept for sampling; 0 for
            none. Averaging takes the noise of the last updates out of the density.
        uniform_negatives: number of negatives from the box.
        pivot_negatives: number of data-plus-noise negatives of a positive; 0 for none.
        pivot_rows: rows of each batch that get them.
        pivot_scales: their noise, in standard deviations of the data.
        conditional_negatives: negatives from the box of each row of a conditional energy, where
            they cannot be shared.
        grad_clip: largest norm of the gradient.
        max_energy: training stops with an error when a mean energy is beyond +- this (nats).
    """

    objective: str = "info_nce"
    objective_options: dict[str, Any] = field(default_factory=dict)
    steps: int = 1200
    batch_size: int = 256
    learning_rate: float = 3e-3
    warmup: float = 0.02
    averaging: float = 0.995
    uniform_negatives: int = 512
    pivot_negatives: int = 4
    pivot_rows: int = 64
    pivot_scales: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    conditional_negatives: int = 16
    grad_clip: float = 10.0
    max_energy: float = 1e4


class EnergyTrainer:
    """Updates an energy on batches of positives.

    Args:
        model: the energy; trained in place, on its current device.
        config: see ``TrainingConfig``.
        negatives: sources of negatives; the losses of all are summed.
        generator: source of the negatives' randomness.
        total_steps: length of the learning rate schedule; None keeps the rate constant after the
            warm-up of the first 100 steps (online training).
    """

    def __init__(
        self,
        model: EnergyMLP,
        config: TrainingConfig,
        negatives: Sequence[NegativeSource],
        generator: torch.Generator | None = None,
        total_steps: int | None = None,
    ) -> None:
        if not negatives:
            raise ValueError("at least one source of negatives is needed")
        self.model, self.config = model, config
        self.negatives = list(negatives)
        self.generator = generator
        self.total_steps = total_steps
        self.objective: Objective = get_objective(config.objective, **config.objective_options)
        if not self.objective.contrastive:
            self.objective.options.setdefault("generator", generator)
        # Moves the parameters into one tensor: model.to(device) has to come before.
        self.optimiser = FlatAdam(
            flat_parameters(model), config.learning_rate, betas=(0.9, 0.99), name="energy"
        )
        self.averaged = copy.deepcopy(model).requires_grad_(False) if config.averaging else model
        self.averaged.train(False)
        self.steps = 0

    def step(
        self, y: Tensor, x: Tensor | None = None, index: Tensor | None = None
    ) -> dict[str, float]:
        """One update on positives y (B, y_dim) given x (B, x_dim); metrics of the objective.

        Raises:
            TrainingDiverged: a loss or energy that is NaN, infinite or beyond ``max_energy``. The
                weights are those from before this update.
        """
        self.model.train()
        losses: list[Tensor] = []
        metrics: dict[str, float] = {}
        for source in self.negatives:
            batch = source(self.model, y, x, index, self.generator)
            loss, parts = self.objective(self.model, batch)
            self._guard(parts)
            losses.append(loss)
            metrics = {k: metrics.get(k, 0.0) + v for k, v in parts.items()}
        n = len(self.negatives)
        metrics = {k: v if k == "loss" else v / n for k, v in metrics.items()}
        self.optimiser.lr = self._learning_rate()
        self.optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self._guard({"grad_norm": float(norm)})
        self.optimiser.step()
        self.steps += 1
        self._average()
        metrics["grad_norm"] = float(norm)
        return metrics

    def _learning_rate(self) -> float:
        config, total = self.config, self.total_steps
        if total is None:
            return config.learning_rate * min(1.0, (self.steps + 1) / 100)
        warm = max(1.0, config.warmup * total)
        if self.steps < warm:
            return config.learning_rate * (self.steps + 1) / warm
        part = min(1.0, (self.steps - warm) / max(1.0, total - warm))
        return config.learning_rate * (0.5 + 0.5 * math.cos(math.pi * part))

    @torch.no_grad()
    def _average(self) -> None:
        if self.averaged is self.model:
            return
        # A short average at first, so that the untrained weights soon no longer count.
        decay = min(self.config.averaging, self.steps / (self.steps + 10.0))
        torch._foreach_lerp_(
            list(self.averaged.parameters()), list(self.model.parameters()), 1.0 - decay
        )
        for kept, new in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            kept.copy_(new)

    def _guard(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            limit = self.config.max_energy if key.startswith("energy") else math.inf
            if not math.isfinite(value) or abs(value) > limit:
                raise TrainingDiverged(
                    f"objective {self.config.objective!r} diverged at step {self.steps}: {key} is "
                    f"{value:.3g}. Lower learning_rate (now {self.config.learning_rate:g}) or "
                    "grad_clip, set spectral_norm=True, raise energy_penalty where the objective "
                    "has one, and check the data for NaN and outliers"
                )


def default_negatives(
    config: TrainingConfig,
    y: Tensor,
    *,
    conditional: bool,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> list[NegativeSource]:
    """Uniform and pivot negatives for data y (N, y_dim), as the configuration asks.

    The box defaults to the range of the data, wider by a fifth on every side.
    """
    span = y.amax(0) - y.amin(0)
    low = y.amin(0) - 0.2 * span if low is None else low
    high = y.amax(0) + 0.2 * span if high is None else high
    sources: list[NegativeSource] = []
    if config.conditional_negatives if conditional else config.uniform_negatives:
        k = config.conditional_negatives if conditional else config.uniform_negatives
        sources.append(UniformNegatives(low, high, k))
    if config.pivot_negatives:
        unit = y.std(0)
        sources.append(
            PivotNegatives(config.pivot_scales, config.pivot_negatives, unit, config.pivot_rows)
        )
    return sources


def fit_energy(
    model: EnergyMLP,
    y: Tensor,
    x: Tensor | None = None,
    *,
    config: TrainingConfig | None = None,
    negatives: Sequence[NegativeSource] | None = None,
    generator: torch.Generator | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    callback: Callable[[int, dict[str, float]], None] | None = None,
) -> EnergyTrainer:
    """Fit an energy to data y (N, y_dim), given conditions x (N, x_dim).

    Sets the model's input normalisation from the data, trains it in place, and leaves the averaged
    weights in it.

    Args:
        model: the energy.
        y: data, at least two rows.
        x: conditions, row by row; None for an unconditional energy.
        config: see ``TrainingConfig``; ``steps`` is ignored where ``seconds`` is given.
        negatives: sources; None takes ``default_negatives``.
        generator: source of all randomness, on the device of y.
        seconds: stop after this time; the learning rate then falls with time, not with steps.
        clock: what measures ``seconds``: wall time, or ``time.process_time`` on a shared machine.
        callback: called with (step, metrics) after every update.

    Returns:
        The trainer, with its last state.

    Raises:
        ValueError: data that is not finite or does not match the model.
        TrainingDiverged: see ``EnergyTrainer.step``.
    """
    config = config or TrainingConfig()
    _check_data(model, y, x)
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, or None to train for config.steps: {seconds}")
    if x is None:
        model.set_normalisation(y.mean(0), y.std(0))
    else:
        model.set_normalisation(y.mean(0), y.std(0), x.mean(0), x.std(0))
    if negatives is None:
        negatives = default_negatives(config, y, conditional=x is not None)
    trainer = EnergyTrainer(model, config, negatives, generator, total_steps=config.steps)
    started = clock()
    step = 0
    while seconds is not None or step < config.steps:
        index = torch.randint(len(y), (config.batch_size,), generator=generator, device=y.device)
        metrics = trainer.step(y[index], None if x is None else x[index], index)
        step += 1
        if callback is not None:
            callback(step, metrics)
        if seconds is not None:
            spent = (clock() - started) / seconds
            if spent >= 1.0:
                break
            # The schedule reads its position from the number of steps: restate their total.
            trainer.total_steps = max(step + 1, round(step / max(spent, 1e-3)))
    model.load_state_dict(trainer.averaged.state_dict())
    model.train(False)
    return trainer


def _check_data(model: EnergyMLP, y: Tensor, x: Tensor | None) -> None:
    if y.ndim != 2 or y.shape[1] != model.y_dim or len(y) < 2:
        raise ValueError(f"y must be (N, {model.y_dim}) with N >= 2, got {tuple(y.shape)}")
    wanted = (len(y), model.x_dim) if model.x_dim else None
    given = None if x is None else tuple(x.shape)
    if given != wanted:
        raise ValueError(f"x must be {wanted} for this energy and {len(y)} rows of y, got {given}")
    for name, value in (("y", y), ("x", x)):
        if value is not None and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds NaN or infinite values: remove those rows")
