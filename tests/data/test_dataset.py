"""Arrays become a data set as they are, or one message says what to change."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.data import OfflineDataset, checks
from hierebm.types import BoolArray


def _ends(lengths: list[int]) -> BoolArray:
    ends = np.zeros(sum(lengths), np.bool_)
    ends[np.cumsum(lengths) - 1] = True
    return ends


def _arrays(lengths: list[int], obs_dim: int = 4, action_dim: int = 2) -> dict[str, Any]:
    rng, n = np.random.default_rng(0), sum(lengths)
    return {
        "observations": rng.normal(size=(n, obs_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(n, action_dim)).astype(np.float32),
        "terminals": _ends(lengths).astype(np.float32),
    }


def _made(lengths: list[int], **kwargs: Any) -> OfflineDataset:
    return OfflineDataset.from_dict(_arrays(lengths), **{"goal": (0, 1), **kwargs})


def test_importing_loads_neither_torch_nor_minari() -> None:
    code = (
        "import sys, hierebm.data\n"
        "assert not {'torch', 'minari', 'h5py', 'ogbench'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_float32_arrays_are_used_without_a_copy() -> None:
    arrays = _arrays([5, 1, 3])
    data = OfflineDataset.from_arrays(*arrays.values(), goal=(2, 3))
    assert data.observation is arrays["observations"]
    assert data.action is arrays["actions"]
    assert np.shares_memory(data.achieved_goal, data.observation)
    assert np.array_equal(data.achieved_goal, arrays["observations"][:, 2:])
    assert data.episode_end.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1]
    assert (data.n_episodes, data.n_transitions) == (3, 6)
    assert data.nbytes == 9 * (4 * (4 + 2) + 1)
    assert data.action_low.tolist() == [-1, -1] and data.action_high.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.float16])
def test_other_numbers_become_float32(dtype: Any) -> None:
    arrays = _arrays([3, 4])
    arrays = {key: np.asarray(np.rint(value), dtype) for key, value in arrays.items()}
    data = OfflineDataset.from_dict(arrays, goal=[0])
    for array, key in ((data.observation, "observations"), (data.action, "actions")):
        assert array.dtype == np.float32 and np.array_equal(array, arrays[key])
    assert np.shares_memory(data.achieved_goal, data.observation)


@pytest.mark.parametrize(
    ("goal", "columns", "is_view"),
    [
        ((1,), [1], True),
        ((0, 2), [0, 2], True),
        ([-1], [3], True),
        ((2, 0), [2, 0], False),
        ((0, 1, 3), [0, 1, 3], False),
        (np.array([1, 2]), [1, 2], True),
        (lambda rows: rows[:, :2] + rows[:, 2:], None, False),
    ],
)
def test_goals_are_axes_of_the_observation_or_a_function_of_it(
    goal: Any, columns: list[int] | None, is_view: bool
) -> None:
    data = _made([3, 4], goal=goal)
    expected = goal(data.observation) if columns is None else data.observation[:, columns]
    assert np.array_equal(data.achieved_goal, expected)
    assert np.shares_memory(data.achieved_goal, data.observation) == is_view


def test_achieved_goals_may_be_given() -> None:
    arrays = _arrays([3, 4])
    arrays["achieved_goals"] = np.arange(7.0)[:, None]
    data = OfflineDataset.from_dict(arrays)
    assert data.achieved_goal.dtype == np.float32
    assert data.achieved_goal[:, 0].tolist() == list(range(7))
    assert data.nbytes == 7 * (4 * (4 + 1 + 2) + 1)
    assert OfflineDataset.from_dict(arrays, goal=(0,)).achieved_goal[0] == data.observation[0, 0]


def test_actions_are_scaled_from_their_bounds() -> None:
    arrays = _arrays([4])
    arrays["actions"] = np.array([[0.0, 5.0], [2.0, 7.0], [1.0, 5.5], [99.0, np.nan]])
    data = OfflineDataset.from_dict(
        arrays, goal=(0,), action_low=[0.0, 5.0], action_high=[2.0, 7.0]
    )
    assert data.action[:3].tolist() == [[-1, -1], [1, 1], [0, -0.5]]
    assert data.action_low.tolist() == [0, 5] and data.action_high.tolist() == [2, 7]
    # Scaled and back: what the environment took.
    middle, half_range = np.array([1.0, 6.0]), np.array([1.0, 1.0])
    assert np.allclose(middle + half_range * data.action[:3], arrays["actions"][:3])


def test_actions_that_rounding_carried_outside_are_clipped() -> None:
    arrays = _arrays([4])
    arrays["actions"][1] = 1.0 + 1e-6
    data = OfflineDataset.from_dict(arrays, goal=(0,))
    assert data.action[1].tolist() == [1.0, 1.0]
    assert arrays["actions"][1, 0] > 1.0, "the caller's array is as it was"
    assert np.array_equal(data.action[[0, 2]], arrays["actions"][[0, 2]])


def test_timeouts_end_episodes_too() -> None:
    arrays = _arrays([7])
    arrays["terminals"] = np.array([0, 0, 1, 0, 0, 0, 0])
    arrays["timeouts"] = np.array([0, 0, 0, 0, 0, 0, 1], bool)
    data = OfflineDataset.from_dict(arrays, goal=(0,))
    assert data.episode_end.tolist() == [0, 0, 1, 0, 0, 0, 1]


def test_the_compact_form_of_ogbench_is_understood() -> None:
    arrays = _arrays([4, 3])
    arrays["terminals"] = np.array([0, 0, 1, 1, 0, 1, 1.0])
    arrays["valids"] = np.array([1, 1, 1, 0, 1, 1, 0.0])
    data = OfflineDataset.from_dict(arrays, goal=(0,))
    assert data.episode_end.tolist() == [0, 0, 0, 1, 0, 0, 1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "actions of transitions": ({"actions": np.zeros((6, 2))}, "actions has 6 rows and obs.* 7"),
    "flat actions": ({"actions": np.zeros(7)}, r"actions must be \(N, dim\).*reshape"),
    "images": ({"observations": np.zeros((7, 4, 4, 3), np.uint8)}, r"observations must be \(N, d"),
    "no numbers": ({"observations": np.zeros((7, 0))}, r"observations must be \(N, dim\)"),
    "words": ({"observations": np.full((7, 2), "a")}, "observations must be numbers"),
    "objects": ({"actions": np.full((7, 2), None)}, "actions must be numbers, got the type object"),
    "ragged": ({"observations": [[1.0], [1.0, 2.0]]}, "observations must be one array"),
    "a state": ({"observations": np.array(1.0)}, r"observations must be \(N, dim\)"),
    "None": ({"observations": None}, "observations must be numbers"),
    "ragged flags": ({"terminals": [[1], [1, 2]]}, "terminals must be one array"),
    "masked": (
        {"actions": np.ma.masked_greater(np.ones((7, 2)), 0.0)},  # type: ignore[no-untyped-call]
        "actions has masked entries: leave out",
    ),
    "too large to square": ({"observations": np.full((7, 2), 1e20)}, "too large.*row 0"),
    "flags of episodes": ({"terminals": np.ones(2)}, r"terminals must be \(7,\)"),
    "column of flags": ({"terminals": np.ones((7, 1))}, r"terminals must be \(7,\)"),
    "counted flags": ({"terminals": np.array([0, 0, 1, 0, 0, 0, 2])}, "0 or 1, got 2"),
    "flags of NaN": ({"terminals": np.array([0, 0, np.nan, 0, 0, 0, 1])}, "0 or 1, got nan"),
    "cut off": (
        {"terminals": np.array([0, 0, 1, 0, 0, 0, 0])},
        r"last row ends no episode.*cut off the rows after row 2.*or set it to 1",
    ),
    "no end": ({"terminals": np.zeros(7)}, "last row ends no episode .*: set it to 1"),
    "no step": ({"terminals": np.ones(7)}, "no episode has two states"),
    "nothing": (
        {"observations": np.zeros((0, 4)), "actions": np.zeros((0, 2)), "terminals": []},
        "no episode has two states",
    ),
    "timeouts": ({"timeouts": np.full(7, 3)}, "timeouts must be 0 or 1"),
    "no goal": ({"goal": None}, "either goal= .* or achieved_goals="),
    "rows of goals": ({"goal": None, "achieved_goals": np.zeros((6, 2))}, "achieved_goals has 6"),
    "axis": ({"goal": (0, 4)}, "different axes of the observation, which has 4: 0 to 3"),
    "no axes": ({"goal": ()}, "different axes"),
    "axis twice": ({"goal": (1, -3)}, "different axes"),
    "a mask": ({"goal": [True, False]}, "goal must be axes of the observation"),
    "no end of axes": ({"goal": range(10**15)}, "different axes"),
    "names": ({"goal": "xy"}, "goal must be axes of the observation"),
    "a number": ({"goal": 2}, "goal must be axes of the observation"),
    "one state": ({"goal": lambda rows: rows[0]}, r"goal\(observations\) must be \(N, dim\)"),
    "fewer": ({"goal": lambda rows: rows[1:]}, r"goal\(observations\) has 6 rows"),
    "root": ({"goal": lambda rows: rows * np.inf}, r"goal\(observations\) has NaN.*row 0"),
    "bounds": ({"actions": np.full((7, 2), 1.5)}, r"\[:, 0\] go from 1.5 to 1.5.*action_low= and"),
    "bounds are equal": ({"action_low": [1, -1], "action_high": 1}, "action_low must be below"),
    "bounds are infinite": ({"action_low": -np.inf}, "action_low must be a finite number, or 2"),
    "bounds are words": ({"action_low": "a"}, "action_low must be a finite number, or 2"),
    "bounds are too large": ({"action_high": 1e39}, "action_high must be a finite number, or 2"),
    "bounds are too near": ({"action_low": -1e-50, "action_high": 1e-50}, "must be below"),
    "bounds are three": ({"action_high": [1, 1, 1]}, "action_high must be a finite number, or 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_remedy(name: str) -> None:
    changed, message = BAD[name]
    arrays: dict[str, Any] = {"goal": (0, 1), **_arrays([3, 4]), **changed}
    kwargs = {key: arrays.pop(key) for key in ("goal", "action_low", "action_high") & arrays.keys()}
    with pytest.raises(ValueError, match=message):
        OfflineDataset.from_dict(arrays, **kwargs)


def test_a_goal_function_cannot_change_the_observations() -> None:
    arrays = _arrays([3, 4])
    before = arrays["observations"].copy()

    def doubled(rows: np.ndarray) -> np.ndarray:
        rows *= 2.0
        return rows[:, :2]

    with pytest.raises(ValueError, match="read-only"):
        OfflineDataset.from_dict(arrays, goal=doubled)
    assert np.array_equal(arrays["observations"], before)
    assert arrays["observations"].flags.writeable


def test_a_data_set_prints_what_is_in_it() -> None:
    text = repr(_made([30, 4, 17], goal=(0, 2, 3), action_low=-2.0, action_high=[1.0, 3.0]))
    assert text == (
        "OfflineDataset(3 episodes, 48 transitions, 3 to 29 steps each; observations of 4 numbers, "
        "goals of 3, actions of 2)"
    )


def test_goal_and_achieved_goals_exclude_each_other() -> None:
    arrays = _arrays([3, 4])
    with pytest.raises(ValueError, match="either goal="):
        OfflineDataset.from_arrays(*arrays.values(), goal=(0,), achieved_goals=np.zeros((7, 1)))


@pytest.mark.parametrize("key", ["observations", "actions", "terminals"])
def test_a_missing_array_is_named(key: str) -> None:
    arrays = _arrays([3])
    del arrays[key]
    with pytest.raises(ValueError, match=f"has no '{key}', it has '"):
        OfflineDataset.from_dict(arrays, goal=(0,))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("key", ["observations", "actions", "achieved_goals"])
@pytest.mark.parametrize("row", [0, 29])
def test_the_first_row_that_is_not_finite_is_named(key: str, value: float, row: int) -> None:
    arrays = {key: array.astype(np.float64) for key, array in _arrays([20, 20]).items()}
    arrays["achieved_goals"] = np.zeros((40, 1))
    arrays[key][[row, 35], -1] = value
    with (
        mock.patch.object(checks, "AT_ONCE", 30),
        pytest.raises(ValueError, match=rf"{key} has NaN.*first in row {row}:"),
    ):
        OfflineDataset.from_dict(arrays, action_low=-2.0)


def test_pieces_make_up_the_whole() -> None:
    whole = _made([5, 1, 30, 2, 3], action_low=-1.5, action_high=[1.0, 2.0])
    with mock.patch.object(checks, "AT_ONCE", 3):
        pieces = _made([5, 1, 30, 2, 3], action_low=-1.5, action_high=[1.0, 2.0])
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(pieces, name)), name


def test_checking_takes_little_memory() -> None:
    n = 2_000_000
    arrays = np.zeros((n, 8), np.float32), np.zeros((n, 2), np.float32)
    terminals = np.zeros(n, np.float32)
    terminals[-1] = 1.0
    tracemalloc.start()
    OfflineDataset.from_arrays(*arrays, terminals, goal=(0, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * arrays[0].nbytes


# ------------------------------------------------------------------- every(k)


def test_every_first_step_is_the_data_set_itself() -> None:
    data = _made([5, 3])
    assert data.every(1) is data


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=10), k=st.integers(2, 5))
def test_every_kth_state_with_the_mean_of_the_actions(lengths: list[int], k: int) -> None:
    """Against a plain loop over the episodes."""
    if max(lengths) < 2:
        lengths = [*lengths, 2]
    data = _made(lengths)
    states, actions, ends, first = [], [], [], 0
    for length in lengths:
        n_steps = (length - 1) // k
        for step in range(n_steps + 1 if n_steps else 0):
            row = first + step * k
            states.append(row)
            last = step == n_steps
            actions.append(np.zeros(2) if last else data.action[row : row + k].mean(0))
            ends.append(last)
        first += length
    if not states:
        with pytest.raises(ValueError, match=f"longest episode has {max(lengths) - 1} steps"):
            data.every(k)
        return
    coarse = data.every(k)
    assert np.array_equal(coarse.observation, data.observation[states])
    assert np.array_equal(coarse.achieved_goal, data.achieved_goal[states])
    assert coarse.episode_end.tolist() == ends
    np.testing.assert_allclose(coarse.action, actions, atol=1e-6)
    assert np.abs(coarse.action).max() <= 1.0


def test_twice_every_other_step_is_every_fourth() -> None:
    data = _made([30, 4, 17, 1, 5])
    one, other = data.every(4), data.every(2).every(2)
    assert np.array_equal(one.observation, other.observation)
    assert np.array_equal(one.episode_end, other.episode_end)
    np.testing.assert_allclose(one.action, other.action, atol=1e-6)


def test_the_action_of_the_last_state_is_in_no_mean() -> None:
    arrays = _arrays([5, 5])
    arrays["actions"][[4, 9]] = np.nan
    assert np.isfinite(OfflineDataset.from_dict(arrays, goal=(0,)).every(2).action).all()


def test_the_mean_of_full_actions_is_no_more_than_full() -> None:
    arrays = _arrays([50])
    arrays["actions"][:] = np.nextafter(np.float32(1), np.float32(0))
    data = OfflineDataset.from_dict(arrays, goal=(0,))
    for k in (3, 7, 49):
        assert data.every(k).action.max() <= 1.0


def test_every_zeroth_state_is_refused() -> None:
    with pytest.raises(ValueError, match=r"every\(0\): k must be at least 1"):
        _made([5]).every(0)
    with pytest.raises(TypeError, match="integer"):
        _made([5]).every(1.5)  # type: ignore[arg-type]
