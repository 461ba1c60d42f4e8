"""Walls, ground and success tolerances come from the worlds themselves, whoever made them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hierebm  # noqa: F401
from hierebm.goal_env.wrappers import FlattenGoalEnv
from hierebm.plotting.drawing import Walls
from hierebm.plotting.world import World, frame_extent_of, shapes_of, walls_of
from tests.toys import LineGoal

EXTENT = (-9.0, 9.0, -9.0, 9.0)


def middles(walls: Walls) -> np.ndarray:
    """(H, W, 2) the middle of every cell."""
    x_min, x_max, y_min, y_max = walls.extent
    height, width = walls.mask.shape
    x = x_min + (np.arange(width) + 0.5) * (x_max - x_min) / width
    y = y_min + (np.arange(height) + 0.5) * (y_max - y_min) / height
    return np.stack(np.meshgrid(x, y), axis=-1)


def robotics(env_id: str) -> gym.Env:
    gymnasium_robotics = pytest.importorskip("gymnasium_robotics")
    gym.register_envs(gymnasium_robotics)
    return gym.make(env_id)


def boxes(env: gym.Env, prefix: str) -> np.ndarray:
    """(N, 2) the middles of the boxes that the simulator takes for walls."""
    model: Any = env.unwrapped.model if hasattr(env.unwrapped, "model") else None
    model = env.unwrapped.point_env.model if hasattr(env.unwrapped, "point_env") else model
    model = env.unwrapped.ant_env.model if hasattr(env.unwrapped, "ant_env") else model
    names = [model.geom(i).name for i in range(model.ngeom)]
    rows = [i for i, name in enumerate(names) if name.startswith(prefix)]
    return model.geom_pos[rows, :2]


def same_points(a: np.ndarray, b: np.ndarray) -> bool:
    return {tuple(np.round(p, 3)) for p in a} == {tuple(np.round(p, 3)) for p in b}


@pytest.mark.parametrize("layout", ["u", "large"])
def test_walls_of_our_own_world(layout):
    env = gym.make("PointMassGoal-v0", layout=layout)
    walls = walls_of(env)
    cells = middles(walls)
    assert walls.mask.any()
    np.testing.assert_array_equal(env.unwrapped.in_wall(cells), walls.mask)
    np.testing.assert_array_equal(
        walls.contain(cells.reshape(-1, 2)).reshape(walls.mask.shape), walls.mask
    )


@pytest.mark.parametrize("env_id", ["PointMaze_UMaze-v3", "PointMaze_Large-v3", "AntMaze_UMaze-v5"])
def test_walls_of_gymnasium_robotics_are_those_of_the_simulator(env_id):
    env = robotics(env_id)
    walls = walls_of(env)
    assert same_points(middles(walls)[walls.mask], boxes(env, "block"))
    env.close()


@pytest.mark.parametrize("env_id", ["OGBenchPointMaze-giant-v0", "OGBenchAntMaze-medium-v0"])
def test_walls_of_ogbench_are_those_of_the_simulator(env_id):
    pytest.importorskip("ogbench")
    env = gym.make(env_id)
    walls = walls_of(env)
    maze = env.unwrapped._maze
    assert same_points(middles(walls)[walls.mask], boxes(SimpleNamespace(unwrapped=maze), "block"))
    # So are they where OGBench's own environment is below a user's own wrapper.
    own = walls_of(maze)
    np.testing.assert_array_equal(own.mask, walls.mask)
    assert own.extent == walls.extent
    env.close()


def test_mazes_are_known_by_their_attributes():
    """What the two libraries have, so that it is tried where they are not installed."""
    rows = [[1, 1, 1], [1, "c", 0]]
    maze = SimpleNamespace(maze_map=rows, maze_size_scaling=2.0, x_map_center=3.0, y_map_center=2.0)
    walls = walls_of(SimpleNamespace(unwrapped=SimpleNamespace(maze=maze)))
    # Their first row is the highest.
    np.testing.assert_array_equal(walls.mask, [[True, False, False], [True, True, True]])
    assert walls.extent == (-3.0, 3.0, -2.0, 2.0)

    ogbench = SimpleNamespace(
        maze_map=np.array([[1, 0, 0], [1, 1, 1]]), _maze_unit=4.0, _offset_x=4, _offset_y=4
    )
    walls = walls_of(ogbench)
    np.testing.assert_array_equal(walls.mask, [[True, False, False], [True, True, True]])
    # The middle of the first cell is at minus the offset.
    assert walls.extent == (-6.0, 6.0, -6.0, 2.0)


def test_an_environment_or_a_wrapper_names_its_walls():
    mask = [[0, 1, 1], [0, 0, 1]]

    class Named(LineGoal):
        wall_map = (mask, EXTENT)

    class Shifted(gym.Wrapper):
        def wall_map(self):
            return Walls(~np.array(mask, bool), (0.0, 1.0, 0.0, 2.0))

    for env in (Named(), gym.wrappers.TimeLimit(Named(), 5)):
        walls = walls_of(env)
        np.testing.assert_array_equal(walls.mask, np.array(mask, bool))
        assert walls.extent == EXTENT
    # The outermost one goes first: it may have moved the coordinates.
    assert walls_of(Shifted(Named())).extent == (0.0, 1.0, 0.0, 2.0)


@pytest.mark.parametrize(("layout", "n_shapes"), [("one_way", 4), ("ice", 1), ("islands", 16)])
def test_the_ground_is_drawn_as_the_environment_draws_it(layout, n_shapes):
    env = gym.make("PointMassGoal-v0", layout=layout, render_mode="rgb_array")
    env.reset(seed=0)
    picture, ours, (low, high) = env.render(), env.unwrapped, env.unwrapped.layout.extent[:2]
    shapes = World.of(env).shapes
    assert len(shapes) == n_shapes
    edge = round(0.02 * 512)
    for shape in shapes:
        # Of a ring, a point of its line; of all else, the middle.
        x, y = shape.outline[0] if not shape.filled else shape.outline.mean(0)
        scale = (picture.shape[1] - 2 * edge) / (high - low)
        column = edge + round((x - low) * scale)
        row = len(picture) - edge - round((y - ours.layout.extent[2]) * scale)
        seen = picture[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 3).astype(int)
        colour = [int(shape.colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(seen - colour).sum(1) < 20).any(), shape


def test_an_environment_of_ones_own_names_what_lies_on_the_ground():
    class Named(LineGoal):
        def floor_shapes(self):
            return [([(0, 0), (1, 0), (1, 1)], "red", False)]

    (shape,) = shapes_of(gym.wrappers.TimeLimit(Named(), 5))
    assert shape.outline.shape == (3, 2) and (shape.colour, shape.filled) == ("red", False)
    assert shapes_of(LineGoal()) == ()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([[(0, 0), (1, 1)]], "no shapes"),
        ([([1.0, 2.0], "red", True)], "an outline is"),
        ([([(0, 0), (1, np.nan)], "red", True)], "an outline is"),
        ([([(0, 0), (1, 1)], "no colour", True)], "a colour is 'no colour'"),
        (3, "no shapes"),
    ],
)
def test_shapes_that_are_none_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(SimpleNamespace(floor_shapes=shapes))


def test_without_walls_there_are_none():
    for env in (
        LineGoal(),
        SimpleNamespace(),
        SimpleNamespace(wall_map=None),
        # Other things of these names.
        SimpleNamespace(maze="a maze", maze_map=3),
        SimpleNamespace(maze=SimpleNamespace(maze_map=[])),
    ):
        assert walls_of(env) is None


@pytest.mark.parametrize(
    ("wall_map", "message"),
    [
        (np.zeros((3, 4), bool), "pair of a mask"),
        ((np.zeros(3), EXTENT), r"the mask has the shape \(3,\)"),
        ((np.zeros((3, 3)), (1.0, 0.0, 0.0, 1.0)), "the extent is"),
        ((np.zeros((3, 3)), (0.0, 1.0)), "pair of a mask"),
    ],
)
def test_a_wall_map_that_is_none_is_refused(wall_map, message):
    with pytest.raises(ValueError, match=message):
        walls_of(SimpleNamespace(wall_map=wall_map))


def test_an_environment_says_what_its_picture_shows():
    assert frame_extent_of(LineGoal()) is None
    env = gym.Wrapper(LineGoal())
    env.frame_extent = lambda: [0, 1, 2, 3]
    assert frame_extent_of(env) == (0.0, 1.0, 2.0, 3.0)
    for wrong in ("a map", (0.0, 1.0), (1.0, 0.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match=r"frame_extent .* give \(x_min, x_max"):
            frame_extent_of(SimpleNamespace(frame_extent=wrong))


def test_tolerance_is_what_compute_reward_counts():
    ball = World.of(gym.make("PointMassGoal-v0"))
    goal = np.array([0.5, -0.5], np.float32)
    corners = ball.tolerance(goal, (0, 1), (-2, 2, -2, 2))
    np.testing.assert_allclose(np.linalg.norm(corners - goal, axis=1), 0.3, rtol=1e-3)

    # Each axis by itself, one of them of no importance: cut off at the size of the map.
    box = World(reached=lambda a, g: (np.abs(a - g)[:, :2] <= [0.1, 0.4]).all(1))
    zero = np.zeros(3, np.float32)
    corners = box.tolerance(zero, (0, 1), (-1, 1, -1, 1))
    np.testing.assert_allclose(np.abs(corners).max(0), [0.1, 0.4], rtol=1e-2)
    corners = box.tolerance(zero, (0, 2), (-1, 1, -1, 1))
    assert np.abs(corners[:, 1]).max() == pytest.approx(2.0)

    line = World.of(LineGoal())
    ends = line.tolerance(np.array([0.25], np.float32), (0, 1), (-1, 1, 0, 1))
    assert ends.shape == (2, 2) and ends[0, 0] < 0.25 < ends[1, 0]
    tolerance = line.tolerance(zero, (0, 1), (-1, 1, -1, 1))
    assert tolerance.shape == (0, 2), "goals of another length are not drawn"


def test_without_a_reward_to_ask_nothing_is_drawn():
    def broken(achieved, goal):
        raise KeyError("info")

    for world in (World(), World.of(SimpleNamespace()), World(reached=broken)):
        assert len(world.tolerance(np.zeros(2), (0, 1), (-1, 1, -1, 1))) == 0


@pytest.mark.parametrize(
    ("env_id", "radius"),
    [("FetchReach-v4", 0.05), ("HandReach-v3", 0.01), ("PointMaze_UMaze-v3", 0.45)],
)
def test_tolerances_of_gymnasium_robotics(env_id, radius):
    env = robotics(env_id)
    observation, _ = env.reset(seed=0)
    goal = observation["desired_goal"].astype(np.float32)
    pair = (0, 1) if len(goal) == 2 else (1, 2)
    corners = World.of(env).tolerance(goal, pair, (0, 1, 0, 1))
    far = np.linalg.norm(corners - goal[list(pair)], axis=1)
    np.testing.assert_allclose(far, radius, rtol=1e-2)
    env.close()


def test_goals_made_of_parts_have_a_tolerance_too():
    class Parts(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            whole = env.observation_space
            self.observation_space = gym.spaces.Dict(
                {k: gym.spaces.Dict(part=v) if "goal" in k else v for k, v in whole.items()}
            )

        def observation(self, observation):
            return {k: {"part": v} if "goal" in k else v for k, v in observation.items()}

        def compute_reward(self, achieved, desired, info):
            return self.env.unwrapped.compute_reward(achieved["part"], desired["part"], info)

    env = Parts(gym.make("PointMassGoal-v0"))
    assert World.of(env).reached is None
    corners = World.of(FlattenGoalEnv(env)).tolerance(np.zeros(2), (0, 1), (-2, 2, -2, 2))
    np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 0.3, rtol=1e-3)
