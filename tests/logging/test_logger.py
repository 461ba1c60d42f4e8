"""Metrics arrive in every output, and an output that fails costs nothing but itself."""

from __future__ import annotations

import builtins
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.summary.writer import event_file_writer
from tensorboard.summary.writer.event_file_writer import AtomicCounter

from hierebm import files
from hierebm.logging.logger import (
    JSONLinesOutput,
    Logger,
    TableOutput,
    TensorBoardOutput,
    configure,
    format_table,
    next_run_folder,
)
from hierebm.logging.values import Image, Video
from hierebm.plotting.plots import read_progress


def read_events(folder: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(
        str(folder), size_guidance=dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    )
    events.Reload()
    return events


def small_figure() -> Figure:
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([0, 1])
    return figure


def test_tensorboard_reads_back_what_was_recorded(tmp_path):
    log = Logger(tmp_path, [TensorBoardOutput(tmp_path)])
    log.record("rollout/success_rate", 0.5)
    log.record("config", "layout: open")
    log.record("train/weights", np.arange(10.0))
    log.record_figure("plan/path", small_figure())
    log.dump(step=100)
    log.record("rollout/success_rate", 0.75)
    log.dump(step=200)
    log.close()

    events = read_events(tmp_path)
    scalars = events.Scalars("rollout/success_rate")
    assert [(s.step, s.value) for s in scalars] == [(100, 0.5), (200, 0.75)]
    image = events.Images("plan/path")[0]
    assert (image.width, image.height) == (100, 50)
    assert image.encoded_image_string.startswith(b"\x89PNG")
    histogram = events.Histograms("train/weights")[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0, 9, 10, 45)
    assert events.Tensors("config/text_summary")[0].tensor_proto.string_val == [b"layout: open"]


def test_record_mean_averages_until_the_dump():
    log = Logger()
    for value in (1.0, 2.0, 6.0):
        log.record_mean("train/loss", value)
    log.record_mean("train/loss", None)
    log.dump(1)
    assert log.latest["train/loss"] == pytest.approx(3.0)
    log.record_mean("train/loss", 10.0)
    log.dump(2)
    assert log.latest["train/loss"] == pytest.approx(10.0)


def test_record_after_record_mean_replaces_the_mean():
    log = Logger()
    log.record_mean("a", 1.0)
    log.record("a", 5.0)
    log.dump()
    assert log.latest == {"a": 5.0}


def test_record_dict_with_prefix_and_mean():
    log = Logger()
    log.record_dict({"loss": 1.0, "n": 3}, prefix="energy/", mean=True)
    log.record_dict({"loss": 3.0, "n": 5}, prefix="energy/", mean=True)
    log.dump()
    assert log.latest == {"energy/loss": 2.0, "energy/n": 4.0}


def test_numbers_of_every_kind_become_floats(tmp_path):
    torch = pytest.importorskip("torch")
    log = Logger(tmp_path, [JSONLinesOutput(tmp_path / "p.jsonl"), TensorBoardOutput(tmp_path)])
    log.record_mean("tensor", torch.tensor(2.0, requires_grad=True))
    log.record_mean("tensor", torch.tensor(4.0, requires_grad=True))
    log.record("bool", True)
    log.record("numpy", np.float32(0.5))
    log.record("array", np.array([7]))
    log.dump(3)
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {
        "step": 3,
        "tensor": 3.0,
        "bool": 1.0,
        "numpy": 0.5,
        "array": 7.0,
    }


def test_what_cannot_be_logged_names_the_key():
    log = Logger()
    log.record("train/oops", object())
    with pytest.raises(TypeError, match="train/oops"):
        log.dump()


def test_json_lines_are_valid_json_even_for_nan(tmp_path):
    log = Logger(None, [JSONLinesOutput(tmp_path / "p.jsonl")])
    log.record("a", math.nan)
    log.record("b", math.inf)
    log.record("figure", small_figure())
    log.dump(1)
    row = json.loads((tmp_path / "p.jsonl").read_text(), parse_constant=pytest.fail)
    assert row == {"step": 1, "a": None, "b": None}


def test_exclude_keeps_a_key_from_one_output(tmp_path, capsys):
    log = Logger(None, [TableOutput(), JSONLinesOutput(tmp_path / "p.jsonl")])
    log.record("time/total_timesteps", 10, exclude="stdout")
    log.record("train/loss", 0.25, exclude=("json", "tensorboard"))
    log.dump(10)
    printed = capsys.readouterr().out
    assert "loss" in printed and "total_timesteps" not in printed
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {
        "step": 10,
        "time/total_timesteps": 10,
    }


def test_table_groups_by_section_and_lines_up():
    table = format_table(
        {"train/loss": 0.12345, "rollout/success_rate": 1.0, "rollout/ep_len_mean": 12345.678}
    )
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    names = [line.split("|")[1].strip() for line in lines[1:-1]]
    assert names == ["rollout/", "ep_len_mean", "success_rate", "train/", "loss"]
    assert "0.123" in table and "1.235e+04" in table
    assert format_table({}) == ""


class FullDisk:
    """Stands in for open(): the disk is full while ``full`` is set."""

    def __init__(self):
        self.full = True

    def __call__(self, file, mode="r", *args, **kwargs):
        if self.full and ("w" in mode or "a" in mode):
            raise OSError(28, "No space left on device")
        return builtins.open(file, mode, *args, **kwargs)


def test_full_disk_warns_once_per_output_and_recovers(tmp_path, monkeypatch):
    disk = FullDisk()
    monkeypatch.setattr(files, "open", disk, raising=False)
    # Where TensorBoard finds out whether there is room.
    full = SimpleNamespace(fsync=lambda file: disk(file, "wb"), SEEK_END=os.SEEK_END)
    monkeypatch.setattr(files, "os", full)
    log = configure(tmp_path, "run")
    with pytest.warns(RuntimeWarning, match="training goes on") as caught:
        for step in range(3):
            log.record("a", step)
            log.dump(step)
    assert len(caught) == len(log.outputs) == 2
    assert log.latest["a"] == 2.0

    disk.full = False
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.record("a", 9)
        log.dump(9)
    log.close()
    assert [s.step for s in read_events(tmp_path / "run_1").Scalars("a")] == [9]
    assert json.loads((tmp_path / "run_1" / "progress.jsonl").read_text())["step"] == 9


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("opened_before", [0, 9, 99])
def test_write_that_fails_half_way_starts_a_new_event_file(tmp_path, monkeypatch, opened_before):
    """Readers take it for the newer one, also where TensorBoard's count comes to two digits."""
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(event_file_writer, "_global_uid", AtomicCounter(opened_before))
    log = Logger(tmp_path, [TensorBoardOutput(tmp_path)])
    log.record("a", 1)
    log.dump(1)
    records = log.outputs[0]._writer._async_writer._records
    with open("/dev/full", "wb") as broken:
        records._writer = broken
        with pytest.warns(RuntimeWarning, match="No space left"):
            log.record("a", 2)
            log.dump(2)
    log.record("a", 3)
    log.dump(3)
    log.close()
    assert len(list(tmp_path.glob("events*"))) == 2
    assert [s.step for s in read_events(tmp_path).Scalars("a")] == [1, 3]


def test_run_folders_count_up(tmp_path):
    assert next_run_folder(tmp_path, "PPO").name == "PPO_1"
    assert next_run_folder(tmp_path, "PPO").name == "PPO_2"
    (tmp_path / "PPO_10").mkdir()
    (tmp_path / "PPO_x").mkdir()
    (tmp_path / "PPO_2_99").mkdir()
    assert next_run_folder(tmp_path, "PPO").name == "PPO_11"
    assert next_run_folder(tmp_path, "PPO", reset=False).name == "PPO_11"
    assert next_run_folder(tmp_path, "P.O").name == "P.O_1"


def test_configure_continues_the_latest_run(tmp_path, capsys):
    first = configure(tmp_path, "agent", verbose=1)
    assert str(tmp_path / "agent_1") in capsys.readouterr().out
    again = configure(tmp_path, "agent", reset_num_timesteps=False)
    assert first.dir == again.dir == again.get_dir() == str(tmp_path / "agent_1")
    assert capsys.readouterr().out == ""
    assert configure().dir is None
    assert configure().outputs == []


def test_unusable_log_folder_warns_and_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="no log is written"):
        log = configure(tmp_path / "file", "run")
    log.record("a", 1)
    log.dump(1)
    assert log.latest == {"a": 1.0}


