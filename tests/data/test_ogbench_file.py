"""Files as OGBench writes them; anything else is one clear error, and runs no code."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierebm.data import load_ogbench
from hierebm.errors import DatasetError

LENGTHS = (5, 4, 6)


def _arrays(obs_dim: int = 2, action_dim: int = 2) -> dict[str, Any]:
    rng, n = np.random.default_rng(0), sum(LENGTHS)
    terminals = np.zeros(n, bool)
    terminals[np.cumsum(LENGTHS) - 1] = True
    return {
        "observations": rng.normal(size=(n, obs_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(n, action_dim)).astype(np.float32),
        "terminals": terminals,
        "qpos": rng.normal(size=(n, 4)),
        "qvel": rng.normal(size=(n, 4)),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pointmaze-medium-navigate-v0.npz"


@pytest.mark.parametrize(("obs_dim", "action_dim"), [(2, 2), (29, 8)])
def test_mazes_are_read_with_x_and_y_as_goals(path: Path, obs_dim: int, action_dim: int) -> None:
    arrays = _arrays(obs_dim, action_dim)
    np.savez_compressed(path, **arrays)
    data = load_ogbench(path)
    assert np.array_equal(data.observation, arrays["observations"])
    assert np.array_equal(data.action, arrays["actions"])
    assert np.array_equal(data.achieved_goal, arrays["observations"][:, :2])
    assert np.array_equal(data.episode_end, arrays["terminals"])
    assert (data.n_episodes, data.n_transitions) == (3, 12)


def test_transitions_are_those_that_ogbench_reads(path: Path) -> None:
    ogbench = pytest.importorskip("ogbench.utils")
    np.savez(path, **_arrays())
    theirs, ours = ogbench.load_dataset(str(path)), load_ogbench(str(path))
    rows = np.flatnonzero(~ours.episode_end)
    assert np.array_equal(ours.observation[rows], theirs["observations"])
    assert np.array_equal(ours.observation[rows + 1], theirs["next_observations"])
    assert np.array_equal(ours.action[rows], theirs["actions"])
    assert np.array_equal(ours.episode_end[rows + 1], theirs["terminals"] == 1)


def test_other_worlds_need_a_goal(path: Path) -> None:
    np.savez(path, **_arrays(obs_dim=28, action_dim=5))
    with pytest.raises(ValueError, match=r"observations of 28 numbers: pass goal="):
        load_ogbench(path)
    data = load_ogbench(path, goal=range(19, 22))
    assert np.array_equal(data.achieved_goal, data.observation[:, 19:22])


def test_a_path_without_a_file_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no data set at .*download_datasets"):
            load_ogbench(missing)


class _Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code was run')",)


def test_files_of_another_kind_are_refused_in_one_sentence(path: Path) -> None:
    contents = {
        "empty": b"",
        "text": b"<html>404</html>",
        "pickle": pickle.dumps(_Bomb()),
        "array": _npy(np.zeros(3)),
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"navigate-v0\.npz'.*download it again"):
            load_ogbench(path)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_files_are_refused(path: Path, save: Any) -> None:
    save(path, **_arrays())
    content = path.read_bytes()
    for length in range(1, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError, match="download it again"):
            load_ogbench(path)


def test_damaged_bytes_never_raise_anything_else(path: Path) -> None:
    np.savez(path, **_arrays())
    content, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        for at in rng.integers(len(content), size=4):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            load_ogbench(path)
        except DatasetError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50


def test_pickled_arrays_are_not_read(path: Path) -> None:
    objects = np.empty(1, object)
    objects[0] = _Bomb()
    np.savez(path, **{**_arrays(), "observations": objects})
    with pytest.raises(DatasetError, match=r"pickle.*download it again"):
        load_ogbench(path)


def test_a_header_that_claims_more_than_any_memory_is_refused(path: Path) -> None:
    np.savez(path, **_arrays())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    claim = {"shape": (10**13, 2), "fortran_order": False, "descr": "<f4"}
    np.lib.format.write_array_header_1_0(header, claim)
    members["observations.npy"] = header.getvalue() + bytes(80)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(DatasetError, match=r"header does not fit its data.*download it again"):
        load_ogbench(path)


def test_wrong_arrays_are_listed(path: Path) -> None:
    arrays = _arrays()
    np.savez(path, obs=arrays["observations"], actions=arrays["actions"])
    with pytest.raises(DatasetError, match=r"has the arrays observations,.*has actions, obs;"):
        load_ogbench(path)
    np.savez(path)
    with pytest.raises(DatasetError, match="this file has nothing"):
        load_ogbench(path)


def test_what_is_wrong_with_the_arrays_is_said_with_the_file(path: Path) -> None:
    arrays = _arrays()
    arrays["terminals"][-1] = False
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=r"cannot load .*navigate.*last row ends no episode"):
        load_ogbench(path)
    np.savez(path, **{**_arrays(), "actions": np.full((15, 2), 3.0)})
    with pytest.raises(DatasetError, match=r"action_low=.*np\.load.*from_arrays"):
        load_ogbench(path)
    np.savez(path, **{**_arrays(), "observations": np.zeros((15, 8, 8, 3), np.uint8)})
    with pytest.raises(DatasetError, match=r"observations must be \(N, dim\)"):
        load_ogbench(path)
