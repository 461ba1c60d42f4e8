"""Stable-Baselines3's DDPG+HER and SAC+HER, as good as they get in these worlds.

They are given what our agents have: actions held for as many steps, inputs that are scaled
(``VecNormalize``), networks of the same size, an update a step of the agent, and a reward of -1 a
step (PointMaze pays 1 at the goal, which pays more the longer an agent stays).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.robotics.worlds import World
from hierebm import DDPGHERAgent

ALGORITHMS = {"SB3 DDPG+HER": "DDPG", "SB3 SAC+HER": "SAC"}
NOISE = 0.2
LEARNING_STARTS = 1000
"""Environment steps with random actions, as our agents have by default."""


def clock_of(world: World, seed: int) -> int:
    """For how many environment steps our agent holds an action in this world."""
    agent = DDPGHERAgent(seed=seed, learning_starts=LEARNING_STARTS)
    agent.learn(world.make(), total_timesteps=LEARNING_STARTS + 1)
    return agent.action_repeat


class HeldActions(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats each action until the episode ends; pays 0 at the goal and -1 elsewhere.

    Args:
        env: a goal environment with a sparse reward.
        repeat: how often.

    Attributes:
        env_steps: steps of ``env`` so far.
    """

    def __init__(self, env: gym.Env[Any, Any], repeat: int) -> None:
        super().__init__(env)
        self.repeat, self.env_steps = repeat, 0
        self._compute_reward = env.get_wrapper_attr("compute_reward")
        self._at_goal: float | None = None

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take the action until it was taken ``repeat`` times or the episode ends."""
        for _ in range(self.repeat):
            observation, _, terminated, truncated, info = self.env.step(action)
            self.env_steps += 1
            if terminated or truncated:
                break
        goals = observation["achieved_goal"], observation["desired_goal"]
        return observation, float(self.compute_reward(*goals, info)), terminated, truncated, info

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """The reward of ``env``, less what it pays at the goal."""
        if self._at_goal is None:
            goal = np.asarray(desired_goal).reshape(-1, np.shape(desired_goal)[-1])[0]
            self._at_goal = float(self._compute_reward(goal, goal, {}))
        return self._compute_reward(achieved_goal, desired_goal, info) - self._at_goal


class Peer:
    """A model of Stable-Baselines3 that learns with held actions, and acts with them.

    Args:
        method: a key of ``ALGORITHMS``.
        world: where it learns.
        seed: of everything.
        hidden_sizes: of all its networks.
    """

    def __init__(self, method: str, world: World, seed: int, hidden_sizes: tuple[int, ...]) -> None:
        import stable_baselines3 as sb3
        from stable_baselines3.common.noise import NormalActionNoise
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

        self.action_repeat = clock_of(world, seed)
        self._env = HeldActions(world.make(), self.action_repeat)
        self._normalize = VecNormalize(DummyVecEnv([lambda: self._env]), norm_reward=False)
        n_actions = math.prod(self._env.action_space.shape or ())
        settings: dict[str, Any] = {}
        if ALGORITHMS[method] == "DDPG":
            noise = np.zeros(n_actions), np.full(n_actions, NOISE)
            settings["action_noise"] = NormalActionNoise(*noise)
        self.model = getattr(sb3, ALGORITHMS[method])(
            "MultiInputPolicy",
            self._normalize,
            learning_rate=1e-3,
            batch_size=256,
            buffer_size=math.ceil(world.steps / self.action_repeat) + 2 * world.limit,
            # Hindsight asks for an episode that has ended.
            learning_starts=math.ceil(max(LEARNING_STARTS, world.limit + 1) / self.action_repeat)
            + 1,
            gamma=world.discount,
            tau=0.005,
            train_freq=1,
            gradient_steps=1,
            policy_kwargs={"net_arch": list(hidden_sizes)},
            replay_buffer_class=sb3.HerReplayBuffer,
            replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
            device="cpu",
            seed=seed,
            **settings,
        )

    @property
    def num_timesteps(self) -> int:
        """Environment steps so far."""
        return self._env.env_steps

    def learn(self, total_timesteps: int) -> None:
        """Learn for at least this many environment steps more."""
        target = self.num_timesteps + total_timesteps
        while self.num_timesteps < target:
            # Blocks that an episode cuts short take fewer steps.
            blocks = math.ceil((target - self.num_timesteps) / self.action_repeat)
            self.model.learn(blocks, reset_num_timesteps=False)

    def predict(
        self,
        observation: Mapping[str, Any],
        state: tuple[Any, Any] | None = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, tuple[Any, Any]]:
        """Actions for a batch of observations; the state is what is held, and for how long."""
        n = len(observation["observation"])
        if state is None:
            state = (
                np.zeros((n, *(self._env.action_space.shape or ())), np.float32),
                np.zeros(n, int),
            )
        actions, left = state
        due = left == 0
        if episode_start is not None:
            due |= np.asarray(episode_start, bool)
        if due.any():
            rows = {key: np.asarray(value)[due] for key, value in observation.items()}
            scaled = self._normalize.normalize_obs(rows)
            actions = actions.copy()
            actions[due] = self.model.predict(scaled, deterministic=deterministic)[0]
        return actions, (actions, np.where(due, self.action_repeat, left) - 1)

    def close(self) -> None:
        """Close its environment."""
        self._normalize.close()
