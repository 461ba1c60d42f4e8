"""Roles in docstrings, such as :class:`~hierebm.data.OfflineDataset`, as links of the API pages."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:py:)?(?:class|func|meth|attr|mod|data|exc):`(~?)([\w.]+)`")


class Roles(Extension):
    """Replaces them before the docstrings are read; what has no page stays plain code."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """See the class."""
        if obj.docstring is None:
            return

        def link(match: re.Match[str]) -> str:
            short, name = match.groups()
            shown = name.rpartition(".")[2] if short else name
            target = name if name.startswith("hierebm.") else _near(obj, name)
            return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'

        obj.docstring.value = ROLE.sub(link, obj.docstring.value)


def _near(obj: Object, name: str) -> str:
    """The full path of a name as it is meant in an object's docstring."""
    around: Any = obj
    while around is not None:
        if name.split(".")[0] in around.members:
            return f"{around.path}.{name}"
        around = around.parent
    return name
