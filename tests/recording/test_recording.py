"""What was done is recorded as it happened, and Minari reads it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import hierebm  # noqa: F401
from hierebm import recording
from hierebm.evaluation import evaluate
from hierebm.goal_env.spaces import KEYS, GoalSpaces
from hierebm.recording import DatasetWriter, EpisodeRecorder, RecordedEpisode, Transitions, policy
from tests.callbacks.agent import Agent
from tests.toys import LineGoal

needs_minari = pytest.mark.skipif(
    any(not __import__("importlib.util").util.find_spec(name) for name in ("minari", "h5py")),
    reason="needs Minari",
)


class Walker:
    """Acts at random in LineGoal, and remembers what it was shown and did."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.shown: list[np.ndarray] = []

    def predict(self, observation: Any, **_: Any) -> tuple[np.ndarray, None]:
        self.shown.append(np.array(observation["achieved_goal"]))
        n = len(observation["achieved_goal"])
        return self.rng.uniform(-0.2, 0.4, (n, 1)).astype(np.float32), None


class Kept:
    """In the place of a data set: keeps what is written."""

    last: Kept

    def __init__(self, *args: Any) -> None:
        Kept.last, self.args, self.episodes = self, args, []

    def write(self, episodes: list[RecordedEpisode]) -> None:
        self.episodes += episodes


class ReusesItsMemory(LineGoal):
    """Writes every observation into the arrays of the last one."""

    memory: dict[str, np.ndarray] | None = None

    def _observe(self) -> dict[str, Any]:
        fresh = super()._observe()
        if self.memory is None:
            self.memory = {key: np.array(value) for key, value in fresh.items()}
        for key, value in fresh.items():
            self.memory[key][:] = value
        return self.memory


def line_envs(n: int, mode: AutoresetMode) -> SyncVectorEnv:
    """Whose episodes take different numbers of steps."""
    makers = [lambda limit=limit: LineGoal(limit=limit) for limit in range(5, 5 + n)]
    return SyncVectorEnv(makers, autoreset_mode=mode)


def check_line(episode: RecordedEpisode) -> None:
    """It is one episode of LineGoal, step by step."""
    x, goal = (episode.observations[key] for key in ("achieved_goal", "desired_goal"))
    assert x.shape == (len(episode) + 1, 1) and x.dtype == np.float64
    np.testing.assert_allclose(x[1:], np.clip(x[:-1] + episode.actions, -1, 1), atol=1e-6)
    np.testing.assert_allclose(episode.observations["observation"], np.c_[x, x**2], atol=1e-6)
    assert (goal == goal[0]).all()
    near = (np.abs(x - goal) <= 0.1)[:, 0]
    np.testing.assert_array_equal(episode.rewards, near[1:] - 1.0)
    assert episode.success is not None and not episode.success[0]
    np.testing.assert_array_equal(episode.success[1:], near[1:])
    assert not episode.terminations.any()
    assert episode.truncations[-1] and not episode.truncations[:-1].any()


