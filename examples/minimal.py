"""Train the hierarchical agent, watch its success, follow one plan."""

import gymnasium as gym

import hierebm
from hierebm.evaluation import evaluate


def main(steps: int = 20_000) -> float:
    """Train for a number of steps; returns the success rate on tasks behind walls."""
    env = gym.make("PointMassGoal-v0", layout="four_rooms")
    agent = hierebm.HierarchicalEBMAgent(seed=0).learn(env, total_timesteps=steps)
    observation, _ = env.reset(seed=1)
    print("steps to the goal:", agent.plan(observation).length)
    result = evaluate(agent, env, 10, seed=1, options={"distance": (5.5, 12.0)})
    print(result)
    return result.success_rate


if __name__ == "__main__":
    main()
