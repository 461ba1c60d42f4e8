"""OGBench's mazes behave as OGBench codes them, and draw from their own generator alone."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import hierebm  # noqa: F401 - registers the environments
from hierebm.envs import OGBenchMazeEnv
from hierebm.goal_env.adapter import GoalEnv


def test_without_ogbench_the_error_names_the_extra() -> None:
    code = (
        "import sys, gymnasium, hierebm\n"
        "assert 'ogbench' not in sys.modules\n"
        "sys.modules['ogbench'] = None\n"
        "try:\n"
        "    gymnasium.make('OGBenchPointMaze-giant-v0')\n"
        "except gymnasium.error.DependencyNotInstalled as error:\n"
        "    assert 'pip install \"hierebm[ogbench]\"' in str(error), error\n"
        "else:\n"
        "    raise AssertionError('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"maze": "huge"}, "maze='huge'"),
        ({"agent": "dog"}, "agent='dog'"),
        ({"render_mode": "human"}, "render_mode='human'"),
    ],
)
def test_what_ogbench_does_not_have_is_refused_by_name(
    kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OGBenchMazeEnv(**kwargs)


class TestWithOGBench:
    """What needs it."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("ogbench")

    @pytest.mark.parametrize("maze", OGBenchMazeEnv.mazes)
    def test_both_checkers_pass_without_a_warning(self, maze: str) -> None:
        env = gymnasium.make(f"OGBenchPointMaze-{maze}-v0")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped, skip_render_check=True)
            sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
            sb3.check_env(env.unwrapped, skip_render_check=True)
        env.close()

    def test_closing_closes_the_renderer_too(self) -> None:
        env, closed = OGBenchMazeEnv("medium"), []
        env._maze.custom_renderer = SimpleNamespace(close=lambda: closed.append(True))
        env.close()
        env.close()
        assert closed == [True]

    def test_ants_have_their_state_and_tolerance(self) -> None:
        env = gymnasium.make("OGBenchAntMaze-medium-v0")
        observation, _ = env.reset(seed=0)
        assert observation["observation"].shape == (29,)
        np.testing.assert_array_equal(observation["achieved_goal"], observation["observation"][:2])
        assert env.unwrapped.success_tolerance == 0.5  # type: ignore[attr-defined]
        check_env(env.unwrapped, skip_render_check=True)

    @pytest.mark.parametrize("maze", ["medium", "teleport"])
    def test_one_seed_gives_one_run_whatever_the_global_state_is(self, maze: str) -> None:
        def run(seed: int, global_seed: int) -> np.ndarray:
            np.random.seed(global_seed)  # noqa: NPY002 - what must not matter
            before = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr] # noqa: NPY002
            env = OGBenchMazeEnv(maze)
            actions = np.random.default_rng(0).uniform(-1, 1, (150, 2)).astype(np.float32)
            seen = []
            for episode in range(5):
                observation, info = env.reset(seed=seed if episode == 0 else None)
                seen.append([*observation["observation"], *observation["desired_goal"]])
                seen[-1].append(info["task_id"])
                if maze == "teleport":
                    env._maze.set_xy(np.array(env._teleport["teleport_in_xys"][0]))
                for action in actions[: 150 if episode == 0 else 5]:
                    observation, *_ = env.step(action)
                    seen.append([*observation["observation"], 0, 0, 0])
            after = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr] # noqa: NPY002
            assert after == before, "the global state is left as it was"
            return np.array(seen)

        first = run(3, 0)
        np.testing.assert_array_equal(first, run(3, 1))
        assert not np.array_equal(first, run(4, 0))

    def test_tasks_are_those_of_ogbench(self) -> None:
        import ogbench  # noqa: F401 - registers its environments

        theirs: Any = gymnasium.make("pointmaze-giant-v0").unwrapped
        env = OGBenchMazeEnv("giant")
        assert env.n_tasks == 5
        for task in range(1, 6):
            observation, info = env.reset(seed=task, options={"task_id": task})
            assert info["task_id"] == task and not info["success"]
            given = theirs.task_infos[task - 1]
            start, goal = observation["achieved_goal"], observation["desired_goal"]
            assert np.abs(start - given["init_xy"]).max() <= 1.0
            assert np.abs(goal - given["goal_xy"]).max() <= 1.0
        drawn = {env.reset(seed=seed)[1]["task_id"] for seed in range(40)}
        assert drawn == {1, 2, 3, 4, 5}
        for options, message in (({"task_id": 6}, "1 to 5, got 6"), ({"goal": 1}, "'goal'")):
            with pytest.raises(ValueError, match=message):
                env.reset(options=options)

    def test_steps_are_those_of_ogbench_up_to_and_with_the_goal(self) -> None:
        import ogbench  # noqa: F401 - registers its environments

        theirs: Any = gymnasium.make("pointmaze-medium-v0").unwrapped
        env = OGBenchMazeEnv("medium")
        theirs.reset(seed=0, options={"task_id": 1})
        observation, _ = env.reset(seed=0, options={"task_id": 1})
        goal = observation["achieved_goal"] + np.array([0.0, 2.0], np.float32)
        env._goal = goal
        theirs.set_xy(env._maze.get_xy())
        theirs.set_goal(goal_xy=goal.astype(float))
        action, ends = np.array([0.3, 1.0], np.float32), []
        for _ in range(8):
            observation, reward, terminated, truncated, info = env.step(action)
            state, their_reward, their_end, _, their_info = theirs.step(action)
            np.testing.assert_array_equal(observation["observation"], state.astype(np.float32))
            assert (reward, terminated) == (their_reward - 1.0, their_end)
            assert info["success"] == info["is_success"] == bool(their_info["success"])
            assert not truncated
            ends.append(terminated)
        assert not ends[0] and ends[-1]

    def test_a_teleporter_moves_the_agent_to_one_of_its_exits(self) -> None:
        env = OGBenchMazeEnv("teleport")
        env.reset(seed=0)
        exits = []
        for _ in range(30):
            env._maze.set_xy(np.array(env._teleport["teleport_in_xys"][0]))
            observation, *_ = env.step(np.zeros(2, np.float32))
            # As in OGBench, the observation after it is the first to tell.
            assert (
                np.abs(observation["achieved_goal"] - env._teleport["teleport_in_xys"][0]).max() < 1
            )
            observation, *_ = env.step(np.zeros(2, np.float32))
            exits.append(tuple(np.round(observation["achieved_goal"]).tolist()))
        assert set(exits) == {tuple(map(float, xy)) for xy in env._teleport["teleport_out_xys"]}

    def test_episodes_last_a_thousand_steps_and_agents_can_learn_from_them(self) -> None:
        env = gymnasium.make("OGBenchPointMaze-medium-v0")
        assert env.spec is not None and env.spec.max_episode_steps == 1000
        goal_env = GoalEnv(env)
        state = goal_env.reset(seed=0)
        goal_env.check_sparse(state.achieved_goal, state.desired_goal)
        offsets = np.array([[0.99, 0.0], [0.0, 1.01]], np.float32)
        assert goal_env.reached(offsets, np.zeros_like(offsets)).tolist() == [True, False]

    def test_it_can_be_pickled(self) -> None:
        copy = pickle.loads(pickle.dumps(OGBenchMazeEnv("medium")))
        assert copy.reset(seed=0)[0]["achieved_goal"].shape == (2,)
