"""A model of Stable-Baselines3 as low level: DDPG, TD3 or SAC, trained here or frozen.

Importing this module needs Stable-Baselines3; nothing else in the package imports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from hierebm.control.base import LowLevel
from hierebm.replay import TransitionBatch
from hierebm.types import FloatArray

try:
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.policies import ContinuousCritic
    from stable_baselines3.common.type_aliases import DictReplayBufferSamples
except ModuleNotFoundError as error:
    raise ImportError(
        "a low level of Stable-Baselines3 needs that library: pip install stable-baselines3"
    ) from error

KEYS = ("observation", "achieved_goal", "desired_goal")
# Rows per forward pass of a query; more would only take memory.
QUERY_ROWS = 4096
# A Q within this share of its range from its lowest value does not tell distances apart any more.
RESOLUTION = 0.01


def largest_distance(gamma: float) -> float:
    """The steps beyond which a discounted Q does not tell distances apart: 91 for 0.95.

    Where ``gamma ** (steps - 1)`` is 1% of what it is at the goal.
    """
    return 1.0 + math.log(RESOLUTION) / math.log(gamma)


def steps_of_q(q: Tensor, gamma: float) -> Tensor:
    """Steps to the goal from the discounted return Q of a reward of -1, and 0 on the last step.

    A goal that is d steps away is paid for with d - 1 times -1, so
    ``Q = -(1 - gamma ** (d - 1)) / (1 - gamma)`` and
    ``d = 1 + log(1 + (1 - gamma) Q) / log(gamma)``.

    Returns:
        Of the shape of ``q``, in [1, ``largest_distance(gamma)``].
    """
    left = (1.0 + (1.0 - gamma) * q).clamp(RESOLUTION, 1.0)
    return 1.0 + left.log() / math.log(gamma)


class SB3LowLevel(LowLevel):
    """Acts by a model's actor and reads distances off its critics.

    ``HierarchicalEBMAgent(low_level=SB3LowLevel(model))`` trains the model further, by its own
    ``train`` method, on this package's relabelled transitions: reward -1, and 0 where the goal is
    reached; the terminal flag is that of the relabelled goal. A model that was trained elsewhere
    (``frozen=True``) must have been trained with such rewards: its Q could not be read otherwise.

    Distances are those of the policy that acts, at its deterministic actions. SAC's critics count
    the entropy of the steps ahead, too: a step costs 1 - gamma * ent_coef * entropy instead of 1.
    Goals look far too near while the policy is broad (0.74 a step after 2500 steps in four rooms)
    and a little too far once it is narrow (1.04 a step from 5000 steps on: half a step to three
    more than the policy then takes to goals up to 15 steps away).

    The model is used as it is, not copied; loading an agent restores its networks in place. Its
    replay buffer, logger and random numbers are left alone. A schedule of the learning rate stays
    at its beginning: it follows the progress of the model's own ``learn``.

    Args:
        model: DDPG, TD3 or SAC (or another off-policy algorithm with such critics) with
            ``MultiInputPolicy``, on a device of its own.
        frozen: never train it; the agent then learns only its high level.
        gamma: discount that the critics were trained with; None takes the model's.

    Raises:
        TypeError: a model of another kind.
        ValueError: a model of other observations than the three keys of goal environments, one
            whose observations ``VecNormalize`` scales, a discount that gives no distances, or a
            frozen model of other rewards.
    """

    has_behavior_term = False

    def __init__(self, model: Any, *, frozen: bool = False, gamma: float | None = None) -> None:
        _check_model(model)
        self.model, self.trainable = model, not frozen
        self.gamma = float(model.gamma if gamma is None else gamma)
        if not 0.0 < self.gamma < 1.0:
            raise ValueError(
                f"gamma must be above 0 and below 1, got {self.gamma:g}: a distance is read off "
                "how far rewards are discounted; train the model with gamma=0.95, say"
            )
        if frozen:
            _check_rewards(model)
        elif self.gamma != model.gamma:
            raise ValueError(
                f"the model would be trained with its gamma={model.gamma:g} and read with "
                f"{self.gamma:g}: leave gamma out, or give it with frozen=True"
            )
        self._shapes = {key: model.observation_space[key].shape for key in KEYS}
        # Stable-Baselines3 draws from torch's global generators. Streams of our own take their
        # place while it trains.
        self._generators = [torch.default_generator]
        if model.device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[model.device.index or 0])
        streams = [torch.Generator(generator.device) for generator in self._generators]
        self._random = [stream.manual_seed(model.seed or 0).get_state() for stream in streams]

    @classmethod
    def build(cls, *args: Any, **kwargs: Any) -> SB3LowLevel:
        """Raise TypeError: only an instance knows which model it wraps."""
        raise TypeError(
            "SB3LowLevel wraps a model: give low_level=SB3LowLevel(model); to load an agent, a "
            "model with the same networks, load(path, low_level=SB3LowLevel(model))"
        )

    def check_spaces(self, observation_space: spaces.Dict, action_space: spaces.Box) -> None:
        """Raise ValueError where the model was made for other spaces."""
        wanted = {key: observation_space[key].shape for key in KEYS}
        if self._shapes != wanted:
            raise ValueError(
                f"the model was made for observations of the shapes {self._shapes}, the "
                f"environment has {wanted}: give a model that was made in such an environment"
            )
        own = self.model.action_space
        if own.shape != action_space.shape or not (
            np.allclose(own.low, action_space.low) and np.allclose(own.high, action_space.high)
        ):
            raise ValueError(
                f"the model was made for the actions {own}, the environment takes {action_space}: "
                "give a model that was made in such an environment"
            )

    # ------------------------------------------------------------------- queries

    @torch.no_grad()
    def act(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(n, obs_dim), (n, goal_dim), (n, goal_dim) -> (n, action_dim) in [-1, 1], no noise."""
        self._evaluate()
        action = self._action(self._inputs(observation, achieved_goal, goal))
        result: FloatArray = action.numpy(force=True)
        return result

    @torch.no_grad()
    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        """(n,) float32 predicted steps in [1, ``largest_distance(gamma)``]; see the class.

        Args:
            observation, achieved_goal, goal: (n, ...) rows.
            reduce: over the critics: "max" (the smallest Q) or "mean" (the mean Q).

        Raises:
            ValueError: another ``reduce``.
        """
        if reduce not in ("max", "mean"):
            raise ValueError(f"reduce must be max or mean, got {reduce!r}")
        self._evaluate()
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(goal), QUERY_ROWS):
            rows = slice(start, start + QUERY_ROWS)
            inputs = self._inputs(observation[rows], achieved_goal[rows], goal[rows])
            q = torch.cat(self.model.critic(inputs, self._action(inputs)), dim=1)
            q = q.amin(1) if reduce == "max" else q.mean(1)
            parts.append(steps_of_q(q, self.gamma).numpy(force=True))
        return np.concatenate(parts)

    def _evaluate(self) -> None:
        """Turn off what only training needs, such as dropout."""
        if self.model.policy.training:
            self.model.policy.set_training_mode(False)

    def _inputs(self, *rows: FloatArray) -> dict[str, Tensor]:
        """Flat rows of the three keys as the model takes them."""
        return {
            key: self._tensor(values).reshape(-1, *self._shapes[key])
            for key, values in zip(KEYS, rows, strict=True)
        }

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.model.device)

    def _action(self, inputs: dict[str, Tensor]) -> Tensor:
        """(n, action_dim) deterministic actions in [-1, 1]."""
        policy, space = self.model.policy, self.model.action_space
        action: Tensor = policy._predict(inputs, deterministic=True)
        action = action.reshape(len(action), -1)
        if policy.squash_output:
            return action
        low, high = self._tensor(space.low).reshape(-1), self._tensor(space.high).reshape(-1)
        return (2.0 * (action - low) / (high - low) - 1.0).clamp(-1.0, 1.0)

    # ------------------------------------------------------------------ learning

    def update(self, batch: TransitionBatch, behavior_weight: float = 0.0) -> dict[str, float]:
        """One gradient step by the model's own ``train``.

        Returns:
            What the model records: ``train/critic_loss`` and, where its actor was trained,
            ``train/actor_loss``, for SAC also ``train/ent_coef`` and its loss.

        Raises:
            TypeError: if the model is frozen.
            ValueError: for a ``behavior_weight``, which its losses know nothing of.
        """
        if not self.trainable:
            return super().update(batch)
        if behavior_weight:
            raise ValueError(
                f"{type(self.model).__name__} of Stable-Baselines3 has no behaviour term: pass "
                "behavior_weight=0, or learn with the low level of this package"
            )
        logger = Logger(None, [])
        mine = {"replay_buffer": _OneBatch(self._samples(batch)), "_logger": logger}
        start = {"_current_progress_remaining": 1.0}
        with _swapped(self.model, {**mine, **start}), self._own_randomness():
            self.model.train(gradient_steps=1, batch_size=len(batch.goal))
        # The agent counts the updates itself.
        recorded = {k: v for k, v in logger.name_to_value.items() if k != "train/n_updates"}
        return {key: float(value) for key, value in recorded.items()}

    def _samples(self, batch: TransitionBatch) -> DictReplayBufferSamples:
        # Where no goal will ever be reached, no step is the last one: paid for ever.
        never = -1.0 / (1.0 - self.gamma)
        reward = np.where(batch.reached, 0.0, np.where(batch.failure, never, -1.0))
        after = batch.next_observation, batch.next_achieved_goal
        return DictReplayBufferSamples(
            observations=self._inputs(batch.observation, batch.achieved_goal, batch.goal),
            actions=self._tensor(batch.action),
            next_observations=self._inputs(*after, batch.goal),
            dones=self._tensor(batch.reached | batch.failure)[:, None],
            rewards=self._tensor(reward)[:, None],
        )

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Draw from streams of our own: runs repeat, and no other draws change."""
        theirs = [generator.get_state() for generator in self._generators]
        for generator, state in zip(self._generators, self._random, strict=True):
            generator.set_state(state)
        try:
            yield
        finally:
            self._random = [generator.get_state() for generator in self._generators]
            for generator, state in zip(self._generators, theirs, strict=True):
                generator.set_state(state)

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimisers, entropy coefficient, counter and random streams."""
        _, variables = self.model._get_torch_save_params()
        return {
            "parameters": self.model.get_parameters(),
            "variables": {name: attrgetter(name)(self.model).detach() for name in variables},
            "n_updates": self.model._n_updates,
            "random": self._random,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place.

        Raises:
            ValueError, RuntimeError: it is of another kind of model, or of other networks.
        """
        own = self.state_dict()
        for kind in ("parameters", "variables"):
            if set(state[kind]) != set(own[kind]):
                raise ValueError(
                    f"the file has {', '.join(state[kind])}, this {type(self.model).__name__} has "
                    f"{', '.join(own[kind])}: give a model of the kind that was saved"
                )
        self.model.set_parameters(state["parameters"], exact_match=True, device=self.model.device)
        for name, value in state["variables"].items():
            attrgetter(name)(self.model).data.copy_(value)
        self.model._n_updates = state["n_updates"]
        # On another device than where it was saved, that device's own stream begins again.
        self._random[: len(state["random"])] = state["random"][: len(self._random)]


class _OneBatch:
    """Takes the place of a replay buffer and has one batch to give."""

    def __init__(self, samples: DictReplayBufferSamples) -> None:
        self._samples = samples

    def sample(self, batch_size: int, env: Any = None) -> DictReplayBufferSamples:
        """The batch, whose size was asked for."""
        return self._samples


@contextmanager
def _swapped(target: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Attributes have other values for a while; those that were not there are gone afterwards."""
    before = {name: getattr(target, name) for name in values if hasattr(target, name)}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                setattr(target, name, before[name])
            else:
                delattr(target, name)


def _check_model(model: Any) -> None:
    kind = type(model).__name__
    if not isinstance(model, OffPolicyAlgorithm):
        raise TypeError(
            f"the model must be DDPG, TD3 or SAC of Stable-Baselines3, got {kind}: an on-policy "
            "model has no critic of (state, goal, action) to read distances off"
        )
    if not isinstance(model.action_space, spaces.Box) or not isinstance(
        getattr(model, "critic", None), ContinuousCritic
    ):
        raise TypeError(
            f"{kind} has no critic of continuous actions that gives one Q each: take DDPG, TD3 or "
            "SAC"
        )
    observed = model.observation_space
    if not isinstance(observed, spaces.Dict) or set(observed.spaces) != set(KEYS):
        raise ValueError(
            f"the model must observe {', '.join(KEYS)} and nothing else, it was made for "
            f'{observed}: make it with "MultiInputPolicy" in the goal environment itself, without '
            "FlattenObservation and the like"
        )
    if model.get_vec_normalize_env() is not None:
        raise ValueError(
            "the model's observations and rewards are scaled by VecNormalize, and its statistics "
            "are no part of the model: train it in the environment without VecNormalize"
        )


def _check_rewards(model: Any) -> None:
    """Raise ValueError where the environment that trained the model does not pay 0 at the goal."""
    if model.env is None or not model.env.has_attr("compute_reward"):
        return
    goal = np.zeros(model.observation_space["desired_goal"].shape, np.float32)
    paid = float(np.squeeze(model.env.env_method("compute_reward", goal, goal, {}, indices=[0])[0]))
    if paid != 0.0:
        raise ValueError(
            f"the model's environment pays {paid:g} at the goal, but distances are read off "
            "rewards of -1 for each step and 0 at the goal: train the model with those, or let it "
            "learn here (frozen=False)"
        )