def test_half_a_line_costs_no_other(tmp_path):
    """A kill or a full disk leaves one."""
    path = tmp_path / "progress.jsonl"
    output = JSONLinesOutput(path)
    for step in (1, 2):
        output.write({"train/loss": 0.5}, step)
    path.write_bytes(path.read_bytes()[:-9])
    for step in (3, 4):
        output.write({"train/loss": 0.25}, step)
    with pytest.warns(RuntimeWarning, match=r"1 line\(s\) of .*progress.jsonl are left out"):
        assert read_progress(tmp_path, "train/loss") == ([1, 3, 4], [0.5, 0.25, 0.25])
    path.write_bytes(b'{"step": 1, "train/loss": 2.0}\n\xff\xfe\n[1]\nnull\n{"step": "x"}\n')
    with pytest.warns(RuntimeWarning, match=r"4 line\(s\)"):
        assert read_progress(tmp_path, "train/loss") == ([1], [2.0])


def test_a_deleted_folder_is_said_once_and_made_again(tmp_path):
    folder = tmp_path / "run"
    log = Logger(folder, [TensorBoardOutput(folder), JSONLinesOutput(folder / "progress.jsonl")])
    for step in range(4):
        if step in (1, 3):
            shutil.rmtree(folder)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            log.record("train/loss", float(step))
            log.dump(step)
        assert len(told) == (step == 1)
        if step == 1:
            assert "was deleted" in str(told[0].message) and "made again" in str(told[0].message)
        assert read_progress(folder, "train/loss")[0][-1] == step
        assert read_events(folder).Scalars("train/loss")[-1].step == step
    log.close()


