"""What the commands of the command line do. Each takes the parsed arguments."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium as gym

from hierebm.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    PlanFigureCallback,
)
from hierebm.cli.checkpoints import agent_class_of, load_agent, load_experienced_agent
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.data import OfflineDataset, load_minari, load_ogbench
from hierebm.errors import TrainingDiverged
from hierebm.evaluation import EvaluationResult
from hierebm.evaluation import evaluate as evaluate_agent
from hierebm.files import atomic_write, check_writable, checkpoint_path
from hierebm.goal_env.make import make_env
from hierebm.plotting.pictures import draw_agent, save_figure
from hierebm.recording import default_dataset_id, record_episodes
from hierebm.settings import setting_rows

# Errors whose message is for the user. Anything else is our mistake and shows its traceback.
EXPLAINED = (
    OSError, ValueError, TypeError, ImportError, RuntimeError, gym.error.Error, TrainingDiverged,
)  # fmt: skip


def train(args: argparse.Namespace) -> None:
    """Train an agent, on data first if there is any, save it whatever happens, evaluate it."""
    data, env_id = _data(args), args.env or (None if args.data else ENV_ID)
    agent_class = agent_class_of(AGENTS[args.agent])
    overrides = parse_settings(args.set)
    out = checkpoint_path(args.out)
    env_kwargs = _env_kwargs(args)
    env = None if env_id is None else make_env(env_id, env_kwargs)
    agent = agent_class(
        env=env,
        seed=args.seed,
        tensorboard_log=args.tensorboard_log,
        device=args.device,
        verbose=int(args.verbose),
        **overrides,
    )
    callbacks: list[BaseCallback] = []
    if args.eval_freq and env_id is not None:
        callbacks.append(
            EvalCallback(env_id, eval_freq=args.eval_freq, n_eval_episodes=20,
                         env_kwargs=env_kwargs)
        )  # fmt: skip
    check_writable(args.out)
    options = {"progress_bar": not args.no_progress_bar}
    try:
        if data is not None:
            steps = {} if args.gradient_steps is None else {"gradient_steps": args.gradient_steps}
            agent.learn_offline(
                data,
                callback=[*callbacks, *_checkpoints(args, f"{out.stem}_offline")],
                success_tolerance=args.success_tolerance,
                **steps,
                **options,
            )
        if data is None or args.total_timesteps is not None:
            agent.learn(
                total_timesteps=args.total_timesteps,
                callback=[*callbacks, *_checkpoints(args, out.stem)],
                **options,
            )
    finally:
        if agent.num_timesteps or agent.n_updates:
            agent.save(out)
            done = f"{agent.num_timesteps} steps"
            if data is not None:
                done += f" and {agent.n_updates} updates"
            print(f"saved {out} after {done}", flush=True)
        if env is not None:
            env.close()
    if args.tensorboard_log is not None:
        print(f"look at it with: tensorboard --logdir {args.tensorboard_log}")
    if args.episodes and env_id is not None:
        # A seed beside the training's: other tasks than those that were learned on.
        result = evaluate_agent(
            agent, env_id, args.episodes, seed=(args.seed or 0) + 10_000, env_kwargs=env_kwargs,
            progress_bar=not args.no_progress_bar,
        )  # fmt: skip
        print(result)


def _data(args: argparse.Namespace) -> OfflineDataset | None:
    """The data set that is asked for. Raises ValueError where arguments contradict each other."""
    if args.data is None:
        if args.gradient_steps is not None or args.success_tolerance is not None:
            raise ValueError("--gradient-steps and --success-tolerance go with --data")
        return None
    if args.env is None and (args.total_timesteps is not None or args.eval_freq):
        raise ValueError(
            "--total-timesteps and --eval-freq take an environment: hierebm train ENV_ID --data ..."
        )
    if args.env is None and args.success_tolerance is None:
        raise ValueError(
            "--data without ENV_ID takes --success-tolerance, how far from a goal counts as reached"
        )
    if args.env is not None and args.success_tolerance is not None:
        raise ValueError(
            f"leave --success-tolerance out: {args.env} says itself what counts as reached"
        )
    if args.data.endswith(".npz") or Path(args.data).exists():
        return load_ogbench(args.data)
    return load_minari(args.data)


def _checkpoints(args: argparse.Namespace, prefix: str) -> list[BaseCallback]:
    folder = checkpoint_path(args.out).parent
    freq: int = args.checkpoint_freq
    return [CheckpointCallback(freq, folder, prefix)] if freq else []


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint and print (and write) what happened."""
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, _env_kwargs(args))
    if args.json is not None:
        check_writable(args.json)
    result = evaluate_agent(
        agent,
        env_id,
        args.episodes,
        seed=args.seed,
        options=_options(args),
        env_kwargs=env_kwargs,
        progress_bar=True,
    )
    print(result)
    if args.json is not None:
        row = {"checkpoint": str(args.checkpoint), "env": env_id, "env_kwargs": env_kwargs,
               "seed": args.seed, "options": _options(args), **result.to_dict()}  # fmt: skip
        with atomic_write(args.json) as file:
            file.write((json.dumps(row, indent=1) + "\n").encode())
        print(f"wrote {args.json}")


def record(args: argparse.Namespace) -> None:
    """Write what a checkpoint's agent does as a Minari data set."""
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, _env_kwargs(args))
    dataset_id = args.dataset_id or default_dataset_id(env_id)
    episodes = record_episodes(
        agent,
        env_id,
        args.episodes,
        dataset_id,
        seed=args.seed,
        options=_options(args),
        env_kwargs=env_kwargs,
        overwrite=args.overwrite,
        progress_bar=True,
    )
    print(EvaluationResult.from_episodes(episodes))
    print(f"wrote {dataset_id}; read it with: minari.load_dataset({dataset_id!r})")


