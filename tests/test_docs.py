"""The documentation: its code runs, its commands parse, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import hierebm
from hierebm.cli.options import build_parser
from hierebm.cli.parser import main

ROOT = Path(__file__).parents[1]
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
REPOSITORY = SETUP["metadata"]["url"]
# What takes long, and what takes less instead: just enough to plan, where a page begins in a shell.
SHORTER = {
    r"\b\d+_000\b": "320",
    r"(evaluate\(agent, [\w\"-]+, )\d+": r"\g<1>2",
    r"--every \d+": "--every 50",
    r"--total-timesteps 8000": "--total-timesteps 320",
    r"--total-timesteps 9000": "--total-timesteps 340",
    r"^(train .*--seed 0.*)": r"\1 --set learning_starts=200 --set energy_gradient_steps=5"
    " --set redraws=0 --set n_subgoals=16",
    r"^(train|evaluate) (.*)": r"\1 \2 --episodes 1",
}
# The code of these pages is run from top to bottom. Below, what a page begins with.
RUN = {"README.md": "", "docs/tutorial.md": "", "docs/callbacks.md": "import time; deadline = 0\n"}


def blocks(path: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(path.read_text()) if kind == language]


def shorter(code: str) -> str:
    for long, short in SHORTER.items():
        code = re.sub(long, short, code)
    return code


def commands(path: Path) -> Iterator[list[str]]:
    """The command lines of hierebm that a page shows."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "hierebm" in words:
                yield words[words.index("hierebm") + 1 :]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem[:40])
def test_code_is_python(path: Path) -> None:
    for block in blocks(path, "python"):
        # A method is shown by its head alone.
        compile(re.sub(r"^(def .*\) -> \w+)$", r"\1: ...", block, flags=re.MULTILINE), path, "exec")


@pytest.mark.parametrize("name", RUN)
def test_code_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "docs/tutorial.md":
        # Its shell begins; Python goes on with what that wrote.
        for words in commands(ROOT / name):
            assert main(shlex.split(shorter(shlex.join(words)))) == 0
    variables: dict[str, Any] = {}
    code = RUN[name] + "\n".join(blocks(ROOT / name, "python"))
    exec(compile(shorter(code), name, "exec"), variables)
    assert variables["agent"].num_timesteps >= 320


def test_commands_are_known() -> None:
    parser = build_parser()
    shown = [words for path in WRITTEN for words in commands(path)]
    assert len(shown) > 12
    for words in shown:
        parser.parse_args(words)


def test_readme_shows_its_pictures_and_pages_anywhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 110
    raw = REPOSITORY.replace("https://github.com/", "https://raw.githubusercontent.com/")
    own = re.compile(rf"(?:{REPOSITORY}/(?:blob|tree)|{raw})/main/([^#]*)")
    paths = []
    for address in re.findall(r"\]\(([^)]+)\)", text):
        assert address.startswith("https://"), address
        if found := own.match(address):
            paths.append(found[1])
    assert sum(path.endswith(".png") for path in paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_one_address_and_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    metadata = SETUP["metadata"]
    assert citation["version"] == metadata["version"] == hierebm.__version__
    assert citation["repository-code"] == REPOSITORY
    urls = dict(line.split(" = ") for line in metadata["project_urls"].strip().splitlines())
    assert all(url.startswith(REPOSITORY) for url in urls.values())
    assert {"Source", "Documentation", "Changelog", "Issues"} <= urls.keys()
    assert [entry["year"] for entry in citation["references"]] == [2019, 2019]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("mkdocs", "material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.strip()) == (0, ""), done.stdout + done.stderr
    return out


def test_the_site_builds_without_a_warning(site: Path) -> None:
    index = (site / "index.html").read_text()
    assert 'class="highlight"' in index and "<table>" in index
    api = (site / "api/agents.html").read_text()
    for name in ("learn", "learn_offline", "predict", "plan", "save", "load"):
        assert f'id="hierebm.agents.hierarchical.HierarchicalEBMAgent.{name}"' in api, name


def test_every_link_and_picture_of_the_site_is_there(site: Path) -> None:
    missing, loaded = set(), set()
    for page in site.rglob("*.html"):
        text = page.read_text()
        for attribute, address in re.findall(r'\b(href|src)="([^"]*)"', text):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                loaded |= {address} if attribute == "src" else set()
            elif parts.path and page.name != "404.html":
                target = page.parent / unquote(parts.path)
                missing |= {(page.name, address)} if not target.exists() else set()
    assert not missing
    # It shows without a network.
    assert not loaded


def test_what_is_public_is_in_the_api(site: Path) -> None:
    shown = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    names = re.findall(r"Subclass `(\w+)`", (ROOT / "docs/extending.md").read_text())
    assert len(names) >= 5
    for name in {*hierebm.__all__, *names} - {"__version__"}:
        assert re.search(rf'id="hierebm\.[\w.]*\.{name}"|<code>{name}</code>', shown), name