def test_values_of_stable_baselines3_are_logged_as_its_own_logger_does(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3.common.logger")
    frames = np.zeros((1, 3, 3, 20, 30), np.uint8)
    frames[0, 1] = 255
    log = configure(tmp_path, "run")
    log.record("video", sb3.Video(frames, fps=10), exclude=("stdout", "log", "csv"))
    log.record("image", sb3.Image(np.ones((3, 8, 9)), "CHW"))
    log.record("gray", Image(np.full((8, 9), 7, np.uint8), "HW"))
    log.record("figure", sb3.Figure(small_figure(), close=True))
    log.record("hparams", sb3.HParam({"lr": 0.1, "layers": (8, 8)}, {"rollout/x": 0.0}))
    log.dump(1)
    log.close()
    events = read_events(tmp_path / "run_1")
    sizes = {key: events.Images(key)[0] for key in events.Tags()["images"]}
    assert {key: (image.width, image.height) for key, image in sizes.items()} == {
        "video": (30, 20), "image": (9, 8), "gray": (9, 8), "figure": (100, 50),
    }  # fmt: skip
    assert sizes["video"].encoded_image_string.startswith(b"GIF8")
    assert "_hparams_/session_start_info" in events.Tags()["tensors"]


@pytest.mark.parametrize(
    "value", [Image(np.zeros((2, 3)), "HWC"), Image(np.zeros((2, 3, 4)), "NHW"), Video(np.zeros(3))]
)
def test_pictures_of_other_axes_are_refused(tmp_path, value):
    log = configure(tmp_path, "run")
    log.record("picture", value)
    with pytest.raises(ValueError, match=r"axes|frames"):
        log.dump(1)
