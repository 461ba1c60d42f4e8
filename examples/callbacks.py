"""Callbacks: evaluate and save while learning, stop when it is good enough, log what you like."""

import gymnasium as gym
import numpy as np

import hierebm
from hierebm.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnSuccess,
)


class VisitedGround(BaseCallback):
    """Logs in how many cells of half a unit the agent has been."""

    def _on_training_start(self):
        self.cells = set()

    def _on_step(self):
        step = self.locals["step"]
        cells = np.floor(step.next_state.achieved_goal[step.valid] / 0.5).astype(int)
        self.cells.update(map(tuple, cells))
        self.logger.record("mine/visited_cells", len(self.cells))
        return True  # False stops the training


def main(steps: int = 20_000) -> hierebm.HierarchicalEBMAgent:
    """Train in a corridor until 95% of the tasks succeed."""
    env, tasks = (gym.make("PointMassGoal-v0", layout="u") for _ in range(2))
    agent = hierebm.HierarchicalEBMAgent(seed=0, tensorboard_log="runs")
    enough = EvalCallback(
        tasks,
        n_eval_episodes=20,
        eval_freq=2_000,
        seed=1,
        callback_after_eval=StopTrainingOnSuccess(0.95, verbose=1),
    )
    ground = VisitedGround()
    callbacks = [
        ground,
        CheckpointCallback(5_000, "runs", "u", save_replay_buffer=True, keep=2),
        enough,
        EveryNTimesteps(5_000, lambda variables, _: print("visited cells:", len(ground.cells))),
    ]
    return agent.learn(env, steps, callback=callbacks, progress_bar=True)


if __name__ == "__main__":
    main()
