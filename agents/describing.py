"""What a run's folder says of itself: settings, environment, seed, clock, versions."""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym

from hierebm.agents.state import AgentState
from hierebm.checkpoint.state import env_to_json
from hierebm.files import atomic_write
from hierebm.logging.values import HParam

# The file in a run's folder. `hierebm train --config` takes it.
RUN_FILE = "run.json"
# What runs are compared by in TensorBoard's HPARAMS.
METRICS = ("eval/success_rate", "eval/mean_reward", "rollout/success_rate", "rollout/ep_rew_mean")
_PACKAGES = ("hierebm", "torch", "gymnasium", "numpy", "mujoco", "gymnasium-robotics", "ogbench")


def describe(agent: AgentState, **target: int) -> dict[str, Any]:
    """A run as plain values, ready for JSON.

    Args:
        agent: what learns.
        target: the count at which it ends, ``total_timesteps`` or ``gradient_steps``.

    In what comes back, ``env`` is None where the environment was not made by an id, or with
    arguments that JSON does not know; ``seed`` is None where the random streams go on from a file;
    ``clock`` holds ``action_repeat``, None until it is known.
    """
    env_id, env_args = _made_with(agent)
    return {
        "agent": type(agent).__name__,
        "env": env_id,
        "env_args": env_args,
        "n_envs": 1 if agent.env is None else agent.env.n_envs,
        "seed": agent.given_seed,
        "device": str(agent.device),
        **target,
        "settings": asdict(agent.config),
        "clock": {"action_repeat": agent.action_repeat if agent.knows_clock else None},
        "versions": {"python": platform.python_version(), **dict(_versions())},
    }


def log_description(agent: AgentState, **target: int) -> None:
    """Put the description of the run that begins, or ends, into its folder and its log."""
    logger = agent.logger
    if logger.dir is None:
        return
    described = describe(agent, **target)
    text = json.dumps(described, indent=1)
    # TensorBoard shows what is indented as it is.
    logger.record("run", "    " + text.replace("\n", "\n    "), exclude=("stdout", "json"))
    hparams = {name: described[name] for name in ("agent", "env", "n_envs", "seed", "device")}
    hparams |= dict(_flat(described["env_args"], "env_args."))
    hparams |= dict(_flat(described["settings"]))
    logger.record("hparams", HParam(hparams, dict.fromkeys(METRICS, 0.0)), exclude="json")
    logger.dump(agent.num_timesteps)
    try:
        with atomic_write(Path(logger.dir) / RUN_FILE) as file:
            file.write(f"{text}\n".encode())
    except OSError as error:
        warnings.warn(
            f"{RUN_FILE} cannot be written to {logger.dir} ({error}); training goes on",
            RuntimeWarning,
            stacklevel=4,
        )


def _made_with(agent: AgentState) -> tuple[str | None, dict[str, Any]]:
    """Id and arguments of the environment, with the time limit where that is its own."""
    env = None if agent.env is None else env_to_json(agent.env.env)
    if env is None or agent.env is None:
        return None, {}
    registered = gym.registry.get(env["id"])
    limit = agent.env.max_episode_steps
    own = getattr(agent.env.env.unwrapped, "time_limit", None)
    if registered is not None and limit not in (None, own, registered.max_episode_steps):
        env["kwargs"]["max_episode_steps"] = limit
    return env["id"], env["kwargs"]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
