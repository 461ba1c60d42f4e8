"""Whatever the autoreset mode, the same true transitions, infos and successes come out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import hierebm  # noqa: F401
from hierebm.goal_env.adapter import GoalEnv
from hierebm.goal_env.autoreset import AutoresetEnv
from hierebm.goal_env.infos import Infos
from tests.toys import LineGoal


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_gives_the_same_true_transitions(mode: AutoresetMode) -> None:
    """Each transition's next state follows from its state, and no reset row is one."""
    n, steps = 3, 90
    vector = SyncVectorEnv([LineGoal for _ in range(n)], autoreset_mode=mode)
    env = GoalEnv(vector)
    rng = np.random.default_rng(0)
    current = env.reset(seed=0)
    counted, ends = np.zeros(n, int), np.zeros(n, int)
    for _ in range(steps):
        action = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
        moved = env.spaces.to_env_action(action)
        step = env.step(action)
        for i in np.flatnonzero(step.valid):
            expected = np.clip(current.achieved_goal[i] + moved[i], -1, 1)
            assert np.allclose(step.next_state.achieved_goal[i], expected, atol=1e-5)
            assert step.next_state.desired_goal[i] == current.desired_goal[i]
            counted[i] += 1
        assert (step.ended == (step.valid & step.truncated)).all()
        ends += step.ended
        for i in np.flatnonzero(step.ended):
            assert counted[i] % 20 == 0
        current = step.current
    assert (ends == counted // 20).all() and (ends >= 4).all()


def test_a_vector_that_names_no_autoreset_mode_resets_on_the_next_step() -> None:
    vector = SyncVectorEnv([LineGoal for _ in range(2)])
    vector.metadata = {k: v for k, v in vector.metadata.items() if k != "autoreset_mode"}
    env = GoalEnv(vector)
    env.reset(seed=0)
    steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(21)]
    assert steps[19].ended.all() and steps[20].n_valid == 0


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_reward_in_an_array_is_a_reward(shape: tuple[int, ...]) -> None:
    env = GoalEnv(gym.wrappers.TransformReward(LineGoal(), lambda r: np.full(shape, r)))
    env.reset(seed=0)
    step = env.step(np.zeros((1, 1), np.float32))
    assert step.reward.shape == (1,) and step.reward.dtype == np.float64


def test_several_rewards_for_one_step_are_refused() -> None:
    env = GoalEnv(gym.wrappers.TransformReward(LineGoal(), lambda r: np.array([r, r])))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="2 rewards"):
        env.step(np.zeros((1, 1), np.float32))


def test_a_step_stays_as_it_was_when_the_environment_reuses_its_memory() -> None:
    class Reuses(SyncVectorEnv):
        """Writes every step into the arrays that it returned before."""

        def step(self, actions: np.ndarray) -> Any:
            actions *= 0.5
            fresh = super().step(actions)
            if not hasattr(self, "memory"):
                self.memory = fresh
            for key, value in fresh[0].items():
                self.memory[0][key][:] = value
            for array, value in zip(self.memory[2:4], fresh[2:4], strict=True):
                array[:] = value
            return (self.memory[0], fresh[1], *self.memory[2:4], fresh[4])

        def spoil(self) -> None:
            for array in (*self.memory[0].values(), *self.memory[2:4]):
                array[:] = 1

    vector = Reuses([LineGoal for _ in range(2)], copy=False)
    env = GoalEnv(vector)
    env.reset(seed=0)
    action = np.full((2, 1), 0.25, np.float32)
    step = env.step(action)
    assert (action == 0.25).all()
    kept = step.next_state.observation.copy()
    vector.spoil()
    assert np.array_equal(step.next_state.observation, kept)
    assert not step.ended.any() and not step.failure.any() and step.valid.all()


def test_infos_of_a_vector_environment_come_row_by_row() -> None:
    env = GoalEnv(gym.make_vec("PointMassGoal-v0", num_envs=3))
    env.reset(seed=0)
    infos = env.step(np.zeros((3, 2), np.float32)).infos
    assert len(infos) == 3 == len(list(infos))
    assert [set(info) for info in infos] == [{"is_success", "success"}] * 3
    assert infos[-1] == infos[2] and infos[:2] == [infos[0], infos[1]]
    with pytest.raises(IndexError):
        infos[3]


def test_a_row_of_infos_has_what_its_mask_says() -> None:
    values, known = np.array([1.0, 2.0]), np.array([True, False])
    rows = Infos({"a": values, "_a": known, "b": values, "final_info": {"a": values}}, 2)
    assert list(rows) == [{"a": 1.0, "b": 1.0}, {"b": 2.0}]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_episodes_that_a_vector_wrapper_counts_reach_the_infos(mode: AutoresetMode) -> None:
    vector = SyncVectorEnv([LineGoal, LineGoal], autoreset_mode=mode)
    env = GoalEnv(gym.wrappers.vector.RecordEpisodeStatistics(vector))
    env.reset(seed=0)
    rows = []
    for _ in range(25):
        rows += [info for info in env.step(np.ones((2, 1), np.float32)).infos if "episode" in info]
    assert [row["episode"]["l"] for row in rows] == [20, 20]


