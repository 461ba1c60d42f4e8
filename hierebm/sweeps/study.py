"""What a sweep tries: a study, from Python, or from a YAML or JSON file."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hierebm.cli.checkpoints import agent_class_of
from hierebm.cli.config_file import read_file, values_of
from hierebm.cli.names import AGENTS
from hierebm.cli.values import nested, parse_seeds
from hierebm.goal_env.make import make_env
from hierebm.settings import Config, overridden, setting

DRAWN = "search-"
"""What the names of variants that Optuna drew begin with."""


@dataclass(frozen=True)
class World:
    """An environment of a study.

    Attributes:
        id: of the environment, with ``MODULE:`` in front where one has to be imported.
        args: its arguments.
        eval_args: further ones, or others, where the agent is evaluated.
        name: in the table and in the names of folders; default: the id and the arguments.
        total_timesteps: env steps of a trial; default: the study's.
    """

    id: str
    args: dict[str, Any] = field(default_factory=dict)
    eval_args: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    total_timesteps: int = 0


@dataclass(frozen=True)
class Variant:
    """An agent with settings of its own, as it is trained in every environment with every seed.

    Attributes:
        name: in the table and in the names of folders.
        agent: its name on the command line.
        settings: overrides of its config.
    """

    name: str
    agent: str
    settings: dict[str, Any]


def _meaning(text: str) -> dict[str, Any]:
    """Of a field that is checked by the study itself."""
    return {"meaning": text, "range": (-math.inf, math.inf), "choices": ()}


@dataclass
class Study(Config):
    """Study: what is trained, in what, how long, and how it is measured."""

    envs: list[Any] = field(
        metadata=_meaning(
            "environments: ids, or mappings with id, args, eval_args, name and total_timesteps"
        )
    )
    seeds: Any = field(
        default_factory=lambda: [0],
        metadata=_meaning(
            "a list, or text such as 0-4: every variant is trained with each of them"
        ),
    )
    agent: str = setting("hierarchical", "who learns", choices=tuple(AGENTS))
    settings: dict[str, Any] = field(
        default_factory=dict, metadata=_meaning("settings of every variant")
    )
    total_timesteps: int = setting(20_000, "env steps of a trial", low=1)
    n_envs: int = setting(1, "environments that a trial steps together", low=1)
    device: str = setting("cpu", "of the networks")
    compare: dict[str, Any] = field(
        default_factory=dict,
        metadata=_meaning(
            "name -> settings that are tried as they are, with agent: for another agent; without "
            "search, one variant named default"
        ),
    )
    search: dict[str, Any] = field(
        default_factory=dict,
        metadata=_meaning(
            "setting -> where Optuna looks: {low, high}, with log or step, or {choices: [...]}"
        ),
    )
    candidates: int = setting(20, "how many variants Optuna draws", low=1)
    search_seed: int = setting(0, "of Optuna's sampler (TPE)", low=0)
    prune: bool = setting(
        True,
        "ends what Optuna drew where its success so far is below the median of the others at the "
        "same step, in the same environments, with the same seeds",
    )
    prune_after: int = setting(5, "variants that Optuna drew and that ended, before any is pruned",
                               low=1)  # fmt: skip
    evaluations: int = setting(10, "points of the learning curve", low=1)
    eval_episodes: int = setting(20, "episodes of each, always with the same tasks", low=1)
    episodes: int = setting(100, "episodes of the evaluation at the end", low=1)
    threshold: float = setting(
        0.9, "success whose env steps and seconds are told", low=0.0, high=1.0
    )
    cpus: float = setting(1.0, "processor cores of a trial", low=0.01)
    gpus: float = setting(0.0, "GPUs of a trial, a share of one too", low=0.0)

    def __post_init__(self) -> None:
        """Check every field; names are filled in.

        Raises:
            TypeError, ValueError: a field that is wrong; names it.
        """
        super().__post_init__()
        for name in ("settings", "compare", "search"):
            if not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name} must be a mapping, got {getattr(self, name)!r:.100}")
        if not isinstance(self.envs, (list, tuple)) or not self.envs:
            raise ValueError("envs must name one environment or more, such as [PointMassGoal-v0]")
        self.envs = [_world(entry, self.total_timesteps) for entry in self.envs]
        self.seeds = _seeds(self.seeds)
        for world in self.envs:
            if world.total_timesteps % (self.evaluations * self.n_envs):
                raise ValueError(
                    f"total_timesteps of {world.name}, {world.total_timesteps}, must be a multiple "
                    f"of evaluations x n_envs = {self.evaluations * self.n_envs}"
                )
        _check_different("envs", [world.name for world in self.envs])
        _check_different("compare", [variant.name for variant in self.variants])
        for name, where in self.search.items():
            _check_range(name, where)

    @classmethod
    def of(cls, given: Any, may_import: Sequence[str] = ()) -> Study:
        """A study from a study, a mapping, or a file.

        Args:
            given: one of these.
            may_import: modules that a file may name, as ``MODULE:ENV_ID``.

        Raises:
            OSError: it cannot be read.
            TypeError, ValueError: it is none; names the field. Or a file names another module.
        """
        if isinstance(given, Study):
            return given
        where = ""
        if isinstance(given, (str, os.PathLike)):
            where = f"{given}: "
            given = read_file(Path(given))
            _check_imports(given, where, may_import)
        if not isinstance(given, Mapping):
            raise ValueError(f"{where or 'this '}is no study: write FIELD: VALUE, one a line")
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise ValueError(f"{where}{key!r} is no field of a study{hint}")
        if "envs" not in given:
            raise ValueError(f"{where}envs is missing: name one environment or more")
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}{error}") from None

    @property
    def variants(self) -> list[Variant]:
        """Those that are tried as they are."""
        compare = self.compare or ({} if self.search else {"default": {}})
        made = []
        for name, own in compare.items():
            if not isinstance(own, Mapping):
                raise TypeError(f"compare: {name} must be a mapping of settings, got {own!r:.100}")
            if str(name).startswith(DRAWN):
                raise ValueError(f"compare: {name} is called as what Optuna draws; rename it")
            settings = {k: v for k, v in own.items() if k != "agent"}
            made.append(self.variant(str(name), settings, own.get("agent", self.agent)))
        return made

    def variant(self, name: str, settings: Mapping[str, Any], agent: str | None = None) -> Variant:
        """One with these settings beside those of the study; ``group.name`` is one of a group."""
        return Variant(name, agent or self.agent, nested({**self.settings, **settings}))

    def check(self) -> None:
        """Try every environment, setting and end of a range, before hours of work.

        Raises:
            TypeError, ValueError, gymnasium.error.Error, ImportError: what would not work.
        """
        for world in self.envs:
            for args in (world.args, {**world.args, **world.eval_args}):
                make_env(world.id, args).close()
        tried = self.variants
        for name, where in self.search.items():
            ends = where.get("choices", (where.get("low"), where.get("high")))
            tried += [self.variant(f"search: {name}", {name: value}) for value in ends]
        for variant in tried:
            if variant.agent not in AGENTS:
                raise ValueError(
                    f"{variant.name}: agent must be one of {', '.join(AGENTS)}, "
                    f"got {variant.agent!r:.100}"
                )
            config = agent_class_of(AGENTS[variant.agent]).config_class
            try:
                overridden(config(), variant.settings)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{variant.name}: {error}") from None


def _world(given: Any, total_timesteps: int) -> World:
    if isinstance(given, World):
        given = asdict(given)
    if isinstance(given, str):
        given = {"id": given}
    known = [f.name for f in fields(World)]
    if not isinstance(given, Mapping) or "id" not in given or not set(given) <= set(known):
        raise ValueError(
            f"envs: each is an id, or a mapping of {', '.join(known)}; got {given!r:.200}"
        )
    world = World(**given)
    for name in ("args", "eval_args"):
        if not isinstance(getattr(world, name), Mapping):
            raise TypeError(f"envs: {name} of {world.id} must be a mapping")
    steps = world.total_timesteps or total_timesteps
    if isinstance(steps, bool) or not float(steps).is_integer() or steps < 1:
        raise ValueError(f"envs: total_timesteps of {world.id} must be a whole number, 1 or more")
    told = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in world.args.items()]
    name = world.name or " ".join([world.id, *told])
    return World(world.id, dict(world.args), dict(world.eval_args), name, int(steps))


def _seeds(given: Any) -> list[int]:
    seeds = parse_seeds(str(given)) if isinstance(given, (str, int)) else list(given)
    if not seeds or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds):
        raise ValueError(
            f"seeds must be whole numbers, 0 or more, as a list or 0-4, got {given!r:.100}"
        )
    return list(dict.fromkeys(seeds))


def _check_imports(given: Any, where: str, may_import: Sequence[str]) -> None:
    """Raise ValueError where a file names a module that the user did not name."""
    worlds = given.get("envs") if isinstance(given, Mapping) else None
    for word in values_of(worlds):
        if isinstance(word, str) and ":" in word and word.partition(":")[0] not in may_import:
            raise ValueError(
                f"{where}it names a module to import an env from ({word!r:.100}): if you know that "
                f"module, allow it with --import {word.partition(':')[0]}, or may_import= in Python"
            )


def _check_different(what: str, names: list[str]) -> None:
    """Folders are called by these names."""
    by_folder: dict[str, str] = {}
    for name in names:
        if (other := by_folder.setdefault(in_folders(name), name)) != name or names.count(name) > 1:
            raise ValueError(f"{what}: {other!r} and {name!r} need names that differ; give a name")


def in_folders(name: str) -> str:
    """A name as a part of a folder's name."""
    return re.sub(r"[^\w.=+-]+", "_", name).strip("._") or "_"


def _check_range(name: str, where: Any) -> None:
    kinds = ({"choices"}, {"low", "high"}, {"low", "high", "log"}, {"low", "high", "step"})
    if not isinstance(where, Mapping) or set(where) not in kinds:
        raise ValueError(
            f"search: {name} takes {{low: .., high: ..}}, with log: true or step: .., or "
            f"{{choices: [..]}}, got {where!r:.200}"
        )
    if "choices" in where:
        if not isinstance(where["choices"], (list, tuple)) or not where["choices"]:
            raise ValueError(f"search: choices of {name} must be a list of one or more")
        return
    numbers = [where[k] for k in ("low", "high", "step") if k in where]
    if any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
        raise ValueError(f"search: low, high and step of {name} must be numbers, got {where!r}")
    if not where["low"] < where["high"] or where.get("step", 1) <= 0:
        raise ValueError(f"search: {name} needs low < high and a positive step, got {where!r}")
    if where.get("log") and where["low"] <= 0:
        raise ValueError(f"search: {name} on a log scale needs low > 0, got {where['low']}")
