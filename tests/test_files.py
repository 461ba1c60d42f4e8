"""A file is there whole, or as it was before."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from benchmarks.reliability.workers import room
from hierebm.files import Claim, atomic_write, check_writable, remove_stale


def test_atomic_write_replaces_only_at_the_end(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    reference = tmp_path / "plain"
    reference.write_bytes(b"")
    assert path.stat().st_mode == reference.stat().st_mode


def test_whether_there_is_room_is_found_out_by_writing(tmp_path):
    check_writable(tmp_path / "new" / "agent.zip")
    assert not list((tmp_path / "new").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            check_writable(tmp_path / "agent.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_name_is_claimed_by_one_and_free_again_afterwards(tmp_path):
    first, second = (Claim(tmp_path / "runs", "agent", ".zip") for _ in range(2))
    other = Claim(tmp_path / "runs", "agent", "_steps")
    assert [claim.name for claim in (first, second, other)] == ["agent", "agent-2", "agent"]
    first.release()
    first.release()
    third = Claim(tmp_path / "runs", "agent", ".zip")
    assert third.name == "agent"
    for claim in (second, third, other):
        claim.release()
    assert not list((tmp_path / "runs").iterdir())


def test_the_lock_of_a_process_that_is_gone_holds_nothing(tmp_path):
    (tmp_path / ".agent.zip.lock").write_text("")
    assert Claim(tmp_path, "agent", ".zip").name == "agent"


def test_only_temporary_files_of_that_name_are_removed(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.zip"):
        (left,) = tmp_path.iterdir()
        copy = left.read_bytes()
        raise RuntimeError
    left.write_bytes(copy)
    others = [".a.zip.lock", ".aa.zip.x.tmp", "a.zip", "a.zip.x.tmp"]
    for name in others:
        (tmp_path / name).write_text("")
    assert remove_stale(tmp_path, r"a\.zip") == [left]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)
    assert remove_stale(tmp_path / "nowhere", "a") == []


def test_where_nothing_can_be_written_the_file_is_named(tmp_path: Path) -> None:
    with room(1000), pytest.raises(OSError, match=r"too large: '.*agent\.zip'"):
        check_writable(tmp_path / "agent.zip")
    assert not list(tmp_path.iterdir())