class Counter(gym.Env[tuple[Any, dict[str, Any]], int]):
    """No goal environment: counts its steps from ``options["start"]`` on, three to an episode."""

    observation_space = spaces.Tuple(
        (spaces.Box(-99, 99, (1,), np.int64), spaces.Dict(t=spaces.Discrete(99)))
    )
    action_space = spaces.Discrete(2)

    def _observe(self) -> tuple[Any, dict[str, Any]]:
        return self.memory, {"t": np.int64(self.t)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        self.memory = np.array([(options or {}).get("start", 0)])
        return self._observe(), {"phase": "reset"}

    def step(self, action: int) -> Any:
        self.t += 1
        self.memory[0] += action
        return self._observe(), 1.0, self.t == 3, False, {"phase": "step", "t": self.t}


class Reusing(Counter):
    """Resets write into the memory of the step before: what is kept of that has to be copied."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        memory = getattr(self, "memory", np.zeros(1, np.int64))
        (fresh, rest), info = super().reset(seed=seed, options=options)
        memory[:] = fresh
        self.memory = memory
        return (memory, rest), info


def _counters(mode: AutoresetMode | None) -> AutoresetEnv:
    if mode is None:
        return AutoresetEnv(Reusing())
    return AutoresetEnv(SyncVectorEnv([Counter, Counter], copy=False, autoreset_mode=mode))


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_any_environment_gives_its_true_next_observation_and_its_next_start(
    mode: AutoresetMode | None,
) -> None:
    env = _counters(mode)
    observation = env.reset(seed=0)
    assert observation[0].tolist() == [[0]] * env.n_envs
    seen = []
    for _ in range(8):
        step = env.step(np.ones(env.n_envs, np.int64))
        if step.valid.all():
            reached = step.next_observation
            seen.append((int(reached[0][0, 0]), int(reached[1]["t"][0]), bool(step.ended[0])))
            assert (reached[0] == reached[0][0]).all()
            assert {"phase": "step", "t": seen[-1][1]}.items() <= step.infos[0].items()
        else:
            assert not step.valid.any() and step.n_valid == 0 and step.first.all()
        if step.first.all():
            assert (step.current[0] == 0).all() and (step.current[1]["t"] == 0).all()
        else:
            assert not step.first.any()
    assert seen[:6] == [(1, 1, False), (2, 2, False), (3, 3, True)] * 2


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_options_go_on_to_automatic_resets_where_the_environment_lets_them(
    mode: AutoresetMode | None,
) -> None:
    env, options = _counters(mode), {"start": 5}
    assert (env.reset(seed=0, options=options)[0] == 5).all()
    starts = []
    for _ in range(8):
        step = env.step(np.zeros(env.n_envs, np.int64))
        starts += [int(step.current[0][0, 0])] if step.first[0] else []
    assert starts == [5 if env.carries_options else 0] * 2
    assert options == {"start": 5}
    # The next reset forgets them.
    assert (env.reset(seed=0)[0] == 0).all()


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(TypeError, match="got int"):
        AutoresetEnv(3)  # type: ignore[arg-type]


class Shared(SyncVectorEnv):
    """Reports some entries once for all environments, as simulators do."""

    def step(self, actions: np.ndarray) -> Any:
        *step, infos = super().step(actions)
        shared = {"log": {"fps": 30.0, "phase": "run"}, "temperature": np.array(21.5)}
        return *step, {**infos, **shared, "names": ["a", "b", "c"]}


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_entries_without_rows_belong_to_every_environment(mode: AutoresetMode) -> None:
    env = AutoresetEnv(Shared([LineGoal, lambda: LineGoal(limit=3)], autoreset_mode=mode))
    env.reset(seed=0)
    for _ in range(3):
        infos = env.step(np.zeros((2, 1), np.float32)).infos
        for info in infos:
            assert info["log"] == {"fps": 30.0, "phase": "run"}
            assert info["temperature"] == 21.5 and info["names"] == ["a", "b", "c"]
            assert "is_success" in info


def test_an_ended_row_has_its_final_info_before_that_of_the_reset() -> None:
    """The others keep their own entries, also those that are in the final info."""
    every, second = np.array([True, True]), np.array([False, True])
    final = {"t": np.array([0, 9]), "_t": second}
    infos = Infos(
        {"t": np.array([3, 0]), "_t": every, "wrapped": np.array([1, 2]), "_wrapped": every,
         "final_info": final, "_final_info": second},
        2,
        ended=second,
    )  # fmt: skip
    assert list(infos) == [{"t": 3, "wrapped": 1}, {"t": 9, "wrapped": 2}]


TRUE, FALSE = np.array([True, True]), np.array([False, False])


@pytest.mark.parametrize(
    ("infos", "success", "reported"),
    [
        ({}, [False, False], [False, False]),
        ({"is_success": np.array([True, False])}, [True, False], [True, True]),
        ({"success": TRUE, "_success": np.array([True, False])}, [True, False], [True, False]),
        ({"is_success": FALSE, "success": TRUE}, [True, True], [True, True]),
        ({"success": np.array([[1.0], [0.0]])}, [True, False], [True, True]),
        ({"success": np.array([None, True], object)}, [False, True], [True, True]),
        ({"success": 1.0}, [True, True], [True, True]),
        ({"is_success": TRUE, "final_info": {"is_success": FALSE}}, [True, False], [True, True]),
        ({"is_success": TRUE, "final_info": {}}, [True, False], [True, False]),
    ],
)
def test_success_is_read_from_any_key(infos: dict, success: list, reported: list) -> None:
    """The second environment has ended in the modes that tell its final info."""
    read = Infos(infos, 2, np.array([False, True]) if "final_info" in infos else None).success()
    assert [array.tolist() for array in read] == [success, reported]


@pytest.mark.parametrize(
    ("info", "success", "reported"),
    [({}, False, False), ({"success": 0}, False, True), ({"is_success": np.ones(1)}, True, True)],
)
def test_success_of_a_single_environment(info: dict, success: bool, reported: bool) -> None:
    assert [array.tolist() for array in Infos(info).success()] == [[success], [reported]]
