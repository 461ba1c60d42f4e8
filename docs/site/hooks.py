"""What the site adds to the pages of docs/: README and the like, pictures, examples, the package.

Pages are written so that they read well in the repository. Their links to files outside docs/ are
led to the site's copy of these files or, where there is none, to the repository.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import shutil
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
EXAMPLES = "examples.md"
SETTINGS = "settings.md"
PICTURES = "benchmarks/results"
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
RANGE = re.compile(r"(<td[^>]*>[^\s<]+) to ([^\s<]+</td>)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
# Removed when the build ends.
PACKAGE = tempfile.TemporaryDirectory(prefix="hierebm-docs-")
log = logging.getLogger("mkdocs.hooks")


@event_priority(100)  # before mkdocstrings reads its own
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lay the package out as it installs, for the API pages: folders are mapped in setup.cfg."""
    package = Path(PACKAGE.name, "hierebm")
    unread = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hierebm", package, ignore=unread, dirs_exist_ok=True)
    for folder in ("envs", "agents"):
        shutil.copytree(ROOT / folder, package / folder, ignore=unread, dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [PACKAGE.name]
    icon = "fontawesome/brands/git-alt"
    config.extra["social"] = [{"icon": icon, "link": repository(), "name": "Source code"}]
    return config


def repository() -> str:
    """Where the source code is shown: the address that the package's metadata gives."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["metadata"]["url"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that lie outside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, EXAMPLES, content=_examples()))
    files.append(File.generated(config, SETTINGS, content=_settings()))
    for picture in (ROOT / PICTURES).rglob("*"):
        if picture.suffix not in (".png", ".gif"):
            continue
        name = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links outside docs/ to where the site, or the repository, has them."""
    uri = page.file.src_uri
    # From where the text was written: links are relative to that.
    written = {site: PurePosixPath(source) for source, site in PAGES.items()}.get(
        uri, PurePosixPath("docs", uri)
    )

    def led(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        source = _in_repository(target, written.parent)
        if source is None:
            return match.group()
        return before + _on_site(source, uri, after)

    # Code is not looked at.
    parts = FENCE.split(markdown)
    return "".join(part if i % 2 else LINK.sub(led, part) for i, part in enumerate(parts))


def on_page_content(html: str, **_: Any) -> str:
    """Keep the ends of a range, such as an interval, in one line of its cell."""
    return RANGE.sub(r"\1&nbsp;to&nbsp;\2", html)


def _in_repository(target: str, folder: PurePosixPath) -> str | None:
    """The path in the repository that a link means; None for any other address."""
    for prefix in _prefixes():
        if target.startswith(prefix):
            return target[len(prefix) :]
    if re.match(r"[a-z]+:|/", target):
        return None
    return os.path.normpath(folder / target)


def _prefixes() -> list[str]:
    """Addresses under which the repository shows its files."""
    raw = repository().replace("https://github.com/", "https://raw.githubusercontent.com/")
    return [f"{repository()}/blob/main/", f"{repository()}/tree/main/", f"{raw}/main/"]


def _on_site(source: str, uri: str, after: str) -> str:
    """The address of a file of the repository, from a page, with what follows it in the link."""
    source = source.rstrip("/")
    page = PAGES.get(source)
    if source == "examples":
        page = EXAMPLES
    elif source.startswith("examples/"):
        page, after = EXAMPLES, f"#{PurePosixPath(source).stem.replace('_', '-')})"
    elif page is None and source.startswith("docs/"):
        page = source.removeprefix("docs/")
    elif page is None and source.startswith(PICTURES):
        page = source
    if page is not None:
        return os.path.relpath(page, PurePosixPath(uri).parent) + after
    if not (ROOT / source).exists():
        log.warning("%s links to %s, which is not there", uri, source)
    kind = "tree" if (ROOT / source).is_dir() else "blob"
    return f"{repository()}/{kind}/main/{source}{after}"


def _examples() -> str:
    """A page of all examples, each with its source."""
    parts = ["# Examples", "Each runs as it is, `python examples/NAME.py`, and in the tests.\n"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        says = ast.get_docstring(ast.parse(text)) or ""
        name = path.stem.replace("_", "-")
        parts.append(f"## {path.name} {{#{name}}}\n\n{says}\n\n```python\n{_code(text)}```\n")
    return "\n\n".join(parts)


def _code(text: str) -> str:
    """An example without its docstring, which stands above."""
    end: Any = ast.parse(text).body[0].end_lineno
    return "\n".join(text.splitlines()[end:]).strip("\n") + "\n"


def _settings() -> str:
    """A page of all settings, as `hierebm settings` shows them."""
    sys.path.insert(0, str(ROOT))
    from hierebm.agents.config import HierarchicalEBMConfig
    from hierebm.settings import setting_rows

    parts = [
        "# Settings",
        "Of the hierarchical agent; the flat one has those of the first two groups. By name in "
        "Python, `HierarchicalEBMAgent(batch_size=512)`, with `--set` in a shell; `hierebm "
        "settings` prints them.",
    ]
    group = None
    for row in setting_rows(HierarchicalEBMConfig()):
        if row.group != group:
            group = row.group
            parts.append(f"\n## {group}\n\n| setting | default | range | |\n|---|---|---|---|")
        meaning = row.meaning.replace("|", "\\|")
        parts.append(f"| `{row.name}` | `{row.default}` | {row.range} | {meaning} |")
    return "\n".join(parts) + "\n"
