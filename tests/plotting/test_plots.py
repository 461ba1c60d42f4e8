"""Plots show what they were given, for goals of any dimension, and leave pyplot alone."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hierebm.planning.graph.plan import Plan
from hierebm.plotting.drawing import Shape, Walls, resample
from hierebm.plotting.maps import lift, pairs_of
from hierebm.plotting.plots import (
    plan_figures,
    plot_energy_valley,
    plot_plan,
    plot_rollout,
    plot_success,
    read_progress,
    success_curves,
)
from hierebm.plotting.world import World

WALLS = Walls(np.array([[False, True], [False, False]]), (-1.0, 1.0, -1.0, 1.0))


def within(radius):
    return lambda a, g: np.linalg.norm(a - g, axis=1) <= radius


WORLD = World(WALLS, within(0.2))


def make_plan(dim=2, path=(0, 1, 3), energies=True) -> Plan:
    nodes = np.array([[0, 0], [0.5, 0.2], [0.2, 0.9], [0.8, 0.8]], np.float32)
    if dim > 2:
        nodes = np.concatenate([nodes, np.ones((4, dim - 2), np.float32)], axis=1)
    nodes = nodes[:, :dim]
    return Plan(
        nodes=nodes,
        edges=np.array([[0, 1], [1, 3], [0, 2]]),
        distances=np.array([3.0, 4.0, 5.0], np.float32),
        path=list(path),
        energies=np.array([np.nan, 0.2, 1.5 if energies else np.nan, np.nan], np.float32),
    )


def png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def texts(figure) -> str:
    axes = figure.axes
    parts = [ax.get_title(loc="left") + ax.get_xlabel() + ax.get_ylabel() for ax in axes]
    return " ".join([*parts, *(ax.get_title(loc="right") for ax in axes)])


def maps(figure) -> list[tuple[str, str]]:
    """The axes that each map shows."""
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]
    return [(x, y) for x, y in labels if x == "x" or "axis" in x]


def outlines(figure) -> list[np.ndarray]:
    """Corners of what is shaded as reached, map by map."""
    found = []
    for ax in figure.axes:
        found += [p.get_xy()[:-1] for p in ax.patches if p.get_label() == "success tolerance"]
    return found


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("path", [(0, 1, 3), (0, 3), ()])
def test_plan_of_any_dimension(dim, path):
    if path == (0, 3):
        plan = make_plan(dim, (0, 1, 3))
        plan.path, plan.edges = [0, 3], np.array([[0, 3], [1, 3], [0, 2]])
    else:
        plan = make_plan(dim, path)
    figure = plot_plan(plan, WORLD if dim == 2 else World())
    assert png(figure).startswith(b"\x89PNG")
    text = texts(figure)
    expected = {(0, 1, 3): "7 predicted steps, 1 subgoal", (0, 3): "0 subgoals", (): "No path"}
    assert expected[path] in text
    # The further axes are 1 everywhere.
    assert maps(figure) == [("x", "y" if dim == 2 else "")] if dim <= 2 else [(AXIS[0], AXIS[1])]
    assert (f"2 of {dim} goal axes" in text) == (dim > 2)


AXIS = [f"goal axis {i}" for i in range(15)]


def test_goals_of_three_axes_are_seen_from_three_sides():
    rng = np.random.default_rng(0)
    trajectory, goal = rng.normal(size=(20, 3)), np.zeros(3)
    figure = plot_rollout(trajectory, goal, World(None, within(0.5)))
    assert maps(figure) == [(AXIS[0], AXIS[1]), (AXIS[0], AXIS[2]), (AXIS[1], AXIS[2])]
    assert "goal axes" not in texts(figure)
    # Each map draws the line in its own plane, and the ball as a disc.
    for ax, (i, j) in zip(figure.axes, [(0, 1), (0, 2), (1, 2)], strict=False):
        line = ax.collections[0].get_segments()
        np.testing.assert_allclose(np.stack(line)[:, 0], trajectory[:-1, [i, j]])
    for corners in outlines(figure):
        np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 0.5, rtol=1e-3)
    assert len(outlines(figure)) == 3


def test_of_many_axes_those_with_the_largest_spread_are_drawn():
    points = np.random.default_rng(0).normal(size=(50, 15))
    points[:, [3, 4, 9, 14]] *= [40.0, 30.0, 20.0, 10.0]
    assert pairs_of(points)[:2] == [(3, 4), (9, 14)]
    assert len(pairs_of(points)) == 3 and len(pairs_of(points, most=2)) == 2
    # Walls are in the plane of the first two.
    assert pairs_of(points, WALLS)[:2] == [(0, 1), (3, 4)]
    # A table's height says nothing; a wall's plane is drawn whatever moves.
    flat = points[:, :3] * [1.0, 1.0, 0.0]
    assert pairs_of(flat) == [(0, 1)]
    assert pairs_of(np.zeros((4, 5))) == [(0, 1)]
    # Two of three: those that show every axis.
    assert pairs_of(points[:, [0, 9, 4]], most=2) == [(0, 2), (1, 2)]
    chosen = plot_rollout(points, np.zeros(15), pairs=[(0, 14)])
    assert maps(chosen) == [(AXIS[0], AXIS[14])]
    figure = plot_rollout(points, np.zeros(15))
    assert "6 of 15 goal axes" in texts(figure) and len(maps(figure)) == 3 and png(figure)


def test_axes_of_other_units_have_scales_of_their_own():
    points = np.random.default_rng(0).uniform(size=(30, 2)) * [100.0, 1.0]
    ax = plot_rollout(points, [0.0, 0.0]).axes[0]
    assert ax.get_ylim()[1] - ax.get_ylim()[0] < 2.0 < ax.get_xlim()[1]
    assert ax.get_aspect() == "auto"
    assert plot_rollout(points * [0.03, 1.0], [0.0, 0.0]).axes[0].get_aspect() == 1.0


def test_plan_whose_path_ends_before_the_goal_says_so():
    assert "Path up to its unexpanded segment: 1 subgoal" in texts(
        plot_plan(make_plan(path=(0, 1)))
    )


def test_plan_draws_the_path_and_every_edge():
    plan = make_plan()
    ax = plot_plan(plan).axes[0]
    lines = [np.asarray(line.get_xydata()) for line in ax.lines]
    assert any(np.allclose(line, plan.path_points) for line in lines if line.shape == (3, 2))
    drawn = ax.collections[0].get_segments()
    assert {tuple(np.round(s.ravel(), 3)) for s in drawn} == {
        tuple(np.round(plan.nodes[edge].astype(float).ravel(), 3)) for edge in plan.edges
    }


def test_plan_with_too_many_edges_keeps_the_shortest():
    ax = plot_plan(make_plan(), max_edges=1).axes[0]
    (segment,) = ax.collections[0].get_segments()
    np.testing.assert_allclose(segment, make_plan().nodes[[0, 1]])


def test_plan_without_nodes_edges_or_energies_still_draws():
    nodes = np.array([[0, 0], [1, 1]], np.float32)
    plan = Plan(nodes, np.zeros((0, 2), int), np.zeros(0, np.float32), [], np.full(2, np.nan))
    assert png(plot_plan(plan))
    assert png(plot_plan(make_plan(energies=False)))


def test_every_picture_shows_what_counts_as_reached():
    plan = make_plan()
    for figure in (
        plot_plan(plan, WORLD),
        plot_energy_valley(lambda p: p.sum(1), plan.nodes[0], plan.nodes[-1], WORLD, resolution=9),
        plot_rollout(plan.nodes, plan.nodes[-1], WORLD),
    ):
        (corners,) = outlines(figure)
        far = np.linalg.norm(corners - plan.nodes[-1], axis=1)
        np.testing.assert_allclose(far, 0.2, rtol=1e-3)
        assert png(figure)
    assert outlines(plot_plan(plan)) == []


def test_points_beyond_the_map_of_walls_are_seen():
    ax = plot_rollout([[0.0, 0.0], [3.0, 0.0]], [0.5, 0.5], WORLD).axes[0]
    assert ax.get_xlim()[1] > 3.0 and ax.get_xlim()[0] <= -1.0
    inside = plot_rollout([[0.0, 0.0], [0.5, 0.0]], [0.5, 0.5], WORLD).axes[0]
    assert inside.get_xlim() == pytest.approx((-1.05, 1.05))


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_valley_evaluates_the_energy_in_goal_space(dim):
    start, goal = np.zeros(dim), np.ones(dim)
    shapes = []

    def energy(points):
        shapes.append(points.shape[1])
        assert points.dtype == np.float32
        return (points**2).sum(1)

    samples = np.random.default_rng(0).normal(size=(5, dim))
    figure = plot_energy_valley(energy, start, goal, samples=samples, resolution=20)
    assert set(shapes) == {dim}
    assert png(figure)
    assert len(maps(figure)) == {1: 1, 2: 1, 4: 2}[dim]
    assert ("others as on the straight line" in texts(figure)) == (dim > 2)


def test_valley_profile_is_the_energy_along_the_way():
    start, goal = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
    figure = plot_energy_valley(
        lambda p: 3.0 - p[:, 0] ** 2 + p[:, 1], start, goal, WORLD, resolution=20
    )
    profile = next(ax for ax in figure.axes if "straight line" in ax.get_xlabel())
    along, energy = np.asarray(profile.lines[0].get_xydata()).T
    assert along[0] == 0 and along[-1] == pytest.approx(2.0)
    # The saddle of this energy is in the middle, one nat above both ends.
    assert energy.max() == pytest.approx(1.0, abs=1e-3)
    assert along[energy.argmax()] == pytest.approx(1.0, abs=0.02)

    figure = plot_energy_valley(
        lambda p: p[:, 0], start, goal, path=[start, [0, 1], goal], resolution=20
    )
    profile = next(ax for ax in figure.axes if "dashed path" in ax.get_xlabel())
    assert profile.lines[0].get_xydata()[-1, 0] == pytest.approx(2 * np.sqrt(2), abs=1e-5)


def test_flat_energy_and_coinciding_ends_draw():
    point = np.zeros(2)
    assert png(plot_energy_valley(lambda p: np.zeros(len(p)), point, point, resolution=10))


def test_lift_interpolates_the_dimensions_that_are_not_drawn():
    start, goal = np.array([0, 0, 5, 1], np.float32), np.array([2, 0, 9, 1], np.float32)
    plane = np.array([[1, 3], [-4, 0], [9, 9]], np.float32)
    lifted = lift(plane, start, goal)
    np.testing.assert_allclose(lifted, [[1, 3, 7, 1], [-4, 0, 5, 1], [9, 9, 9, 1]])


def test_lift_to_another_pair_keeps_what_is_drawn_there():
    start, goal = np.array([0, 0, 5, 1], np.float32), np.array([2, 4, 9, 1], np.float32)
    lifted = lift(np.array([[8, 7]], np.float32), start, goal, (2, 3))
    np.testing.assert_allclose(lifted, [[1.5, 3, 8, 7]])


def test_resample_is_even_in_arc_length():
    way = np.array([[0, 0], [1, 0], [1, 3]], np.float32)
    points, along = resample(way, 9)
    np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=0), axis=1), 0.5, atol=1e-6)
    assert along[-1] == 4


def test_rollout_and_success():
    trajectory = np.cumsum(np.full((10, 2), 0.1), axis=0)
    figure = plot_rollout(trajectory, [1, 1], WORLD, subgoals=[[0.5, 0.5]])
    assert "9 steps" in texts(figure) and png(figure)
    assert png(plot_rollout(np.zeros((1, 3)), np.ones(3)))
    figure = plot_success([0, 10, 20], [0, 0.5, 1], [[0, 0.1], [0.4, 0.6], [0.9, 1]])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata()[:, 1], [0, 0.5, 1])
    assert figure.axes[0].get_ylabel() == "success rate at the end of the episode"
    (same,) = success_curves({0: (0.0, 0.0), 10: (0.5, 0.5)}).items()
    assert same == ("", ([0, 10], [0.0, 0.5], None))
    figure = plot_success(success_curves({0: (0.0, 0.0), 10: (0.5, 1.0)}))
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"at the end of the episode": [0.0, 0.5], "goal ever reached": [0.0, 1.0]}
    assert figure.axes[0].get_ylabel() == "success rate"
    many = {f"method {i}": ([0, 1], [0, i / 12], None) for i in range(12)}
    figure = plot_success(many)
    assert len(figure.axes[0].lines) == 12 and png(figure)


def test_figures_leave_pyplot_alone():
    before = dict(sys.modules["matplotlib"].rcParams)
    png(plot_plan(make_plan(), WORLD))
    assert dict(sys.modules["matplotlib"].rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_plan_figures_ask_the_agent():
    calls = []

    class Agent:
        energy = SimpleNamespace(
            energy=lambda points, start, goal: calls.append((start, goal)) or points.sum(1)
        )

        def plan(self, observation):
            return make_plan()

    figures = plan_figures(Agent(), {})
    assert set(figures) == {"path", "energy"}
    np.testing.assert_array_equal(calls[0][1], make_plan().nodes[-1])
    flat = SimpleNamespace(plan=lambda observation: make_plan())
    assert set(plan_figures(flat, {})) == {"path"}


def test_the_energy_along_a_sequence_is_that_of_each_transition():
    plan = make_plan()
    plan.path, plan.edges = [0, 1, 2, 3], np.array([[0, 1], [1, 2], [2, 3]])
    plan.energies = np.array([np.nan, 0.2, 1.5, 0.4], np.float32)
    figure = plan_figures(SimpleNamespace(plan=lambda _: plan), {}, WORLD)["energy"]
    curve = next(ax for ax in figure.axes if "distance" in ax.get_xlabel()).lines[0]
    np.testing.assert_allclose(curve.get_ydata(), plan.energies[1:])
    lengths = np.linalg.norm(np.diff(plan.nodes, axis=0), axis=1).cumsum()
    np.testing.assert_allclose(curve.get_xdata(), lengths)
    assert png(figure)


def test_read_progress(tmp_path):
    (tmp_path / "progress.jsonl").write_text(
        '{"step": 1, "a": 0.5}\n{"step": 2, "b": 1}\n{"step": 3, "a": null}\n{"step": 4, "a": 1}\n'
    )
    assert read_progress(tmp_path, "a") == ([1, 4], [0.5, 1.0])
    assert read_progress(tmp_path, "none") == ([], [])
    with pytest.raises(FileNotFoundError):
        read_progress(tmp_path / "other", "a")


def test_what_lies_on_the_ground_is_on_maps_of_the_first_two_axes():
    ice = Shape(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), "#cde4f3", True)
    ring = Shape(np.array([[0.0, 0.0], [-1.0, 0.0], [-1.0, 1.0]]), "#8e54af", False)
    world = World(shapes=(ice, ring))
    points = np.random.default_rng(0).uniform(-1, 1, (9, 3))
    figure = plot_rollout(points, points[0], world)
    faces = [
        [to_hex(patch.get_facecolor(), True) for patch in ax.patches] for ax in figure.axes[:3]
    ]
    assert faces == [["#cde4f3ff", "#00000000"], [], []]
    valley = plot_energy_valley(lambda at: at[:, 0], points[0], points[1], world, resolution=9)
    over = [patch for patch in valley.axes[0].patches if patch.get_zorder() > 1]
    assert [to_hex(patch.get_edgecolor()) for patch in over] == ["#cde4f3", "#8e54af"]
