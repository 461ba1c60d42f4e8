"""Plans are drawn while learning, and cost nothing but themselves."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from hierebm.callbacks import BaseCallback, PlanFigureCallback
from hierebm.logging.logger import Logger, TableOutput, configure
from hierebm.planning.graph.plan import Plan
from tests.callbacks.agent import Agent


class PlanningAgent(Agent):
    ready_at = 4
    energy = SimpleNamespace(energy=lambda points, start, goal: np.sum(points**2, axis=1))

    def plan(self, observation):
        if self.num_timesteps < self.ready_at:
            raise RuntimeError("the agent cannot plan yet")
        s, g = observation["achieved_goal"], observation["desired_goal"]
        nodes = np.stack([s, (s + g) / 2, g])
        edges = np.array([[0, 1], [1, 2]])
        energies = np.array([np.nan, 0.0, np.nan], np.float32)
        return Plan(nodes, edges, np.ones(2, np.float32), [0, 1, 2], energies)


def test_plan_figures_are_drawn_for_fixed_tasks():
    agent = PlanningAgent()
    drawn = []
    agent.logger.record_figure = lambda key, figure: drawn.append((agent.num_timesteps, key))
    agent.learn(8, PlanFigureCallback(freq=2, n_plans=2, options={"distance": (1.0, 2.0)}))
    keys = ["plan/path_0", "plan/energy_0", "plan/path_1", "plan/energy_1"]
    # Not before the agent can plan, every two steps then; at the end only what was not drawn yet.
    assert drawn == [(step, key) for step in (4, 6, 8) for key in keys]

    again, drawn[:] = PlanningAgent(), []
    again.logger.record_figure = lambda key, figure: drawn.append((again.num_timesteps, key))
    again.learn(8, PlanFigureCallback(freq=3, n_plans=2, options={"distance": (1.0, 2.0)}))
    assert drawn == [(step, key) for step in (6, 8) for key in keys]


def test_tensorboard_gets_every_image_once(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    agent = PlanningAgent()
    agent.logger = configure(tmp_path, "run")

    class Rates(BaseCallback):
        def _on_step(self):
            self.logger.record("rollout/success_rate", self.num_timesteps / 8)
            self.logger.dump(self.num_timesteps)
            return True

    agent.learn(8, [Rates(), PlanFigureCallback(freq=2, n_plans=1)])
    agent.logger.close()
    events = reader.EventAccumulator(agent.logger.dir, size_guidance={"images": 0}).Reload()
    tags = events.Tags()["images"]
    steps = {tag: [image.step for image in events.Images(tag)] for tag in tags}
    assert set(steps) == {"plan/path_0", "plan/energy_0", "rollout/success_over_time"}
    assert steps["rollout/success_over_time"] == [8]
    # Written with the row of the log that follows.
    assert steps["plan/path_0"] == steps["plan/energy_0"] == [5, 7, 8]


def test_a_wrong_map_of_walls_costs_the_walls_not_the_training():
    class Wrong(gym.Wrapper):
        wall_map = "###"

    agent = PlanningAgent()
    callback = PlanFigureCallback(freq=2, env=Wrong(gym.make("PointMassGoal-v0")))
    with pytest.warns(RuntimeWarning, match="walls are not drawn: .*wall_map") as caught:
        assert agent.learn(8, callback).num_timesteps == 8
    assert len(caught) == 1 and len(callback.observations) == 2


def test_plan_figures_that_never_come_are_explained_once(capsys):
    class Never(PlanningAgent):
        ready_at = 10**9

    agent = Never()
    agent.logger = Logger(None, [TableOutput()])
    agent.learn(8, PlanFigureCallback(freq=2))
    assert capsys.readouterr().out.count("cannot plan yet") == 1

    class Broken(PlanningAgent):
        def plan(self, observation):
            raise ZeroDivisionError("broken")

    with pytest.warns(RuntimeWarning, match="broken") as caught:
        assert Broken().learn(8, PlanFigureCallback(freq=2)).num_timesteps == 8
    assert len(caught) == 1


def test_plan_figures_leave_the_training_env_alone():
    agent = PlanningAgent()
    agent.env.reset(seed=0, options={"start": (0.0, 0.0), "goal": (1.5, 1.5)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(4, PlanFigureCallback(freq=100))
    observation, *_ = agent.env.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(observation["desired_goal"], [1.5, 1.5])


@pytest.mark.parametrize("vectorization", ["vector_entry_point", "sync"])
def test_plan_figures_copy_what_a_vector_env_is_made_of(vectorization):
    env = gym.make_vec("PointMassGoal-v0", 3, vectorization, layout="u")
    agent, callback = PlanningAgent(env), PlanFigureCallback(freq=2, n_plans=1)
    drawn = []
    agent.logger.record_figure = lambda key, figure: drawn.append(key)
    agent.learn(8, callback)
    assert "plan/path_0" in drawn
    assert callback.world.walls is not None


def test_a_training_env_that_cannot_be_copied_costs_the_pictures_not_the_training():
    class NotRecorded(gym.Wrapper):
        pass

    agent = PlanningAgent(NotRecorded(gym.make("PointMassGoal-v0")))
    with pytest.warns(
        RuntimeWarning, match=r"cannot be copied.*PlanFigureCallback\(env="
    ) as caught:
        assert agent.learn(8, PlanFigureCallback(freq=2)).num_timesteps == 8
    assert len(caught) == 1
    with pytest.raises(gym.error.Error, match="NoSuch"):
        agent.learn(8, PlanFigureCallback(freq=2, env="NoSuch-v0"))
