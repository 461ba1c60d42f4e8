"""A file runs no code, does not hang, and takes no more than it holds; the reader says so."""

from __future__ import annotations

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks.reliability import files
from benchmarks.reliability.damage import packed, unpacked
from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.checkpoint.arrays import checked
from hierebm.checkpoint.format import load_checkpoint, save_checkpoint
from hierebm.checkpoint.limits import AllocationLimit
from hierebm.checkpoint.tensors import read_tensors
from hierebm.errors import CheckpointError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small file of each kind."""
    path = tmp_path_factory.mktemp("files")
    files.write_files(path)
    return path


def _altered(path: Path, tmp_path: Path, **members: Any) -> Path:
    """A copy with some members replaced, and their checksums right; functions change what was."""
    kept = unpacked(path.read_bytes())
    for name, change in members.items():
        (member,) = [m for m in kept if m.endswith(name.replace("__", "/").replace("_dot_", "."))]
        kept[member] = change(kept[member]) if callable(change) else change
    out = tmp_path / "altered.zip"
    out.write_bytes(packed(kept))
    return out


def _with_config(path: Path, tmp_path: Path, **values: Any) -> Path:
    def change(data: bytes) -> bytes:
        import json

        return json.dumps({**json.loads(data), **values}).encode()

    return _altered(path, tmp_path, config_dot_json=change)


def _saved(tensors: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


# ------------------------------------------------------------------------------- damaged


def test_a_seeded_sample_of_damaged_files_loses_nothing(tmp_path: Path) -> None:
    rows = list(files.measure(24, 3, tmp_path))
    assert [row["case"] for row in rows] == list(files.KINDS)
    assert {row["losses"] for row in rows} == {0}, rows


@pytest.mark.parametrize("missing", [1, 64, 100])
def test_a_file_of_which_the_beginning_is_missing(
    folder: Path, tmp_path: Path, missing: int
) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes((folder / "flat.zip").read_bytes()[missing:])
    with pytest.raises(CheckpointError, match=r"cannot load .*cut\.zip"):
        DDPGHERAgent.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_critics", 100),
        ("hidden_sizes", [4096, 4096]),
        ("hidden_sizes", [1] * 5000),
        ("max_distance", 10_000),
        ("fourier_features", 4096),
        ("n_critics", 1e6),
        ("n_critics", 1e300),
        ("low_level", "this"),
        ("critic", 3),
    ],
)
def test_settings_that_ask_for_other_networks_than_the_file_holds_build_none(
    folder: Path, tmp_path: Path, key: str, value: Any
) -> None:
    path = _with_config(folder / "flat.zip", tmp_path, **{key: value})
    started = time.process_time()
    with pytest.raises(CheckpointError, match=r"altered\.zip"):
        DDPGHERAgent.load(path)
    assert time.process_time() - started < 2.0


def test_other_settings_of_the_caller_may_ask_for_more(folder: Path) -> None:
    with pytest.raises(ValueError, match="another hidden_sizes") as caught:
        DDPGHERAgent.load(folder / "flat.zip", hidden_sizes=(2048, 2048))
    assert not isinstance(caught.value, CheckpointError)
    with pytest.raises(TypeError, match="no setting"):
        DDPGHERAgent.load(folder / "flat.zip", colour=3)


def test_tensors_are_made_only_while_they_are_no_larger_than_those_of_the_file() -> None:
    with AllocationLimit({"a": torch.zeros(1000, 1000)}):
        torch.nn.Linear(1000, 1000)
        torch.zeros(2, 3), torch.zeros((2, 3)), torch.full((2,), 1.0), torch.arange(9)
        for make in (
            lambda: torch.empty(10**9),
            lambda: torch.randn(10**5, 10**5),
            lambda: torch.zeros(size=(10**9,)),
            lambda: torch.full((10**9,), 1.0),
            lambda: torch.arange(10**9),
            lambda: torch.nn.Linear(10**5, 10**5),
            lambda: [torch.empty(1) for _ in range(20_000)],
        ):
            with pytest.raises(ValueError, match="far larger"):
                make()
                torch.empty(30_000_000)


def test_landmarks_that_nothing_belongs_to_are_refused(folder: Path, tmp_path: Path) -> None:
    many = io.BytesIO()
    np.save(many, np.zeros((200_000, 2), np.float32))
    path = _altered(
        folder / "graph.zip", tmp_path, transition_map__landmarks_dot_npy=many.getvalue()
    )
    with pytest.raises(CheckpointError, match="visits"):
        HierarchicalEBMAgent.load(path)


# -------------------------------------------------------------------------------- tensors


def test_tensors_come_back_as_torch_itself_reads_them() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tree = {
        "shared": [base, base.t(), base[1:, ::2]],
        "kinds": {d: torch.ones(2, dtype=getattr(torch, d)) for d in ("bfloat16", "bool", "int64")},
        "empty": torch.zeros(0, 3),
        "plain": [1, -5, 2**40, 1.5, True, None, "text", (), (1, 2, 3, 4), [], {}],
        "module": torch.nn.BatchNorm1d(3).state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    data = _saved(tree)
    ours, theirs = read_tensors(data), torch.load(io.BytesIO(data), weights_only=True)
    assert ours["plain"] == theirs["plain"]
    for key in ("shared", "kinds", "empty", "module", "parameter"):
        flat = [v if isinstance(v, (list, dict)) else [v] for v in (ours[key], theirs[key])]
        pairs = [list(v.values()) if isinstance(v, dict) else v for v in flat]
        for a, b in zip(*pairs, strict=True):
            assert a.dtype == b.dtype and torch.equal(a, b), key
    ours["shared"][0][0, 0] = 7.0
    assert ours["shared"][1][0, 0] == 7.0, "views of one storage stay so"
    assert ours["module"]._metadata == theirs["module"]._metadata


def _described(body: bytes) -> bytes:
    inner = unpacked(_saved({"a": torch.zeros(4)}))
    (name,) = [n for n in inner if n.endswith("data.pkl")]
    return packed({**inner, name: body})


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02c__builtin__\nbytearray\nJ" + struct.pack("<i", 2 * 10**9) + b"\x85R.",
        b"\x80\x02ctorch\nzeros\nJ" + struct.pack("<i", 2 * 10**9) + b"\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00ac__builtin__\neval\nsb.",
        b"\x80\x02c__builtin__\neval\nX\x04\x00\x00\x001 / 0\x85R.",
        b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x02" + b"(" * 200_000 + b"}.",
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x80\x02" + b"}" * 2_000_000 + b".",
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}.",
        b"", b".", b"\x80\x02]", b"\x80\x02h\x00.", b"\x80\x02]}s.", b"\x80\x02))R.",
    ],
)  # fmt: skip
def test_descriptions_of_anything_but_tensors_are_followed_nowhere(body: bytes) -> None:
    data = _described(body)
    tracemalloc.start()
    started = time.process_time()
    try:
        result = read_tensors(data)
    except Exception:
        result = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # A name is no more than a name.
    assert result is None or not callable(getattr(result, "a", None))
    assert peak < 50 << 20 and time.process_time() - started < 5.0


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((10**9,), (1,), 0), ((10**6, 10**6), (0, 0), 0), ((4,), (2,), 0), ((4,), (1,), 1),
     ((-1,), (1,), 0), ((2,), (-1,), 3), ((2, 2), (1,), 0), ((5,), (0,), 0)],
)  # fmt: skip
def test_a_tensor_that_is_larger_than_its_numbers_is_refused(size, stride, offset) -> None:
    class Claims:
        def __reduce__(self) -> Any:
            base = torch.zeros(4)
            return torch._utils._rebuild_tensor_v2, (
                base.storage(), offset, size, stride, False, {},
            )  # fmt: skip

    data = _saved({"a": Claims()})
    with pytest.raises(ValueError, match="a tensor of the shape"):
        read_tensors(data)


# ------------------------------------------------------------------------------- JSON, zip


@pytest.mark.parametrize(
    "data",
    [
        b'{"x": [' + b"[]," * (20 << 20) + b"[]]}",
        b'{"x": ' + b"9" * 100_000 + b"}",
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    ],
)
def test_json_that_is_none_of_ours_is_refused_before_it_is_made(
    folder: Path, tmp_path: Path, data: bytes
) -> None:
    for member in ("meta_dot_json", "config_dot_json"):
        path = _altered(folder / "flat.zip", tmp_path, **{member: data})
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="json"):
            load_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_readers_take_memory_of_their_own_are_refused(
    folder: Path, tmp_path: Path, method: int
) -> None:
    path = tmp_path / "method.zip"
    path.write_bytes(packed(unpacked((folder / "flat.zip").read_bytes()), method))
    with pytest.raises(CheckpointError, match="compressed by a method"):
        load_checkpoint(path)


def test_a_file_that_was_compressed_later_is_read(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.zip"
    path.write_bytes(packed(unpacked((folder / "graph.zip").read_bytes()), zipfile.ZIP_DEFLATED))
    HierarchicalEBMAgent.load(path)


def test_a_directory_of_a_hundred_thousand_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_000):
            archive.writestr(f"arrays/a{i}.npy", b"")
    with pytest.raises(CheckpointError, match="directory"):
        load_checkpoint(path)


# ------------------------------------------------------------------------------------ NaN


def test_nan_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with pytest.raises(ValueError, match=r"tensors\['net\.weight'\] holds NaN"):
        save_checkpoint(path, tensors={"net": {"weight": torch.tensor([1.0, torch.nan])}})
    with pytest.raises(ValueError, match=r"arrays\['x'\] holds NaN"):
        save_checkpoint(path, arrays={"x": np.array([np.nan])})
    assert not path.exists()
    save_checkpoint(path, tensors={"a": torch.tensor([torch.inf])}, arrays={"x": np.zeros(2)})
    nan = io.BytesIO()
    np.save(nan, np.full(2, np.nan))
    with pytest.raises(CheckpointError, match=r"arrays/x\.npy holds NaN"):
        load_checkpoint(_altered(path, tmp_path, x_dot_npy=nan.getvalue()))
    with pytest.raises(CheckpointError, match=r"NaN in 'a'"):
        load_checkpoint(
            _altered(path, tmp_path, tensors_dot_pt=_saved({"a": torch.tensor(torch.nan)}))
        )


def test_weights_that_are_infinite_are_refused(folder: Path, tmp_path: Path) -> None:
    def change(data: bytes) -> bytes:
        tree = torch.load(io.BytesIO(data), weights_only=True)
        next(iter(tree["low_level"]["actor"].values())).fill_(torch.inf)
        return _saved(tree)

    with pytest.raises(CheckpointError, match="actor are not finite"):
        DDPGHERAgent.load(_altered(folder / "flat.zip", tmp_path, tensors_dot_pt=change))


def test_floats_of_another_type_are_read_as_those_that_networks_take(
    folder: Path, tmp_path: Path
) -> None:
    def doubled(data: bytes) -> bytes:
        array = np.load(io.BytesIO(data))
        if array.dtype != np.float32:
            return data
        out = io.BytesIO()
        np.save(out, array.astype(np.float64))
        return out.getvalue()

    for name in ("experience.zip", "running.zip"):
        members = unpacked((folder / name).read_bytes())
        changed = {
            k: v if "replay/" in k or not k.endswith(".npy") else doubled(v)
            for k, v in members.items()
        }
        assert changed != members
        path = tmp_path / name
        path.write_bytes(packed(changed))
        actions = []
        for file in (folder / name, path):
            env = gym.make("PointMassGoal-v0")
            agent = HierarchicalEBMAgent.load(file, env, resume_episode=False)
            observation, _ = env.reset(seed=0)
            agent.learn(total_timesteps=30, reset_num_timesteps=False)
            actions.append(agent.predict(observation)[0])
        assert (actions[0] == actions[1]).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "is missing"),
        (np.zeros((3, 2)), r"\(3, 2\) float64, it should be \(n, 3\) whole numbers"),
        (np.zeros((2, 3), np.int64) - 1, "goes from -1 to -1"),
        (np.zeros(3, np.int64), r"it should be \(n, 3\)"),
    ],
)
def test_arrays_are_told_what_they_should_be(array: Any, message: str) -> None:
    arrays = {} if array is None else {"x": array}
    with pytest.raises(ValueError, match=message):
        checked(arrays, "x", (None, 3), "whole numbers", low=0)


def test_no_pickle_is_read_by_python_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    for agent_class, name in ((DDPGHERAgent, "flat.zip"), (HierarchicalEBMAgent, "sequence.zip")):
        agent_class.load(folder / name)
