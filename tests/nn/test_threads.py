"""The thread policy: sane by default, silent when nothing changes, never against the user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from hierebm.nn.threads import apply_thread_policy, prefer_passive_waiting, recommended_threads


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_small_networks_get_one_thread_and_wide_ones_share() -> None:
    assert recommended_threads(256, 256, cores=64) == 1
    assert recommended_threads(1024, 1024, cores=2) == 1
    assert recommended_threads(1024, 1024, cores=6) == 3
    assert recommended_threads(1024, 1024, cores=64) == 4
    assert recommended_threads(1024, 1024) >= 1


def test_the_policy_is_applied_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    said: list[str] = []
    assert apply_thread_policy(log=said.append) == torch.get_num_threads() == 1
    assert len(said) == 1
    assert "1 thread instead of 2" in said[0]
    assert apply_thread_policy(log=said.append) == 1
    assert len(said) == 1


def test_the_environment_beats_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    said: list[str] = []
    assert apply_thread_policy(log=said.append) == torch.get_num_threads() == 2
    assert not said


def test_a_request_beats_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    assert apply_thread_policy(requested=2) == torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="at least 1"):
        apply_thread_policy(requested=0)


def test_waiting_is_decided_before_torch_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert not prefer_passive_waiting()  # torch is here already: too late, and not pretended
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert prefer_passive_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_fresh_process_gets_it_without_importing_torch() -> None:
    code = (
        "import os, sys\n"
        "from hierebm.nn.threads import prefer_passive_waiting\n"
        "print(prefer_passive_waiting(), os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True", "PASSIVE", "False"]
