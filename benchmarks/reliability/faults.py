"""The row ``faults``: what environments return wrongly, and numbers that no training survives.

Each trial breaks one thing at a random step of a short run. What is promised: ``learn`` stops with
one error that names what is wrong (key, row and step of the environment; network and update), and
the agent is as good as before: it acts, it can be saved and loaded, and it learns on in a sound
environment. Everything else counts as a loss.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import hierebm
from benchmarks.reliability.rows import Row, row
from hierebm.errors import TrainingDiverged

FULL, QUICK = 100, 40
ENV_ID, N_ENVS = "PointMassGoal-v0", 3
KEYS = ("observation", "achieved_goal", "desired_goal")
VALUES: dict[str, Callable[[np.ndarray], Any]] = {
    "wrong shape": lambda x: np.concatenate([x, x]),
    "fewer numbers": lambda x: x[:-1],
    "None": lambda x: None,
    "a string": lambda x: "north",
    "a string of digits": lambda x: "1.5",
    "1e30": lambda x: np.full(x.shape, 1e30),
    "NaN": lambda x: x * np.nan,
    "infinity": lambda x: np.full(x.shape, np.inf),
    "a list of words": lambda x: ["a"] * len(x),
    "a dict": lambda x: {"x": 1.0},
}
"""Name -> what an entry of the observation becomes."""
REWARDS: dict[str, Any] = {
    "NaN": np.nan, "infinity": -np.inf, "None": None, "a string": "good", "1e30": 1e30,
    "two rewards": np.zeros(2),
}  # fmt: skip
VECTORS: dict[str, Any] = {
    "one environment": None,
    f"{N_ENVS} environments": SyncVectorEnv,
    f"{N_ENVS} processes": partial(AsyncVectorEnv, shared_memory=False),
}
"""Name -> what makes a vector of environments of functions that make one."""
NETWORKS = {"actor_lr": "actor", "critic_lr": "critics", "energy_lr": "energy"}
LEARNING_RATES = (1e3, 1e8, 1e20)

SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "fourier_features": 8,
    "batch_size": 16,
    "learning_starts": 60,
    "train_freq": 10,
    "buffer_size": 2000,
}
HIGH: dict[str, Any] = {
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 60,
    "energy_gradient_steps": 3,
    "pool_size": 100,
    "n_subgoals": 8,
}


class Broken(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that returns something else from a certain call of ``step`` or ``reset`` on.

    Args:
        part: a key of the observation, "key" (one is missing), "reward", "compute_reward", "step"
            or "info".
        value: what takes its place: a function of what was there.
        at: the step.
    """

    def __init__(self, part: str, value: Callable[[Any], Any], at: int) -> None:
        super().__init__(_sound())
        self.part, self.value, self.at, self.n_steps = part, value, at, 0

    def step(self, action: Any) -> Any:
        """The step of the environment, broken where it is due."""
        self.n_steps += 1
        observation, reward, *rest, info = super().step(action)
        if self.n_steps < self.at:
            return observation, reward, *rest, info
        if self.part in KEYS:
            observation = {**observation, self.part: self.value(observation[self.part])}
        elif self.part == "key":
            observation = {k: v for k, v in observation.items() if k != self.value(None)}
        elif self.part == "reward":
            reward = self.value(reward)
        elif self.part == "info":
            info = self.value(info)
        elif self.part == "step":
            return observation, reward, *rest
        return observation, reward, *rest, info

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        """The reward of the environment, broken where it is due."""
        reward = self.env.get_wrapper_attr("compute_reward")(achieved, desired, info)
        broken = self.part == "compute_reward" and self.n_steps >= self.at
        return self.value(reward) if broken else reward


def _sound() -> gym.Env[Any, Any]:
    # Goes on at the goal: within 90 steps there is no reset, and steps are counted alike.
    return gym.make(ENV_ID, continuing_task=True, disable_env_checker=True)


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """Yield a row for each kind of fault, n trials in all."""
    rng = np.random.default_rng(seed)
    trials = list(_trials(rng))
    order = rng.permutation(len(trials))
    chosen = [trials[i % len(trials)] for i in np.resize(order, n)]
    for case in dict.fromkeys(case for case, _, _ in trials):
        outcomes: Counter[str] = Counter()
        losses = 0
        for other, name, trial in chosen:
            if other == case:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    lost = trial()
                outcomes[f"{name}: {lost}" if lost else "named, agent intact"] += 1
                losses += bool(lost)
        if outcomes:
            yield row("faults", case, outcomes, losses)


