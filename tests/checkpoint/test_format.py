"""A checkpoint comes back as it was written; anything else is one clear error, and runs no code."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hierebm.checkpoint import format as serialization
from hierebm.checkpoint.format import load_checkpoint, read_meta, save_checkpoint
from hierebm.errors import CheckpointError
from hierebm.files import checkpoint_path

CONFIG = {"layout": "open", "lr": 1e-3, "hidden": [256, 256], "none": None}


def content():
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    tensors = {
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    arrays = {
        "replay/observation": np.arange(12, dtype=np.float32).reshape(3, 4),
        "replay/done": np.array([True, False]),
        "scalar": np.array(7),
        "empty": np.zeros((0, 3)),
    }
    return CONFIG, tensors, arrays, {"agent": "Test", "num_timesteps": 12}


@pytest.fixture
def saved(tmp_path) -> Path:
    return save_checkpoint(tmp_path / "model", *content())


def rewrite(path: Path, **members: bytes | None) -> Path:
    """Copy a checkpoint with some members replaced, added or (None) removed."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    for name, data in members.items():
        kept.pop(name, None)
        if data is not None:
            kept[name] = data
    out = path.with_name("rewritten.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
    return out


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def test_everything_comes_back(tmp_path):
    config, tensors, arrays, meta = content()
    path = save_checkpoint(tmp_path / "model", config, tensors, arrays, meta)
    assert path == tmp_path / "model.zip"
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == config
    assert equal(tensors, loaded.tensors)
    assert set(loaded.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array, strict=True)
    assert meta.items() <= loaded.meta.items()
    assert read_meta(path) == loaded.meta
    torch.optim.Adam(torch.nn.Linear(3, 2).parameters()).load_state_dict(
        loaded.tensors["optimiser"]
    )


def test_streams_and_equal_bytes(tmp_path):
    torch.manual_seed(0)
    parts = content()
    first, second = io.BytesIO(), io.BytesIO()
    assert save_checkpoint(first, *parts) is None
    save_checkpoint(second, *parts)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    assert load_checkpoint(first).config == CONFIG


def test_paths(tmp_path):
    assert checkpoint_path(tmp_path / "a").name == "a.zip"
    assert checkpoint_path(tmp_path / "a.ckpt").name == "a.ckpt"
    save_checkpoint(tmp_path / "deep" / "er" / "a")
    assert load_checkpoint(tmp_path / "deep" / "er" / "a").config == {}
    (tmp_path / "model_0.5.zip").write_bytes((tmp_path / "deep/er/a.zip").read_bytes())
    assert load_checkpoint(tmp_path / "model_0.5").tensors == {}
    with pytest.raises(FileNotFoundError, match=r"missing"):
        load_checkpoint(tmp_path / "missing")


def test_every_truncation_and_flipped_byte_is_a_checkpoint_error_or_the_same(saved):
    """Damage anywhere: either the one error, or a byte that does not matter."""
    data = saved.read_bytes()
    reference = load_checkpoint(saved)
    damaged = saved.with_name("damaged.zip")
    rng = np.random.default_rng(0)
    cuts = [data[: int(n)] for n in rng.integers(0, len(data), 40)]
    flips = []
    for position in rng.integers(0, len(data), 300):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        flips.append(bytes(flipped))
    refused = 0
    for candidate in cuts + flips:
        damaged.write_bytes(candidate)
        try:
            loaded = load_checkpoint(damaged)
        except CheckpointError as error:
            assert "damaged.zip" in str(error)
            refused += 1
        else:
            assert candidate not in cuts
            assert loaded.config == reference.config
            assert equal(loaded.tensors, reference.tensors)
    assert refused > 200


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", pickle.dumps({"a": 1})])
def test_foreign_files(tmp_path, data):
    path = tmp_path / "file.zip"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"file\.zip.*not a checkpoint"):
        load_checkpoint(path)


def test_foreign_zip_says_so(tmp_path):
    path = tmp_path / "sb3.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", b"x")
    with pytest.raises(CheckpointError, match="other libraries"):
        load_checkpoint(path)


