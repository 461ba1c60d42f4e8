"""Record random actions, learn from them without the environment, then evaluate in it."""

import gymnasium as gym
import numpy as np

import hierebm
from hierebm.data import OfflineDataset
from hierebm.evaluation import evaluate


def random_episodes(n_episodes: int) -> OfflineDataset:
    """What slowly changing random actions do; 100 steps an episode."""
    env = gym.make("PointMassGoal-v0", continuing_task=True)
    rng = np.random.default_rng(0)
    observations, actions, terminals = [], [], []
    for episode in range(n_episodes):
        observation, _ = env.reset(seed=episode)
        action, done = np.zeros(2, np.float32), False
        while True:
            action = np.clip(0.9 * action + rng.normal(0, 0.4, 2), -1, 1).astype(np.float32)
            # The last state of an episode is a row, too; the action there leads nowhere.
            observations.append(observation["observation"])
            actions.append(action)
            terminals.append(done)
            if done:
                break
            observation, _, _, done, _ = env.step(action)
    # The first two axes of an observation are the position, which goals are about.
    return OfflineDataset.from_arrays(observations, actions, terminals, goal=(0, 1))


def main(steps: int = 1500) -> float:
    """Learn for a number of gradient steps; returns the success rate."""
    agent = hierebm.HierarchicalEBMAgent(seed=0)
    agent.learn_offline(random_episodes(60), steps, success_tolerance=0.3)
    # agent.learn("PointMassGoal-v0") would go on online.
    result = evaluate(agent, "PointMassGoal-v0", 10, seed=1)
    print(result)
    return result.success_rate


if __name__ == "__main__":
    main()