def plot(args: argparse.Namespace) -> None:
    """Draw a checkpoint's plans, energies and episodes, and the curve of its run."""
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, _env_kwargs(args))
    written = draw_agent(
        agent, env_id, env_kwargs, args.out, args.tasks, args.seed, options=_options(args)
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
    agent = load_experienced_agent(args.checkpoint, args.env, _env_kwargs(args), args.replay)
    diagnosis = agent.diagnose()
    print(diagnosis)
    if args.json is not None:
        with atomic_write(args.json) as file:
            file.write((json.dumps(diagnosis.to_dict(), indent=1) + "\n").encode())
        print(f"wrote {args.json}")


def demo(args: argparse.Namespace) -> None:
    """Train the flat and the hierarchical agent on the same task and compare them."""
    from hierebm.plotting.plots import plot_success

    env_kwargs = {} if args.layout is None else {"layout": args.layout}
    rows: list[list[str]] = []
    curves: dict[str, tuple[list[int], list[float], list[tuple[float, float]]]] = {}
    written: list[Path] = []
    runs = args.out / "tensorboard"
    check_writable(args.out / "flat.zip")
    for name, key in (("flat", "ddpg-her"), ("hierarchical", "hierarchical")):
        agent = agent_class_of(AGENTS[key])(seed=args.seed, tensorboard_log=runs)
        evaluation = EvalCallback(
            ENV_ID,
            n_eval_episodes=min(args.episodes, 50),
            eval_freq=max(args.total_timesteps // 8, 1),
            verbose=0,
            seed=args.seed + 1,
            env_kwargs=env_kwargs,
        )
        callbacks: list[BaseCallback] = [evaluation]
        if hasattr(agent, "plan"):
            callbacks.append(PlanFigureCallback(max(args.total_timesteps // 4, 1), n_plans=1))
        print(f"\ntraining the {name} agent for {args.total_timesteps} steps", flush=True)
        started = time.perf_counter()
        env = make_env(ENV_ID, env_kwargs)
        agent.learn(env, args.total_timesteps, callbacks, tb_log_name=name, progress_bar=True)
        seconds = time.perf_counter() - started
        env.close()
        checkpoint = args.out / f"{name}.zip"
        agent.save(checkpoint)
        written.append(checkpoint)
        result = evaluate_agent(
            agent, ENV_ID, args.episodes, seed=args.seed + 2, env_kwargs=env_kwargs,
            progress_bar=True,
        )  # fmt: skip
        print(result, flush=True)
        rows.append(_row(name, agent.num_timesteps, seconds, result))
        curves[name] = (
            [0, *(step for step, _ in evaluation.evaluations)],
            [0.0, *(r.success_rate for _, r in evaluation.evaluations)],
            [(0.0, 0.0), *(r.ci95 for _, r in evaluation.evaluations)],
        )
        if hasattr(agent, "plan"):
            written += draw_agent(agent, ENV_ID, env_kwargs, args.out, n_tasks=3, seed=args.seed)
    written.append(save_figure(plot_success(curves), args.out / "success.png"))
    header = ["agent", "env steps", "seconds", "success", "95% interval", "mean steps"]
    print(f"\n{ENV_ID}{f', layout {args.layout}' if args.layout else ''}, "
          f"{args.episodes} episodes\n\n{format_rows([header, *rows])}\n")  # fmt: skip
    for path in written:
        print(f"wrote {path}")
    print(f"\nlook at the runs with: tensorboard --logdir {runs}")


def gallery(args: argparse.Namespace) -> None:
    """Draw the gallery of toy energies."""
    for path in import_module("hierebm.energy.toys.gallery").main(args.out, quick=args.quick):
        print(f"wrote {path}")


def settings(args: argparse.Namespace) -> None:
    """Print the settings of an agent with their defaults and meanings, group by group."""
    rows = list(setting_rows(agent_class_of(AGENTS[args.agent]).config_class()))
    header = ["setting", "default", "meaning"]
    table = format_rows([header, *([r.name, json.dumps(r.default), r.meaning] for r in rows)])
    head, rule, *lines = table.splitlines()
    print(f"{head}\n{rule}")
    for group, of_group in groupby(zip(rows, lines, strict=True), key=lambda pair: pair[0].group):
        print(f"\n{group}", *(line for _, line in of_group), sep="\n")


def parse_settings(assignments: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Config overrides from (name, text) pairs; ``group.name`` sets one field of a group."""
    overrides: dict[str, Any] = {}
    for name, text in assignments:
        group, dot, inner = name.partition(".")
        if dot:
            if not isinstance(overrides.setdefault(group, {}), dict):
                raise ValueError(f"{name}={text} contradicts {group}={overrides[group]}")
            overrides[group][inner] = parse_value(text)
        else:
            overrides[name] = parse_value(text)
    return overrides


def parse_value(text: str) -> Any:
    """A value from the command line: JSON where it is that, a number with underscores, or text."""
    try:
        return json.loads(text.replace("_", "") if text[:1].isdigit() else text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def format_rows(rows: Sequence[Sequence[str]]) -> str:
    """A text table; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [rows[0], rule, *rows[1:]]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(name: str, steps: int, seconds: float, result: EvaluationResult) -> list[str]:
    low, high = result.ci95
    return [
        name,
        str(steps),
        f"{seconds:.0f}",
        f"{result.success_rate:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{result.mean_ep_length:.1f}",
    ]


def _env_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    kwargs = {name: parse_value(text) for name, text in args.env_arg}
    if args.layout is not None:
        kwargs["layout"] = args.layout
    return kwargs


def _options(args: argparse.Namespace) -> dict[str, Any] | None:
    return None if args.distance is None else {"distance": tuple(args.distance)}
