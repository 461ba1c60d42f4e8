"""Rows of two runs side by side on two cores: how much each loses against running alone.

The clock on the wall, unlike the other rows: what is lost is waiting. Run as a program, this file
is one of the runs: it trains whenever a line with a number of seconds comes in, and answers with
its steps per second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

OURS, DEFAULT = "our thread policy", "torch's default threads"


def rows(quick: bool) -> Iterator[Any]:
    """Yield a row for our thread policy and one for what torch does by itself."""
    from benchmarks.speed.measure import limit, row
    from hierebm.nn.threads import available_cores

    if available_cores() < 2:
        print("one core only: no rows of two runs side by side")
        return
    for policy in (OURS, DEFAULT):
        kept = _kept_speed(policy, rounds=3 if quick else 6, seconds=2.0 if quick else 5.0)
        kept.sort()
        middle = kept[len(kept) // 2]
        values = {"against": "alone", "ratio": middle, "ratio_min": kept[0], "ratio_max": kept[-1]}
        what, loss = f"two runs side by side, {policy}", 100.0 * (1.0 - middle)
        if policy == OURS:
            yield limit(what, loss, 20.0, "% lost by each", **values)
        else:
            yield row(what, ours=loss, unit="% lost by each", **values)


def _kept_speed(policy: str, rounds: int, seconds: float) -> list[float]:
    """Speed side by side over speed alone, of both runs in every round."""
    kept = []
    with ExitStack() as stack:
        pair = [stack.enter_context(_Worker(policy)) for _ in range(2)]
        for worker in pair:
            worker.answer()
        for _ in range(rounds):
            alone = []
            for worker in pair:
                worker.ask(seconds)
                alone.append(worker.answer())
            for worker in pair:
                worker.ask(seconds)
            kept += [worker.answer() / speed for worker, speed in zip(pair, alone, strict=True)]
    return kept


class _Worker:
    def __init__(self, policy: str) -> None:
        # Whatever is set here must not decide there.
        chosen = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.processes", policy],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if key not in chosen},
        )

    def ask(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> float:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a run of the benchmark's own broke off; its error is above")
        return float(answer)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        # Without input it ends by itself.
        self._process.communicate()


def _work(policy: str) -> None:
    if policy == DEFAULT:
        # Torch reads the wait policy when it is loaded: this way it sees none.
        import torch

    import gymnasium as gym

    import hierebm

    agent = hierebm.DDPGHERAgent(seed=0, hidden_sizes=(256, 256))
    agent.learn(gym.make("PointMassGoal-v0"), 1100)
    if policy == DEFAULT:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(0.0, flush=True)
    for line in sys.stdin:
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < float(line):
            agent.learn(total_timesteps=5, reset_num_timesteps=False)
            steps += 5
        print(steps / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    _work(sys.argv[1])
