"""Rows of the size of the world: what a learning step costs once all of it is known ground."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np

import hierebm
from benchmarks.speed.measure import Row, Times, growth, interleave, row
from benchmarks.speed.peer import ENV
from hierebm.data import OfflineDataset
from hierebm.envs.dynamics import advance
from hierebm.envs.layouts import get_layout

LAYOUT = "four_rooms"
SCALES = (1, 2, 4, 8)
# Walkers side by side, the states of an episode of theirs, and states for each square of side 1.
WALKERS, EPISODE, DENSITY = 64, 200, 100
# They hold an action for about this many steps.
HELD = 12


def rows(quick: bool) -> Iterator[Row]:
    """Fill agents with walks all over worlds of several sizes, then let them learn in turns."""
    scales = (1, 4) if quick else SCALES
    agents = {scale: _agent(scale) for scale in scales}
    for scale, agent in agents.items():
        assert agent.high_level is not None
        known = agent.high_level.context.transition_map
        assert known is not None
        n, size = len(known.landmarks), sum(array.nbytes for array in known.state_dict().values())
        what = f"transition map at {scale}x the side"
        yield row(what, ours=float(n), unit="landmarks")
        yield row(what, ours=size / n, unit="bytes/landmark")
    block = 250 if quick else 500
    works = [_work(agent, scale, block) for scale, agent in agents.items()]
    times = interleave(works, [block] * len(works), 3 if quick else 6)
    for i, scale in enumerate(scales[1:], 1):
        pair = Times(times.cpu[[i, 0]], times.wall[[i, 0]])
        what = f"learning step at {scale}x the side"
        yield growth(what, "1x, all of both known", pair, 1.15, "ms/step")


def _work(agent: hierebm.HierarchicalEBMAgent, scale: int, steps: int) -> Callable[[], None]:
    env = gym.make(ENV, layout=LAYOUT, scale=scale)

    def work() -> None:
        agent.learn(env, total_timesteps=steps, reset_num_timesteps=False)

    return work


def _agent(scale: int) -> hierebm.HierarchicalEBMAgent:
    agent = hierebm.HierarchicalEBMAgent(seed=0, action_repeat=1)
    return agent.learn_offline(_walks(scale), gradient_steps=1000, success_tolerance=0.3)


def _walks(scale: int) -> OfflineDataset:
    """Walks with held actions from random states, so many that they leave nothing out."""
    layout, rng = get_layout(LAYOUT, scale), np.random.default_rng(scale)
    area = len(layout.free_cells) * layout.cell_size**2
    episodes = []
    for _ in range(max(1, round(area * DENSITY / (WALKERS * EPISODE)))):
        corner = layout.free_cell_low[rng.integers(len(layout.free_cells), size=WALKERS)]
        inside = rng.uniform(0.05, layout.cell_size - 0.05, (WALKERS, 2))
        position = (corner + inside).astype(np.float32)
        velocity = np.zeros_like(position)
        action = np.zeros_like(position)
        states, actions = [], []
        for t in range(EPISODE):
            fresh = (rng.random(WALKERS) < 1.0 / HELD) | (t == 0)
            drawn = rng.uniform(-1.0, 1.0, (WALKERS, 2))
            drawn /= np.abs(drawn).max(1, keepdims=True)
            action = np.where(fresh[:, None], drawn, action).astype(np.float32)
            states.append(np.concatenate([position, velocity], 1))
            actions.append(action)
            position, velocity = advance(position, velocity, action, layout)
        # (WALKERS, EPISODE, ...): one episode after the other.
        episodes.append((np.stack(states, 1), np.stack(actions, 1)))
    observations = np.concatenate([s.reshape(-1, 4) for s, _ in episodes])
    taken = np.concatenate([a.reshape(-1, 2) for _, a in episodes])
    terminals = np.arange(len(taken)) % EPISODE == EPISODE - 1
    return OfflineDataset.from_arrays(observations, taken, terminals, goal=(0, 1))
