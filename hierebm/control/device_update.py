"""The update of :class:`~hierebm.control.ddpg.DistanceDDPG` as a CUDA graph needs it.

Same maths as the reference, gradients by hand, nothing waited for, everything that stays written in
place. S agents side by side go through it together: it is one agent's update for S = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierebm.control.ddpg import PREACTIVATION_PENALTY
from hierebm.control.feature_pass import FeaturePass
from hierebm.control.features import GoalFeatures
from hierebm.control.heads import DistanceHead
from hierebm.nn.capture import Beside
from hierebm.nn.flat import FlatAdam, polyak_
from hierebm.nn.layers import MLP, EnsembleMLP
from hierebm.nn.passes import DensePass
from hierebm.nn.watch import Watch
from hierebm.replay.device_batches import DeviceBatches

METRICS = ("train/critic_loss", "train/actor_loss", "train/distance_mean", "train/behavior_loss")


class Learned(NamedTuple):
    """The networks of S agents, with flat parameters, and what trains them."""

    features: GoalFeatures
    head: DistanceHead
    actor: MLP | EnsembleMLP
    """S networks side by side."""
    critics: EnsembleMLP
    """S ensembles of E, one after the other."""
    actor_target: MLP | EnsembleMLP
    critics_target: EnsembleMLP
    actor_target_flat: Tensor
    critics_target_flat: Tensor
    actor_optimizer: FlatAdam
    critic_optimizer: FlatAdam


class _Inputs(NamedTuple):
    """Of one update of S agents."""

    features: Tensor
    """(S, B, n_features)"""
    next_features: Tensor
    """(S, B, n_features)"""
    action: Tensor
    """(S, B, action_dim)"""
    reached: Tensor
    """(S, B) bool"""
    failure: Tensor
    """(S, B) bool"""


class DeviceUpdate:
    """Some updates: a gradient step of critics and actor each, then a step of the targets.

    Args:
        learned: trained in place; its tensors have to stay where they are.
        n_agents: S.
    """

    def __init__(self, learned: Learned, n_agents: int = 1) -> None:
        self.learned, self.n_agents = learned, n_agents
        self._n_critics = learned.critics.n_members // n_agents
        device = learned.actor_optimizer.flat.device
        self._beside, self._aside = Beside(device), Beside(device)
        self._actor, self._critics, self._actor_target, self._critics_target = (
            DensePass(network, self._beside)
            for network in (
                learned.actor,
                learned.critics,
                learned.actor_target,
                learned.critics_target,
            )
        )
        self._features = FeaturePass(learned.features)
        self._optimizers = learned.critic_optimizer, learned.actor_optimizer
        self._rates = torch.zeros(2, device=self._optimizers[0].flat.device)
        self._rates_are: tuple[float, float] | None = None
        self.watch = Watch(self._optimizers, len(METRICS), n_agents)

    def set_rates(self) -> None:
        """Take the learning rates that the optimisers have now; call it before the update."""
        rates = self._optimizers[0].lr, self._optimizers[1].lr
        if rates != self._rates_are:
            self._rates.copy_(torch.tensor(rates))
            self._rates_are = rates

    def refresh_scales(self) -> None:
        """Take the scales that the features have now; call it whenever they changed."""
        self._features.refresh()

    def changed(self) -> list[Tensor]:
        """All tensors that the update changes."""
        learned = self.learned
        tensors = [self.watch.notes, learned.actor_target_flat, learned.critics_target_flat]
        for optimizer in self._optimizers:
            tensors += [optimizer.flat, optimizer.grad, *optimizer.state_dict().values()]
        return tensors

    @torch.no_grad()
    def __call__(self, batches: DeviceBatches, tau: float, behavior_weight: float = 0.0) -> None:
        """See :meth:`DistanceDDPG.update`; metrics go into :attr:`watch`."""
        for step in zip(*self._inputs(batches), strict=True):
            self._step(_Inputs._make(step), tau, behavior_weight)
        self._beside.join()
        self._aside.join()
        self.watch.write()

    def _inputs(self, b: DeviceBatches) -> list[tuple[Tensor, ...]]:
        """What the updates look at, each part by update: no update changes the features."""
        now = torch.cat([b.observation, b.achieved_goal, b.goal], -1)
        after = torch.cat([b.next_observation, b.next_achieved_goal, b.goal], -1)
        both = torch.stack([now, after], 1)
        features = self._features(both.flatten(1, -2)).view(*both.shape[:-1], -1)
        return [part.unbind(1) for part in (*features.unbind(1), b.action, b.reached, b.failure)]

    def _step(self, batch: _Inputs, tau: float, behavior_weight: float) -> None:
        learned, head, features = self.learned, self.learned.head, batch.features
        n = features.shape[1]
        with self._beside():
            next_action = torch.tanh(self._actor_target.forward(batch.next_features))
            next_outputs = self._outputs(self._critics_target, batch.next_features, next_action)
            target = head.bootstrap(next_outputs, batch.reached[:, None], batch.failure[:, None])
        with self._aside():
            pre_tanh = self._actor.forward(features)
            chosen = torch.tanh(pre_tanh)

        outputs = self._outputs(self._critics, features, batch.action)
        self._beside.join()
        self._aside.join()
        critic_loss, slope = head.loss_and_slope(outputs, target)
        self._critics.backward(slope.flatten(0, 1))
        learned.critic_optimizer.descend(self._rates[0])

        steps, slope = head.distance_and_slope(self._outputs(self._critics, features, chosen))
        distance = steps.mean((1, 2))
        slope = slope.flatten(0, 1) / (self._n_critics * n)
        to_actions = self._critics.input_gradient(slope, slice(features.shape[2], None))
        gradient = to_actions.unflatten(0, (-1, self._n_critics)).sum(1)
        # d/d(pre_tanh) of distance(tanh(pre_tanh)) + penalty * sum(pre_tanh^2)
        penalty = PREACTIVATION_PENALTY / pre_tanh[0].numel()
        actor_loss = distance + penalty * pre_tanh.square().sum((1, 2))
        imitation = torch.zeros_like(distance)
        if behavior_weight:
            error = chosen - batch.action
            imitation = error.square().sum((1, 2)) / n
            gradient.add_(error, alpha=2.0 * behavior_weight / n)
            actor_loss += behavior_weight * imitation
        gradient = torch.ops.aten.tanh_backward(gradient, chosen)
        gradient.add_(pre_tanh, alpha=2.0 * penalty)
        self._actor.backward(gradient)
        learned.actor_optimizer.descend(self._rates[1])

        with self._beside():
            polyak_(learned.actor_target_flat, learned.actor_optimizer.flat, tau)
            polyak_(learned.critics_target_flat, learned.critic_optimizer.flat, tau)
        metrics = critic_loss, actor_loss, distance, imitation
        with self._aside():
            # One operation less where one agent trains.
            losses = [loss.sum() if self.n_agents > 1 else loss[0] for loss in metrics[:2]]
            self.watch.note(metrics, losses)

    def _outputs(self, critics: DensePass, features: Tensor, action: Tensor) -> Tensor:
        """(S, E, B, out_dim) of the critics for (S, B, n_features) and (S, B, action_dim)."""
        inputs = torch.cat([features, action], -1)
        each = inputs[:, None].expand(-1, self._n_critics, -1, -1).flatten(0, 1)
        return critics.forward(each).unflatten(0, (-1, self._n_critics))
