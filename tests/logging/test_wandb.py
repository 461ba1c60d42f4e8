"""W&B sees runs by `sync_tensorboard=True`: it hooks into TensorBoard's writer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hierebm.logging import configure

wandb = pytest.importorskip("wandb")


@pytest.fixture
def watched(monkeypatch):
    """Folders that W&B was told to watch."""
    folders: list[str] = []
    run = SimpleNamespace(_tensorboard_callback=lambda folder, **options: folders.append(folder))
    monkeypatch.setattr(wandb, "run", run)
    # What `wandb.init(sync_tensorboard=True)` does.
    wandb.tensorboard.patch()
    yield folders
    wandb.tensorboard.unpatch()


def test_wandb_is_told_of_the_run(tmp_path, watched):
    for _ in range(2):
        log = configure(tmp_path, "agent")
        assert log.dir not in watched
        log.record("rollout/success_rate", 0.5)
        log.dump(1)
        log.close()
        assert log.dir in watched
