"""At either end of every setting's range, agents can be built, plan and act, and come back."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierebm import DDPGHERConfig, HierarchicalEBMAgent, HierarchicalEBMConfig
from hierebm.settings import overridden
from tests.toys import SMALL

TINY: dict[str, Any] = {
    **SMALL,
    "learning_starts": 50,
    "energy_train_freq": 50,
    "energy_gradient_steps": 2,
    "sequence": {"chains": 2, "langevin_steps": 1, "lattice_states": 8},
}
OBSERVATION = {
    "observation": np.zeros(4, np.float32),
    "achieved_goal": np.zeros(2, np.float32),
    "desired_goal": np.ones(2, np.float32),
}
PLANNERS = ("graph", "sequence")
STEPS = 60


def _ranges(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, float, float]]:
    """Name, default, lowest and highest value of every setting that is a number."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from _ranges(value, f"{f.name}.")
        elif not isinstance(value, (str, bool)):
            yield (prefix + f.name, value, *f.metadata["range"])


RANGES = list(_ranges(HierarchicalEBMConfig()))
ENDS = [(name, end) for name, *_ in RANGES for end in ("low", "high")]
# What the low level alone looks at is the same under either planner, all but how far it sees.
LOW_LEVEL = {f.name for f in fields(DDPGHERConfig)} - {"max_distance"}
PLANNED = [
    (planner, name, end)
    for planner in PLANNERS
    for name, end in ENDS
    if (name not in LOW_LEVEL if planner == "sequence" else not name.startswith("sequence."))
]


def _at(name: str, end: str) -> dict[str, Any]:
    """The override that sets a setting to one end of its range."""
    default, low, high = next(row[1:] for row in RANGES if row[0] == name)
    value: Any = low if end == "low" else high
    if isinstance(default, tuple):
        value = (int(value),)
    group, _, field = name.rpartition(".")
    # Shares of one batch.
    other = {"her_future": {"her_random": 0.0}, "her_random": {"her_future": 0.0}}.get(name, {})
    return {group: {field: value}} if group else {name: value, **other}


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("agents")
    for planner in PLANNERS:
        agent = HierarchicalEBMAgent(seed=0, planner=planner, **TINY)
        agent.learn("PointMassGoal-v0", 120).save(folder / f"{planner}.zip")
    return {planner: folder / f"{planner}.zip" for planner in PLANNERS}


def _acts(agent: HierarchicalEBMAgent) -> None:
    action, state = agent.predict(OBSERVATION)
    action, _ = agent.predict(OBSERVATION, state)
    assert np.isfinite(action).all() and (np.abs(action) <= 1.0).all()
    if agent.high_level.can_plan:
        assert len(agent.plan(OBSERVATION).nodes) >= 2


def test_every_number_has_a_range_with_two_ends() -> None:
    assert len(RANGES) > 40
    for name, default, low, high in RANGES:
        assert math.isfinite(low) and math.isfinite(high) and low < high, name
        numbers = default if isinstance(default, tuple) else (default,)
        assert all(low <= number <= high for number in numbers), name


@pytest.mark.parametrize(("name", "end"), ENDS)
def test_beyond_the_end_of_a_range_is_refused_by_name(name: str, end: str) -> None:
    default, low, high = next(row[1:] for row in RANGES if row[0] == name)
    for beyond in (low - 1 if end == "low" else 1.1 * high + 1, -math.inf, math.inf):
        value: Any = (beyond,) if isinstance(default, tuple) else beyond
        if math.isfinite(beyond) and isinstance(default, int):
            value = int(beyond)
        group, _, field = name.rpartition(".")
        with pytest.raises((ValueError, TypeError, OverflowError), match=field):
            overridden(HierarchicalEBMConfig(), {group: {field: value}} if group else {name: value})


@pytest.mark.parametrize(("planner", "name", "end"), PLANNED)
def test_agents_plan_at_the_ends_of_every_range(
    files: dict[str, Path], planner: str, name: str, end: str
) -> None:
    override = _at(name, end)
    with _within(60.0):
        try:
            agent = HierarchicalEBMAgent.load(files[planner], "PointMassGoal-v0", **override)
        except ValueError as error:
            # Other networks: trained again.
            assert f"cannot be used with another {name.partition('.')[0]}" in str(error)
            agent = HierarchicalEBMAgent(seed=0, planner=planner, **TINY | override)
            agent.learn("PointMassGoal-v0", STEPS)
        _acts(agent)


@pytest.mark.parametrize("seed", range(8))
def test_agents_learn_and_plan_with_many_settings_at_their_lowest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [name for name, *_ in RANGES if name not in ("total_timesteps", "hidden_sizes")]
    chosen = names if seed == 0 else rng.choice(names, len(names) // 3, replace=False).tolist()
    overrides: dict[str, Any] = {"planner": PLANNERS[seed % 2], "buffer_size": 200}
    sequence = dict(TINY["sequence"])
    for name in chosen:
        override = _at(name, "low")
        sequence |= override.pop("sequence", {})
        overrides |= override
    overrides["buffer_size"] = 200
    with _within(60.0):
        agent = HierarchicalEBMAgent(seed=0, **TINY | overrides | {"sequence": sequence})
        _acts(agent.learn("PointMassGoal-v0", 2 * STEPS))
