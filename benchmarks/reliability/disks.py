"""Full disks and lost ones: what was learned is somewhere, and the message says where."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import (
    WORLD,
    agents,
    checkpoints,
    command,
    room,
    size_of,
    started,
    train_command,
    wait_for,
)

FULL, QUICK = 20, 5


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """Five cases, n trials in all."""
    cases: dict[str, Callable[[Path], str]] = {
        "full at a checkpoint": _full_at_a_checkpoint,
        "full for the logs": _full_for_the_logs,
        "full at the start": _full_at_the_start,
        "room for the agent alone": _room_for_the_agent_alone,
        "lost at the final save": _lost_at_the_final_save,
    }
    for case, (name, trial) in enumerate(cases.items()):
        outcomes: Counter[str] = Counter()
        for i in range(case, n, len(cases)):
            path = folder / f"{case}_{i}"
            path.mkdir()
            own = trial is _lost_at_the_final_save
            outcomes[trial(path) if own else _in_process(trial, path)] += 1
        yield row("disks", name, outcomes, outcomes.total() - outcomes["nothing lost"])


def _in_process(trial: Callable[[Path], str], path: Path) -> str:
    """Limits of files are those of a process: each trial has one of its own."""
    process = started(_answer, trial, path)
    process.join(120.0)
    answer = path / "answer.json"
    return str(json.loads(answer.read_text())) if answer.exists() else "no answer"


def _answer(trial: Callable[[Path], str], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = trial(path)
    (path / "answer.json").write_text(json.dumps(outcome))


def _full_at_a_checkpoint(folder: Path) -> str:
    """A checkpoint that does not fit costs itself: the one before stays, learning goes on."""
    from hierebm.callbacks import CheckpointCallback

    agent = agents()["flat"](seed=0, env=WORLD)
    callback = CheckpointCallback(100, folder, "run", save_replay_buffer=True, keep=1)
    agent.learn(total_timesteps=100, callback=callback)
    with room(size_of(agent, replay_buffer=True) // 2):
        agent.learn(total_timesteps=200, callback=callback, reset_num_timesteps=False)
    kept = [type(agent).load(path).num_timesteps for path in checkpoints(folder)]
    agent.learn(total_timesteps=100, callback=callback, reset_num_timesteps=False)
    later = [type(agent).load(path).num_timesteps for path in checkpoints(folder)]
    return "nothing lost" if (kept, later) == ([100], [400]) else f"kept {kept}, {later}"


def _full_for_the_logs(folder: Path) -> str:
    """Learning goes on; the curve is there but for what was logged meanwhile."""
    from hierebm.plotting.plots import read_progress

    agent = agents()["flat"](seed=0, env=WORLD, tensorboard_log=folder)
    key = "time/total_timesteps"
    agent.learn(total_timesteps=300, log_interval=1)
    (log,) = folder.glob("*/progress.jsonl")
    before = read_progress(log.parent, key)[0]
    with room(log.stat().st_size + 10):
        agent.learn(total_timesteps=300, log_interval=1, reset_num_timesteps=False)
    agent.learn(total_timesteps=100, log_interval=1, reset_num_timesteps=False)
    steps = read_progress(log.parent, key)[0]
    good = before and steps[: len(before)] == before and steps[-1] == agent.num_timesteps == 700
    return "nothing lost" if good else f"{before} became {steps}"


def _full_at_the_start(folder: Path) -> str:
    """It is said before anything is learned."""
    from hierebm.cli.parser import main

    with room(1000):
        status = main(train_command(folder / "agent.zip", total=300))
    return (
        "nothing lost" if status == 1 and not list(folder.glob("*.zip")) else "begun all the same"
    )


def _room_for_the_agent_alone(folder: Path) -> str:
    """Without its experience the agent still fits."""
    from hierebm.cli.training import save_anywhere

    agent = agents()["flat"](seed=0, env=WORLD).learn(total_timesteps=2000)
    small, large = (size_of(agent, replay_buffer=r) for r in (False, True))
    with room((small + large) // 2):
        said = _said(save_anywhere, agent, folder / "agent.zip")
    loaded = type(agent).load(folder / "agent.zip")
    good = "without its experience" in said and loaded.num_timesteps == 2000
    return "nothing lost" if good else said


def _lost_at_the_final_save(folder: Path) -> str:
    """The folder of OUT is gone, and cannot be made again."""
    out, log = folder / "out" / "agent.zip", folder / "log.txt"
    process = started(command, train_command(out, "--checkpoint-freq", "100", total=4000), log)
    if not wait_for(lambda: checkpoints(out.parent, "agent"), process):
        return "did not begin"
    shutil.rmtree(out.parent)
    try:
        out.parent.write_text("no folder")
    except OSError:
        # It was made again in between, for a checkpoint.
        shutil.rmtree(out.parent)
        out.parent.write_text("no folder")
    process.join(120.0)
    words = log.read_text().split()
    saved = [Path(word) for word in words if "agent_4000_steps_" in word and Path(word).is_file()]
    if process.exitcode != 1 or not saved:
        return "lost"
    from hierebm import DDPGHERAgent

    agent = DDPGHERAgent.load(saved[0])
    saved[0].unlink()
    return "nothing lost" if agent.num_timesteps == 4000 and agent.replay else "lost in part"


def _said(call: Callable[..., Any], *args: Any) -> str:
    try:
        call(*args)
    except OSError as error:
        return str(error)
    return "nothing was said"
