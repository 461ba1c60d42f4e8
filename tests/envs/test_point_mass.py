"""The single point-mass environment: dynamics, tasks, rewards, interface, pictures."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hierebm  # noqa: F401 - registers the environment
from hierebm.envs import LAYOUTS, Layout, PointMassGoalEnv
from hierebm.envs.dynamics import ACCELERATION, DRAG, MARGIN, MAX_SPEED, advance
from hierebm.envs.layouts import get_layout

Array = npt.NDArray[np.float32]


def make(**kwargs: Any) -> PointMassGoalEnv:
    return PointMassGoalEnv(**kwargs)


def steer(observation: dict[str, Array], target: npt.ArrayLike | None = None) -> Array:
    """Accelerate towards a point and brake in time."""
    goal = observation["desired_goal"] if target is None else np.asarray(target)
    offset = goal - observation["achieved_goal"]
    action = 5 * offset - 20 * observation["observation"][..., 2:]
    return np.clip(action, -1, 1).astype(np.float32)


# -- dynamics ---------------------------------------------------------------------------------


def test_step_without_walls_follows_the_formula() -> None:
    rng = np.random.default_rng(0)
    position = rng.uniform(-1, 1, (100, 2)).astype(np.float32)
    velocity = rng.uniform(-0.2, 0.2, (100, 2)).astype(np.float32)
    action = rng.uniform(-1, 1, (100, 2)).astype(np.float32)
    moved, speed = advance(position, velocity, action, get_layout("open"))
    np.testing.assert_allclose(speed, 0.8 * velocity + 0.04 * action, atol=1e-6)
    np.testing.assert_array_equal(moved, position + speed)
    assert moved.dtype == speed.dtype == np.float32


def test_top_speed_is_reached_and_never_passed() -> None:
    layout = get_layout("open", scale=20)
    position, velocity = np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)
    for _ in range(100):
        position, velocity = advance(position, velocity, np.array([[1, -9]], np.float32), layout)
        assert (np.abs(velocity) <= MAX_SPEED).all()
    np.testing.assert_allclose(velocity, [[0.2, -0.2]], rtol=1e-5)
    assert pytest.approx(ACCELERATION / DRAG) == MAX_SPEED


def test_walls_stop_one_component_and_let_the_other_slide() -> None:
    position, velocity = np.array([[1.95, 0.0]], np.float32), np.array([[0.2, 0.1]], np.float32)
    position, velocity = advance(
        position, velocity, np.array([[1, 0]], np.float32), get_layout("open")
    )
    np.testing.assert_allclose(position, [[2 - MARGIN, 0.08]], atol=1e-6)
    np.testing.assert_allclose(velocity, [[0, 0.08]], atol=1e-6)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_move_that_ends_beside_a_wall_keeps_the_margin(axis: int, sign: int) -> None:
    position, velocity = np.zeros((2, 1, 2), np.float32)
    position[0, axis], velocity[0, axis] = sign * 1.79995, sign * MAX_SPEED
    moved, speed = advance(position, velocity, np.sign(velocity), get_layout("open"))
    assert moved[0, axis] == pytest.approx(sign * (2 - MARGIN), abs=1e-6)
    assert speed[0, axis] == pytest.approx(sign * MAX_SPEED), "it did not run into the wall"


@st.composite
def situations(draw: st.DrawFn) -> tuple[Layout, Array, Array, list[tuple[float, float]]]:
    """Any layout, any free place, any allowed velocity, some actions."""
    width, height = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cells = draw(st.lists(st.sampled_from("..#"), min_size=width * height, max_size=width * height))
    cells[draw(st.integers(0, len(cells) - 1))] = "."
    rows = ["".join(cells[y * width : (y + 1) * width]) for y in range(height)]
    layout = Layout(rows, scale=draw(st.integers(1, 3)))
    low = layout.free_cell_low[draw(st.integers(0, len(layout.free_cells) - 1))]
    share = st.one_of(st.sampled_from([0.0, 0.5, 0.999]), st.floats(0, 0.999))
    offset = np.array([draw(share), draw(share)])
    node = (low + layout.cell_size * offset)[None]
    position = layout.inside_cell(node, float(MARGIN)).astype(np.float32)[0]
    top = float(MAX_SPEED)
    speed = st.one_of(st.sampled_from([0.0, top, -top]), st.floats(-top, top, width=32))
    velocity = np.array([draw(speed), draw(speed)], dtype=np.float32)
    push = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-1, 1, width=32))
    actions = draw(st.lists(st.tuples(push, push), min_size=1, max_size=6))
    return layout, position[None], velocity[None], actions


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(situations())
def test_nothing_ever_enters_or_crosses_a_wall(
    situation: tuple[Layout, Array, Array, list[tuple[float, float]]],
) -> None:
    layout, position, velocity, actions = situation
    for action in actions:
        moved, speed = advance(position, velocity, np.array([action], np.float32), layout)
        assert not layout.in_wall(moved).any()
        corners = moved + 0.9 * MARGIN * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
        assert not layout.in_wall(corners).any(), "a margin is kept from every wall's face"
        assert (np.abs(speed) <= MAX_SPEED).all()
        free = np.clip(
            (1 - DRAG) * velocity + ACCELERATION * np.array(action, np.float32), -0.2, 0.2
        )
        # Every component either moves freely, or stands still at most the margin from its line.
        stopped = speed == 0
        np.testing.assert_allclose(speed[~stopped], free[~stopped], atol=1e-7)
        assert (np.abs(moved - position) <= np.abs(free) + MARGIN + 1e-5).all()
        # The straight line is free, and so are the two axis moves in one of the two orders.
        assert layout.segment_is_free(position, moved).all()
        x_first = np.array([[moved[0, 0], position[0, 1]]])
        y_first = np.array([[position[0, 0], moved[0, 1]]])
        assert any(
            layout.segment_is_free(position, bend).all()
            and layout.segment_is_free(bend, moved).all()
            for bend in (x_first, y_first)
        )
        position, velocity = moved, speed


def walk(layout: Layout, start: list[float], target: list[float]) -> tuple[list[float], list[bool]]:
    """One crossing after the other: where a point ends, and which axes a wall stopped it on."""
    side, low, margin = layout.cell_size, layout.low.tolist(), float(MARGIN)
    cell, new = (
        [math.floor((x - origin) / side) for x, origin in zip(point, low, strict=True)]
        for point in (start, target)
    )
    # Fractions of the step at which the boundaries are met, compared without dividing.
    gap = [abs(low[k] + side * max(cell[k], new[k]) - start[k]) for k in (0, 1)]
    reach = [abs(target[k] - start[k]) for k in (0, 1)]
    stopped = [False, False]
    for axis in (0, 1) if gap[0] * reach[1] <= gap[1] * reach[0] else (1, 0):
        ahead = list(cell)
        ahead[axis] = new[axis]
        if ahead != cell and layout.padded_walls[ahead[1] + 1, ahead[0] + 1]:
            stopped[axis] = True
        else:
            cell = ahead
    end = []
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        beside = [
            layout.padded_walls[tuple((cell + sign * step + 1)[::-1])] or stopped[axis]
            for sign in (-1, 1)
        ]
        lowest = low[axis] + side * cell[axis]
        highest = lowest + side - margin * beside[1]
        end.append(min(max(target[axis], lowest + margin * beside[0]), highest))
    return end, stopped


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(situations())
def test_the_table_of_crossings_says_what_walking_from_cell_to_cell_does(
    situation: tuple[Layout, Array, Array, list[tuple[float, float]]],
) -> None:
    layout, position, velocity, _ = situation
    # Every step of that speed, straight and diagonal, in one batch.
    turns = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [1, 0], [0, 1], [0, 0]], np.float32)
    start = np.repeat(position, len(turns), axis=0).astype(np.float64)
    target = (position + velocity * turns).astype(np.float64)
    ends, stops = layout.crossings.land(np.stack([start.T, target.T]))
    expected = [walk(layout, *pair) for pair in zip(start.tolist(), target.tolist(), strict=True)]
    np.testing.assert_array_equal(ends.T, [end for end, _ in expected])
    stopped = np.zeros_like(ends, np.bool_) if stops is None else stops
    np.testing.assert_array_equal(stopped.T, [stopped for _, stopped in expected])


@pytest.mark.parametrize("name", ["u", "four_rooms", "spiral", "serpentine", "large"])
def test_long_random_flights_stay_in_free_space(name: str) -> None:
    layout = get_layout(name)
    rng = np.random.default_rng(0)
    cell = rng.integers(len(layout.free_cells), size=500)
    position = (layout.free_cell_low[cell] + rng.uniform(0.01, 0.49, (500, 2))).astype(np.float32)
    velocity = np.zeros((500, 2), np.float32)
    direction = rng.uniform(-1.5, 1.5, (500, 2))
    stops = 0
    for step in range(200):
        if step % 10 == 0:
            direction = rng.uniform(-1.5, 1.5, (500, 2))
        before = position
        position, velocity = advance(position, velocity, direction.astype(np.float32), layout)
        stops += int((velocity == 0).sum())
        assert layout.segment_is_free(before, position).all()
    assert stops > 1000, "the flights did run into walls"


def test_a_goal_is_never_reached_through_a_wall() -> None:
    env = make(layout=["..#..", "..#.."], start=(-0.3, 0.0), goal=(0.3, 0.0))
    observation, _ = env.reset(seed=0)
    for _ in range(50):
        observation, reward, terminated, _, info = env.step(np.array([1, 0], np.float32))
        assert reward == -1 and not terminated and not info["is_success"]
    assert observation["achieved_goal"][0] == pytest.approx(-0.25 - MARGIN)


# -- rewards and ends of episodes ---------------------------------------------------------------


def test_steering_reaches_the_goal_within_the_limit() -> None:
    env = make()
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert info == {"is_success": False, "success": False}
        done = False
        while not done:
            observation, reward, terminated, truncated, info = env.step(steer(observation))
            distance = np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"])
            assert terminated is (reward == 0) is info["is_success"] is info["success"]
            assert terminated is bool(distance <= 0.3)
            assert reward == env.compute_reward(
                observation["achieved_goal"], observation["desired_goal"], info
            )
            done = terminated or truncated
        assert terminated and not truncated


def test_flags_and_rewards_are_python_values() -> None:
    env = make()
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert type(reward) is float
    assert type(terminated) is type(truncated) is bool
    assert type(info["is_success"]) is type(info["success"]) is bool


def test_success_radius_is_inclusive() -> None:
    env = make()
    goals = np.array([[0.3, 0.0], [0.3001, 0.0], [0.0, -0.3], [0.0, 0.0]])
    assert env.compute_reward(np.zeros(2), goals, None).tolist() == [0, -1, 0, 0]


def test_compute_reward_is_batched_over_leading_dimensions() -> None:
    rng = np.random.default_rng(0)
    achieved, desired = rng.uniform(-1, 1, (2, 5, 3, 2)).astype(np.float32)
    for reward_type in ("sparse", "dense"):
        env = make(reward_type=reward_type)
        rewards = env.compute_reward(achieved, desired, {})
        assert rewards.shape == (5, 3) and rewards.dtype == np.float64
        for index in np.ndindex(5, 3):
            one = env.compute_reward(achieved[index], desired[index], {})
            assert type(one) is float and one == rewards[index]
    np.testing.assert_allclose(rewards, -np.linalg.norm(achieved - desired, axis=-1), rtol=1e-6)


def test_continuing_task_goes_on_at_the_goal() -> None:
    env = make(continuing_task=True, start=(0, 0), goal=(0.4, 0), time_limit=60)
    observation, _ = env.reset(seed=0)
    successes = 0
    for step in range(60):
        observation, reward, terminated, truncated, info = env.step(steer(observation))
        assert not terminated and truncated is (step == 59)
        successes += info["is_success"]
        assert (reward == 0) is info["is_success"]
    assert successes > 40
    assert not env.compute_terminated(np.zeros(2), np.zeros(2), {})


def test_dense_reward_is_minus_the_distance() -> None:
    env = make(reward_type="dense", start=(0, 0), goal=(1, 1))
    env.reset(seed=0)
    observation, reward, *_ = env.step(np.array([1, 0], np.float32))
    expected = -np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"])
    assert reward == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("open", 100), ("u", 150), ("four_rooms", 150), ("spiral", 300), ("serpentine", 300)],
)
def test_default_time_limits(name: str, limit: int) -> None:
    env = gymnasium.make("PointMassGoal-v0", layout=name)
    assert env.unwrapped.time_limit == limit  # type: ignore[attr-defined]
    longest = env.unwrapped.layout.diameter / 0.2  # type: ignore[attr-defined]
    assert limit >= 2.5 * longest


@pytest.mark.parametrize(("made", "own", "expected"), [(7, None, 7), (None, 300, 300), (5, 9, 5)])
def test_time_limits(made: int | None, own: int | None, expected: int) -> None:
    env = gymnasium.make("PointMassGoal-v0", max_episode_steps=made, time_limit=own, start=(-2, -2))
    env.reset(seed=0, options={"goal": (2, 2)})
    for step in range(1, expected + 1):
        *_, terminated, truncated, _ = env.step(np.zeros(2, np.float32))
        assert not terminated and truncated is (step == expected)


def test_time_limit_grows_with_scale() -> None:
    assert make(layout="u", scale=4).time_limit == pytest.approx(4 * 150, abs=50)
    assert make(scale=4).time_limit > 200


# -- tasks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_tasks_are_free_and_apart(name: str) -> None:
    env = make(layout=name)
    env.reset(seed=0)
    nodes = []
    for _ in range(300):
        observation, _ = env.reset()
        ends = np.stack([observation["achieved_goal"], observation["desired_goal"]])
        assert not env.in_wall(ends).any()
        assert np.linalg.norm(ends[0] - ends[1]) > 0.3
        assert (observation["observation"][2:] == 0).all()
        nodes.append(ends)
    # Uniform over free space: the mean of the starts is the mean of the free cells' centres.
    centres = env.layout.free_cell_low + 0.25
    spread = centres.std(axis=0) / np.sqrt(600)
    deviation = np.abs(np.concatenate(nodes).mean(axis=0) - centres.mean(axis=0))
    assert (deviation < 5 * spread + 0.05).all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("open", 1.0, 1.2), ("four_rooms", 6.0, 8.0), ("spiral", 15.0, 30.0), ("large", 10, 10.1)],
)
def test_distance_range(name: str, low: float, high: float) -> None:
    env = make(layout=name)
    for seed in range(15):
        observation, _ = env.reset(seed=seed, options={"distance": (low, high)})
        start, goal = observation["achieved_goal"], observation["desired_goal"]
        assert low <= env.shortest_path_distance(start, goal) <= high


def test_distance_range_finds_tasks_within_one_cell() -> None:
    env = make(layout=["."], distance=(0.4, 0.5))
    for options in ({}, {"start": (-0.2, -0.2)}, {"goal": (0.2, -0.2)}):
        observation, _ = env.reset(seed=0, options=options)
        start, goal = observation["achieved_goal"], observation["desired_goal"]
        assert 0.4 <= env.shortest_path_distance(start, goal) <= 0.5


@pytest.mark.parametrize("fixed", ["start", "goal"])
def test_distance_range_with_one_end_given(fixed: str) -> None:
    env = make(layout="serpentine", distance=(4, 5))
    point = (-3.0, -3.0)
    for seed in range(5):
        observation, _ = env.reset(seed=seed, options={fixed: point})
        start, goal = observation["achieved_goal"], observation["desired_goal"]
        np.testing.assert_allclose(start if fixed == "start" else goal, point)
        assert 4 <= env.shortest_path_distance(start, goal) <= 5


def test_both_ends_given() -> None:
    env = make(layout="u", distance=(1, 2))
    observation, info = env.reset(options={"start": [-3, 3], "goal": np.array([3, 3])})
    np.testing.assert_array_equal(observation["achieved_goal"], [-3, 3])
    np.testing.assert_array_equal(observation["desired_goal"], [3, 3])
    observation, info = env.reset(options={"start": [3, 3], "goal": [3, 3]})
    assert info["is_success"], "explicit ends are taken as they are"


def test_constructor_gives_defaults_that_options_overrule() -> None:
    env = make(start=(1, 1), distance=(0.5, 1.0))
    observation, _ = env.reset(seed=0)
    assert observation["achieved_goal"].tolist() == [1, 1]
    observation, _ = env.reset(options={"start": (0, 0)})
    assert observation["achieved_goal"].tolist() == [0, 0]
    assert 0.5 <= env.shortest_path_distance((0, 0), observation["desired_goal"]) <= 1.0
    observation, _ = env.reset(options={"distance": (2, 2.5)})
    assert 2 <= env.shortest_path_distance((1, 1), observation["desired_goal"]) <= 2.5


def test_points_on_the_edge_of_the_world_are_inside() -> None:
    observation, _ = make().reset(options={"start": (2, -2), "goal": (-2, 2)})
    assert not get_layout("open").in_wall(observation["achieved_goal"])
    np.testing.assert_allclose(observation["achieved_goal"], [2, -2], atol=2e-4)


def test_points_on_the_face_of_a_wall_step_off_it() -> None:
    env = make(layout=["#.", "..", ".#"], start=(0.0, 0.5), goal=(0.2, -0.25))
    observation, _ = env.reset()
    np.testing.assert_allclose(observation["achieved_goal"], [MARGIN, 0.5], atol=1e-6)
    np.testing.assert_allclose(observation["desired_goal"], [0.2, MARGIN - 0.25], atol=1e-6)


def test_random_goals_can_be_reached_when_free_space_is_in_parts() -> None:
    env = make(layout=["..#..", "..#.."])
    for seed in range(50):
        for options in ({}, {"distance": (0.4, 0.8)}, {"start": (-1, 0.2)}, {"goal": (1, 0.2)}):
            observation, _ = env.reset(seed=seed, options=options)
            start, goal = observation["achieved_goal"], observation["desired_goal"]
            assert np.isfinite(env.shortest_path_distance(start, goal))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": (0, 0)}, "unknown key 'begin'"),
        ({"start": (0, 2)}, r"\['start'\] = \(0, 2\) lies in a wall of layout 'u'"),
        ({"goal": (9, 0)}, r"\['goal'\] = \(9, 0\) lies outside the world"),
        ({"goal": (np.nan, 0)}, r"\['goal'\].*outside"),
        ({"goal": 3}, r"\['goal'\] must be two numbers"),
        ({"goal": (1, 2, 3)}, r"\['goal'\] must be two numbers"),
        ({"distance": (2, 1)}, r"\['distance'\] = \(2, 1\) is empty"),
        ({"distance": (0, 0.3)}, "success radius"),
        ({"distance": (np.nan, 1)}, "is empty"),
        ({"distance": 3.0}, "two numbers"),
        ({"distance": (50, 60)}, "holds no task.*at most about 11"),
        ({"distance": (8, 9), "start": (0, -3)}, "holds no task.*with start"),
        ({"distance": (1, 2), "start": (-3, 3), "goal": (3, 3)}, "does not hold the distance"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    env = make(layout="u")
    before, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    after = env.step(np.zeros(2, np.float32))[0]
    np.testing.assert_array_equal(before["desired_goal"], after["desired_goal"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward_type": "shaped"}, "reward_type='shaped'"),
        ({"time_limit": 0}, "time_limit must be"),
        ({"time_limit": 1.5}, "time_limit must be"),
        ({"time_limit": "long"}, "time_limit must be"),
        ({"time_limit": float("nan")}, "time_limit must be"),
        ({"render_mode": "ansi"}, "render_mode='ansi'"),
        ({"start": (5, 5)}, r"arguments\['start'\].*outside"),
        ({"distance": (1, 0)}, r"arguments\['distance'\].*empty"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_bad_actions_and_steps_out_of_order() -> None:
    env = make()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="finite, got nan"):
        env.step(np.array([0, np.nan], np.float32))
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        env.step(np.zeros(3, np.float32))


def test_same_seed_same_episode() -> None:
    first, second = make(layout="four_rooms"), make(layout="four_rooms")
    for _ in range(3):
        a, b = first.reset(seed=5), second.reset(seed=5)
        for key in a[0]:
            np.testing.assert_array_equal(a[0][key], b[0][key])
        a, b = first.reset(), second.reset()
        np.testing.assert_array_equal(a[0]["desired_goal"], b[0]["desired_goal"])
    assert not np.array_equal(make().reset(seed=1)[0]["desired_goal"], a[0]["desired_goal"])


def test_observations_are_not_views_of_the_state() -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    kept = {key: value.copy() for key, value in observation.items()}
    for value in observation.values():
        value += 1
    following, *_ = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(following["achieved_goal"], kept["achieved_goal"])
    np.testing.assert_array_equal(following["desired_goal"], kept["desired_goal"])


# -- interface ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["open", "serpentine"])
@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
def test_gymnasium_checker_has_no_complaint(layout: str, reward_type: str) -> None:
    env = gymnasium.make(
        "PointMassGoal-v0", layout=layout, reward_type=reward_type, render_mode="rgb_array"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("layout", ["open", "serpentine"])
def test_stable_baselines_checker_has_no_complaint(layout: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(gymnasium.make("PointMassGoal-v0", layout=layout).unwrapped)


def test_spaces_are_finite_float32_and_hold_every_observation() -> None:
    env = make(layout="four_rooms")
    assert env.action_space.dtype == np.float32
    for space in env.observation_space.spaces.values():  # type: ignore[attr-defined]
        assert space.dtype == np.float32
        assert np.isfinite(space.low).all() and np.isfinite(space.high).all()
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(150):
        assert observation in env.observation_space
        observation, *_ = env.step(rng.choice([-1.0, 1.0], 2).astype(np.float32))


def test_everything_is_found_through_gymnasium_make() -> None:
    env = gymnasium.make("PointMassGoal-v0", layout=["...", ".#.", "..."])
    env.reset(seed=0)
    assert env.get_wrapper_attr("compute_reward")(np.zeros(2), np.zeros(2), {}) == 0
    world: Any = env.unwrapped
    assert world.shortest_path_distance([-0.5, 0], [0.5, 0]) == pytest.approx(
        2 * np.hypot(0.25, 0.25) + 0.5
    )
    assert world.shortest_path_steps([-0.5, 0.5], [0.5, 0.5]) == pytest.approx(5)
    assert not world.segment_is_free([-0.5, 0], [0.5, 0])
    assert world.in_wall([0, 0])


def test_making_an_environment_does_not_import_torch() -> None:
    code = (
        "import sys, gymnasium\n"
        "env = gymnasium.make('hierebm:PointMassGoal-v0', layout='u'); env.reset(seed=0)\n"
        "gymnasium.make_vec('PointMassGoal-v0', num_envs=2).reset(seed=0)\n"
        "sys.exit('torch' in sys.modules or 'pygame' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- pictures -----------------------------------------------------------------------------------


def colour(frame: npt.NDArray[np.uint8], x: float, y: float, half: float) -> list[int]:
    """Colour at a place of a square world of the given half side."""
    border = 0.02 * 512
    scale = (512 - 2 * border) / (2 * half)
    row, column = 512 - border - (y + half) * scale, border + (x + half) * scale
    return [int(value) for value in frame[round(row), round(column)]]


def test_picture_shows_walls_goal_and_point_where_they_are() -> None:
    pytest.importorskip("pygame")
    env = make(layout=["#...", "....", "....", "...."], render_mode="rgb_array")
    env.reset(seed=0, options={"start": (-0.6, -0.6), "goal": (0.5, 0.5)})
    frame = env.render()
    assert frame is not None and frame.shape == (512, 512, 3) and frame.dtype == np.uint8
    wall = colour(frame, -0.75, 0.75, 1.0)
    floor = colour(frame, 0.63, -0.63, 1.0)
    goal, point = colour(frame, 0.5, 0.5, 1.0), colour(frame, -0.6, -0.6, 1.0)
    assert max(wall) < 100 < 220 < min(floor)
    assert goal[1] > goal[0] + 50 and goal[1] > goal[2], "green"
    assert point[2] > point[0] + 50, "blue"
    ring = colour(frame, 0.5 - 0.2, 0.5, 1.0)
    assert ring != floor and ring[1] > ring[0], "the success radius is tinted"


def test_picture_shows_the_plan_and_the_trail() -> None:
    pytest.importorskip("pygame")
    env = make(render_mode="rgb_array")
    env.reset(seed=0, options={"start": (-1.5, -1), "goal": (1.5, -1)})
    for _ in range(8):
        env.step(np.array([1, 0], np.float32))
    bare = env.render()
    env.subgoals = [(-0.2, 1.0), (0.8, 0.8)]
    planned = env.render()
    assert bare is not None and planned is not None
    x = -0.2 + 0.07 * 0.65
    orange = colour(planned, x, 1.0, 2.0)
    assert orange[0] > orange[2] + 80 and colour(bare, x, 1.0, 2.0) != orange
    trail = colour(bare, -1.4, -1.0, 2.0)
    assert trail[2] > trail[0] + 20


def test_oblong_worlds_keep_their_proportions() -> None:
    pytest.importorskip("pygame")
    env = make(layout=["........", "........"], render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert frame is not None and frame.shape[1] == 512 and 120 < frame.shape[0] < 160


def test_human_mode_draws_into_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gymnasium.make("PointMassGoal-v0", render_mode="human")
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
    assert pygame.display.get_init()
    shown = pygame.surfarray.array3d(pygame.display.get_surface())
    assert shown.std() > 5
    env.close()
    assert not pygame.display.get_init()


def test_missing_pygame_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hierebm.envs.rendering", raising=False)
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match=r"hierebm\[render\]"):
        env.render()


def test_render_without_a_mode_warns() -> None:
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
