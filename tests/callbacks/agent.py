"""The part of an agent that callbacks see, for the tests of callbacks."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np

import hierebm  # noqa: F401
from hierebm.callbacks import make_callback
from hierebm.logging.logger import Logger


class Agent:
    """The part of an agent that callbacks see; its policy steers straight to the goal."""

    def __init__(self, env=None, n_envs=1, skill=1.0):
        self.env = gym.make("PointMassGoal-v0") if env is None else env
        self.n_envs, self.skill = n_envs, skill
        self.num_timesteps, self.seed = 0, 7
        self.logger = Logger()
        self.saved: list[str] = []

    def get_env(self):
        return self.env

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        offset = observation["desired_goal"] - observation["achieved_goal"]
        velocity = observation["observation"][..., 2:]
        action = np.clip(4 * offset - 6 * velocity, -1, 1) * self.skill
        return action.astype(np.float32), state

    def save(self, path, replay_buffer=False):
        self.saved.append(Path(path).name)
        Path(path).write_text("model and experience" if replay_buffer else "model")

    def learn(self, total_timesteps, callback=None, progress_bar=False):
        """The order of calls that an agent promises."""
        callback = make_callback(callback, progress_bar)
        callback.init_callback(self)
        callback.on_training_start({"total_timesteps": total_timesteps, "self": self}, globals())
        try:
            callback.on_rollout_start()
            while self.num_timesteps < total_timesteps:
                self.num_timesteps += self.n_envs
                callback.update_locals({"rewards": np.full(self.n_envs, -1.0)})
                if not callback.on_step():
                    break
                callback.on_rollout_end()
                callback.on_rollout_start()
            callback.on_rollout_end()
        finally:
            callback.on_training_end()
        return self
