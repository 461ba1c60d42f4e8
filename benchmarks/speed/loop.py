"""Rows of what surrounds the update: collecting, environments, hindsight, a full buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

import hierebm
from benchmarks.speed.measure import Row, compare, growth, interleave, row
from benchmarks.speed.peer import ENV, fill_sb3, sb3_ddpg
from hierebm.goal_env.adapter import GoalEnv
from hierebm.replay import EpisodeReplay, sample_transitions

EPISODE = 50
"""Steps of a synthetic episode."""
FULL, SMALL = 1_000_000, 10_000


def rows(quick: bool, sb3: bool) -> Iterator[Row]:
    """Yield the rows, each as soon as it is measured."""
    blocks = 7 if quick else 21
    if sb3:
        yield _collection(blocks)
    yield _vector_env(blocks)
    yield from _hindsight(blocks, sb3)
    yield _learning_with_a_full_buffer(blocks, 100 if quick else 200)


def _collection(blocks: int, n_envs: int = 16) -> Row:
    """Acting with noise, stepping and storing; nothing is learned."""
    from stable_baselines3.common.env_util import make_vec_env

    agent = hierebm.DDPGHERAgent(
        critic="scalar", n_critics=1, hidden_sizes=(256, 256), fourier_features=0,
        gradient_steps=0, seed=0,
    )  # fmt: skip
    agent.learn(gym.make_vec(ENV, num_envs=n_envs), 2000)
    # An episode lasts 100 steps at most, and the peer needs a finished one.
    model = sb3_ddpg(make_vec_env(ENV, n_envs), gradient_steps=0, seed=0)
    model.learn(2000)
    ours, peer = 400 * n_envs, 40 * n_envs
    times = interleave(
        [
            lambda: agent.learn(total_timesteps=ours, reset_num_timesteps=False),
            lambda: model.learn(peer, reset_num_timesteps=False),
        ],
        [ours, peer],
        blocks,
    )
    what = f"collecting with {n_envs} envs: act, step, store"
    return compare(what, "SB3, DummyVecEnv", times, unit="ms/transition", target=10.0)


def _vector_env(blocks: int, n_envs: int = 256) -> Row:
    native = gym.make_vec(ENV, num_envs=n_envs)
    synchronous = SyncVectorEnv([lambda: gym.make(ENV)] * n_envs)

    def steps(env: VectorEnv[Any, Any, Any], n: int) -> Callable[[], None]:
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        actions = rng.uniform(-1.0, 1.0, (n, n_envs, 2)).astype(np.float32)

        def work() -> None:
            for action in actions:
                env.step(action)

        return work

    ours, peer = 300, 5
    times = interleave(
        [steps(native, ours), steps(synchronous, peer)], [ours * n_envs, peer * n_envs], blocks
    )
    what = f"vector env, {n_envs} envs, random actions"
    return compare(what, "gymnasium SyncVectorEnv", times, unit="ms/transition", target=100.0)


def _hindsight(blocks: int, sb3: bool) -> Iterator[Row]:
    """A batch of 256 from a full buffer, and from the same buffer nearly empty."""
    env, draws = GoalEnv(gym.make(ENV)), 100
    works, units = [], []
    for stored in (FULL, SMALL):
        replay = EpisodeReplay(FULL, env.spaces.obs_dim, env.spaces.goal_dim, env.spaces.action_dim)
        fill(replay, stored, EPISODE, np.random.default_rng(0))
        rng = np.random.default_rng(1)
        works.append(partial(_times, draws, sample_transitions, replay, 256, env.reached, rng))
        units.append(draws)
    if sb3:
        buffer = sb3_ddpg(buffer_size=FULL).replay_buffer
        fill_sb3(buffer, EPISODE, np.random.default_rng(0))
        works.append(partial(_times, 10, buffer.sample, 256))
        units.append(10)
    times = interleave(works, units, blocks)
    what = "hindsight batch of 256, 1M stored"
    if sb3:
        yield compare(what, "SB3 HerReplayBuffer", times, unit="ms/batch", target=12.0, peer=2)
    yield compare(what, "ours, 10k stored", times, unit="ms/batch")
    yield row(
        "memory of the buffer",
        against="SB3 HerReplayBuffer" if sb3 else None,
        ours=replay.nbytes / replay.capacity,
        peer=sb3_bytes(buffer) / FULL if sb3 else None,
        unit="bytes/transition",
    )


def _times(n: int, work: Callable[..., object], *args: Any) -> None:
    for _ in range(n):
        work(*args)


def sb3_bytes(buffer: Any) -> int:
    """Bytes of a HerReplayBuffer's arrays (the dicts behind ``infos`` come on top)."""
    parts = [*vars(buffer).values(), *buffer.observations.values()]
    parts += buffer.next_observations.values()
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


def _learning_with_a_full_buffer(blocks: int, steps: int) -> Row:
    """The whole training loop of the default agent, with 1M and with 10k transitions stored."""
    works = []
    for stored in (FULL, SMALL):
        agent = hierebm.DDPGHERAgent(seed=0, buffer_size=FULL)
        agent.learn(gym.make(ENV), agent.config.learning_starts + 50)
        fill(agent.replay_buffer, stored, EPISODE, np.random.default_rng(0))
        # The running episode was written over: begin a new one.
        agent.set_env(gym.make(ENV))
        works.append(partial(agent.learn, total_timesteps=steps, reset_num_timesteps=False))
    times = interleave(works, [steps, steps], blocks)
    return growth("training loop, 1M stored", "ours, 10k stored", times, 1.1, "ms/step")


def fill(replay: EpisodeReplay, stored: int, episode_length: int, rng: np.random.Generator) -> None:
    """Make it as if ``stored`` states of whole random episodes had been added, in place.

    Args:
        replay: of one environment; what it held is gone.
        stored: states; rounded down to whole episodes.
        episode_length: transitions of an episode, one less than its states.
    """
    if replay.n_envs != 1:
        raise ValueError(f"only a buffer of one environment can be filled, not {replay.n_envs}")
    states = episode_length + 1
    # A slot stays free for the next episode to begin in.
    rows = min(stored, replay.capacity - 1) // states * states
    replay.has_action[:] = False
    replay.episode_end[:] = -1
    for array in (replay.observation, replay.achieved_goal, replay.goal, replay.action):
        array[:rows] = rng.uniform(-1.0, 1.0, (rows, array.shape[1]))
    replay.failure[:rows] = False
    row_of_episode = np.arange(rows) % states
    replay.has_action[:rows] = row_of_episode < episode_length
    replay.episode_end[:rows] = np.arange(rows) - row_of_episode + episode_length
    steps = np.linalg.norm(np.diff(replay.achieved_goal[:rows], axis=0), axis=-1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    replay.arc_length[:rows] = length - np.repeat(length[::states], states)
    replay.time[:] = replay.episode_start[:] = rows
