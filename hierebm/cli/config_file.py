"""``train --config FILE``: options of a run in a file, by their names on the command line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierebm.cli.names import AGENTS

# What a run's own file (``run.json``) tells besides.
TOLD = ("clock", "versions")


def read_config(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``train`` by their names, checked.

    Args:
        path: YAML or JSON: options (``total_timesteps``, ``eval_freq``, ...) with ``settings`` and
            ``env_args``, which are mappings; what a run left in its folder does.
        options: name -> default, of what there is.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none of that; names the key.
    """
    given = _read(path)
    if not isinstance(given, dict):
        raise ValueError(f"{path} holds no options: write NAME: VALUE, one a line")
    known = {*options, "settings", "env_args"}
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name in TOLD:
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ValueError(f"{path}: {key!r} is no option of train{hint}")
        values[name] = value
    for name in ("settings", "env_args"):
        if not isinstance(values.setdefault(name, {}), dict):
            raise ValueError(f"{path}: {name} must be a mapping, got {values[name]!r:.100}")
    if "agent" in values:
        by_class = {class_name: name for name, class_name in AGENTS.items()}
        values["agent"] = by_class.get(values["agent"], values["agent"])
        if values["agent"] not in AGENTS:
            raise ValueError(
                f"{path}: agent must be one of {', '.join(AGENTS)}, got {values['agent']!r:.100}"
            )
    for name, default in options.items():
        if name in values:
            values[name] = _fitting(path, name, values[name], default)
    return values


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        if path.suffix == ".json":
            raise ValueError(f"{path} is no JSON") from None
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML files need PyYAML: pip install pyyaml, or give JSON") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path} is neither JSON nor YAML ({' '.join(str(error).split())})"
        ) from None


def _fitting(path: Path, name: str, value: Any, default: Any) -> Any:
    """A value as the command line would have it."""
    if name in ("out", "tensorboard_log", "resume", "json"):
        return None if value is None else Path(str(value))
    whole = isinstance(default, int) and not isinstance(default, bool)
    if whole or name in ("seed", "total_timesteps", "gradient_steps"):
        if value is None and default is None:
            return None
        try:
            # YAML takes 1e5 for a word.
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or number < 0 or not number.is_integer():
            raise ValueError(
                f"{path}: {name} must be a whole number, 0 or more, got {value!r:.100}"
            )
        return value if isinstance(value, int) else int(number)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ValueError(f"{path}: {name} must be true or false, got {value!r:.100}")
    return value