def record(model: Any, env: Any, n: int, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> Kept:
    monkeypatch.setattr(policy, "DatasetWriter", Kept)
    recording.record_episodes(model, env, n, "aa/b-v0", **kwargs)
    return Kept.last


@pytest.mark.parametrize("mode", [*AutoresetMode, None])
def test_episodes_are_those_that_happened(
    mode: AutoresetMode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = LineGoal(limit=5) if mode is None else line_envs(3, mode)
    walker = Walker()
    kept = record(walker, env, 7, monkeypatch, seed=0)
    assert len(kept.episodes) == 7
    for episode in kept.episodes:
        check_line(episode)
    # In the order of the tasks: each environment in its turn, and the last one contributes more.
    lengths = [5] * 7 if mode is None else [5, 6, 7, 5, 6, 7, 7]
    assert list(map(len, kept.episodes)) == lengths
    starts = [episode.observations["achieved_goal"][0, 0] for episode in kept.episodes]
    assert len(set(starts)) == 7 and set(starts) <= set(np.concatenate(walker.shown).ravel())
    assert kept.args[0] == "aa/b-v0" and kept.args[2] == LineGoal().action_space


def test_an_environment_may_reuse_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for episode in record(Walker(), ReusesItsMemory(limit=6), 3, monkeypatch, seed=0).episodes:
        assert len(np.unique(episode.observations["achieved_goal"])) > 3
        check_line(episode)


def test_the_episodes_are_those_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs: dict[str, Any] = {"seed": 3, "options": {"distance": (0.5, 1.0)}}
    kept = record(Agent(), "PointMassGoal-v0", 5, monkeypatch, **kwargs)
    expected = evaluate(Agent(), "PointMassGoal-v0", 5, **kwargs).episodes
    for episode, seen in zip(kept.episodes, expected, strict=True):
        np.testing.assert_array_equal(episode.observations["achieved_goal"][0], seen.start)
        assert (len(episode), episode.rewards.sum()) == (seen.length, seen.reward)
        assert episode.success is not None and episode.success[-1] == seen.success
        assert episode.terminations[-1] == seen.success
        assert episode.observations["observation"].dtype == np.float32


def test_success_is_left_out_where_nothing_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(LineGoal):
        def step(self, action: Any) -> Any:
            return *super().step(action)[:-1], {}

    for episode in record(Walker(), Silent(limit=4), 2, monkeypatch).episodes:
        assert episode.success is None


def test_what_still_runs_is_cut_off_as_truncated() -> None:
    recorder, no, yes = EpisodeRecorder(), np.zeros(2, bool), np.ones(2, bool)
    rows = {key: np.zeros((2, 1)) for key in ("observation", "achieved_goal", "desired_goal")}
    valid = np.array([False, True])
    for _ in range(3):
        step = Transitions(rows, np.zeros((2, 1)), rows, np.zeros(2), no, no, no, yes, valid)
        assert recorder.add(step) == []
    (episode,) = recorder.cut()
    assert len(episode) == 3 and episode.truncations.tolist() == [False, False, True]
    assert recorder.cut() == []


def test_without_minari_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r'pip install "hierebm\[minari\]"'):
        recording.record_episodes(Walker(), LineGoal(), 1, "aa/b-v0")


@pytest.mark.parametrize(
    ("env_id", "expected"),
    [
        ("PointMassGoal-v0", "hierebm/PointMassGoal-v0-agent-v0"),
        ("my.module:some/Maze.two-v3", "hierebm/some-Maze-two-v3-agent-v0"),
    ],
)
def test_ids_of_data_sets_are_made_of_those_of_environments(env_id: str, expected: str) -> None:
    assert recording.default_dataset_id(env_id) == expected


# ------------------------------------------------------------------------------- with Minari


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    yield tmp_path
    # Neither half-written nor replaced data sets stay behind.
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.name.endswith((".replaced", ".before", ".space"))
    ]


def line_episodes(n: int, seed: int = 0) -> list[RecordedEpisode]:
    patch = pytest.MonkeyPatch()
    try:
        return record(Walker(), LineGoal(limit=5), n, patch, seed=seed).episodes
    finally:
        patch.undo()


def line_writer(dataset_id: str = "aa/line-v0", **kwargs: Any) -> DatasetWriter:
    spaces = GoalSpaces.of(LineGoal())
    return DatasetWriter(
        dataset_id, spaces.observation_space, spaces.action_space, LineGoal(), "Walker", **kwargs
    )


def check_same(dataset_id: str, episodes: list[RecordedEpisode]) -> Any:
    import minari

    dataset = minari.load_dataset(dataset_id)
    assert dataset.total_episodes == len(episodes)
    assert dataset.total_steps == sum(map(len, episodes))
    for read, episode in zip(dataset, episodes, strict=True):
        assert read.observations.keys() == episode.observations.keys()
        for key, values in episode.observations.items():
            np.testing.assert_array_equal(read.observations[key], values)
            assert read.observations[key].dtype == values.dtype
        for name in ("actions", "rewards", "terminations", "truncations"):
            got, expected = getattr(read, name), getattr(episode, name)
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == expected.dtype
        np.testing.assert_array_equal(read.infos["success"], episode.success)
    return dataset


@needs_minari
def test_minari_reads_what_was_written_in_pieces(folder: Path) -> None:
    import minari

    writer, episodes = line_writer(), line_episodes(4)
    for piece in (episodes[:0], episodes[:1], episodes[1:3], [], episodes[3:]):
        writer.write(piece)
    dataset = check_same("aa/line-v0", episodes)
    assert dataset.observation_space == LineGoal().observation_space
    assert dataset.action_space == LineGoal().action_space
    # Made by hand, not from an id.
    assert dataset.spec.env_spec is None
    assert list(minari.list_local_datasets()) == ["aa/line-v0"]


