"""A planner of your own: always chase the point a few steps ahead on the straight line."""

import numpy as np

import hierebm
from hierebm.planning.planner import Planner, PlanState


class StepByStep(Planner):
    """Subgoals on the way to the goal, eight full-speed steps apart."""

    uses_graph = False

    def begin(self, observation, achieved_goal, goal, rng, learning=False):
        """A plan is its first subgoal."""
        return self.step(PlanState(goal, rng, learning), observation, achieved_goal)

    def step(self, plan, observation, achieved_goal):
        """The subgoal moves on with the agent."""
        way = plan.goal - achieved_goal
        steps = np.abs(way / self.context.step_scale).max()
        plan.chase(achieved_goal + way * np.float32(min(1.0, 8.0 / max(steps, 1e-6))), 8.0)
        return plan


def main(steps: int = 5000) -> hierebm.HierarchicalEBMAgent:
    """Train with it."""
    return hierebm.HierarchicalEBMAgent(planner=StepByStep, seed=0).learn("PointMassGoal-v0", steps)


if __name__ == "__main__":
    main()
