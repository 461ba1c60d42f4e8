"""`hierebm watch` draws environment, graph, path and subgoal."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import hierebm
from hierebm.cli.parser import main
from hierebm.plotting.watching import HEADER, _Scene, watch_frames, write_video
from hierebm.plotting.world import World, frame_extent_of
from tests.toys import SMALL, LineGoal, PlaneGoal


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "agent.zip"
    agent = hierebm.HierarchicalEBMAgent(seed=0, **SMALL)
    agent.learn(gym.make("PointMassGoal-v0", layout="u", time_limit=12), 420)
    agent.save(path)
    return path


ORANGE = [247, 103, 7]


def test_plans_are_drawn_over_the_environments_own_map(checkpoint, tmp_path):
    pytest.importorskip("pygame")
    out = tmp_path / "out.gif"
    argv = ["watch", str(checkpoint), "--record", str(out), "--episodes", "2", "--every", "5"]
    assert main([*argv, "--distance", "4", "6"]) == 0
    with Image.open(out) as movie:
        # Steps 5, 10 and 12 of both.
        assert movie.n_frames == 6 and movie.size == (512, 512 + HEADER)
        picture = np.asarray(movie.convert("RGB")).astype(int)
    # The subgoal's color, and beside walls the environment's floor.
    assert (np.abs(picture - ORANGE).sum(-1) < 40).sum() > 50
    assert (np.abs(picture[HEADER:] - [250, 249, 246]).sum(-1) < 12).mean() > 0.4


def test_what_is_drawn_over_a_frame_is_where_the_frame_shows_it():
    pytest.importorskip("pygame")
    rows = ["." * 12] * 5
    world = gym.make("PointMassGoal-v0", layout=rows).unwrapped.layout
    start, goal = world.low + 0.5, world.low + np.array([4.6, 1.6])
    env = gym.make("PointMassGoal-v0", layout=rows, start=start, goal=goal, render_mode="rgb_array")
    env.reset(seed=0)
    frame, extent = env.render(), frame_extent_of(env)
    # The environment's goal is green.
    rows, columns = np.nonzero(np.abs(frame.astype(int) - [31, 158, 110]).sum(-1) < 20)
    height, width = frame.shape[:2]
    x = extent[0] + (columns.mean() + 0.5) / width * (extent[1] - extent[0])
    y = extent[3] - (rows.mean() + 0.5) / height * (extent[3] - extent[2])
    np.testing.assert_allclose([x, y], goal, atol=0.02)
    drawn = _Scene(World.of(env), start).draw_over(
        frame, extent, goal, SimpleNamespace(graph=None, subgoal=goal)
    )
    rows, columns = np.nonzero(np.abs(drawn.astype(int) - ORANGE).sum(-1) < 40)
    x = extent[0] + (columns.mean() + 0.5) / width * (extent[1] - extent[0])
    # Of even sides, as encoders want them.
    assert drawn.shape == (height - height % 2 + HEADER, width, 3)
    y = extent[3] - (rows.mean() + 0.5 - HEADER) / height * (extent[3] - extent[2])
    np.testing.assert_allclose([x, y], goal, atol=0.02)


def test_a_cameras_view_is_shown_whole_beside_the_map():
    class Filmed(PlaneGoal):
        render_mode = "rgb_array"

        def render(self):
            return np.full((240, 320, 3), 77, np.uint8)

    agent = hierebm.DDPGHERAgent(seed=0, hidden_sizes=(8, 8)).learn(PlaneGoal(2), 10)
    frames = list(watch_frames(agent, Filmed(2, limit=2), 1, seed=0))
    assert [frame.shape for frame in frames] == [(480, 640 + 480, 3)] * 2
    assert (frames[1][:, :640] == 77).all() and (frames[1][:, 640:] != 77).any()


def test_any_goal_environment_is_drawn_without_a_picture_of_its_own():
    agent = hierebm.DDPGHERAgent(seed=0, hidden_sizes=(8, 8)).learn(LineGoal(), 10)
    frames = list(watch_frames(agent, LineGoal(limit=6), 1, seed=0, every=4))
    assert [frame.shape for frame in frames] == [(480, 480, 3)] * 2
    assert not np.array_equal(*frames)


def test_a_recording_as_a_video_has_the_same_pictures(checkpoint, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    imageio = pytest.importorskip("imageio.v2")
    out = tmp_path / "deep" / "out.mp4"
    argv = ["watch", str(checkpoint), "--record", str(out), "--episodes", "1", "--every", "5"]
    assert main([*argv, "--fps", "4", "--distance", "4", "6"]) == 0
    with imageio.get_reader(out) as movie:
        told = movie.get_meta_data()
        frames = [np.asarray(frame) for frame in movie]
    assert told["fps"] == 4 and len(frames) == 3
    orange = np.abs(frames[0].astype(int) - ORANGE).sum(-1) < 60
    assert orange.sum() > 50


def test_a_window_shows_every_picture_and_closes(checkpoint, monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = []
    monkeypatch.setattr(
        pygame.display, "flip", lambda: shown.append(pygame.display.get_surface().get_size())
    )
    argv = ["watch", str(checkpoint), "--episodes", "1", "--every", "4", "--fps", "1000"]
    assert main(argv) == 0
    assert len(shown) == 3 and set(shown) == {(512, 512 + HEADER)}
    assert not pygame.display.get_init()
    # Closing the window ends it.
    shown.clear()
    monkeypatch.setattr(pygame.event, "get", lambda: [pygame.event.Event(pygame.QUIT)])
    assert main(argv) == 0
    assert len(shown) == 1


def test_maps_do_not_jump_and_the_title_tells_when_the_goal_was_reached():
    scene = _Scene(World.of(LineGoal()), np.array([-1.0]))
    for x in (-0.5, 0.0, 0.5):
        scene.move(np.array([x]), np.array([0.05]), None)
        assert scene.draw(np.array([0.05]), None).shape == (480, 480, 3)
    # All of the episode so far, and the goal.
    np.testing.assert_allclose(scene.seen, [[-1.0], [0.5]])
    assert scene.reached_after == 2


def test_a_goal_of_three_axes_is_seen_from_two_sides():
    env = PlaneGoal(3, limit=2)
    agent = hierebm.DDPGHERAgent(seed=0, hidden_sizes=(8, 8)).learn(PlaneGoal(3), 10)
    assert [f.shape for f in watch_frames(agent, env, 1, seed=0)] == [(480, 960, 3)] * 2


def test_what_is_missing_is_said(checkpoint, tmp_path, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["watch", str(checkpoint)]) == 1
    assert "--record NAME.gif" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r'pip install "hierebm\[video\]", or call'):
        write_video(tmp_path / "out.mp4", iter([]), 10)
    with pytest.raises(ValueError, match=r"NAME\.gif or NAME\.mp4"):
        write_video(tmp_path / "out.avi", iter([]), 10)
