"""An environment of your own: a two-link arm whose hand has to come to a point.

Its shoulder cannot turn all the way round, so the way between two points is not always the straight
one.
"""

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

import hierebm
from hierebm.evaluation import evaluate


class Arm(gym.Env):
    """Actions turn the two joints; goals are positions of the hand."""

    # Shoulder and elbow, in rad. The elbow bends one way: where the hand is says how the arm is.
    low, high = np.array([-3.0, 0.2]), np.array([3.0, 3.0])

    def __init__(self):
        hand = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(
            observation=gym.spaces.Box(-np.pi, np.pi, (2,), np.float32),
            achieved_goal=hand,
            desired_goal=hand,
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def compute_reward(self, achieved, desired, info):
        """0 at the goal, -1 elsewhere; (2,) or (n, 2), since hindsight asks for many at once."""
        return np.where(np.linalg.norm(achieved - desired, axis=-1) < 0.2, 0.0, -1.0)

    def reset(self, *, seed=None, options=None):
        """Any pose, and the hand of any other as the goal."""
        super().reset(seed=seed)
        self.angles, other = self.np_random.uniform(self.low, self.high, (2, 2))
        self.goal = self.hand(other)
        return self.observe(), {}

    def step(self, action):
        """Joints turn by at most 0.1 rad, and stop at their bounds."""
        turned = self.angles + 0.1 * np.clip(action, -1.0, 1.0)
        self.angles = np.clip(turned, self.low, self.high)
        observation = self.observe()
        reward = float(self.compute_reward(observation["achieved_goal"], self.goal, {}))
        # Time is up by max_episode_steps, below: that is a truncation, not a failure.
        return observation, reward, reward == 0, False, {"is_success": reward == 0}

    def observe(self):
        """The three keys of a goal environment."""
        return {
            "observation": self.angles.astype(np.float32),
            "achieved_goal": self.hand(self.angles),
            "desired_goal": self.goal.copy(),
        }

    @staticmethod
    def hand(angles):
        """Where the hand is: two links of length 1."""
        joints = np.cumsum(angles)
        return np.array([np.cos(joints).sum(), np.sin(joints).sum()], np.float32)


def main(steps: int = 10_000) -> float:
    """Check it, train in it, and ask what limits the agent; returns the success rate."""
    check_env(Arm(), skip_render_check=True)
    gym.register("Arm-v0", Arm, max_episode_steps=100)
    agent = hierebm.HierarchicalEBMAgent(seed=0).learn("Arm-v0", total_timesteps=steps)
    print(agent.diagnose())
    result = evaluate(agent, "Arm-v0", 50, seed=1)
    print(result)
    return result.success_rate


if __name__ == "__main__":
    main()
