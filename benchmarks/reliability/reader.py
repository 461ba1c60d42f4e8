"""Reads files that may be hostile, each in a process of its own with limits on time and memory.

Run as a program, this file answers each line ``["kind", "path", bytes]`` of its input with a line
of JSON: what became of it, how long it took, and by how much memory grew. The process is forked
once everything is imported, so that a trial takes some hundredths of a second and whatever a file
does to its reader, the next one is not touched by it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

# A file that takes longer counts as one that hangs, and is stopped.
STOPPED_AFTER_S = 20
# Above this, beyond what the reader takes itself, memory is not given: the machine stays alive.
MOST_BYTES = 3 << 30
# A file may ask for a rate at which learning diverges, which is said then.
RATES = {"actor_lr": 1e-3, "critic_lr": 1e-3, "energy_lr": 1e-3}
# Steps after loading, with a few updates and plans.
GOES_ON = 30

SAME, OTHER, REFUSED = "loaded, the same", "loaded, other content", "refused"
HUNG, DIED, SILENT = "hung", "process died", "not named in the error"
"""Outcomes; another error than what is documented is told by its name."""


class Reader:
    """A process that reads files; use it in a ``with`` block.

    Args:
        folder: with the agents' own files, which parts of agents are taken from.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Reader:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.reliability.reader", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self

    def read(self, kind: str, path: Path) -> tuple[str, float, float]:
        """What became of a file of a kind; seconds of a processor; MB by which memory grew."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the reader itself broke off; its error is above")
        outcome, seconds, megabytes = json.loads(answer)
        return str(outcome), float(seconds), float(megabytes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Without input it ends by itself.
        self._process.communicate()


def _answer(folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    readers = _readers(folder)
    base = _trial(lambda: "")[2]
    for line in sys.stdin:
        kind, path = json.loads(line)
        outcome, seconds, megabytes = _trial(partial(_outcome, readers[kind], path))
        print(json.dumps([outcome, seconds, max(0.0, megabytes - base)]), flush=True)


def _trial(work: Callable[[], str]) -> tuple[str, float, float]:
    """Outcome of work in a process of its own, its processor's seconds, and MB at its peak."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        # Whatever happens here must not go on as the parent.
        try:
            os.close(read_end)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(STOPPED_AFTER_S)
            os.write(write_end, work().encode())
            os._exit(0)
        except BaseException as error:
            os.write(write_end, f"{type(error).__name__} beside the reading".encode())
            os._exit(1)
    os.close(write_end)
    _, status, used_by = os.wait4(child, 0)
    # Of the processor: what the neighbours of this process take is not the file's fault.
    seconds = used_by.ru_utime + used_by.ru_stime
    outcome = os.read(read_end, 1000).decode(errors="replace")
    os.close(read_end)
    if os.WIFSIGNALED(status):
        outcome = HUNG if os.WTERMSIG(status) == signal.SIGALRM else DIED
    return outcome, seconds, used_by.ru_maxrss / 1024


def _outcome(read: Callable[[str], bool], path: str) -> str:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        return SAME if read(path) else OTHER
    # CheckpointError and DatasetError are ValueErrors.
    except ValueError as error:
        return REFUSED if Path(path).name in str(error) else SILENT
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


def _readers(folder: Path) -> dict[str, Callable[[str], bool]]:
    """Kind -> reads a file, uses what it holds, and says whether it is what was written."""
    import gymnasium as gym
    import numpy as np

    import hierebm
    from benchmarks.reliability.files import HIGH, SMALL
    from benchmarks.reliability.workers import WORLD
    from hierebm.cli.checkpoints import load_agent
    from hierebm.data import load_ogbench

    observation = {
        "observation": np.zeros(4, np.float32),
        "achieved_goal": np.zeros(2, np.float32),
        "desired_goal": np.ones(2, np.float32),
    }

    def acts(agent: Any) -> Any:
        action, _ = agent.predict(observation)
        assert np.isfinite(action).all(), "an action that is not finite"
        return action.tolist()

    def of_agent(agent_class: Any, name: str) -> Callable[[str], bool]:
        wanted = acts(agent_class.load(folder / name))
        return lambda path: acts(agent_class.load(path)) == wanted

    def on_the_command_line(path: str) -> bool:
        agent, env_id, kwargs = load_agent(Path(path), None, {})
        acts(agent)
        return bool(env_id == "PointMassGoal-v0" and not kwargs)

    def that_goes_on(name: str, resume: bool) -> Callable[[str], bool]:
        agent_class, settings = hierebm.HierarchicalEBMAgent, {**SMALL, **HIGH, **RATES}
        wanted, env = acts(agent_class.load(folder / name)), gym.make(WORLD)
        env.reset(seed=0)

        def read(path: str) -> bool:
            # With settings of our own: learning takes what its settings ask for.
            agent = agent_class.load(path, env, resume_episode=resume, **settings)
            same = acts(agent) == wanted
            agent.learn(total_timesteps=GOES_ON, reset_num_timesteps=False)
            acts(agent)
            return bool(same)

        return read

    owner = hierebm.DDPGHERAgent.load(folder / "flat.zip")
    owner.load_replay_buffer(folder / "replay.zip")
    stored = owner.replay_buffer._packed.copy()

    def of_replay(path: str) -> bool:
        owner.load_replay_buffer(path)
        owner.replay_buffer.sample_rows(32, np.random.default_rng(0))
        return bool(np.array_equal(owner.replay_buffer._packed, stored))

    rows = load_ogbench(folder / "data.npz").observation.copy()

    return {
        "flat": of_agent(hierebm.DDPGHERAgent, "flat.zip"),
        "graph": of_agent(hierebm.HierarchicalEBMAgent, "graph.zip"),
        "sequence": of_agent(hierebm.HierarchicalEBMAgent, "sequence.zip"),
        "command": on_the_command_line,
        "experience": that_goes_on("experience.zip", False),
        "running": that_goes_on("experience.zip", True),
        "running sequence": that_goes_on("running.zip", True),
        "replay": of_replay,
        "data": lambda path: np.array_equal(load_ogbench(path).observation, rows),
    }


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
