"""The wheel holds every module, and nothing under a name that belongs to others."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Site packages without their .pth files, so that no editable install helps.
SITE = f"import sys; sys.path += {[p for p in sys.path if 'site-packages' in p]!r}\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout is left as it is."""
    source = tmp_path_factory.mktemp("source")
    names = ["hierebm", "envs", "agents", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(ROOT / n) for n in names), str(source)], check=True)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return path


def _modules() -> list[str]:
    folders = {"hierebm": "hierebm", "envs": "hierebm.envs", "agents": "hierebm.agents"}
    names = []
    for folder, package in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            names.append(".".join([package, *(p for p in parts if p != "__init__")]))
    return sorted(name for name in names if not name.endswith("__main__"))


def test_the_wheel_is_one_top_level_package_with_type_information(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if not n.split("/")[0].endswith(".dist-info")} == {
        "hierebm"
    }
    assert "hierebm/py.typed" in names


def test_every_module_imports_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys, importlib; sys.path.insert(0, sys.argv[1])\n"
        "for name in sys.argv[2:]:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__file__.startswith(sys.argv[1]), module.__file__\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *_modules()], check=True, cwd=tmp_path
    )


def test_a_checkout_works_in_place() -> None:
    """Where another copy is installed, or none, the folders of the checkout belong together."""
    code = (
        "import hierebm, hierebm.envs, hierebm.agents\n"
        "for module in (hierebm, hierebm.envs, hierebm.agents):\n"
        f"    assert module.__file__.startswith({str(ROOT)!r}), module.__file__\n"
    )
    subprocess.run([sys.executable, "-S", "-c", SITE + code], check=True, cwd=ROOT)


def test_import_and_make_leave_torch_alone() -> None:
    code = (
        "import sys, gymnasium, hierebm\n"
        "env = gymnasium.make('PointMassGoal-v0'); env.reset(seed=0)\n"
        "env.step(env.action_space.sample())\n"
        "assert 'torch' not in sys.modules\n"
        "from hierebm import HierarchicalEBMAgent\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
