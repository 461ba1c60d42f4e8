"""One trial of a sweep: ``hierebm train``, once, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hierebm.callbacks import EvalCallback
from hierebm.cli.checkpoints import load_agent
from hierebm.cli.parser import parsed
from hierebm.cli.train import train
from hierebm.evaluation import EvaluationResult, evaluate
from hierebm.files import append_row
from hierebm.sweeps.files import (
    COMPLETE,
    FAILED,
    PRUNED,
    Row,
    alone,
    read_curve,
    read_result,
    write_json,
    write_rows,
)
from hierebm.sweeps.pruning import is_behind, is_given_up
from hierebm.sweeps.source import Report
from hierebm.sweeps.work import ended


@dataclass(frozen=True)
class Trial:
    """One variant in one environment with one seed. Plain values, ready for JSON.

    Attributes:
        folder: its own.
        variant, world, seed: which.
        agent, settings, env, env_args, n_envs, device, total_timesteps: as ``hierebm train`` has
            them.
        eval_args: arguments of the environment where it is evaluated.
        evaluations, eval_episodes, episodes: as the study has them.
        prune_after: as the study has it; 0: it is never pruned.
    """

    folder: str
    variant: str
    world: str
    seed: int
    agent: str
    settings: dict[str, Any]
    env: str
    env_args: dict[str, Any]
    eval_args: dict[str, Any]
    n_envs: int
    device: str
    total_timesteps: int
    evaluations: int
    eval_episodes: int
    episodes: int
    prune_after: int

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self.folder)

    @property
    def freq(self) -> int:
        """Calls of step between two points of the curve."""
        return self.total_timesteps // self.evaluations // self.n_envs

    def run(self, report: Report) -> None:
        """Train it to its end, or on from its newest checkpoint, unless that was done already.

        What comes of it is in its folder: errors, too, which do not stop the other trials.

        Args:
            report: gets every new point of the learning curve.
        """
        folder = self.path
        with alone(folder):
            if read_result(folder) is not None or (self.prune_after and is_given_up(folder)):
                return
            write_json(folder / "trial.json", asdict(self))
            result = ended(folder, "train.log", lambda: _run(self, report))
            if result["status"] != FAILED:
                for path in _checkpoints(folder).values():
                    path.unlink()

    def command(self, checkpoint: Path | None) -> list[str]:
        """The arguments of ``hierebm`` that begin it, or go on from a checkpoint."""
        words = ["train", self.env, "--total-timesteps", str(self.total_timesteps)]
        words += ["--out", str(self.path / "agent.zip"), "--tensorboard-log", self.folder]
        words += ["--checkpoint-freq", str(self.freq), "--keep-checkpoints", "1"]
        words += ["--device", self.device, "--episodes", "0", "--no-progress-bar"]
        words += _assigned("--env-arg", self.env_args)
        if checkpoint is not None:
            # All else is in the file.
            return [*words, "--resume", str(checkpoint)]
        words += ["--agent", self.agent, "--n-envs", str(self.n_envs), "--seed", str(self.seed)]
        return words + _assigned("--set", self.settings)


def _assigned(option: str, values: dict[str, Any]) -> list[str]:
    return [word for k, v in values.items() for word in (option, f"{k}={json.dumps(v)}")]


def _run(trial: Trial, report: Report) -> Row:
    folder, checkpoints = trial.path, _checkpoints(trial.path)
    done = max(checkpoints, default=0)
    # What was learned after the checkpoint is learned once more.
    kept = [row for row in read_curve(folder) if row["env_steps"] <= done]
    write_rows(folder / "curve.jsonl", kept)
    append_row(folder / "attempts.jsonl", {"from": done, "pid": os.getpid(), "time": time.time()})
    args = trial.env_args | trial.eval_args
    if done >= trial.total_timesteps:
        # All that is missing is the evaluation at the end.
        checkpoints[done].replace(folder / "agent.zip")
        agent = load_agent(folder / "agent.zip", trial.env, trial.env_args)[0]
    else:
        curve = _Curve(trial, kept, report)
        train(parsed(trial.command(checkpoints.get(done))), [curve])
        if curve.is_pruned:
            return {"status": PRUNED}
        agent = curve.model
    # A seed beside those of training and of the curve: tasks that are new to it.
    result = evaluate(agent, trial.env, trial.episodes, seed=trial.seed + 10_000, env_kwargs=args)
    rate, interval = success_of(result)
    return {"status": COMPLETE, "success": rate, "ci95": interval, "steps": result.mean_ep_length}


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Env steps -> the checkpoint."""
    named = ((re.fullmatch(r"agent_(\d+)_steps", path.stem), path) for path in folder.glob("*.zip"))
    return {int(match[1]): path for match, path in named if match}


def success_of(result: EvaluationResult) -> tuple[float, tuple[float, float]]:
    """The success rate with its interval, or the share of goals ever reached.

    Raises:
        ValueError: neither is known.
    """
    for rate, interval in (
        (result.success_rate, result.ci95),
        (result.reached_rate, result.reached_ci95),
    ):
        if rate == rate:
            return rate, interval
    raise ValueError("the environment says of no episode whether it was a success: nothing to rank")


class _Curve(EvalCallback):
    """The learning curve: written to a file, reported, and compared with those of others."""

    def __init__(self, trial: Trial, rows: list[Row], report: Report) -> None:
        super().__init__(
            trial.env, n_eval_episodes=trial.eval_episodes, eval_freq=trial.freq, verbose=0,
            seed=trial.seed + 20_000, env_kwargs=trial.env_args | trial.eval_args,
        )  # fmt: skip
        self.trial, self.report = trial, report
        self.seconds = rows[-1]["seconds"] if rows else 0.0
        self.is_pruned = False
        self._since = 0.0

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._since = time.perf_counter()

    def _on_step(self) -> bool:
        paused, n = time.perf_counter(), len(self.evaluations)
        goes_on = super()._on_step()
        if len(self.evaluations) == n:
            return goes_on
        self.seconds += paused - self._since
        self._add(self.evaluations[-1][1])
        self._since = time.perf_counter()
        return goes_on and not self.is_pruned

    def _add(self, result: EvaluationResult) -> None:
        row = {"env_steps": self.num_timesteps, "seconds": round(self.seconds, 3),
               "success": success_of(result)[0]}  # fmt: skip
        append_row(self.trial.path / "curve.jsonl", row)
        self.report(row)
        if self.trial.prune_after and self.num_timesteps < self.trial.total_timesteps:
            self.is_pruned = is_behind(self.trial.path, self.trial.prune_after)
