"""What an agent does while it learns is recorded as it happened, at no cost to what it learns."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from hierebm import DDPGHERAgent
from hierebm.callbacks import EveryNTimesteps, RecordCallback, record
from tests.recording.test_recording import Kept, check_line, line_envs, needs_minari
from tests.toys import LineGoal

TINY: dict[str, Any] = {
    "hidden_sizes": (8,),
    "batch_size": 8,
    "learning_starts": 60,
    "train_freq": 10,
    "seed": 0,
}


def learn(env: Any, steps: int, callback: Any = None, **kwargs: Any) -> DDPGHERAgent:
    return DDPGHERAgent(**{**TINY, **kwargs}).learn(env, steps, callback=callback)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> type[Kept]:
    monkeypatch.setattr(record, "DatasetWriter", Kept)
    return Kept


@pytest.mark.parametrize("mode", [*AutoresetMode, None])
@pytest.mark.parametrize("action_repeat", [1, 3])
def test_every_step_is_recorded_as_it_happened(
    mode: AutoresetMode | None, action_repeat: int, kept: type[Kept]
) -> None:
    env = LineGoal(limit=5) if mode is None else line_envs(3, mode)
    callback = RecordCallback("aa/b-v0")
    agent = learn(env, 203, callback, action_repeat=action_repeat)
    episodes = kept.last.episodes
    assert sum(map(len, episodes)) == agent.num_timesteps
    for episode in episodes:
        check_line(episode)
        assert len(episode) <= (5 if mode is None else 7)
    assert len({episode.observations["achieved_goal"][0, 0] for episode in episodes}) == len(
        episodes
    )
    assert agent.action_space is not None
    actions = np.concatenate([episode.actions for episode in episodes])
    assert all(map(agent.action_space.contains, actions))
    # The next call goes on in the same data set.
    first = len(episodes)
    agent.learn(total_timesteps=30, callback=callback, reset_num_timesteps=False)
    assert kept.last.episodes is episodes and len(episodes) > first
    check_line(episodes[-1])


def test_steps_are_written_while_it_learns(
    kept: type[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "WRITE_FREQ", 12)
    seen: list[int] = []
    watch = lambda *_: seen.append(len(kept.last.episodes))  # noqa: E731
    learn(LineGoal(limit=5), 40, [RecordCallback("aa/b-v0"), watch])
    assert [seen[step - 1] for step in (14, 15, 29, 30, 40)] == [0, 3, 3, 6, 6]
    assert len(kept.last.episodes) == 8


def test_recording_changes_nothing_that_is_learnt(kept: type[Kept]) -> None:
    plain, recorded = (learn(LineGoal(), 150, c) for c in (None, RecordCallback("aa/b-v0")))
    for key, value in plain.low_level.state_dict()["actor"].items():
        assert value.equal(recorded.low_level.state_dict()["actor"][key])


def test_whole_numbers_are_recorded_as_such(kept: type[Kept]) -> None:
    class Cells(gym.ObservationWrapper[Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(LineGoal(limit=5))
            cells = gym.spaces.Box(-10, 10, (1, 1), np.int64)
            self.observation_space = gym.spaces.Dict(
                observation=cells, achieved_goal=cells, desired_goal=cells
            )

        def observation(self, observation: Any) -> Any:
            cell = {key: np.rint(10 * value[:1, None]) for key, value in observation.items()}
            return {key: value.astype(np.int64) for key, value in cell.items()}

        def step(self, action: Any) -> Any:
            seen, _, *ends, _ = super().step(action)
            return seen, self.compute_reward(*list(seen.values())[1:], {}), *ends, {}

        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return (np.abs(achieved - desired).max((-1, -2)) <= 1) - 1.0

    learn(Cells(), 30, RecordCallback("aa/b-v0"))
    for episode in kept.last.episodes:
        for rows in episode.observations.values():
            assert rows.dtype == np.int64 and rows.shape == (len(episode) + 1, 1, 1)


def test_it_has_to_see_every_step() -> None:
    with pytest.raises(ValueError, match="EveryNTimesteps calls it now and then"):
        learn(LineGoal(), 10, EveryNTimesteps(5, RecordCallback("aa/b-v0")))


@pytest.mark.parametrize("at", [1, 2])
def test_what_cannot_be_written_costs_one_warning(
    at: int, kept: type[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "WRITE_FREQ", 10)
    calls: list[int] = []

    def write(self: Kept, episodes: Any) -> None:
        calls.append(len(episodes))
        if len(calls) == at:
            raise RuntimeError("Unable to flush file")
        self.episodes += episodes

    monkeypatch.setattr(Kept, "write", write)
    with pytest.warns(RuntimeWarning, match="Unable to flush file.*training goes on") as caught:
        agent = learn(LineGoal(limit=5), 100, RecordCallback("aa/b-v0", verbose=1))
    assert len(caught) == 1 and agent.num_timesteps == 100
    assert len(calls) == at and len(kept.last.episodes) == 2 * (at - 1)


@needs_minari
def test_minari_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(record, "WRITE_FREQ", 20)
    env = gym.make_vec("PointMassGoal-v0", num_envs=2, layout="u")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn(env, 400, RecordCallback("aa/learning-v0", verbose=1))
    dataset = minari.load_dataset("aa/learning-v0")
    assert dataset.total_steps == 400
    assert f"{dataset.total_episodes} episodes in the data set aa/learning-v0" in (
        capsys.readouterr().out
    )
    assert dataset.spec.env_spec is not None and dataset.spec.env_spec.kwargs == {"layout": "u"}
    for episode in dataset:
        assert episode.terminations[-1] or episode.truncations[-1]
        assert episode.infos["success"][-1] == episode.terminations[-1]
    with pytest.raises(ValueError, match="already"):
        learn(env, 10, RecordCallback("aa/learning-v0"))


FULL = """
import resource, signal, hierebm
from hierebm.callbacks import RecordCallback, record
record.WRITE_FREQ = 300
agent = hierebm.DDPGHERAgent(hidden_sizes=(8,), learning_starts=10_000, seed=0)
# Files may not become larger: as on a full disk, a write fails.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, hard))
agent.learn("PointMassGoal-v0", 3000, callback=RecordCallback("aa/full-v0"))
print("learned for", agent.num_timesteps)
"""


@needs_minari
@pytest.mark.parametrize(("limit", "is_there"), [(20_000, False), (600_000, True)])
def test_a_full_disk_does_not_crash_the_process(
    limit: int, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 does not survive a failed write: it must not come to that."""
    pytest.importorskip("resource")
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    code = FULL.replace("MOST", str(limit))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "learned for 3000\n"
    assert result.stderr.count("training goes on") == 1
    assert ("aa/full-v0" in minari.list_local_datasets()) == is_there
    if is_there:
        dataset = minari.load_dataset("aa/full-v0")
        steps = sum(map(len, dataset))
        assert 300 <= steps == dataset.total_steps < 3000
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".space", ".before")]


@needs_minari
def test_where_there_is_no_folder_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "datasets"))
    with pytest.warns(RuntimeWarning, match="aa/b-v0 was not written"):
        agent = learn(LineGoal(), 30, RecordCallback("aa/b-v0"))
    assert agent.num_timesteps == 30
