"""The low level on a GPU: updates and queries as CUDA graphs, one launch each.

Same maths, same networks and files as the reference (:mod:`~hierebm.control.ddpg`), within
rounding. Everything here runs on the CPU too, one operation after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from hierebm.control.config import DDPGConfig
from hierebm.control.ddpg import DistanceDDPG, reduction
from hierebm.control.device_learner import BatchSource, DeviceLearner
from hierebm.control.device_update import DeviceUpdate, Learned
from hierebm.nn.capture import Captured, product_precision, sent
from hierebm.nn.layers import MLP, EnsembleMLP
from hierebm.replay import TransitionBatch
from hierebm.replay.device_batches import HostBatches
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

# Rows of a query are filled up to one of these numbers, each of which has a graph of its own.
QUERY_ROWS = (1, 16, 64, 256, 1024, 4096, 16384)
# Queries of a size before it gets one.
CALLS_BEFORE = 20


class CapturedDDPG(DistanceDDPG):
    """:class:`DistanceDDPG` whose update and queries are recorded once and replayed.

    :meth:`update` takes a batch from the host and says at once what came of it, as the parent's.
    Faster is :meth:`update_from`, with batches that are drawn on the device: nothing is waited for,
    and :meth:`take_metrics` says later what came of it.

    Args:
        obs_dim, goal_dim, action_dim: lengths of the flat vectors.
        config: settings.
        generator: source of the initial parameters and frequencies.
        device: where the networks live.
    """

    def __init__(
        self,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        config: DDPGConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(obs_dim, goal_dim, action_dim, config, generator, device)
        self._query_widths = obs_dim, goal_dim, goal_dim
        self.learned = Learned(
            self.features,
            self.head,
            cast("MLP", self.actor),
            cast("EnsembleMLP", self.critics),
            cast("MLP", self.actor_target),
            cast("EnsembleMLP", self.critics_target),
            self._flat_actor_target,
            self._flat_critics_target,
            self.actor_optimizer,
            self.critic_optimizer,
        )
        self._learner = DeviceLearner(DeviceUpdate(self.learned))
        self._queries: dict[Any, _Query] = {}
        # Batches of the host, by their number of rows.
        self._sent: dict[int, HostBatches] = {}

    # ------------------------------------------------------------------ learning

    def update(self, batch: TransitionBatch, behavior_weight: float = 0.0) -> dict[str, float]:
        """One gradient step of critics and actor, then a step of the targets; see the parent."""
        n = len(batch.goal)
        if n not in self._sent:
            widths = batch.observation.shape[1], batch.goal.shape[1], batch.action.shape[1]
            self._sent[n] = HostBatches(lambda: batch, n, widths, self.device)
        source = self._sent[n]
        source.sample = lambda: batch
        self.update_from(source, 1, behavior_weight)
        return self.take_metrics()

    def update_from(self, source: BatchSource, n: int, behavior_weight: float = 0.0) -> None:
        """n updates on batches of the source; see :meth:`DeviceLearner.learn`."""
        self.held_to_data = self.held_to_data or behavior_weight > 0.0
        self._learner.learn(source, n, self.config.tau, behavior_weight)

    def take_metrics(self) -> dict[str, float]:
        """Means over the updates since they were taken last, as :meth:`update` returns them; none
        if there were no updates.

        Raises:
            TrainingDiverged: the networks are lost, in an update that was not looked at before.
        """
        return self._learner.take_metrics()[0]

    # ------------------------------------------------------------------- queries

    def policy(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(B, ...) rows -> (B, action_dim) in [-1, 1], no noise; see the parent."""
        return self._ask("policy", (observation, achieved_goal, goal))

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        """Predicted steps under the policy, (B,) float32 in [1, max_distance]; see the parent."""
        over_ensemble = reduction(reduce)
        steps = torch.from_numpy(self._ask("distance", (observation, achieved_goal, goal)))
        # Of each row, the ensemble came last.
        result: FloatArray = over_ensemble(steps.T).clamp(1.0, self.config.max_distance).numpy()
        return result

    def _ask(self, what: str, rows: tuple[FloatArray, ...]) -> FloatArray:
        """(B, ...) of "policy", the actions, or of "distance", the steps of each critic."""
        answers = []
        for start in range(0, max(len(rows[0]), 1), QUERY_ROWS[-1]):
            some = [part[start : start + QUERY_ROWS[-1]] for part in rows]
            size = next(size for size in QUERY_ROWS if size >= len(some[0]))
            key = what, size, product_precision()
            if key not in self._queries:
                answer = self._actions if what == "policy" else self._steps
                self._queries[key] = _Query(size, self._query_widths, answer, self.device)
            answers.append(self._queries[key](some))
        return np.concatenate(answers)

    def _actions(self, observation: Tensor, achieved_goal: Tensor, goal: Tensor) -> Tensor:
        return torch.tanh(self.actor(self.features(observation, achieved_goal, goal)))

    def _steps(self, observation: Tensor, achieved_goal: Tensor, goal: Tensor) -> Tensor:
        features = self.features(observation, achieved_goal, goal)
        inputs = torch.cat([features, torch.tanh(self.actor(features))], -1)
        return self.head.distance(self.critics(inputs)).T

    def fit_scale(self, scales: InputScales) -> None:
        """Scale the networks' inputs, once, before training; see the parent."""
        super().fit_scale(scales)
        self._learner.refresh_scales()

    def refit_scale(self, scales: InputScales) -> None:
        """Scale inputs otherwise, and the first layers the other way; see the parent."""
        super().refit_scale(scales)
        self._learner.refresh_scales()

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as (nested) dicts of tensors.

        Raises:
            TrainingDiverged: see :meth:`take_metrics`.
        """
        self._learner.check()
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place; see the parent."""
        self._learner.forget()
        super().load_state_dict(state)
        self._learner.refresh_scales()


class _Query:
    """Answers for rows of the host, as one graph for always as many rows.

    Args:
        n: rows.
        widths: of the parts of a row.
        answer: (n, widths[0]), ... -> (n, k) on the device.
        device: where.
    """

    def __init__(
        self,
        n: int,
        widths: tuple[int, ...],
        answer: Callable[..., Tensor],
        device: torch.device,
    ) -> None:
        self._rows = torch.zeros((n, sum(widths)), device=device)

        @torch.no_grad()
        def ask() -> Tensor:
            return answer(*self._rows.split(widths, -1))

        self._answer = ask().clone()

        def work() -> None:
            self._answer.copy_(ask())

        self._captured = Captured(work, [self._answer], device, CALLS_BEFORE)

    def __call__(self, rows: Sequence[FloatArray]) -> FloatArray:
        """(m, k) for m <= n rows in parts (m, widths[0]), ...; waits for the device."""
        m = len(rows[0])
        together = np.concatenate(rows, axis=1, dtype=np.float32)
        self._rows[:m].copy_(sent(together, self._rows.device), non_blocking=True)
        self._captured()
        answer: FloatArray = self._answer[:m].cpu().numpy()
        return answer.copy()
