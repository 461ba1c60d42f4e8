"""Minari's data sets (Younis et al. 2024) as :class:`OfflineDataset`; Minari is needed to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from hierebm.data.dataset import OfflineDataset
from hierebm.data.goals import GoalOf
from hierebm.errors import DatasetError
from hierebm.types import FloatArray


def load_minari(
    dataset: Any, *, goal: GoalOf | None = None, download: bool = False
) -> OfflineDataset:
    """Read a data set of Minari.

    An episode of T steps is T + 1 rows; the last one has no action, its row is zeros. Actions are
    scaled from the bounds of the data set's action space.

    Args:
        dataset: a ``minari.MinariDataset``, or an id as ``"D4RL/pointmaze/umaze-v2"``.
        goal: what of an observation is the achieved goal, as in
            :meth:`OfflineDataset.from_arrays`; by default the key ``achieved_goal`` of Dict
            observations. Of these, the key ``observation`` is the observation.
        download: whether to fetch an id that is not on this machine.

    Raises:
        ImportError: Minari is missing.
        FileNotFoundError: an id that is not on this machine, without ``download``.
        TypeError: ``dataset`` is neither.
        DatasetError: it is damaged; the message says what to do.
        ValueError: spaces that do not fit, no goal, or data as in
            :meth:`OfflineDataset.from_arrays`.
    """
    if isinstance(dataset, str):
        try:
            import minari
        except ImportError as error:
            raise ImportError(
                f'Minari\'s data sets need minari: run `pip install "hierebm[minari]"` ({error}).'
            ) from error
        dataset = _load(minari, dataset, download)
    if not hasattr(dataset, "iterate_episodes"):
        raise TypeError(
            f"load_minari takes a minari.MinariDataset or the id of one, got {dataset!r}; "
            "load_ogbench reads .npz files"
        )
    action_space = _box(dataset.action_space, "actions")
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        raise ValueError(
            "the data set's action space has infinite bounds, and actions are scaled from finite "
            "ones: take the arrays out of its episodes and use OfflineDataset.from_arrays with "
            "action_low= and action_high="
        )
    keys = _keys(dataset.observation_space, goal)
    boxes = [
        _box(_part(dataset.observation_space, key), "observations" if key is None else f"{key}s")
        for key in keys
    ]
    # All rows of all episodes at once: a list of episodes would be in memory twice.
    n = dataset.total_steps + dataset.total_episodes
    try:
        states = [np.empty((n, _size(box)), np.float32) for box in boxes]
        actions = np.zeros((n, _size(action_space)), np.float32)
        terminals = np.zeros(n, np.bool_)
    except MemoryError as error:
        raise DatasetError(
            f"the data set needs more memory than is free ({error}): read a part of it, with "
            "dataset.filter_episodes or dataset.sample_episodes"
        ) from error
    row = 0
    for episode in _episodes(dataset):
        end = row + len(episode.actions)
        if end >= n:
            raise _counts_are_wrong(n)
        for array, key in zip(states, keys, strict=True):
            _fill(array[row : end + 1], _part(episode.observations, key), episode.id)
        _fill(actions[row:end], episode.actions, episode.id)
        terminals[end] = True
        row = end + 1
    if row != n:
        raise _counts_are_wrong(n)
    return OfflineDataset.from_arrays(
        states[0],
        actions,
        terminals,
        goal=goal,
        achieved_goals=states[1] if goal is None else None,
        action_low=action_space.low.reshape(-1),
        action_high=action_space.high.reshape(-1),
    )


def _load(minari: Any, dataset_id: str, download: bool) -> Any:
    try:
        return minari.load_dataset(dataset_id, download=download)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no Minari data set {dataset_id!r} on this machine ({error.args[0]}): "
            f"`minari list local` shows those that are there, `minari download {dataset_id}` gets "
            "one of Minari's"
        ) from error
    except ImportError:
        raise
    # A damaged data set makes Minari raise nearly anything.
    except Exception as error:
        raise _damaged(f" {dataset_id!r}", error) from error


def _episodes(dataset: Any) -> Iterator[Any]:
    try:
        yield from dataset.iterate_episodes()
    except Exception as error:
        raise _damaged("", error) from error


def _damaged(name: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"cannot read the Minari data set{name} ({type(error).__name__}: {error}): it is damaged "
        "or incomplete, record it or download it again"
    )


def _counts_are_wrong(n: int) -> DatasetError:
    return DatasetError(
        f"the data set says that it has {n} states, its episodes have another number: it is "
        "damaged or incomplete, record it or download it again"
    )


def _box(space: spaces.Space[Any], what: str) -> spaces.Box:
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"the data set's {what} are of a {type(space).__name__} space, Box is needed: take the "
            "numbers out of its episodes and use OfflineDataset.from_arrays"
        )
    return space


def _keys(space: spaces.Space[Any], goal: GoalOf | None) -> list[str | None]:
    """Which parts of an observation are the state and, without ``goal``, the achieved goal."""
    if not isinstance(space, spaces.Dict):
        if goal is None:
            raise ValueError(
                "the data set's observations have no key 'achieved_goal': pass goal=, the axes of "
                "the observation (or a function of it) that are the achieved goal"
            )
        return [None]
    keys: list[str | None] = ["observation"]
    if goal is None:
        keys.append("achieved_goal")
    for key in keys:
        if key not in space.spaces:
            remedy = "pass goal=" if key == "achieved_goal" else "use OfflineDataset.from_arrays"
            raise ValueError(
                f"the data set's observations have no key {key!r}, they have "
                f"{', '.join(map(repr, space.spaces))}: {remedy}"
            )
    return keys


def _part(observations: Any, key: str | None) -> Any:
    return observations if key is None else observations[key]


def _size(box: spaces.Box) -> int:
    return int(np.prod(box.shape))


def _fill(rows: FloatArray, values: Any, episode: int) -> None:
    array = np.asarray(values)
    if array.size != rows.size or len(array) != len(rows):
        raise ValueError(
            f"episode {episode} of the data set has an array {array.shape} where its spaces and "
            f"number of actions ask for {rows.shape}; it is damaged, leave it out with "
            "dataset.filter_episodes"
        )
    # What is too large for float32 is found later.
    with np.errstate(over="ignore"):
        rows[...] = array.reshape(rows.shape)
