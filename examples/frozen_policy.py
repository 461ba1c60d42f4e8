"""A trained policy of Stable-Baselines3 that stays as it is, and subgoals that take it farther."""

import gymnasium as gym
from stable_baselines3 import SAC, HerReplayBuffer

import hierebm
from hierebm.control.sb3 import SB3LowLevel
from hierebm.evaluation import evaluate


def main(steps: int = 20_000) -> None:
    """Compare far goals in four rooms without and with subgoals."""
    env, far = gym.make("PointMassGoal-v0", layout="four_rooms"), {"distance": (5.5, 12.0)}
    model = SAC(
        "MultiInputPolicy",
        env,
        gamma=0.95,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=300,
        seed=0,
    ).learn(steps // 2)
    agent = hierebm.HierarchicalEBMAgent(seed=0, low_level=SB3LowLevel(model, frozen=True))
    agent.learn(env, total_timesteps=steps // 2)
    for name, policy in {"alone": model, "with subgoals": agent}.items():
        print(name, evaluate(policy, env, 10, seed=1, options=far))


if __name__ == "__main__":
    main()
