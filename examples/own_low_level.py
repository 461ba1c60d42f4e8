"""A low level of your own: here a hand-written controller that needs no training at all."""

import gymnasium as gym
import numpy as np

import hierebm
from hierebm.control.base import LowLevel


class Controller(LowLevel):
    """Steers the point mass straight to a goal; its distances are Euclidean."""

    trainable = False

    def act(self, observation, achieved_goal, goal):
        """(n, action_dim) in [-1, 1]: towards the goal, against the velocity."""
        velocity = observation[:, -2:]
        return np.clip(5.0 * (goal - achieved_goal) - 5.0 * velocity, -1.0, 1.0).astype(np.float32)

    def distance(self, observation, achieved_goal, goal):
        """(n,) steps at full speed, 0.2 each."""
        return np.maximum(np.linalg.norm(goal - achieved_goal, axis=-1) / 0.2, 1.0)


def main(steps: int = 4000) -> hierebm.HierarchicalEBMAgent:
    """Only the high level learns: where walls are, it knows from experience."""
    env = gym.make("PointMassGoal-v0", layout="four_rooms")
    return hierebm.HierarchicalEBMAgent(low_level=Controller(), seed=0).learn(env, steps)


if __name__ == "__main__":
    main()