Trial = tuple[str, str, Callable[[], str]]
"""The row that it belongs to, its name, and what tries it: what was lost, or nothing."""


def _trials(rng: np.random.Generator) -> Iterator[Trial]:
    def at() -> int:
        return int(rng.integers(1, 90))

    for kind, vector in VECTORS.items():
        for key in KEYS:
            for name, value in VALUES.items():
                yield _in_env(f"observation, {kind}", f"{key} {name}", key, value, at(), vector)
            gone = f"{key} missing"
            yield _in_env(f"observation, {kind}", gone, "key", _always(key), at(), vector, key)
        for name, reward in REWARDS.items():
            said = "rewards" if name == "two rewards" and not vector else "reward"
            yield _in_env(f"reward, {kind}", name, "reward", _always(reward), at(), vector, said)
        yield _in_env(f"reward, {kind}", "four values", "step", _always(None), at(), vector, "")
        yield _in_env(f"reward, {kind}", "no info", "info", _always(None), at(), vector, "info")
        for name, reward in REWARDS.items():
            if name != "two rewards":
                yield _in_env(
                    f"compute_reward, {kind}", name, "compute_reward",
                    partial(_like, reward),
                    at(), vector,
                )  # fmt: skip
    for setting, network in NETWORKS.items():
        for rate in LEARNING_RATES:
            yield _in_training(setting, network, rate)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _like(value: Any, was: Any) -> Any:
    """The value, as often as there were numbers."""
    return np.full(np.shape(was), value) if np.ndim(was) else value


def _in_env(
    case: str,
    name: str,
    part: str,
    value: Callable[[Any], Any],
    at: int,
    vector: Any,
    named: str | None = None,
) -> Trial:
    """A trial in which one of the environments is broken."""
    # A vector asks its first environment for its compute_reward.
    row_of = at % N_ENVS if vector and part != "compute_reward" else 0

    def trial() -> str:
        broken = Broken(part, value, at)
        env: Any = broken
        if vector:
            env = vector([(lambda: broken) if i == row_of else _sound for i in range(N_ENVS)])
        words = [part if named is None else named]
        if part != "compute_reward":
            words.append(f"step {at}")
            if vector and part in (*KEYS, "key", "reward") and row_of:
                words.append(f"row {row_of}")
        try:
            return _learns_until(env, SMALL, words)
        finally:
            if isinstance(env, AsyncVectorEnv):
                env.close(terminate=True)

    return case, name, trial


def _in_training(setting: str, network: str, rate: float) -> Trial:
    """A trial in which a network diverges."""
    settings = SMALL | (HIGH if network == "energy" else {}) | {setting: rate}
    words = [network, "update", "learning rate"]
    return (
        "learning rates",
        f"{setting}={rate:g}",
        lambda: _learns_until(gym.make(ENV_ID), settings, words),
    )


def _learns_until(env: Any, settings: dict[str, Any], words: list[str]) -> str:
    """What was lost when an agent learned in an environment until the error that says the words."""
    hierarchical = "energy_width" in settings
    agent_class = hierebm.HierarchicalEBMAgent if hierarchical else hierebm.DDPGHERAgent
    agent = agent_class(seed=0, **settings)
    try:
        agent.learn(env, 400)
    except (ValueError, TrainingDiverged) as error:
        missing = [word for word in words if not re.search(rf"\b{re.escape(word)}\b", str(error))]
        if missing:
            return f"does not say {', '.join(missing)}: {error}"[:300]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    else:
        return "no error"
    return _what_is_lost(agent, agent_class)


def _what_is_lost(agent: Any, agent_class: Any) -> str:
    """Nothing, if the agent acts, is saved and loaded, and learns on in a sound environment."""
    observation, _ = gym.make(ENV_ID).reset(seed=0)
    stream = io.BytesIO()
    try:
        action, _ = agent.predict(observation)
        if not np.isfinite(action).all():
            return "its actions are not finite"
        agent.save(stream)
        stream.seek(0)
        again = agent_class.load(stream, actor_lr=1e-3, critic_lr=1e-3)
        if not np.array_equal(again.predict(observation)[0], action):
            return "a loaded copy acts otherwise"
        again.learn(ENV_ID, 100)
    except Exception as error:
        return f"afterwards {type(error).__name__}: {error}"[:300]
    return ""