@needs_minari
@pytest.mark.parametrize("n_envs", [1, 3])
def test_minari_makes_the_environment_again(folder: Path, n_envs: int) -> None:
    import minari

    kwargs = {"layout": "u", "max_episode_steps": 30}
    many = {**kwargs, "num_envs": n_envs, "vectorization_mode": "sync"}
    env = (
        gym.make("PointMassGoal-v0", render_mode="rgb_array", **kwargs)
        if n_envs == 1
        else gym.make_vec("PointMassGoal-v0", **many)
    )
    recording.record_episodes(Agent(), env, 3, "aa/u-v0", seed=0)
    again = minari.load_dataset("aa/u-v0").recover_environment()
    assert again.unwrapped.layout.name == "u" and again.spec.max_episode_steps == 30
    assert again.render_mode is None


@needs_minari
def test_an_id_that_is_taken_is_refused_and_replaced_on_demand(folder: Path) -> None:
    old, new = line_episodes(2), line_episodes(3, seed=1)
    line_writer().write(old)
    with pytest.raises(ValueError, match=r"already.*--dataset-id.*--overwrite"):
        line_writer()
    writer = line_writer(overwrite=True)
    # Until there is something to put in its place.
    writer.write([])
    check_same("aa/line-v0", old)
    writer.write(new[:1])
    writer.write(new[1:])
    check_same("aa/line-v0", new)


@needs_minari
def test_a_folder_that_is_no_data_set_is_never_replaced(folder: Path) -> None:
    line_writer("aa/other-v0/line-v0").write(line_episodes(1))
    with pytest.raises(ValueError, match="no data set"):
        line_writer("aa/other-v0", overwrite=True)
    check_same("aa/other-v0/line-v0", line_episodes(1))


@needs_minari
@pytest.mark.parametrize("dataset_id", ["line", "a/line-v0", "aa/line", "../line-v0", ""])
def test_malformed_ids_are_refused(folder: Path, dataset_id: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/NAME-v0"):
        line_writer(dataset_id)


@needs_minari
@pytest.mark.parametrize("overwrite", [False, True])
def test_where_the_first_episodes_cannot_be_written_all_is_as_before(
    folder: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minari.dataset.minari_storage import MinariStorage

    old = line_episodes(2)
    if overwrite:
        line_writer().write(old)
    writer = line_writer(overwrite=overwrite)
    monkeypatch.setattr(MinariStorage, "update_metadata", full_disk(lambda *_: None))
    with pytest.raises(OSError, match="No space"):
        writer.write(line_episodes(1, seed=1))
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    if overwrite:
        check_same("aa/line-v0", old)
    else:
        assert not writer.path.exists()


@needs_minari
def test_where_more_cannot_be_written_what_there_is_can_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minari.dataset.minari_storage import MinariStorage

    writer, episodes = line_writer(), line_episodes(3)
    writer.write(episodes[:2])
    counts = writer.path / "data" / "metadata.json"
    monkeypatch.setattr(
        MinariStorage, "update_metadata", full_disk(lambda *_: counts.write_text(""))
    )
    with pytest.raises(OSError, match="No space"):
        writer.write(episodes[2:])
    check_same("aa/line-v0", episodes[:2])


@needs_minari
@pytest.mark.parametrize("n_steps", [1, 100, 3000])
@pytest.mark.parametrize("width", [1, 100])
def test_a_file_grows_by_no_more_than_the_space_that_was_tried(
    folder: Path, n_steps: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(DatasetWriter, "_try_space", lambda _, n_bytes: tried.append(n_bytes))
    rows = np.random.default_rng(0).normal(size=(n_steps + 1, width))
    ends = np.zeros(n_steps, bool)
    episode = RecordedEpisode(
        dict.fromkeys(KEYS, rows), rows[1:], rows[1:, 0], ends, ends, np.zeros(n_steps + 1, bool)
    )
    box = gym.spaces.Box(-np.inf, np.inf, (width,), np.float64)
    space = gym.spaces.Dict(dict.fromkeys(KEYS, box))
    writer = DatasetWriter("aa/size-v0", space, box, None, "none")
    file, size = writer.path / "data" / "main_data.hdf5", 0
    for _ in range(3):
        writer.write([episode] * 4)
        assert size + 4 * episode.n_bytes < file.stat().st_size < size + tried[-1]
        size = file.stat().st_size


def full_disk(before: Callable[..., Any]) -> Callable[..., None]:
    """Does something, and then finds that the disk is full."""

    def fail(*args: Any) -> None:
        before(*args)
        raise OSError(28, "No space left on device")

    return fail
