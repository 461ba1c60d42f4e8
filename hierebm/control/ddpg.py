"""The low level: goal-conditioned DDPG whose critics predict the number of steps to the goal.

Deterministic policy gradients (Lillicrap et al. 2016, arXiv 1509.02971) on hindsight-relabelled
transitions, with an ensemble of distance critics (Eysenbach et al. 2019, arXiv 1906.05253).
:meth:`DistanceDDPG.update` is the algorithm; the rest gives access to what it learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.control.base import LowLevel
from hierebm.control.config import FOURIER_OCTAVES, DDPGConfig
from hierebm.control.features import GoalFeatures
from hierebm.control.heads import make_head
from hierebm.control.ranking import choose_near_goals
from hierebm.nn.flat import FlatAdam, flat_parameters, polyak_
from hierebm.nn.layers import MLP, EnsembleLinear, EnsembleMLP
from hierebm.nn.trusted import check_network
from hierebm.replay import TransitionBatch
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray, IntArray

# Rows per forward pass of a query: activations of this many rows stay in the cache.
QUERY_ROWS = 256


def reduction(name: str) -> Callable[[Tensor], Tensor]:
    """What "max", "mean" and "none" make of predictions (E, B) of an ensemble: (B,) or (E, B).

    Raises:
        ValueError: another name.
    """
    reductions: dict[str, Callable[[Tensor], Tensor]] = {
        "max": lambda steps: steps.amax(0),
        "mean": lambda steps: steps.mean(0),
        "none": lambda steps: steps,
    }
    if name not in reductions:
        raise ValueError(f"reduce must be one of {sorted(reductions)}, got {name!r}")
    return reductions[name]


# Weight of the mean squared pre-tanh action; without it the actor saturates for good.
PREACTIVATION_PENALTY = 0.05
# It keeps actions from the bounds, where the fastest policy would often be: 0.94 is the most that
# is seen. Actions of this size are taken in full where nothing is learned from them.
FULL_ACTION = 0.6


class DistanceDDPG(LowLevel):
    """Actor, critic ensemble and their targets.

    Networks of your own: override :meth:`make_actor` and :meth:`make_critics`.

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
        self.config = config
        self.device = torch.device(device)
        self._is_direct = action_dim == goal_dim
        # Whether an update had a behaviour term.
        self.held_to_data = False
        self.head = make_head(config.critic, config.max_distance)
        self.features = GoalFeatures(
            obs_dim, goal_dim, config.fourier_features, FOURIER_OCTAVES, generator
        ).to(self.device)
        actor_in, critic_in = self.features.out_dim, self.features.out_dim + action_dim

        def networks() -> tuple[nn.Module, nn.Module]:
            actor = self.make_actor(actor_in, action_dim, generator)
            critics = self.make_critics(critic_in, self.head.out_dim, generator)
            return actor.to(self.device), critics.to(self.device)

        self.actor, self.critics = networks()
        self.actor_target, self.critics_target = networks()
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.critics_target.load_state_dict(self.critics.state_dict())
        self._flat_actor, self._flat_critics = map(flat_parameters, (self.actor, self.critics))
        self._flat_actor_target = flat_parameters(self.actor_target)
        self._flat_critics_target = flat_parameters(self.critics_target)
        self.actor_optimizer = FlatAdam(self._flat_actor, lr=config.actor_lr, name="actor")
        self.critic_optimizer = FlatAdam(self._flat_critics, lr=config.critic_lr, name="critics")

    def make_actor(self, in_dim: int, out_dim: int, generator: torch.Generator) -> nn.Module:
        """A network (B, in_dim) -> (B, out_dim), actions before the tanh.

        Override it for an actor of your own; it is called twice, for the target network too.
        """
        return MLP(in_dim, self.config.hidden_sizes, out_dim, generator=generator)

    def make_critics(self, in_dim: int, out_dim: int, generator: torch.Generator) -> nn.Module:
        """A network (B, in_dim) -> (E, B, out_dim), E critics side by side.

        Override it for critics of your own; it is called twice, for the target network too.
        """
        c = self.config
        return EnsembleMLP(c.n_critics, in_dim, c.hidden_sizes, out_dim, generator=generator)

    # ------------------------------------------------------------------ learning

    def update(self, batch: TransitionBatch, behavior_weight: float = 0.0) -> dict[str, float]:
        """One gradient step of critics and actor, then a step of the targets.

        Args:
            batch: B rows of experience, each with a goal.
            behavior_weight: w >= 0 of the behaviour term, w / B sum |actor(s, g) - a|^2, added to
                the actor's loss (TD3+BC, Fujimoto & Gu 2021, arXiv 2106.06860, section 5). Their
                lambda, on the other term, brings Q to a common size; here that term is in steps in
                every environment, and so is w.

        Returns:
            ``train/critic_loss`` (summed over the ensemble), ``train/actor_loss`` (mean predicted
            steps plus penalty plus weighted behaviour term), ``train/distance_mean`` (predicted
            steps of the batch) and, with a weight, ``train/behavior_loss`` (the term without it).

        Raises:
            TrainingDiverged: loss, gradient or weights of the critics or the actor are NaN,
                infinite or absurdly large; the networks are lost.
        """
        observation, achieved, action, next_observation, next_achieved, goal = map(
            self._tensor,
            (
                batch.observation,
                batch.achieved_goal,
                batch.action,
                batch.next_observation,
                batch.next_achieved_goal,
                batch.goal,
            ),
        )
        reached, failure = map(self._tensor, (batch.reached, batch.failure))
        features = self.features(observation, achieved, goal)
        # An update that was interrupted may have left them constants.
        self.critics.requires_grad_(True)

        with torch.no_grad():
            next_features = self.features(next_observation, next_achieved, goal)
            next_action = torch.tanh(self.actor_target(next_features))
            next_outputs = self.critics_target(torch.cat([next_features, next_action], -1))
            target = self.head.bootstrap(next_outputs, reached, failure)

        outputs = self.critics(torch.cat([features, action], -1))
        critic_loss = self.head.loss(outputs, target)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step(critic_loss)

        # The critics are constants here: no gradient of their weights is computed.
        self.critics.requires_grad_(False)
        pre_tanh = self.actor(features)
        chosen = torch.tanh(pre_tanh)
        outputs_pi = self.critics(torch.cat([features, chosen], -1))
        distance = self.head.distance(outputs_pi).mean()
        actor_loss = distance + PREACTIVATION_PENALTY * pre_tanh.square().mean()
        behavior = {}
        if behavior_weight:
            self.held_to_data = True
            error = (chosen - action).square().sum(-1)
            imitation = error.mean()
            actor_loss = actor_loss + behavior_weight * imitation
            behavior["train/behavior_loss"] = float(imitation.detach())
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step(actor_loss)
        self.critics.requires_grad_(True)

        polyak_(self._flat_actor_target, self._flat_actor, self.config.tau)
        polyak_(self._flat_critics_target, self._flat_critics, self.config.tau)
        return {
            "train/critic_loss": float(critic_loss.detach()),
            "train/actor_loss": float(actor_loss.detach()),
            "train/distance_mean": float(distance.detach()),
            **behavior,
        }

    # ------------------------------------------------------------------- queries

    def act(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(B, obs_dim), (B, goal_dim), (B, goal_dim) -> (B, action_dim) in [-1, 1], no noise.

        Those of the policy; where it was ever held to a data set (``held_to_data``) and the goal is
        near, those that the critics rank first (:mod:`~hierebm.control.ranking`).
        """
        action = self.policy(observation, achieved_goal, goal)
        if not self.held_to_data:
            return action
        with torch.no_grad():
            features = self.features(*map(self._tensor, (observation, achieved_goal, goal)))

            def steps(rows: IntArray, candidates: Tensor) -> Tensor:
                m, k, _ = candidates.shape
                state = features[self._tensor(rows)].repeat_interleave(k, 0)
                inputs = torch.cat([state, self._tensor(candidates).flatten(0, 1)], -1)
                return self.head.distance(self.critics(inputs)).amax(0).view(m, k).cpu()

            return choose_near_goals(action, steps)

    def at_full(self, action: FloatArray) -> FloatArray:
        """See :class:`LowLevel`. Where actions have as many axes as goals, they push the goal's own
        axes, and more is faster. A hand or a leg is moved exactly as it was learned, and so is all
        that was held to the actions of a data set (``held_to_data``)."""
        if self.held_to_data or not self._is_direct:
            return action
        full: FloatArray = np.clip(action / np.float32(FULL_ACTION), -1.0, 1.0)
        return full

    @torch.no_grad()
    def policy(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """The actor's actions, as :meth:`act`."""
        features = self.features(*map(self._tensor, (observation, achieved_goal, goal)))
        action: FloatArray = torch.tanh(self.actor(features)).cpu().numpy()
        return action

    @torch.no_grad()
    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        """Predicted steps under the policy, (B,) float32 in [1, max_distance].

        Args:
            observation, achieved_goal, goal: (B, ...) rows.
            reduce: over the ensemble: "max" (what planning trusts), "mean", or "none" (E, B).

        Raises:
            ValueError: another ``reduce``.
        """
        over_ensemble = reduction(reduce)
        inputs = [self._tensor(x) for x in (observation, achieved_goal, goal)]
        parts = []
        for observation_, achieved_, goal_ in zip(
            *(x.split(QUERY_ROWS) for x in inputs), strict=True
        ):
            features = self.features(observation_, achieved_, goal_)
            action = torch.tanh(self.actor(features))
            parts.append(self.head.distance(self.critics(torch.cat([features, action], -1))))
        steps = over_ensemble(torch.cat(parts, dim=1))
        result: FloatArray = steps.clamp(1.0, self.config.max_distance).cpu().numpy()
        return result

    def fit_scale(self, scales: InputScales) -> None:
        """Scale the networks' inputs, once, before training.

        Raises:
            ValueError: a scale that is not positive.
        """
        self.features.fit(scales)

    @torch.no_grad()
    def refit_scale(self, scales: InputScales) -> None:
        """Scale inputs otherwise, and the first layers the other way: all networks compute the same
        function, but for inputs that were cut off. Networks of your own keep their inputs.
        """
        if type(self.actor) is not MLP or type(self.critics) is not EnsembleMLP:
            return
        slope, intercept = self.features.compare(scales)
        columns = slice(len(slope))
        new = self.features.scaled(scales)
        for actor in (self.actor, self.actor_target):
            first = cast("nn.Linear", cast("MLP", actor).layers[0])
            weight = first.weight[:, columns]
            new += [(first.bias, first.bias + weight @ intercept), (weight, weight * slope)]
        for critics in (self.critics, self.critics_target):
            ensemble = cast("EnsembleLinear", cast("EnsembleMLP", critics).layers[0])
            weight = ensemble.weight[:, columns]
            bias = ensemble.bias + (intercept @ weight)[:, None]
            new += [(ensemble.bias, bias), (weight, weight * slope[:, None])]
        # In one call, which no interrupt can split: inputs and weights belong together.
        torch._foreach_copy_([old for old, _ in new], [value for _, value in new])

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as (nested) dicts of tensors."""
        return {
            "features": self.features.state_dict(),
            "actor": self.actor.state_dict(),
            "critics": self.critics.state_dict(),
            "actor_target": self.actor_target.state_dict(),
            "critics_target": self.critics_target.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "behavior": {"held_to_data": torch.tensor(self.held_to_data)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place.

        Raises:
            KeyError, ValueError, RuntimeError: it is of other networks, or none that training
                leaves.
        """
        # Older files do not say.
        self.held_to_data = bool(state.get("behavior", {}).get("held_to_data", False))
        # Older files have Fourier features of full size.
        features = {"wave_size": torch.ones(1), **state["features"]}
        for name in self.state_dict():
            if name == "behavior":
                continue
            part = getattr(self, name)
            part.load_state_dict(features if name == "features" else state[name])
            if isinstance(part, nn.Module):
                check_network(part, name)
