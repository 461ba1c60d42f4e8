"""Worlds that are directed or leave things to chance: doors, slippery ground, teleporters."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import hierebm  # noqa: F401 - registers the environment
from hierebm.envs import Layout, PointMassGoalEnv
from hierebm.envs.chance_layouts import CHANCE_LAYOUTS
from hierebm.envs.expected_steps import ExpectedSteps
from hierebm.envs.tiles import ARROWS
from tests.envs.test_point_mass_vector import assert_same, make_both

RIGHT = np.array([1.0, 0.0], np.float32)
TWO_WAYS = ["a.....a", "######.", "A......"]


@st.composite
def worlds(draw: st.DrawFn) -> Layout:
    width, height = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    cells = draw(
        st.lists(st.sampled_from("...#<>^v"), min_size=width * height, max_size=width * height)
    )
    cells[draw(st.integers(0, len(cells) - 1))] = "."
    grid = np.pad(np.array(cells).reshape(height, width), 1, constant_values="#")
    for y, x in np.argwhere(np.isin(grid, list(ARROWS))):
        dx, dy = ARROWS[grid[y, x]]
        # Doors are between walls: where one is not, there are walls now or free ground.
        beside = [(y + dx, x + dy), (y - dx, x - dy)]
        if draw(st.booleans()) or any(grid[at] in ARROWS for at in beside):
            grid[y, x] = "."
        else:
            for at in beside:
                grid[at] = "#"
    grid = grid[1:-1, 1:-1]
    if (grid == "#").all():
        grid[0, 0] = "."
    return Layout(["".join(row) for row in grid])


def is_against(layout: Layout, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a move from one cell to the next (x, y) goes against a door, by the rows of text."""
    step = after - before
    for x, y in (before, after):
        arrow = ARROWS.get(layout.rows[::-1][y][x])
        if arrow is not None and step @ np.array(arrow) < 0:
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(layout=worlds(), seed=st.integers(0, 2**32 - 1))
def test_nothing_ever_goes_through_a_door_against_its_arrow(layout: Layout, seed: int) -> None:
    rng = np.random.default_rng(seed)
    env = PointMassGoalEnv(layout, continuing_task=True, goal=tuple(layout.free_cell_low[0] + 0.25))
    free = layout.free_cell_low[rng.integers(len(layout.free_cells))] + 0.25
    observation, _ = env.reset(seed=0, options={"start": free})
    action = rng.uniform(-1, 1, 2)
    for _ in range(150):
        if rng.random() < 0.15:
            action = rng.choice([-1.0, 0.0, 1.0], 2)
        before = layout.cell_of(observation["achieved_goal"])
        observation, *_ = env.step(action.astype(np.float32))
        after = layout.cell_of(observation["achieved_goal"])
        if np.abs(after - before).sum() == 1:
            assert not is_against(layout, before, after)


@pytest.mark.parametrize(("arrow", "passes"), [(">", True), ("<", False)])
def test_a_door_is_passed_along_its_arrow_alone(arrow: str, passes: bool) -> None:
    env = gymnasium.make("PointMassGoal-v0", layout=[f"..{arrow}.."], start=(-1, 0), goal=(1, 0))
    env.reset(seed=0)
    ended = [env.step(RIGHT)[2] for _ in range(40)]
    assert any(ended) == passes
    layout = env.unwrapped.layout  # type: ignore[attr-defined]
    there, back = (layout.shortest_path_distance([x, 0.1], [-x, 0.1]) for x in (-1.0, 1.0))
    assert (there, back)[:: 1 if passes else -1] == (2.0, np.inf)


