"""Which libraries are there."""

from __future__ import annotations

from importlib.util import find_spec


def installed(name: str) -> bool:
    """Whether a library can be imported; a mere folder of its name on the path is none."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None
