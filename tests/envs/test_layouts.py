"""Layouts: reading text, and geometry checked against slower, independent computations."""

from __future__ import annotations

from itertools import pairwise, product
from math import gcd

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csgraph

from hierebm.envs import LAYOUTS, Layout
from hierebm.envs.layouts import CELL, get_layout

FloatArray = npt.NDArray[np.float64]


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    width, height = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    cells = draw(st.lists(st.sampled_from("..#"), min_size=width * height, max_size=width * height))
    cells[draw(st.integers(0, len(cells) - 1))] = "."
    rows = ["".join(cells[y * width : (y + 1) * width]) for y in range(height)]
    return Layout(rows, scale=draw(st.integers(1, 3)))


def free_points(layout: Layout, count: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    cell = rng.integers(len(layout.free_cells), size=count)
    offset = rng.uniform(0.01, 0.99, (count, 2))
    return layout.free_cell_low[cell] + layout.cell_size * offset


def walk_is_free(layout: Layout, a: FloatArray, b: FloatArray) -> bool:
    """Cell by cell: the middle of every piece between two grid lines must be free."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    times = [0.0, 1.0]
    for axis in range(2):
        step = b[axis] - a[axis]
        if step != 0:
            count = layout.walls.shape[1 - axis]
            lines = layout.low[axis] + layout.cell_size * np.arange(count + 1)
            times += [float(t) for t in (lines - a[axis]) / step if 0 < t < 1]
    length = float(np.hypot(*(b - a)))
    for before, after in pairwise(sorted(times)):
        # Pieces too short to be more than a touched corner do not count.
        if (after - before) * length > 1e-6 and layout.in_wall(
            a + 0.5 * (before + after) * (b - a)
        ):
            return False
    return True


def grid_distances(layout: Layout, fine: int) -> tuple[FloatArray, FloatArray]:
    """Dijkstra over a fine grid with 32 directions: at most 1.4% above the true distance, plus
    what the grid's distance from the corners costs."""
    step = layout.cell_size / fine
    height, width = (fine * n for n in layout.walls.shape)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    points = layout.low + step * (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5)
    moves = [m for m in product(range(-3, 4), repeat=2) if gcd(*m) == 1 and m > (0, 0)]
    rows, columns, lengths = [], [], []
    for dx, dy in moves:
        target_x, target_y = x + dx, y + dy
        inside = (target_x >= 0) & (target_x < width) & (target_y >= 0) & (target_y < height)
        source = (y * width + x)[inside]
        target = (target_y * width + target_x)[inside]
        parts = np.linspace(0.0, 1.0, 25)[:, None, None]
        samples = points[source] * (1 - parts) + points[target] * parts
        free = ~layout.in_wall(samples).any(axis=0)
        rows.append(source[free])
        columns.append(target[free])
        lengths.append(np.full(free.sum(), step * np.hypot(dx, dy)))
    graph = coo_array(
        (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(points), len(points)),
    )
    chosen = np.random.default_rng(0).choice(np.flatnonzero(~layout.in_wall(points)), 12)
    table = csgraph.dijkstra(graph.tocsr(), directed=False, indices=chosen)[:, chosen]
    return points[chosen], table


def test_first_row_of_text_is_the_top() -> None:
    layout = Layout(["#.", "..", ".."])
    assert layout.extent == (-0.5, 0.5, -0.75, 0.75)
    assert layout.walls.tolist() == [[False, False], [False, False], [True, False]]
    assert layout.in_wall([[-0.25, 0.5], [0.25, 0.5], [-0.25, -0.5]]).tolist() == [
        True,
        False,
        False,
    ]


def test_points_outside_or_not_a_number_count_as_wall() -> None:
    layout = get_layout("open")
    nan, inf = float("nan"), float("inf")
    points = [[2.5, 0.0], [0.0, -2.01], [nan, 0.0], [inf, 0.0], [0.0, 0.0], [1e300, -1e300]]
    assert layout.in_wall(points).tolist() == [True, True, True, True, False, True]


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_named_layouts(name: str) -> None:
    layout = get_layout(name)
    side = {"open": 8, "large": 25}.get(name, 13)
    assert layout.walls.shape == (side, side)
    assert layout.cell_size == CELL > 0.3
    assert layout.component.max() == 0, "every free place can be reached"
    assert get_layout(name) is layout


def test_large_has_sixteen_rooms() -> None:
    walls = get_layout("large").walls.copy()
    for line in (6, 12, 18):
        walls[line] = walls[:, line] = True
    rows = ["".join("#" if cell else "." for cell in row) for row in walls[::-1]]
    assert Layout(rows).component.max() + 1 == 16


@pytest.mark.parametrize("rows", [["..", "#."], ("  ", "# "), "..\n#.", "\n..\n#.\n"])
def test_ways_to_give_rows(rows: object) -> None:
    layout = get_layout(rows)  # type: ignore[arg-type]
    assert layout.walls.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ("maze", ValueError, "'maze' is unknown.*'four_rooms'"),
        (["...", ".."], ValueError, "row 1 has 2 characters, row 0 has 3"),
        (["..", ".x"], ValueError, "row 1 holds 'x'"),
        (["##", "##"], ValueError, "no free cell"),
        ([], ValueError, "no cells"),
        ([""], ValueError, "no cells"),
        ([[0, 1]], TypeError, "rows must be str"),
        (3, TypeError, "name or rows of text"),
    ],
)
def test_bad_layouts(rows: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get_layout(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scale", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_bad_scale(scale: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="scale must be"):
        Layout([".."], scale=scale)  # type: ignore[arg-type]


def test_scale_enlarges_the_same_map() -> None:
    small, big = get_layout("four_rooms"), get_layout("four_rooms", scale=3)
    a, b = free_points(small, 50), free_points(small, 50, seed=1)
    np.testing.assert_array_equal(big.high, 3 * small.high)
    np.testing.assert_allclose(
        big.shortest_path_distance(3 * a, 3 * b), 3 * small.shortest_path_distance(a, b), rtol=1e-4
    )


def test_distances_known_by_hand() -> None:
    # A wall of 1 x 2.5 hangs from the top; its lower corners are at (-0.5, -0.75), (0.5, -0.75).
    layout = Layout(["..##.."] * 5 + ["......"] * 2)
    corner = np.array([0.5, 1.75 - 2.5])
    a, b = np.array([-1.25, 1.5]), np.array([1.25, 1.5])
    expected = 2 * np.hypot(a[0] + corner[0], a[1] - corner[1]) + 1.0
    assert layout.shortest_path_distance(a, b) == pytest.approx(expected)
    assert layout.shortest_path_distance(a, a) == 0
    # In sight of each other below the wall.
    assert layout.shortest_path_distance([-1, -1], [1, -1.5]) == pytest.approx(np.hypot(2, 0.5))
    assert layout.shortest_path_distance(a, [0.0, 1.0]) == np.inf, "an end in a wall"


def test_disconnected_parts_are_infinitely_far() -> None:
    layout = Layout(["..#..", "..#.."])
    assert layout.shortest_path_distance([-1, 0.2], [1, 0.2]) == np.inf
    assert layout.component.max() == 1
    assert np.isfinite(layout.diameter)


def test_nothing_passes_between_walls_that_touch_at_a_corner() -> None:
    layout = Layout([".#", "#."])
    assert not layout.segment_is_free([-0.4, 0.4], [0.4, -0.4])
    assert layout.shortest_path_distance([-0.25, 0.25], [0.25, -0.25]) == np.inf


def test_nothing_slips_along_the_seam_of_two_wall_rectangles() -> None:
    # The two walls share one cell's width of the line y = 0.25 and no rectangle of rows spans it.
    layout = Layout([".##..", "..##.", "....."])
    a, b = [layout.low[0] + 0.1, 0.25], [layout.high[0] - 0.1, 0.25]
    assert not layout.segment_is_free(a, b)
    assert layout.shortest_path_distance(a, b) > 2.4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(), st.integers(0, 2**32 - 1))
def test_line_of_sight_agrees_with_walking_the_cells(layout: Layout, seed: int) -> None:
    a, b = free_points(layout, 20, seed), free_points(layout, 20, seed + 1)
    expected = [walk_is_free(layout, *ends) for ends in zip(a, b, strict=True)]
    np.testing.assert_array_equal(layout.segment_is_free(a, b), expected)
    np.testing.assert_array_equal(layout.segment_is_free(b, a), expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(), st.integers(0, 2**32 - 1))
def test_shortest_paths_are_a_metric(layout: Layout, seed: int) -> None:
    a, b, c = (free_points(layout, 25, seed + offset) for offset in range(3))
    ab, bc, ac = (layout.shortest_path_distance(*ends) for ends in ((a, b), (b, c), (a, c)))
    straight = np.hypot(*(a - b).T)
    tolerance = 1e-6
    np.testing.assert_allclose(ab, layout.shortest_path_distance(b, a))
    assert (ab >= straight - tolerance).all()
    free = layout.segment_is_free(a, b)
    np.testing.assert_allclose(ab[free], straight[free])
    assert (ab[~free] > straight[~free]).all()
    assert (ac <= ab + bc + tolerance).all()
    cell = [np.floor((points - layout.low) / layout.cell_size).astype(int) for points in (a, b)]
    label = np.full(layout.walls.shape, -1)
    label[layout.free_cells[:, 1], layout.free_cells[:, 0]] = layout.component
    joined = label[cell[0][:, 1], cell[0][:, 0]] == label[cell[1][:, 1], cell[1][:, 0]]
    np.testing.assert_array_equal(np.isfinite(ab), joined)


@pytest.mark.parametrize("name", ["u", "four_rooms", "spiral", "serpentine"])
def test_shortest_paths_agree_with_a_fine_grid(name: str) -> None:
    layout = get_layout(name)
    points, upper = grid_distances(layout, fine=4)
    exact = layout.shortest_path_distance(points[:, None], points[None])
    assert exact.shape == upper.shape
    assert (exact <= upper + 1e-9).all()
    assert (upper <= 1.03 * exact + 0.3).all()


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_cell_table_and_diameter(name: str) -> None:
    layout = get_layout(name)
    centres = layout.free_cell_low + 0.5 * CELL
    rng = np.random.default_rng(0)
    i, j = rng.integers(len(centres), size=(2, 200))
    exact = layout.shortest_path_distance(centres[i], centres[j])
    np.testing.assert_allclose(layout.cell_distances[i, j], exact, atol=1e-9)
    assert exact.max() <= layout.diameter


def test_wall_rectangles_cover_exactly_the_walls() -> None:
    layout = get_layout("large")
    points = np.random.default_rng(0).uniform(layout.low, layout.high, (2000, 2))
    x0, y0, x1, y1 = layout.wall_rectangles.T
    inside = (points[:, :1] >= x0) & (points[:, :1] < x1)
    inside &= (points[:, 1:] >= y0) & (points[:, 1:] < y1)
    np.testing.assert_array_equal(inside.any(axis=1), layout.in_wall(points))


def test_points_need_two_coordinates() -> None:
    with pytest.raises(ValueError, match="last dimension of 2"):
        get_layout("open").shortest_path_distance(np.zeros((4, 3)), np.zeros((4, 3)))
