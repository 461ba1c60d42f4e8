"""Named layouts with one-way doors, slippery ground and teleporters."""

from __future__ import annotations

from types import MappingProxyType

CHANCE_LAYOUTS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        # Four rooms in a ring that is walked one way round: what is next door may be three rooms
        # away.
        "one_way": (
            "......#......",
            "......#......",
            "......>......",
            "......#......",
            "......#......",
            "......#......",
            "##^#######v##",
            "......#......",
            "......#......",
            "......#......",
            "......<......",
            "......#......",
            "......#......",
        ),
        # Ice between two banks, a dry way round: with slip=0.7 the ice takes three times as long.
        "ice": (
            ".............",
            ".............",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            "..~~~~~~~~~..",
            ".............",
            ".............",
        ),
        # Two rooms that teleporters alone join. A is near and mostly leads nowhere, B is worth the
        # way; on the other side D and C.
        "islands": (
            "a....a#......",
            "......#......",
            "......#....d.",
            "...A..#......",
            "......#......",
            "a.....#......",
            "......#..D...",
            "......#......",
            "...b..#......",
            "......#.d....",
            "a....a#.a....",
            "......#.....b",
            "Bd..c.#....C.",
        ),
        # A long way on foot, or a teleporter: A is worth the risk now and then, B hardly ever.
        "shortcut": (
            "a............",
            "............b",
            "###########..",
            "A............",
            ".............",
            "b............",
            "..###########",
            "............a",
            "......B......",
            ".b...........",
            "###########..",
            "............a",
            "B............",
        ),
    }
)
"""The layouts by name, as rows of text; ``slip`` is an argument of the environment."""
