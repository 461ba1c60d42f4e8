"""Stable-Baselines3's SAC as the low level: the agent plans and relabels, SAC's networks learn."""

import gymnasium as gym
from stable_baselines3 import SAC

import hierebm
from hierebm.control.sb3 import SB3LowLevel
from hierebm.evaluation import evaluate


def main(steps: int = 20_000) -> None:
    """Learn far goals in four rooms."""
    env = gym.make("PointMassGoal-v0", layout="four_rooms")
    # Its own replay buffer stays empty: experience is the agent's.
    model = SAC("MultiInputPolicy", env, gamma=0.95, learning_rate=1e-3, buffer_size=1, seed=0)
    agent = hierebm.HierarchicalEBMAgent(seed=0, low_level=SB3LowLevel(model))
    agent.learn(env, total_timesteps=steps, progress_bar=True)
    far = {"distance": (5.5, 12.0)}
    print(evaluate(agent, env, 10, seed=1, options=far))


if __name__ == "__main__":
    main()
