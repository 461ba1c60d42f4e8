"""Settings by name."""

from __future__ import annotations

import difflib
from dataclasses import fields, replace
from typing import Any


def overridden(config: Any, overrides: dict[str, Any]) -> Any:
    """A config with some of its fields replaced.

    Raises:
        TypeError: for an override that is no field of the config; names the nearest ones.
    """
    names = [f.name for f in fields(config)]
    for name in overrides:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise TypeError(f"{name!r} is no setting of {type(config).__name__}{hint}")
    return replace(config, **overrides)
