"""Changes of state that no interrupt can split."""

from __future__ import annotations

from typing import Any


def set_at_once(target: object, **values: Any) -> None:
    """Set attributes in one step: after an interrupt (Ctrl-C) either all are new or none is.

    Python runs signal handlers between two of its own instructions; this is a single one. What is
    being computed goes into new objects first, and takes the place of the old ones here.
    """
    vars(target).update(values)
