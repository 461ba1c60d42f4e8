"""PointMaze and FetchReach of Gymnasium-Robotics: pip install ".[robotics]"."""

import gymnasium as gym
import gymnasium_robotics

import hierebm
from hierebm.evaluation import evaluate

gym.register_envs(gymnasium_robotics)
WORLDS = {
    # Ends at the goal; as registered it would go on there.
    "PointMaze_UMaze-v3": {"continuing_task": False},
    "FetchReach-v4": {},
}


def main(steps: int = 10_000) -> dict[str, float]:
    """Train in each with default settings; returns the success rates."""
    rates = {}
    for name, arguments in WORLDS.items():
        env = gym.make(name, **arguments)
        agent = hierebm.HierarchicalEBMAgent(seed=0).learn(env, steps, progress_bar=True)
        print(name, "- an action is held for", agent.action_repeat, "environment steps")
        result = evaluate(agent, env, 20, seed=1)
        print(result)
        rates[name] = result.success_rate
        env.close()
    return rates


if __name__ == "__main__":
    main()
