"""``train --config FILE``: options of a run in a file, by their names on the command line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hierebm.cli.names import AGENTS

# What a run's own file (``run.json``) tells besides.
TOLD = ("clock", "versions")
# Values in a file: YAML may name one a thousand times, and each of those again.
MOST_VALUES, MOST_BYTES = 10_000, 1 << 20


def read_config(
    path: Path, options: Mapping[str, Any], *, may_name_env: bool = True
) -> dict[str, Any]:
    """Options of ``train`` by their names, checked.

    Args:
        path: YAML or JSON: options (``total_timesteps``, ``eval_freq``, ...) with ``settings`` and
            ``env_args``, which are mappings; what a run left in its folder does.
        options: name -> default, of what there is.
        may_name_env: False where the user names the env, whatever the file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none of that; names the key. Or it names a module: nothing that a file
            names is imported.
    """
    given = read_file(path)
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
    words = [*values_of(values["env_args"]), *([values.get("env")] if may_name_env else [])]
    for word in words:
        if isinstance(word, str) and ":" in word:
            raise ValueError(
                f"{path} names a module to import its env from ({word!r:.100}), and nothing that a "
                "file names is imported: if you know that module, give --env MODULE:ENV_ID, or "
                "the argument with --env-arg, and leave it out of the file"
            )
    return values


def read_file(path: Path) -> Any:
    """What a YAML or JSON file holds; numbers may be written ``1e-4``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is neither, or larger than options are.
    """
    try:
        given = _read(path)
    except (RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} holds no options that can be read ({error})") from None
    if next(islice(values_of(given), MOST_VALUES, None), None) is not None:
        raise ValueError(f"{path} holds more than {MOST_VALUES} values: no options do")
    return given


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES >> 20} MB: no options do")
    text = data.decode()
    try:
        return json.loads(text)
    except ValueError:
        if path.suffix == ".json":
            raise ValueError(f"{path} is no JSON") from None
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML files need PyYAML: pip install pyyaml, or give JSON") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """YAML 1.1 takes 1e-4 for a word."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"]
    )
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path} is neither JSON nor YAML ({' '.join(str(error).split())})"
        ) from None


def values_of(tree: Any) -> Iterator[Any]:
    """Every value in it, each as often as it is named."""
    left = [tree]
    while left:
        branch = left.pop()
        yield branch
        if isinstance(branch, Mapping):
            left += branch.values()
        elif isinstance(branch, (list, tuple)):
            left += branch


def _fitting(path: Path, name: str, value: Any, default: Any) -> Any:
    """A value as the command line would have it."""
    word = name in ("env", "data", "device")
    if word and not isinstance(value, str) and not (value is None and default is None):
        raise ValueError(f"{path}: {name} must be a word, got {value!r:.100}")
    whole = isinstance(default, int) and not isinstance(default, bool)
    if whole or name in ("seed", "total_timesteps", "gradient_steps"):
        if value is None and default is None:
            return None
        try:
            # YAML takes 1e5 for a word.
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if isinstance(value, bool) or number < 0 or not number.is_integer():
            raise ValueError(
                f"{path}: {name} must be a whole number, 0 or more, got {value!r:.100}"
            )
        return value if isinstance(value, int) else int(number)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ValueError(f"{path}: {name} must be true or false, got {value!r:.100}")
    return value
