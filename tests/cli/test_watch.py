"""`hierebm watch` draws environment, graph, path and subgoal."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import hierebm
from hierebm.cli.parser import main
from hierebm.plotting.watching import watch_frames, write_video
from tests.toys import SMALL, LineGoal


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "agent.zip"
    agent = hierebm.HierarchicalEBMAgent(seed=0, **SMALL)
    agent.learn(gym.make("PointMassGoal-v0", layout="u", time_limit=12), 420)
    agent.save(path)
    return path


def test_a_recording_shows_the_environment_beside_the_plan(checkpoint, tmp_path):
    pytest.importorskip("pygame")
    out = tmp_path / "out.gif"
    argv = ["watch", str(checkpoint), "--record", str(out), "--episodes", "2", "--every", "5"]
    assert main([*argv, "--distance", "4", "6"]) == 0
    with Image.open(out) as movie:
        # Steps 5, 10 and 12 of both.
        assert movie.n_frames == 6 and movie.size == (960, 480)
        picture = np.asarray(movie.convert("RGB")).astype(int)
    # The subgoal's color, on the right only.
    orange = (np.abs(picture - [247, 103, 7]).sum(-1) < 40).sum(0)
    assert orange[480:].sum() > 50


def test_any_goal_environment_is_drawn_without_a_picture_of_its_own():
    agent = hierebm.DDPGHERAgent(seed=0, hidden_sizes=(8, 8)).learn(LineGoal(), 10)
    frames = list(watch_frames(agent, LineGoal(limit=6), 1, seed=0, every=4))
    assert [frame.shape for frame in frames] == [(480, 480, 3)] * 2
    assert not np.array_equal(*frames)


def test_what_is_missing_is_said(checkpoint, tmp_path, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["watch", str(checkpoint)]) == 1
    assert "--record NAME.gif" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"NAME\.gif or NAME\.mp4"):
        write_video(tmp_path / "out.avi", iter([]), 10)
