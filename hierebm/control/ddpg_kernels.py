"""The update of :class:`~hierebm.control.ddpg.DistanceDDPG` with hand-written passes.

Same maths, same order, same random numbers: from one seed both learn the same thing within
rounding. What is saved is everything around the products: graph, fresh memory for every
activation (page faults cost as much as the products themselves), zeroing, copies. On the CPU
:func:`make_ddpg` picks this class unless told otherwise, and on CUDA
:class:`~hierebm.control.ddpg_captured.CapturedDDPG`; custom networks take the reference path.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from hierebm.at_once import set_at_once
from hierebm.control.acting import ActingPass
from hierebm.control.config import DDPGConfig
from hierebm.control.ddpg import PREACTIVATION_PENALTY, QUERY_ROWS, DistanceDDPG, reduction
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.features import FeatureWriter
from hierebm.control.heads import CategoricalHead
from hierebm.nn.flat import polyak_
from hierebm.nn.kernels import DenseKernel
from hierebm.nn.layers import MLP, EnsembleMLP
from hierebm.nn.losses import cross_entropy_, expected_value_, flush_, squared_error_
from hierebm.nn.scratch import Scratch
from hierebm.replay import TransitionBatch
from hierebm.types import FloatArray


class FastDistanceDDPG(DistanceDDPG):
    """:class:`DistanceDDPG` whose update and queries run without autograd, in reused buffers.

    Networks, optimisers and ``state_dict`` are the parent's own, so that either class loads what
    the other saved and ``DistanceDDPG.update(self, batch)`` still is the reference update.

    Args:
        obs_dim, goal_dim, action_dim: lengths of the flat vectors.
        config: settings.
        generator: source of the initial parameters and frequencies.
        device: must be the CPU.

    Raises:
        ValueError: on another device.
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
        if torch.device(device).type != "cpu":
            raise ValueError(f"the kernels are for the CPU: use DistanceDDPG on {device}")
        super().__init__(obs_dim, goal_dim, action_dim, config, generator, device)
        self._n_features, self._n_inputs = self.features.out_dim, self.features.out_dim + action_dim
        scratch = Scratch()
        actor, critics = cast("MLP", self.actor), cast("EnsembleMLP", self.critics)
        targets = cast("MLP", self.actor_target), cast("EnsembleMLP", self.critics_target)
        self._actor_kernel = DenseKernel(actor, scratch=scratch)
        self._critics_kernel = DenseKernel(critics, scratch=scratch)
        self._actor_target_kernel, self._critics_target_kernel = (
            DenseKernel(target, trainable=False, scratch=scratch) for target in targets
        )
        self._writer = FeatureWriter(self.features)
        self._acting = ActingPass(self.features, actor)
        self._input_memory = torch.empty(0, self._n_inputs)
        self._input_array = self._input_memory.numpy()
        self._steps = torch.arange(1.0, self.head.out_dim + 1)

    @classmethod
    def build(
        cls,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        config: DDPGConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> DistanceDDPG:
        """The fastest on this device: kernels on the CPU, graphs on CUDA, autograd elsewhere.

        Raises:
            ValueError: a subclass elsewhere than on the CPU.
        """
        kind: type[DistanceDDPG] = cls
        if cls is FastDistanceDDPG:
            kind = _fastest(torch.device(device))
        return kind(obs_dim, goal_dim, action_dim, config, generator, device)

    # ------------------------------------------------------------------ learning

    @torch.inference_mode()
    def update(self, batch: TransitionBatch, behavior_weight: float = 0.0) -> dict[str, float]:
        """One gradient step of critics and actor, then a step of the targets; see the parent."""
        n, n_features = len(batch.observation), self._n_features
        # One pass over the features of both states; columns of an input are [features, action].
        both = self._inputs(
            np.concatenate([batch.observation, batch.next_observation]),
            np.concatenate([batch.achieved_goal, batch.next_achieved_goal]),
            np.concatenate([batch.goal, batch.goal]),
        )
        inputs, next_inputs = both[:n], both[n:]
        actions = inputs[:, n_features:]
        actions.copy_(self._tensor(batch.action))

        self._choose_actions(next_inputs, self._actor_target_kernel)
        next_outputs = self._critics_target_kernel.forward(next_inputs)
        target = self._bootstrap(next_outputs, batch)

        outputs = self._critics_kernel.forward(inputs)
        critic_loss = self._critic_gradient(outputs, target)
        self._critics_kernel.backward()
        self.critic_optimizer.step(critic_loss)
        # Already here: the parameters are still in the cache, and the target is not asked again.
        polyak_(self._flat_critics_target, self._flat_critics, self.config.tau)

        # From here on the action columns hold the actor's own choice.
        pre_tanh = self._choose_actions(inputs, self._actor_kernel)
        distance = self._distance_gradient(self._critics_kernel.forward(inputs))
        gradient = self._critics_kernel.backward(
            parameters=False, input_columns=slice(n_features, self._n_inputs)
        )
        assert gradient is not None
        behavior = {}
        if behavior_weight:
            self.held_to_data = True
            # d/d(action) of weight / n * sum((action - batch.action)^2)
            error = actions - self._tensor(batch.action)
            gradient.add_(error, alpha=2.0 * behavior_weight / n)
            behavior["train/behavior_loss"] = float(torch.sum(error.square())) / n
        # d/d(pre_tanh) of distance(tanh(pre_tanh)) + penalty * sum(pre_tanh^2)
        penalty = PREACTIVATION_PENALTY / pre_tanh.numel()
        gradient.mul_(1.0 - actions.square()).add_(pre_tanh, alpha=2.0 * penalty)
        squares = torch.dot(pre_tanh.view(-1), pre_tanh.view(-1))
        self._actor_kernel.backward(gradient.unsqueeze(0))
        actor_loss = float(distance) + penalty * float(squares)
        if behavior:
            actor_loss += behavior_weight * behavior["train/behavior_loss"]
        self.actor_optimizer.step(actor_loss)

        polyak_(self._flat_actor_target, self._flat_actor, self.config.tau)
        return {
            "train/critic_loss": float(critic_loss),
            "train/actor_loss": actor_loss,
            "train/distance_mean": float(distance),
            **behavior,
        }

    def _inputs(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> Tensor:
        """(B, n_inputs) window of a reused buffer: features first, columns of the action unset."""
        rows = len(observation)
        if rows > len(self._input_memory):
            with torch.inference_mode(False):
                memory = torch.empty(rows, self._n_inputs)
            set_at_once(self, _input_memory=memory, _input_array=memory.numpy())
        self._writer.write(observation, achieved_goal, goal, self._input_array[:rows])
        return self._input_memory[:rows]

    def _choose_actions(self, inputs: Tensor, actor: DenseKernel) -> Tensor:
        """Let ``actor`` fill the action columns of ``inputs``; return its (B, A) pre-tanh."""
        pre_tanh = actor.forward(inputs[:, : self._n_features])[0]
        torch.tanh(pre_tanh, out=inputs[:, self._n_features :])
        return pre_tanh

    def _bootstrap(self, next_outputs: Tensor, batch: TransitionBatch) -> Tensor:
        """``head.bootstrap`` with multiplications in place of its scattered writes."""
        if not isinstance(self.head, CategoricalHead):
            return self.head.bootstrap(
                next_outputs, self._tensor(batch.reached), self._tensor(batch.failure)
            )
        lost = batch.failure & ~batch.reached
        alive = (~(batch.reached | lost)).astype(np.float32)
        probabilities = flush_(torch.softmax(next_outputs, -1))
        target = torch.empty_like(probabilities)
        torch.mul(probabilities[..., :-1], self._tensor(alive)[:, None], out=target[..., 1:])
        target[..., -1].addcmul_(probabilities[..., -1], self._tensor(alive))
        target[..., -1].add_(self._tensor(lost))
        target[..., 0].copy_(self._tensor(batch.reached))
        return target

    def _critic_gradient(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Write the gradient of ``head.loss`` at the critics' outputs; return the loss."""
        grad, weight = self._critics_kernel.output_grad, 1.0 / outputs.shape[1]
        if isinstance(self.head, CategoricalHead):
            return cross_entropy_(outputs, target, grad=grad, weight=weight)
        return squared_error_(outputs, target, grad=grad, weight=weight)

    def _distance_gradient(self, outputs: Tensor) -> Tensor:
        """Write the gradient of the mean distance at the critics' outputs; return the mean."""
        grad, weight = self._critics_kernel.output_grad, 1.0 / (outputs.shape[0] * outputs.shape[1])
        if isinstance(self.head, CategoricalHead):
            return expected_value_(outputs, self._steps, grad=grad, weight=weight).mean()
        grad.fill_(weight)
        return outputs.mean()

    # ------------------------------------------------------------------- queries

    def policy(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(B, ...) rows -> (B, action_dim) in [-1, 1], no noise; see the parent."""
        return self._acting.act(observation, achieved_goal, goal)

    @torch.inference_mode()
    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        """Predicted steps under the policy, (B,) float32 in [1, max_distance]; see the parent."""
        over_ensemble = reduction(reduce)
        rows = len(observation)
        steps = torch.empty(self.config.n_critics, rows)
        for start in range(0, rows, QUERY_ROWS):
            chunk = slice(start, min(start + QUERY_ROWS, rows))
            inputs = self._inputs(observation[chunk], achieved_goal[chunk], goal[chunk])
            self._choose_actions(inputs, self._actor_kernel)
            steps[:, chunk] = self.head.distance(self._critics_kernel.forward(inputs))
        result: FloatArray = over_ensemble(steps).clamp_(1.0, self.config.max_distance).numpy()
        return result


def make_ddpg(
    obs_dim: int,
    goal_dim: int,
    action_dim: int,
    config: DDPGConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    *,
    kernels: bool | None = None,
) -> DistanceDDPG:
    """The low level with hand-written kernels (True), with autograd (False), or the fastest (None).

    All learn the same thing from the same seed, within rounding. None takes the kernels on the
    CPU, graphs on CUDA, and autograd elsewhere; ``kernels=True`` elsewhere raises ValueError.
    """
    kind: type[DistanceDDPG] = FastDistanceDDPG if kernels else DistanceDDPG
    if kernels is None:
        kind = _fastest(torch.device(device))
    return kind(obs_dim, goal_dim, action_dim, config, generator, device)


def _fastest(device: torch.device) -> type[DistanceDDPG]:
    kinds: dict[str, type[DistanceDDPG]] = {"cpu": FastDistanceDDPG, "cuda": CapturedDDPG}
    return kinds.get(device.type, DistanceDDPG)
