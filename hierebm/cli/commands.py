"""What the commands of the command line do. Each takes the parsed arguments."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from importlib import import_module
from itertools import groupby

import gymnasium as gym

from hierebm.cli.checkpoints import agent_class_of, load_agent, load_experienced_agent
from hierebm.cli.demo import demo
from hierebm.cli.names import AGENTS
from hierebm.cli.sweep import sweep
from hierebm.cli.train import train
from hierebm.cli.values import env_kwargs_of, format_rows, options_of
from hierebm.cli.watch import watch
from hierebm.errors import TrainingDiverged
from hierebm.evaluation import EvaluationResult
from hierebm.evaluation import evaluate as evaluate_agent
from hierebm.files import atomic_write, check_writable
from hierebm.plotting.pictures import draw_agent, save_figure
from hierebm.recording import default_dataset_id, record_episodes
from hierebm.settings import setting_rows

__all__ = [
    "demo", "diagnose", "evaluate", "gallery", "plot", "record", "settings", "sweep", "train",
    "watch",
]  # fmt: skip

# Errors whose message is for the user. Anything else is our mistake and shows its traceback.
EXPLAINED = (
    OSError, ValueError, TypeError, ImportError, RuntimeError, gym.error.Error, TrainingDiverged,
)  # fmt: skip


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint and print (and write) what happened."""
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, env_kwargs_of(args))
    if args.json is not None:
        check_writable(args.json)
    result = evaluate_agent(
        agent,
        env_id,
        args.episodes,
        seed=args.seed,
        options=options_of(args),
        env_kwargs=env_kwargs,
        progress_bar=True,
    )
    print(result)
    if args.json is not None:
        row = {"checkpoint": str(args.checkpoint), "env": env_id, "env_kwargs": env_kwargs,
               "seed": args.seed, "options": options_of(args), **result.to_dict()}  # fmt: skip
        with atomic_write(args.json) as file:
            file.write((json.dumps(row, indent=1) + "\n").encode())
        print(f"wrote {args.json}")


def record(args: argparse.Namespace) -> None:
    """Write what a checkpoint's agent does as a Minari data set."""
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, env_kwargs_of(args))
    dataset_id = args.dataset_id or default_dataset_id(env_id)
    episodes = record_episodes(
        agent,
        env_id,
        args.episodes,
        dataset_id,
        seed=args.seed,
        options=options_of(args),
        env_kwargs=env_kwargs,
        overwrite=args.overwrite,
        progress_bar=True,
    )
    print(EvaluationResult.from_episodes(episodes))
    print(f"wrote {dataset_id}; read it with: minari.load_dataset({dataset_id!r})")


def plot(args: argparse.Namespace) -> None:
    """Draw a checkpoint's plans, energies and episodes, and the curve of its run."""
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, env_kwargs_of(args))
    written = draw_agent(
        agent, env_id, env_kwargs, args.out, args.tasks, args.seed, options=options_of(args)
    )
    if args.run is not None:
        from hierebm.plotting.plots import plot_success, read_progress, success_curves

        success = dict(zip(*read_progress(args.run, "rollout/success_rate"), strict=True))
        reached = dict(zip(*read_progress(args.run, "rollout/reached_rate"), strict=True))
        # Runs of earlier versions have the one figure only.
        rates = {step: (rate, reached.get(step, rate)) for step, rate in success.items()}
        written.append(save_figure(plot_success(success_curves(rates)), args.out / "success.png"))
    for path in written:
        print(f"wrote {path}")


def diagnose(args: argparse.Namespace) -> None:
    """Print why an agent reaches its goals or does not, and what to try."""
    if args.json is not None:
        check_writable(args.json)
    agent = load_experienced_agent(args.checkpoint, args.env, env_kwargs_of(args), args.replay)
    diagnosis = agent.diagnose()
    print(diagnosis)
    if args.json is not None:
        with atomic_write(args.json) as file:
            file.write((json.dumps(diagnosis.to_dict(), indent=1) + "\n").encode())
        print(f"wrote {args.json}")


def gallery(args: argparse.Namespace) -> None:
    """Draw the gallery of toy energies."""
    for path in import_module("hierebm.energy.toys.gallery").main(args.out, quick=args.quick):
        print(f"wrote {path}")


def settings(args: argparse.Namespace) -> None:
    """Print the settings of an agent with defaults, ranges and meanings, group by group."""
    rows = list(setting_rows(agent_class_of(AGENTS[args.agent]).config_class()))
    header = ["setting", "default", "range", "meaning"]
    body = ([r.name, json.dumps(r.default), r.range, r.meaning] for r in rows)
    head, rule, *lines = format_rows([header, *body]).splitlines()
    # A terminal would break lines in the middle of words; a file has one line a setting.
    at, screen = head.index("meaning"), shutil.get_terminal_size() if sys.stdout.isatty() else None
    width = None if screen is None else max(screen.columns - at, 30)
    print(f"{head}\n{rule[: at + len('meaning')]}")
    for group, of_group in groupby(zip(rows, lines, strict=True), key=lambda pair: pair[0].group):
        print(f"\n{group}")
        for _, line in of_group:
            parts = [line[at:]] if width is None else textwrap.wrap(line[at:], width)
            print(line[:at] + f"\n{' ' * at}".join(parts))
