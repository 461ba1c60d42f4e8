"""Studies that take a second, and what is to be seen in their folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "envs": ["PointMassGoal-v0"],
    "agent": "ddpg-her",
    "total_timesteps": 200,
    "evaluations": 4,
    "eval_episodes": 2,
    "episodes": 4,
    "settings": {
        "hidden_sizes": [8, 8],
        "batch_size": 8,
        "learning_starts": 50,
        "train_freq": 20,
        "n_critics": 1,
    },
}


def trials(folder: Path) -> list[Path]:
    """The folders of trials that were begun."""
    return sorted(path.parent for path in folder.glob("trials/*/*/attempts.jsonl"))


def attempts(folder: Path) -> list[int]:
    """The steps from which a trial was begun."""
    lines = (folder / "attempts.jsonl").read_text().splitlines()
    return [json.loads(line)["from"] for line in lines]


def is_done(folder: Path) -> bool:
    return (folder / "result.json").exists()


def steps(folder: Path) -> list[int]:
    """Env steps of the points of a learning curve."""
    lines = (folder / "curve.jsonl").read_text().splitlines()
    return [json.loads(line)["env_steps"] for line in lines]
