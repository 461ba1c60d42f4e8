"""Data sets of Minari, and of anything that looks like one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from hierebm.data import load_minari
from hierebm.errors import DatasetError

ACTIONS = spaces.Box(-2.0, 2.0, (2,))
FLAT = spaces.Box(-np.inf, np.inf, (3,), np.float64)
POINT = spaces.Box(-np.inf, np.inf, (2,), np.float64)
GOALS = spaces.Dict({"observation": FLAT, "achieved_goal": POINT, "desired_goal": POINT})


def _episodes(space: spaces.Space[Any], lengths: tuple[int, ...] = (4, 2)) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "observations": {
                key: rng.normal(size=(n + 1, *box.shape)) for key, box in space.spaces.items()
            }
            if isinstance(space, spaces.Dict)
            else rng.normal(size=(n + 1, *(space.shape or ()))),
            "actions": rng.uniform(-2, 2, size=(n, 2)).astype(np.float32),
        }
        for n in lengths
    ]


@dataclass
class LooksLikeMinari:
    """What :func:`load_minari` asks of a ``minari.MinariDataset``."""

    observation_space: spaces.Space[Any] = field(default_factory=lambda: GOALS)
    action_space: spaces.Space[Any] = field(default_factory=lambda: ACTIONS)
    episodes: list[dict[str, Any]] = field(default_factory=lambda: _episodes(GOALS))

    @property
    def total_episodes(self) -> int:
        return len(self.episodes)

    @property
    def total_steps(self) -> int:
        return sum(len(episode["actions"]) for episode in self.episodes)

    def iterate_episodes(self) -> Iterator[Any]:
        return (SimpleNamespace(id=i, **episode) for i, episode in enumerate(self.episodes))


def _check(data: Any, episodes: list[dict[str, Any]], state: Any, goal: Any) -> None:
    for array, part in ((data.observation, state), (data.achieved_goal, goal)):
        expected = np.concatenate([part(episode["observations"]) for episode in episodes])
        assert np.array_equal(array, expected.astype(np.float32))
    assert data.episode_end.tolist() == [0, 0, 0, 0, 1, 0, 0, 1]
    assert (data.action[data.episode_end] == 0.0).all()
    actions = np.concatenate([episode["actions"] for episode in episodes])
    np.testing.assert_allclose(data.action[~data.episode_end], actions / 2.0, atol=1e-7)
    assert data.action_low.tolist() == [-2, -2] and data.action_high.tolist() == [2, 2]


def test_dict_observations_bring_their_goals() -> None:
    dataset = LooksLikeMinari()
    _check(
        load_minari(dataset),
        dataset.episodes,
        lambda observation: observation["observation"],
        lambda observation: observation["achieved_goal"],
    )


def test_a_goal_of_the_state_goes_before_the_key() -> None:
    dataset = LooksLikeMinari()
    _check(
        load_minari(dataset, goal=(0, 2)),
        dataset.episodes,
        lambda observation: observation["observation"],
        lambda observation: observation["observation"][:, [0, 2]],
    )


def test_flat_observations_need_a_goal() -> None:
    dataset = LooksLikeMinari(observation_space=FLAT, episodes=_episodes(FLAT))
    with pytest.raises(ValueError, match="no key 'achieved_goal': pass goal="):
        load_minari(dataset)
    _check(load_minari(dataset, goal=[1]), dataset.episodes, lambda o: o, lambda o: o[:, [1]])


def test_shapes_are_made_flat() -> None:
    space = spaces.Box(-1, 1, (2, 3))
    data = load_minari(
        LooksLikeMinari(observation_space=space, episodes=_episodes(space)), goal=(0,)
    )
    assert data.observation.shape == (8, 6)


def _nested() -> spaces.Dict:
    return spaces.Dict({"observation": FLAT, "achieved_goal": spaces.Dict({"kettle": FLAT})})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"action_space": spaces.Discrete(3)}, "actions are of a Discrete space"),
        ({"action_space": spaces.Box(-np.inf, 1, (2,))}, "infinite bounds.*action_low="),
        ({"observation_space": spaces.Dict({"observation": FLAT})}, "'achieved_goal'.*pass goal="),
        ({"observation_space": spaces.Dict({"image": FLAT})}, "no key 'observation'.*'image'"),
        ({"observation_space": _nested()}, "achieved_goals are of a Dict space"),
        ({"episodes": []}, "no episode has two states"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_minari(LooksLikeMinari(**changed))


def test_a_damaged_episode_is_named() -> None:
    dataset = LooksLikeMinari()
    dataset.episodes[1]["actions"] = dataset.episodes[1]["actions"][:-1]
    with pytest.raises(ValueError, match=r"episode 1 .* is damaged, leave it out"):
        load_minari(dataset)


@pytest.mark.parametrize("n_more", [-4, -1, 1, 10**13])
def test_wrong_numbers_of_steps_are_damage(n_more: int) -> None:
    class Miscounted(LooksLikeMinari):
        @property
        def total_steps(self) -> int:
            return super().total_steps + n_more

    with pytest.raises(ValueError, match=r"damaged|more memory than is free"):
        load_minari(Miscounted())


def test_whatever_minari_stumbles_over_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(LooksLikeMinari):
        def iterate_episodes(self) -> Iterator[Any]:
            yield next(super().iterate_episodes())
            raise KeyError("episode_1")

    with pytest.raises(DatasetError, match=r"cannot read .*KeyError.*download it again"):
        load_minari(Torn())
    for neither in (3, tmp_path):
        with pytest.raises(
            TypeError, match=r"takes a minari.MinariDataset or the id.*load_ogbench"
        ):
            load_minari(neither)
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    (tmp_path / "mine" / "b-v0" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "b-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(DatasetError, match=r"cannot read .*'mine/b-v0'.*record it or download"):
        load_minari("mine/b-v0")


def test_a_data_set_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"no Minari data set 'a/b-v0'.*minari download a/b"
    ):
        load_minari("a/b-v0")


def test_without_minari_the_error_names_the_extra() -> None:
    code = (
        "import sys\n"
        "from hierebm.data import load_minari\n"
        "sys.modules['minari'] = None\n"
        "try:\n"
        "    load_minari('D4RL/pointmaze/umaze-v2')\n"
        "except ImportError as error:\n"
        "    assert 'pip install \"hierebm[minari]\"' in str(error), error\n"
        "else:\n"
        "    raise AssertionError('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning", "ignore:env_spec:UserWarning")
@pytest.mark.parametrize("space", [GOALS, FLAT], ids=["dict", "flat"])
def test_data_sets_that_minari_itself_wrote(
    space: spaces.Space[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = _episodes(space)
    buffers = [
        EpisodeBuffer(
            **episode,
            rewards=[0.0] * len(episode["actions"]),
            terminations=[False] * len(episode["actions"]),
            truncations=[False] * (len(episode["actions"]) - 1) + [True],
        )
        for episode in episodes
    ]
    written = minari.create_dataset_from_buffers(
        "maze/test-v0", buffers, observation_space=space, action_space=ACTIONS
    )
    goal = None if space is GOALS else (0, 1)
    for dataset in ("maze/test-v0", written):
        _check(
            load_minari(dataset, goal=goal),
            episodes,
            (lambda o: o["observation"]) if space is GOALS else (lambda o: o),
            (lambda o: o["achieved_goal"]) if space is GOALS else (lambda o: o[:, :2]),
        )
    longest = written.filter_episodes(lambda episode: len(episode) == 4)
    assert load_minari(longest, goal=goal).episode_end.tolist() == [0, 0, 0, 0, 1]
    with pytest.raises(FileNotFoundError, match="download=True"):
        load_minari("maze/other-v0")
