"""What the speed benchmark compares with: Stable-Baselines3, and an update in plain modules."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.installed import installed
from hierebm.control import DDPGConfig
from hierebm.control.config import FOURIER_OCTAVES
from hierebm.control.ddpg import PREACTIVATION_PENALTY
from hierebm.control.features import GoalFeatures
from hierebm.control.heads import make_head
from hierebm.replay import TransitionBatch

ENV = "PointMassGoal-v0"


def has_sb3() -> bool:
    """Whether Stable-Baselines3 is installed; says so where it is not."""
    if not installed("stable_baselines3"):
        print("stable_baselines3 is not installed: its rows are left out (pip install '.[bench]')")
        return False
    return True


def has_sbx() -> bool:
    """Whether SBX (Stable-Baselines3's algorithms in JAX) is installed; says so where it is not."""
    if not installed("sbx"):
        print("sbx is not installed: its row is left out (pip install sbx-rl)")
        return False
    return True


def sb3_ddpg(
    env: Any = None,
    *,
    seed: int = 0,
    hidden: tuple[int, ...] = (256, 256),
    batch_size: int = 256,
    buffer_size: int = 1_000_000,
    learning_starts: int = 1000,
    gradient_steps: int = 1,
    lr: float = 1e-3,
    gamma: float = 0.98,
    tau: float = 0.01,
    noise: float = 0.2,
    device: str = "cpu",
) -> Any:
    """Stable-Baselines3's DDPG with hindsight, one update for every step of the environment."""
    from stable_baselines3 import DDPG

    return DDPG(
        "MultiInputPolicy",
        gym.make(ENV) if env is None else env,
        learning_rate=lr,
        batch_size=batch_size,
        buffer_size=buffer_size,
        learning_starts=learning_starts,
        gradient_steps=gradient_steps,
        gamma=gamma,
        tau=tau,
        policy_kwargs={"net_arch": list(hidden)},
        device=device,
        seed=seed,
        **_with_hindsight(noise),
    )


def sbx_ddpg(seed: int = 0, buffer_size: int = 1_000_000) -> Any:
    """SBX's TD3 stripped to DDPG (one critic, no delay, no target noise), as :func:`sb3_ddpg`.

    SBX's own DDPG does not take dictionary observations. XLA is kept to one thread of a CPU; where
    JAX finds a GPU it is used, and leaves room for others there.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    from sbx import TD3

    return TD3(
        "MultiInputPolicy",
        gym.make(ENV),
        learning_rate=1e-3,
        batch_size=256,
        buffer_size=buffer_size,
        learning_starts=1000,
        gamma=0.98,
        tau=0.01,
        policy_delay=1,
        target_policy_noise=0.0,
        policy_kwargs={"net_arch": [256, 256], "n_critics": 1},
        seed=seed,
        **_with_hindsight(0.2),
    )


def _with_hindsight(noise: float) -> dict[str, Any]:
    from stable_baselines3 import HerReplayBuffer
    from stable_baselines3.common.noise import NormalActionNoise

    return {
        "train_freq": 1,
        "action_noise": NormalActionNoise(np.zeros(2), np.full(2, noise)),
        "replay_buffer_class": HerReplayBuffer,
        "replay_buffer_kwargs": {"n_sampled_goal": 4, "goal_selection_strategy": "future"},
    }


def fill_sb3(buffer: Any, episode_length: int, rng: np.random.Generator) -> None:
    """Fill a HerReplayBuffer of one environment to the brim with random episodes, in place."""
    rows = buffer.buffer_size
    for arrays in (buffer.observations, buffer.next_observations):
        for array in arrays.values():
            array[...] = rng.uniform(-1.0, 1.0, array.shape)
    buffer.actions[...] = rng.uniform(-1.0, 1.0, buffer.actions.shape)
    buffer.rewards[...] = -1.0
    start = np.arange(rows) // episode_length * episode_length
    buffer.ep_start[:, 0] = start
    buffer.ep_length[:, 0] = np.minimum(start + episode_length, rows) - start
    buffer.pos, buffer.full = 0, True


class PlainDDPG:
    """The update of the distance ensemble as one writes it first: modules, autograd, optimisers.

    Same maths and inputs as :class:`hierebm.control.ddpg.DistanceDDPG`: every critic is an
    ``nn.Sequential`` of its own, gradients are autograd's, ``torch.optim.Adam`` descends them and
    targets are averaged parameter by parameter.
    """

    def __init__(
        self,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        config: DDPGConfig,
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self.head = make_head(config.critic, config.max_distance)
        self.features = GoalFeatures(
            obs_dim, goal_dim, config.fourier_features, FOURIER_OCTAVES, generator
        )
        n = self.features.out_dim

        def networks() -> tuple[nn.Module, nn.ModuleList]:
            critics = [
                _sequential(n + action_dim, config.hidden_sizes, self.head.out_dim)
                for _ in range(config.n_critics)
            ]
            return _sequential(n, config.hidden_sizes, action_dim), nn.ModuleList(critics)

        (self.actor, self.critics), (self.actor_target, self.critics_target) = (
            networks(),
            networks(),
        )
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.critics_target.load_state_dict(self.critics.state_dict())
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr)

    def update(self, batch: TransitionBatch) -> dict[str, float]:
        """One gradient step of critics and actor, then a step of the targets."""
        observation, achieved, action, next_observation, next_achieved, goal = map(
            torch.as_tensor,
            (
                batch.observation,
                batch.achieved_goal,
                batch.action,
                batch.next_observation,
                batch.next_achieved_goal,
                batch.goal,
            ),
        )
        reached, failure = torch.as_tensor(batch.reached), torch.as_tensor(batch.failure)
        features = self.features(observation, achieved, goal)
        with torch.no_grad():
            next_features = self.features(next_observation, next_achieved, goal)
            next_action = torch.tanh(self.actor_target(next_features))
            next_outputs = _all(self.critics_target, next_features, next_action)
            target = self.head.bootstrap(next_outputs, reached, failure)

        critic_loss = self.head.loss(_all(self.critics, features, action), target)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        pre_tanh = self.actor(features)
        outputs = _all(self.critics, features, torch.tanh(pre_tanh))
        distance = self.head.distance(outputs).mean()
        actor_loss = distance + PREACTIVATION_PENALTY * pre_tanh.square().mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        with torch.no_grad():
            for online, slow in (
                (self.actor, self.actor_target),
                (self.critics, self.critics_target),
            ):
                for p, q in zip(online.parameters(), slow.parameters(), strict=True):
                    q.mul_(1.0 - self.config.tau).add_(p, alpha=self.config.tau)
        return {
            "train/critic_loss": critic_loss.item(),
            "train/actor_loss": actor_loss.item(),
            "train/distance_mean": distance.item(),
        }


def _sequential(n_in: int, hidden: tuple[int, ...], n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


def _all(critics: nn.ModuleList, features: Tensor, action: Tensor) -> Tensor:
    inputs = torch.cat([features, action], -1)
    return torch.stack([critic(inputs) for critic in critics])