@settings(max_examples=40, deadline=None)
@given(layout=worlds(), seed=st.integers(0, 2**32 - 1))
def test_doors_only_lengthen_shortest_paths(layout: Layout, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = rng.integers(len(layout.free_cells), size=(3, 30))
    a, b, c = layout.free_cell_low[cell] + layout.cell_size * rng.uniform(0.05, 0.95, (3, 30, 2))
    distance = layout.shortest_path_distance
    assert (distance(a, c) <= distance(a, b) + distance(b, c) + 1e-6).all()
    open_doors = Layout(["".join("." if x in ARROWS else x for x in row) for row in layout.rows])
    assert (distance(a, b) >= open_doors.shortest_path_distance(a, b) - 1e-9).all()
    number = {tuple(x): index for index, x in enumerate(layout.free_cells.tolist())}
    at = [[number[tuple(x)] for x in layout.cell_of(points).tolist()] for points in (a, b)]
    assert (np.isfinite(distance(a, b)) == layout.reaches[at[0], at[1]]).all()


def test_paths_and_tasks_go_the_long_way_round_where_a_door_is_shut() -> None:
    layout = Layout(CHANCE_LAYOUTS["one_way"])
    left, right = [-1.0, 2.0], [1.0, 2.0]
    assert layout.shortest_path_distance(left, right) == pytest.approx(2.0, abs=0.05)
    assert layout.shortest_path_distance(right, left) > 6.0
    wide = Layout(["^^", "..", "vv"])
    assert np.isinf(wide.shortest_path_distance([0.0, 0.5], [0.0, 0.0]))
    assert wide.shortest_path_distance([0.0, 0.0], [0.0, 0.5]) == pytest.approx(0.5)
    dead_end = Layout(["..>.."])
    env = PointMassGoalEnv(dead_end)
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        start, goal = observation["achieved_goal"], observation["desired_goal"]
        assert np.isfinite(dead_end.shortest_path_distance(start, goal))


def test_a_teleporter_leads_to_each_of_its_exits_equally_often_and_at_rest() -> None:
    env = PointMassGoalEnv(TWO_WAYS, start=(-0.9, -0.5))
    ends = []
    for seed in range(300):
        env.reset(seed=seed, options={"goal": (1.5, -0.5)})
        for _ in range(15):
            observation, *_ = env.step(-RIGHT)
            if observation["achieved_goal"][1] > 0:
                break
        ends.append(observation["achieved_goal"].copy())
        assert not observation["observation"][2:].any()
    x, count = np.unique(np.array(ends)[:, 0], return_counts=True)
    assert x.tolist() == [-1.5, 1.5], "the middles of the two exits"
    assert abs(count[0] - 150) < 4 * np.sqrt(300 / 4)


@pytest.mark.parametrize("name", list(CHANCE_LAYOUTS))
def test_tasks_stand_on_the_ground_and_can_be_solved(name: str) -> None:
    env = PointMassGoalEnv(name)
    check_env(env, skip_render_check=True)
    for seed in range(50):
        observation, _ = env.reset(seed=seed)
        for key in ("achieved_goal", "desired_goal"):
            x, y = env.layout.cell_of(observation[key])
            assert env.layout.rows[::-1][y][x] not in "#ABCDEFGH"


def test_a_goal_is_no_task_where_bad_luck_may_end_in_a_trap() -> None:
    # From the left room, the teleporter leads to the goal's room or into a pit without a way out.
    trap = Layout(["..A#.a.#a"])
    number = {tuple(cell): index for index, cell in enumerate(trap.free_cells.tolist())}
    assert not trap.reaches[number[0, 0], number[4, 0]]
    assert trap.reaches[number[4, 0], number[5, 0]]
    safe = Layout(["..A#.a.#aB", "####b#####"])
    number = {tuple(cell): index for index, cell in enumerate(safe.free_cells.tolist())}
    assert safe.reaches[number[0, 1], number[4, 1]], "out of the pit there is another teleporter"


def test_actions_slip_as_often_as_said_and_on_slippery_ground_alone() -> None:
    env = PointMassGoalEnv(["........", "~~~~~~~~"], slip=0.25, goal=(1.9, 0.4))
    for y, share in ((0.25, 0.0), (-0.25, 0.25)):
        slipped = 0
        for seed in range(400):
            env.reset(seed=seed, options={"start": (-1.0, y)})
            observation, *_ = env.step(RIGHT)
            slipped += observation["observation"][2] != np.float32(0.04)
        assert abs(slipped / 400 - share) < 4 * np.sqrt(share * (1 - share) / 400) + 1e-9
    everywhere = PointMassGoalEnv(slip=0.5)
    everywhere.reset(seed=0)
    assert everywhere.luck.is_slippery(np.zeros((3, 2), np.float32)).all()


@pytest.mark.parametrize("slip", [-0.1, 1.0, "much", None, True, float("nan")])
def test_a_slip_that_is_no_probability_is_refused(slip: Any) -> None:
    with pytest.raises(ValueError, match="slip must be a probability"):
        PointMassGoalEnv(slip=slip)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["A.."], "teleporter 'A' without 'a'"),
        (["..b"], "teleporter 'b' without 'B'"),
        ([".x."], "'~' for slippery ground"),
        (["...", ".>.", "..."], "door '>' that can be walked round, in row 1, column 1"),
        (["#A", "#A"], "every character is a wall or an entrance"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(rows: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(rows)


def test_nothing_starts_on_an_entrance() -> None:
    with pytest.raises(ValueError, match="entrance of a teleporter"):
        PointMassGoalEnv(TWO_WAYS, start=(-1.5, -0.5))


def test_worlds_without_luck_draw_nothing_in_a_step() -> None:
    env = PointMassGoalEnv("four_rooms")
    env.reset(seed=0)
    state = env.np_random.bit_generator.state
    for _ in range(20):
        env.step(RIGHT)
    assert env.np_random.bit_generator.state == state


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(
    "kwargs",
    [
        {"layout": "islands", "time_limit": 40},
        {"layout": "ice", "slip": 0.6, "time_limit": 15},
        {"layout": "one_way", "slip": 0.2, "time_limit": 30},
    ],
)
def test_the_vector_environment_has_the_same_luck(mode: AutoresetMode, kwargs: Any) -> None:
    both = make_both(5, mode, **kwargs)
    assert_same(*(env.reset(seed=3) for env in both))
    rng = np.random.default_rng(0)
    ended = np.zeros(5, np.bool_)
    for _ in range(150):
        if mode is AutoresetMode.DISABLED and ended.any():
            assert_same(*(env.reset(options={"reset_mask": ended.copy()}) for env in both))
        actions = rng.choice([-1.0, 0.5, 1.0], (5, 2)).astype(np.float32)
        steps = [env.step(actions) for env in both]
        assert_same(*steps)
        ended = steps[0][2] | steps[0][3]


@pytest.mark.parametrize("rows", [["..>.."], ["..~.."], ["A...a"]])
def test_tiles_can_be_seen(rows: list[str]) -> None:
    pytest.importorskip("pygame")
    frames = []
    for shown in (rows, ["....."]):
        env = gymnasium.make(
            "PointMassGoal-v0",
            layout=shown,
            start=(-0.6, 0.0),
            goal=(0.6, 0.0),
            render_mode="rgb_array",
        )
        env.reset(seed=0)
        frames.append(env.render())
    assert (frames[0] != frames[1]).any(-1).sum() > 200


def test_expected_steps_are_exact_where_they_can_be_worked_out() -> None:
    corridor = Layout(["............"])
    plain = ExpectedSteps(corridor)
    steps = plain.to([2.9, 0.0])
    # 5.6 units to the edge of the success radius at 0.2 a step.
    assert plain.at(steps, [[-2.95, 0.05]])[0] == pytest.approx(28, abs=1)
    slippery = ExpectedSteps(corridor, slip=0.5)
    assert slippery.at(slippery.to([2.9, 0.0]), [[-2.95, 0.05]])[0] == pytest.approx(56, rel=0.08)
    # One exit of two is in the goal's room, the other one back at the start: two tries of one step
    # each and the way of each to the entrance, and 1 or 0 steps from the exit.
    rooms = Layout(["a.A#a.."])
    gamble = ExpectedSteps(rooms)
    to = gamble.to(rooms.low + np.array([2.25, 0.25]))
    once = 0.5 / 0.2
    assert gamble.at(to, [rooms.low + 0.25])[0] == pytest.approx(2 * (once + 2), abs=1.5)
    one_way = ExpectedSteps(Layout(["..>.."]))
    assert np.isinf(one_way.at(one_way.to([-1.0, 0.0]), [[1.0, 0.0]])[0])
