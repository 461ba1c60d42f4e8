"""Spaces and random generators as plain values that a checkpoint can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from hierebm.errors import CheckpointError

# Of all parts of an observation together: images of a thousand by a thousand pixels.
_MOST_NUMBERS = 1 << 20


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """A Gymnasium space as JSON-serialisable values: Box, Discrete, MultiBinary, Dict of these.

    Raises:
        TypeError: another kind of space.
    """
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "low": _bound_to_json(space.low),
            "high": _bound_to_json(space.high),
            "shape": list(space.shape),
            "dtype": space.dtype.name,
        }
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": np.asarray(space.n).tolist()}
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {k: space_to_json(v) for k, v in space.items()}}
    raise TypeError(f"spaces of type {type(space).__name__} cannot be stored in a checkpoint")


def space_from_json(value: Mapping[str, Any]) -> spaces.Space[Any]:
    """The space that :func:`space_to_json` described.

    Raises:
        CheckpointError: the description is damaged.
    """
    try:
        if (size := _size(value)) > _MOST_NUMBERS:
            raise CheckpointError(f"the stored description of a space asks for {size:g} numbers")
        kind = value["type"]
        if kind == "Box":
            shape, dtype = tuple(value["shape"]), np.dtype(value["dtype"])
            if dtype.kind not in "biuf":
                raise ValueError(f"numbers of type {dtype}")
            low, high = (_bound_from_json(value[end], shape, dtype) for end in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        if kind == "Discrete":
            return spaces.Discrete(value["n"], start=value["start"])
        if kind == "MultiBinary":
            return spaces.MultiBinary(value["n"])
        if kind == "Dict":
            return spaces.Dict({k: space_from_json(v) for k, v in value["spaces"].items()})
    except CheckpointError:
        raise
    # A damaged description can make Gymnasium raise nearly anything.
    except Exception as error:
        raise CheckpointError(
            f"the stored description of a space is damaged ({error!r:.200})"
        ) from error
    raise CheckpointError(f"the stored description of a space is of unknown type {kind!r}")


def _size(value: Mapping[str, Any]) -> float:
    """How many numbers a description asks for, before any of them is made."""
    if value["type"] == "Dict":
        return sum(_size(part) for part in value["spaces"].values())
    return math.prod(map(float, value["shape"])) if value["type"] == "Box" else 1.0


def _bound_to_json(bound: np.ndarray) -> Any:
    # JSON has no infinities; their names survive.
    def plain(value: Any) -> Any:
        return value if np.isfinite(value) else str(value)

    flat = bound.ravel().tolist()
    if flat and all(value == flat[0] for value in flat):
        return plain(flat[0])
    return [plain(value) for value in flat]


def _bound_from_json(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if isinstance(value, list):
        return np.array([dtype.type(entry) for entry in value], dtype).reshape(shape)
    return np.full(shape, dtype.type(value), dtype)


def env_to_json(env: Any) -> dict[str, Any] | None:
    """How to make an env again, ``{"id": ..., "kwargs": {...}}``, from its spec.

    None where the env was not made by id, or with arguments that JSON does not know.
    """
    spec = getattr(env, "spec", None)
    if spec is None:
        return None
    kwargs = single_env_kwargs(spec)
    try:
        return {"id": spec.id, "kwargs": json.loads(json.dumps(kwargs, allow_nan=False))}
    except (TypeError, ValueError):
        return None


# Of how many envs there are, how they are stepped and how they are rendered: chosen again whenever
# an env is made.
NOT_OF_THE_WORLD = (
    "max_episode_steps",
    "disable_env_checker",
    "num_envs",
    "vectorization_mode",
    "vector_kwargs",
    "wrappers",
    "autoreset_mode",
    "render_mode",
)


def single_env_kwargs(spec: EnvSpec) -> dict[str, Any]:
    """What the world of an env, or of each env of a vector, was made with by its id."""
    return {k: v for k, v in (spec.kwargs or {}).items() if k not in NOT_OF_THE_WORLD}


def check_same_space(stored: spaces.Space[Any], given: spaces.Space[Any], what: str) -> None:
    """Refuse an env that an agent was not made for.

    Args:
        stored: the agent's space.
        given: the env's space.
        what: its name in the message, e.g. ``"observation_space"``.

    Raises:
        ValueError: the two differ; the message names the first differing part.
    """
    if isinstance(stored, spaces.Dict) and isinstance(given, spaces.Dict):
        if set(stored) != set(given):
            raise ValueError(
                f"{what} has the keys {sorted(given)}, but the agent was trained with "
                f"{sorted(stored)}; use an env with the spaces that it was trained on"
            )
        for key in stored:
            check_same_space(stored[key], given[key], f"{what}[{key!r}]")
    elif stored != given:
        raise ValueError(
            f"{what} is {given}, but the agent was trained with {stored}; use an env with the "
            "spaces that it was trained on"
        )


def numpy_generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """State of a NumPy generator as JSON-serialisable values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    return plain(generator.bit_generator.state)


def set_numpy_generator_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put a generator into the state that :func:`numpy_generator_state` returned.

    Raises:
        CheckpointError: the state is of another kind of generator, or damaged.
    """
    kind = type(generator.bit_generator).__name__
    if not isinstance(state, Mapping) or state.get("bit_generator") != kind:
        raise CheckpointError(
            f"the stored random state is of {state.get('bit_generator')}, the generator is {kind}"
        )
    try:
        generator.bit_generator.state = state
    except Exception as error:
        raise CheckpointError(f"the stored random state is damaged ({error!r})") from error


def to_tensors(value: Any) -> Any:
    """Nested dicts, lists and tuples of arrays and plain values, with tensors for the arrays."""
    import torch

    if isinstance(value, dict):
        return {key: to_tensors(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tensors(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    return value.item() if isinstance(value, np.generic) else value


def to_arrays(value: Any) -> Any:
    """What :func:`to_tensors` was given, with lists for tuples."""
    if isinstance(value, dict):
        return {key: to_arrays(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_arrays(entry) for entry in value]
    return value.numpy() if hasattr(value, "numpy") else value
