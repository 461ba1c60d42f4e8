"""A subgoal sampler of your own: stored states around the straight line to the goal."""

import gymnasium as gym
import numpy as np

import hierebm
from hierebm.planning.samplers import SubgoalSampler


class NearTheLine(SubgoalSampler):
    """Points of the line, moved at random, each replaced by the nearest stored state."""

    def sample(self, start, goal, n, pool, rng, edges=None):
        """(goal_dim,), (goal_dim,) -> n nodes."""
        along = start + rng.random((n, 1)) * (goal - start)
        spread = 0.3 * np.linalg.norm(goal - start)
        points = along + spread * rng.standard_normal(along.shape)
        return pool.nodes_at(pool.nearest(points.astype(np.float32), k=1)[:, 0])


def main(steps: int = 10_000) -> hierebm.HierarchicalEBMAgent:
    """Train with it."""
    env = gym.make("PointMassGoal-v0", layout="four_rooms")
    return hierebm.HierarchicalEBMAgent(subgoal_sampler=NearTheLine, seed=0).learn(env, steps)


if __name__ == "__main__":
    main()
