"""Spaces of a goal environment, and its observations and actions as flat rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from hierebm.goal_env.faults import INTACT, observation_fault
from hierebm.types import LARGEST, FloatArray, GoalObservation

KEYS = ("observation", "achieved_goal", "desired_goal")


class GoalSpaces:
    """The checked spaces of a goal environment, and actions scaled to and from [-1, 1].

    Warns of images, which are not treated as such.

    Raises:
        TypeError, ValueError: what is wrong with a space, by key, and the remedy.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        if not isinstance(observation_space, spaces.Dict):
            raise TypeError(
                f"the observation space is {type(observation_space).__name__}, but a goal "
                f"environment has a Dict with the keys {', '.join(KEYS)}; wrap the environment "
                "so that it says which goal it pursues and which one it has achieved"
            )
        missing = [key for key in KEYS if key not in observation_space.spaces]
        if missing:
            raise ValueError(
                f"the observation space lacks the key(s) {', '.join(map(repr, missing))}; a goal "
                f"environment has {', '.join(KEYS)} (it has "
                f"{', '.join(map(repr, observation_space.spaces))})"
            )
        for key in KEYS:
            if not isinstance(observation_space[key], spaces.Box):
                raise TypeError(
                    f"observation_space[{key!r}] is {type(observation_space[key]).__name__}; only "
                    "Box is supported: hierebm.goal_env.wrappers.FlattenGoalEnv(env) makes one "
                    "array of its parts, also where goals are compared"
                )
            shape = observation_space[key].shape or ()
            if len(shape) > 2:
                warnings.warn(
                    f"observation_space[{key!r}] looks like images, {shape}: they are flattened "
                    f"into {_size(observation_space[key])} numbers for networks that know nothing "
                    "of pixels; give features of them instead",
                    stacklevel=2,
                )
        if observation_space["achieved_goal"].shape != observation_space["desired_goal"].shape:
            raise ValueError(
                "achieved_goal and desired_goal must have one shape, they have "
                f"{observation_space['achieved_goal'].shape} and "
                f"{observation_space['desired_goal'].shape}"
            )
        if not isinstance(action_space, spaces.Box):
            raise TypeError(
                f"the action space is {type(action_space).__name__}; the low level is DDPG and "
                "needs a continuous one (Box)"
            )
        if not np.issubdtype(action_space.dtype, np.floating):
            raise TypeError(
                f"the actions are {action_space.dtype}, not floating-point numbers; the low level "
                "is DDPG and needs continuous ones"
            )
        widest = float(np.abs([action_space.low, action_space.high]).max(initial=0.0))
        if not widest <= LARGEST:
            kind = f"bounds of {widest:g}" if np.isfinite(widest) else "infinite bounds"
            raise ValueError(
                f"the action space has {kind} and the actor needs finite ones; wrap the "
                "environment in gymnasium.wrappers.TransformAction(env, lambda action: action, "
                "Box(low, high)). Leave ClipAction out: it hides the bounds, and actions keep "
                "to them anyway"
            )
        if unseen := [key for key in observation_space.spaces if key not in KEYS]:
            first = unseen[0]
            warnings.warn(
                f"these agents do not look at {', '.join(map(repr, unseen))} of the observation: "
                "where it matters, make it part of 'observation', e.g. by hierebm.goal_env."
                f"wrappers.FlattenGoalEnv(env, join=({first!r},))",
                stacklevel=2,
            )
        # Whether a data set told them: of observations it knows the length only.
        self.from_data = False
        # Whatever else the environment observes is not for this agent.
        self.observation_space = spaces.Dict({key: observation_space[key] for key in KEYS})
        self.action_space = action_space
        self.obs_dim = _size(observation_space["observation"])
        self.goal_dim = _size(observation_space["desired_goal"])
        self.action_dim = _size(action_space)
        low, high = action_space.low.reshape(-1), action_space.high.reshape(-1)
        edges = np.cumsum([0, self.obs_dim, self.goal_dim, self.goal_dim])
        self._width = int(edges[-1])
        self._columns = [slice(a, b) for a, b in pairwise(edges.tolist())]
        self._action_shape = (-1, *action_space.shape)
        self._middle = ((high + low) / 2).astype(np.float32)
        self._half_range = ((high - low) / 2).astype(np.float32)
        self._is_scaled = bool((low != -1.0).any() or (high != 1.0).any())
        self._low, self._high = low, high

    @classmethod
    def of_data(
        cls, obs_dim: int, goal_dim: int, action_low: FloatArray, action_high: FloatArray
    ) -> GoalSpaces:
        """What a data set tells of an environment: lengths, and (action_dim,) bounds of actions."""
        dims = (obs_dim, goal_dim, goal_dim)
        boxes: dict[str, Any] = {
            k: spaces.Box(-np.inf, np.inf, (n,)) for k, n in zip(KEYS, dims, strict=True)
        }
        made = cls(spaces.Dict(boxes), spaces.Box(action_low, action_high, dtype=np.float32))
        made.from_data = True
        return made

    @classmethod
    def of(cls, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> GoalSpaces:
        """The spaces of an environment, or of each environment of a vector."""
        if isinstance(env, VectorEnv):
            return cls(env.single_observation_space, env.single_action_space)
        return cls(env.observation_space, env.action_space)

    def check_fits(self, other: GoalSpaces, what: str) -> None:
        """Raise ValueError unless flat observations and actions of the others are as these.

        Args:
            what: what has the other spaces, for the message.
        """
        for name, thing in (
            ("obs_dim", "observations"), ("goal_dim", "goals"), ("action_dim", "actions"),
        ):  # fmt: skip
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"{what} has {thing} of {theirs} number(s), the agent was made for {mine}: "
                    "use what belongs to one environment, or make another agent"
                )
        if not (np.allclose(self._low, other._low) and np.allclose(self._high, other._high)):
            raise ValueError(
                f"{what} has actions from {other._low.tolist()} to {other._high.tolist()}, the "
                f"agent was made for {self._low.tolist()} to {self._high.tolist()}: load data with "
                "action_low= and action_high=, the bounds of the environment's action space"
            )

    def to_env_action(self, action: FloatArray) -> NDArray[Any]:
        """(n, action_dim) in [-1, 1] -> (n, *action_space.shape) within the bounds."""
        if self._is_scaled:
            action = self._middle + self._half_range * action
            # Rounding may have carried it beyond them.
            action = np.minimum(np.maximum(action, self._low), self._high)
        # A copy where nothing was scaled: environments may work on what they are given.
        return action.reshape(self._action_shape).astype(self.action_space.dtype)

    def is_single(self, observation: Mapping[str, Any]) -> bool:
        """Whether it is one observation; False for a batch of them.

        Raises:
            ValueError: if it is neither; names the key.
        """
        if not isinstance(observation, Mapping) or any(key not in observation for key in KEYS):
            given = list(observation) if isinstance(observation, Mapping) else type(observation)
            raise ValueError(
                f"an observation is a dict with the keys {', '.join(KEYS)}, not {given}"
            )
        shapes = [np.shape(observation[key]) for key in KEYS]
        wanted = [self.observation_space[key].shape or () for key in KEYS]
        if shapes == wanted:
            return True
        # What most keys have in front is what the others should have.
        leads = [s[: len(s) - len(one)] for s, one in zip(shapes, wanted, strict=True)]
        n = max(leads, key=leads.count)[:1]
        for key, shape, one in zip(KEYS, shapes, wanted, strict=True):
            if shape != (*n, *one):
                raise ValueError(
                    f"observation[{key!r}] has the shape {shape}; it takes {one}, or (n, "
                    f"{', '.join(map(str, one))}) with one n for all keys"
                )
        return False

    def flatten(
        self, observation: Any, n: int | None = None, where: str = "the observation"
    ) -> GoalObservation:
        """A batched Dict observation as flat float32 rows.

        Args:
            n: how many rows there have to be; None for any number.
            where: whose observation it is, and when, for the message.

        Raises:
            ValueError: a key is missing, or its values are of another shape, no numbers, NaN,
                infinite or too large to work with; names the key and the row.
        """
        try:
            # Copies: environments may write their next state into the same memory.
            rows = np.empty((len(observation["observation"]), self._width), np.float32)
            parts = [rows[:, columns] for columns in self._columns]
            for key, part in zip(KEYS, parts, strict=True):
                values = np.asarray(observation[key])
                if values.dtype.kind not in "fiub" or len(values) != len(rows):
                    raise ValueError(f"observation[{key!r}]")
                part[...] = values.reshape(part.shape)
            # NaN compares as False.
            fits = np.count_nonzero(np.abs(rows) <= LARGEST) == rows.size
            if not fits or n not in (None, len(rows)):
                raise ValueError("its values")
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            fault = observation_fault(observation, self.observation_space, KEYS, n)
            fault = fault or f"does not fit {self.observation_space}"
            raise ValueError(f"{where} {fault}: {INTACT}") from error
        return GoalObservation(*parts)

    def bounds(self, key: str) -> tuple[FloatArray, FloatArray]:
        """(middle, half range) of a key's bounds, flat; infinite or NaN where a bound is."""
        box = self.observation_space[key]
        low, high = (
            bound.reshape(-1).astype(np.float64)
            for bound in (box.low, box.high)  # type: ignore[attr-defined]
        )
        # Bounds at the largest numbers there are count as none.
        with np.errstate(over="ignore", invalid="ignore"):
            middle, half_range = (high + low) / 2, (high - low) / 2
            return middle.astype(np.float32), half_range.astype(np.float32)


def _size(space: spaces.Space[Any]) -> int:
    return int(np.prod(space.shape or ()))
