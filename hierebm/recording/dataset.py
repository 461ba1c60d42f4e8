"""Episodes into the files of a Minari data set, without a risk to the process that writes them."""

from __future__ import annotations

import copy
import os
import re
import shutil
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from hierebm.checkpoint.state import single_env_kwargs
from hierebm.recording.episodes import RecordedEpisode

# What an episode takes in a file, at most: a multiple of its values, and what HDF5 itself needs
# (measured: 1.05 times, and 25 to 40 kB).
_FILE_SIZE, _BYTES_PER_EPISODE = 2, 1 << 16


class DatasetWriter:
    """Writes episodes into a new Minari data set, which is there from the first ones on.

    Args:
        dataset_id: ``NAMESPACE/NAME-v0``.
        observation_space, action_space: of a single environment.
        env: where the episodes come from, so that Minari can make it again; a single environment or
            a vector of them.
        algorithm: who acted.
        overwrite: replace a data set of this id.

    Raises:
        ImportError: Minari is not installed.
        ValueError: the id is malformed, or is taken.
        OSError: Minari's folder cannot be made.
    """

    def __init__(
        self,
        dataset_id: str,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        env: Any,
        algorithm: str,
        overwrite: bool = False,
    ) -> None:
        _import_minari()
        self.dataset_id, self._overwrite, self._algorithm = dataset_id, overwrite, algorithm
        self._env = _DescribedEnv(observation_space, action_space, _spec(env))
        self.path = _path_of(dataset_id)
        self._check_free()
        self._dataset: Any = None

    def write(self, episodes: Sequence[RecordedEpisode]) -> None:
        """Add episodes. Where that fails, what was written before can still be read.

        Raises:
            OSError: there is no space, or no permission; and whatever else h5py raises.
        """
        if not episodes:
            return
        self._try_space(sum(e.n_bytes * _FILE_SIZE + _BYTES_PER_EPISODE for e in episodes))
        from minari.data_collector import EpisodeBuffer

        buffers = [
            EpisodeBuffer(
                observations=episode.observations,
                actions=episode.actions,
                rewards=episode.rewards.tolist(),
                terminations=episode.terminations.tolist(),
                truncations=episode.truncations.tolist(),
                infos={} if episode.success is None else {"success": episode.success},
            )
            for episode in episodes
        ]
        if self._dataset is None:
            self._create(buffers)
        else:
            self._append(buffers)

    def _try_space(self, n_bytes: int) -> None:
        """Raise OSError where the disk, a quota or a limit has no room for so much more.

        HDF5 does not get over a failed write: the whole process crashes, and with it the agent.
        """
        data = self.path / "data" / "main_data.hdf5"
        file = self.path.with_name(f".{self.path.name}.space") if self._dataset is None else data
        file.parent.mkdir(parents=True, exist_ok=True)
        # No zeros: some file systems store them in no space.
        block = os.urandom(1 << 16)
        size = data.stat().st_size if file is data else 0
        try:
            with open(file, "ab") as out:
                for _ in range(-(-n_bytes // len(block))):
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
        finally:
            if file is data:
                os.truncate(data, size)
            else:
                file.unlink(missing_ok=True)

    def _check_free(self) -> None:
        if not self.path.exists():
            return
        if not (self.path / "data").is_dir():
            raise ValueError(f"{self.path} is there and is no data set: give another id")
        if not self._overwrite:
            raise ValueError(
                f"there is a data set {self.dataset_id} already, in {self.path}: give another id "
                "(--dataset-id), or replace it (--overwrite, overwrite=True)"
            )

    def _create(self, buffers: list[Any]) -> None:
        minari = _import_minari()
        self._check_free()
        # Hidden folders are no data sets for Minari.
        replaced = self.path.with_name(f".{self.path.name}.replaced")
        if self.path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(self.path, replaced)
        try:
            with warnings.catch_warnings():
                # It wants the author's name and address, which are not known here.
                warnings.simplefilter("ignore", UserWarning)
                self._dataset = minari.create_dataset_from_buffers(
                    self.dataset_id,
                    buffers,
                    env=self._env,
                    algorithm_name=self._algorithm,
                    description=f"Episodes of {self._algorithm}, recorded by hierebm.",
                )
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            if replaced.exists():
                os.replace(replaced, self.path)
            raise
        shutil.rmtree(replaced, ignore_errors=True)

    def _append(self, buffers: list[Any]) -> None:
        # Minari writes the number of episodes in place: a full disk would leave an empty file, and
        # nothing that could be read.
        counts = self.path / "data" / "metadata.json"
        before = counts.with_suffix(".before")
        shutil.copyfile(counts, before)
        try:
            self._dataset.update_dataset_from_buffer(buffers)
        except BaseException:
            os.replace(before, counts)
            raise
        before.unlink()


def default_dataset_id(env_id: str) -> str:
    """Where ``hierebm record`` writes what an agent did in that environment."""
    name = re.sub(r"[^-\w]", "-", env_id.rpartition(":")[2])
    return f"hierebm/{name}-agent-v0"


class _DescribedEnv(gym.Env[Any, Any]):
    """Tells Minari what it asks an environment for; given an id, it would make another one."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        spec: EnvSpec | None,
    ) -> None:
        self.observation_space, self.action_space, self.spec = observation_space, action_space, spec


def _spec(env: Any) -> EnvSpec | None:
    """How to make one such environment again; None where JSON cannot say it."""
    if getattr(env, "spec", None) is None:
        return None
    spec = copy.copy(env.spec)
    spec.kwargs = single_env_kwargs(spec)
    # Where make_vec leaves it.
    spec.max_episode_steps = spec.kwargs.pop("max_episode_steps", spec.max_episode_steps)
    try:
        spec.to_json()
    # Whatever an argument or a wrapper raises.
    except Exception:
        return None
    return spec


def _path_of(dataset_id: str) -> Path:
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage import get_dataset_path

    try:
        parse_dataset_id(dataset_id)
    # TypeError: without a version.
    except (ValueError, TypeError):
        raise ValueError(
            f"{dataset_id!r} is no id of a data set: give NAMESPACE/NAME-v0, of letters, digits, "
            "- and _, two or more of them in NAMESPACE"
        ) from None
    return Path(get_dataset_path(dataset_id))


def _import_minari() -> Any:
    try:
        # Minari asks for it only when it is about to write.
        import_module("h5py")
        return import_module("minari")
    except ImportError as error:
        raise ImportError(
            'data sets need Minari and h5py: pip install "hierebm[minari]", or "minari[hdf5]" '
            f"({error})"
        ) from error
