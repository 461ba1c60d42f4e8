"""Ctrl-C on any line of the package, while an agent learns or predicts: can it go on?

A tracer raises KeyboardInterrupt on one line of the code. Lines are drawn from all those that a run
comes over, so that those that are passed once are hit as often as those of every step; which of
its passes is drawn, too.
"""

from __future__ import annotations

import io
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import WORLD, agents
from hierebm.data import OfflineDataset

FULL, QUICK = 240, 48
STEPS = 260
Line = tuple[str, int]


class Interrupt:
    """Counts the lines of the package that are passed, and raises at one of them.

    Args:
        line: None only counts.
        passes: at which of its passes.
    """

    def __init__(self, line: Line | None = None, passes: int = 0) -> None:
        import hierebm.agents
        import hierebm.envs

        self._line, self._left = line, passes
        modules = (hierebm, hierebm.agents, hierebm.envs)
        self._folders = tuple(str(Path(str(module.__file__)).parent) for module in modules)
        self.seen: Counter[Line] = Counter()
        self.has_struck = False

    def __enter__(self) -> Interrupt:
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.startswith(self._folders):
            return self._on_line
        return None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "line":
            return self._on_line
        line = frame.f_code.co_filename, frame.f_lineno
        if self._line is None:
            self.seen[line] += 1
        elif line == self._line:
            self._left -= 1
            if not self._left:
                self.has_struck = True
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._on_line


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """n interrupts over all kinds of agents, and of learning from data."""
    cases: dict[str, tuple[str, Callable[[Any], None]]] = {
        **{kind: (kind, _learn) for kind in agents()},
        "from data": ("graph", _learn_offline),
    }
    rng = random.Random(seed)
    for case, (name, (kind, learn)) in enumerate(cases.items()):
        with Interrupt() as counting:
            learn(agents()[kind](seed=0))
        lines = sorted(counting.seen)
        outcomes: Counter[str] = Counter()
        where: list[str] = []
        for _ in range(case, n, len(cases)):
            line = rng.choice(lines)
            passes = rng.choice([1, rng.randint(1, counting.seen[line])])
            outcome = _trial(kind, learn, line, passes)
            outcomes[outcome] += 1
            if outcome != "usable":
                where.append(f"{line[0]}:{line[1]}")
        lost = outcomes.total() - outcomes["usable"]
        yield row("interrupts", name, outcomes, lost, **({"where": where} if where else {}))


def _learn(agent: Any) -> None:
    agent.learn(WORLD, STEPS)
    _predict(agent)


def _predict(agent: Any) -> None:
    # In an environment of its own: the agent's is in the middle of an episode.
    agent.predict(gym.make(WORLD).reset(seed=1)[0])


def _learn_offline(agent: Any) -> None:
    agent.learn_offline(_data(), 60, success_tolerance=0.3, behavior_weight=0.0)


def _data() -> OfflineDataset:
    """400 states of a walk on the plane in episodes of 50."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-1.0, 1.0, (400, 2)).astype(np.float32)
    position = np.cumsum(0.1 * action, 0, dtype=np.float32) - 0.1 * action
    ends = np.arange(400) % 50 == 49
    return OfflineDataset.from_arrays(position, action, ends, goal=[0, 1])


def _trial(kind: str, learn: Callable[[Any], None], line: Line, passes: int) -> str:
    """What became of an agent that was interrupted there."""
    agent = agents()[kind](seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Interrupt(line, passes) as interrupt:
                learn(agent)
        except KeyboardInterrupt:
            pass
        if not interrupt.has_struck:
            return "usable"
        try:
            if learn is _learn:
                agent.learn(None if agent.env else WORLD, 120, reset_num_timesteps=False)
                _predict(agent)
            else:
                learn(agent)
            return _damage(agent, learn) or "usable"
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:100]


def _damage(agent: Any, learn: Callable[[Any], None]) -> str | None:
    """What is wrong with its experience or its file."""
    replay = agent.replay_buffer
    replay.flush()
    if replay.n_transitions != replay.n_added:
        return "a step was stored twice, or not at all"
    if learn is _learn_offline and replay.n_added != _stored(agent):
        return "the data was stored twice"
    rows = np.flatnonzero(replay.has_action)
    moved = replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows]
    # The largest move in an environment step is 0.2.
    if len(rows) and np.abs(moved).max() > 0.2 * agent.action_repeat + 1e-3:
        return "two episodes were joined"
    stream = io.BytesIO()
    agent.save(stream, replay_buffer=True)
    stream.seek(0)
    loaded = type(agent).load(stream)
    if loaded.num_timesteps != agent.num_timesteps or loaded.replay.n_added != replay.n_added:
        return "its file is another agent"
    return None


def _stored(agent: Any) -> int:
    steps = _data().every(agent.action_repeat)
    return int(np.count_nonzero(~steps.episode_end))
