"""One line of the table: what was tried, how often, what became of it, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]


def row(what: str, case: str, outcomes: Mapping[str, int], losses: int, **more: Any) -> Row:
    """A row of the table.

    Args:
        what: the row of the benchmark, a key of ``ROWS``.
        case: which part of it, such as the kind of damage.
        outcomes: what happened -> how often; the sum is the number of trials.
        losses: how many of the trials broke what is promised; 0 is the only good figure.
        more: further columns, such as ``worst_s`` or ``worst_mb``.
    """
    told = ", ".join(f"{name} {count}" for name, count in outcomes.items() if count)
    tried = sum(outcomes.values())
    return {"what": what, "case": case, "tried": tried, "losses": losses, "outcomes": told, **more}
