"""Parts that can be swapped: given by name, as a class, or as an instance."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def find_part(
    setting: str, given: Any, base: type[Any], by_name: Mapping[str, type[T]]
) -> T | type[T]:
    """The class or the instance that was asked for.

    Args:
        setting: what the argument is called, for messages.
        given: a name, a class, or an instance.
        base: what it has to be.
        by_name: those that come with the package.

    Raises:
        ValueError: for an unknown name; lists the known ones.
        TypeError: for anything that is no ``base``.
    """
    if isinstance(given, str):
        if given in by_name:
            return by_name[given]
        near = difflib.get_close_matches(given, by_name, n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else (
                f"a file of an agent with a {base.__name__} of your own needs it again: "
                f"load(path, {setting}={given}), class or instance"
            )
        )
        raise ValueError(
            f"{setting} must be one of {', '.join(by_name)}, or a {base.__name__} (class or "
            f"instance), got {given!r}; {hint}"
        )
    if isinstance(given, base) or (isinstance(given, type) and issubclass(given, base)):
        return given
    raise TypeError(
        f"{setting} must be one of {', '.join(by_name)}, or a {base.__name__} (class or "
        f"instance), got {given!r}"
    )


def part_name(given: Any) -> str:
    """What a part is called in settings and files: its name, or that of its class."""
    if isinstance(given, str):
        return given
    return str(given.__name__ if isinstance(given, type) else type(given).__name__)