class Exploit:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", ["zip", "legacy", "pickle"])
def test_code_in_tensors_is_not_run(saved, tmp_path, protocol):
    target = tmp_path / "pwned"
    buffer = io.BytesIO()
    if protocol == "pickle":
        pickle.dump(Exploit(target), buffer)
    else:
        torch.save({"a": Exploit(target)}, buffer, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(CheckpointError, match=r"tensors\.pt"):
        load_checkpoint(rewrite(saved, **{"tensors.pt": buffer.getvalue()}))
    assert not target.exists()


def test_code_in_arrays_is_not_run(saved, tmp_path):
    target = tmp_path / "pwned"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Exploit(target)], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"arrays/x\.npy"):
        load_checkpoint(rewrite(saved, **{"arrays/x.npy": buffer.getvalue()}))
    assert not target.exists()


def test_array_header_that_asks_for_the_whole_memory(saved):
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    with pytest.raises(CheckpointError, match="header does not fit"):
        load_checkpoint(rewrite(saved, **{"arrays/x.npy": buffer.getvalue() + b"\0" * 80}))


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "arrays/../../evil.npy", "C:\\evil", "arrays/é.npy"]
)
def test_path_traversal_is_refused_and_writes_nothing(saved, tmp_path, name):
    before = set(tmp_path.rglob("*"))
    path = rewrite(saved, **{name: b"evil"})
    with pytest.raises(CheckpointError, match="unexpected member"):
        load_checkpoint(path)
    assert set(tmp_path.rglob("*")) == before | {path}


@pytest.mark.parametrize("member", ["config.json", "arrays/x.npy"])
def test_zip_bomb(saved, member):
    path = rewrite(saved, **{member: b" " * (80 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match="zip bomb"):
        load_checkpoint(path)


def test_zip_bomb_inside_the_tensors(saved):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (80 << 20))
    with pytest.raises(CheckpointError, match="zip bomb"):
        load_checkpoint(rewrite(saved, **{"tensors.pt": inner.getvalue()}))


def test_duplicate_member(saved):
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    with pytest.raises(CheckpointError, match="twice"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"format": "hierebm-checkpoint", "format_version": 99, "hierebm_version": "9.1"}, "9.1"),
        ({"format": "hierebm-checkpoint", "format_version": "x"}, "format_version"),
        ({"format": "other"}, "not a checkpoint"),
        ([1], "damaged"),
    ],
)
def test_meta_of_other_versions(saved, meta, message):
    path = rewrite(saved, **{"meta.json": json.dumps(meta).encode()})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=message):
        read_meta(path)


@pytest.mark.parametrize("agent", ["HierarchicalEBMAgent", "replay buffer"])
@pytest.mark.parametrize(
    "rest", [{"config.json": b"{}"}, {"config.json": b"{"}, {"tensors.pt": b"?"}, {"other": b"?"}]
)
def test_a_file_of_the_first_format_is_refused_in_one_sentence(tmp_path, agent, rest):
    """Before anything else in it is looked at."""
    meta = {"agent": agent, "format": "hierebm-checkpoint", "format_version": 1}
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps({**meta, "hierebm_version": "0.1.0"}))
        for name, data in rest.items():
            archive.writestr(name, data)
    for read in (load_checkpoint, read_meta):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert str(caught.value) == (
            f"cannot load {str(path)!r}: it was written by hierebm 0.1.0 in format 1, this version "
            "reads format 2: load it with hierebm 0.1 or train again"
        )


def test_zip_bomb_where_the_version_should_be(saved):
    path = rewrite(saved, **{"meta.json": b" " * (80 << 20)})
    with pytest.raises(CheckpointError, match="zip bomb"):
        read_meta(path)


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_config(saved, data):
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_checkpoint(rewrite(saved, **{"config.json": data}))


def test_what_cannot_be_stored_is_named_before_anything_is_written(tmp_path):
    path = tmp_path / "a.zip"
    with pytest.raises(TypeError, match="config"):
        save_checkpoint(path, {"a": object()})
    with pytest.raises(ValueError, match="config"):
        save_checkpoint(path, {"a": float("nan")})
    with pytest.raises(TypeError, match="tensors"):
        save_checkpoint(path, tensors={"a": Path("x")})
    with pytest.raises(TypeError, match="arrays"):
        save_checkpoint(path, arrays={"a": np.array([None])})
    with pytest.raises(ValueError, match="arrays"):
        save_checkpoint(path, arrays={"../a": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(serialization.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(saved, {"new": 1})
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
