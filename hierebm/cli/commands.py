"""What the commands of the command line do. Each takes the parsed arguments."""

from __future__ import annotations

import argparse
import json
import shlex
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
from hierebm.checkpoint.state import single_env_kwargs
from hierebm.cli.checkpoints import (
    agent_class_of,
    load_agent,
    load_experienced_agent,
    load_stopped_agent,
)
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.cli.stopping import StopCallback, Stopped, StopSignals
from hierebm.cli.training import claimed_out, out_of, save_anywhere, say
from hierebm.data import OfflineDataset, load_minari, load_ogbench
from hierebm.errors import TrainingDiverged
from hierebm.evaluation import EvaluationResult
from hierebm.evaluation import evaluate as evaluate_agent
from hierebm.files import atomic_write, check_writable
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
    data = _data(args)
    out, claim = claimed_out(out_of(args))
    try:
        check_writable(out)
        with StopSignals() as signals:
            agent, env_id, env_kwargs = _agent(args)
            try:
                _learn(agent, args, data, out, StopCallback(signals))
            finally:
                signals.is_ending = True
                if agent.num_timesteps or agent.n_updates:
                    save_anywhere(agent, out)
                    say(f"saved {out} after {_done(agent, args)}")
                if agent.get_env() is not None:
                    agent.get_env().close()
            if signals.received is not None:
                if agent.num_timesteps or agent.n_updates:
                    say(f"go on with: {_going_on(args, agent, out)}")
                raise Stopped(signals.received)
    finally:
        claim.release()
    if args.tensorboard_log is not None:
        print(f"look at it with: tensorboard --logdir {args.tensorboard_log}")
    if args.episodes and env_id is not None:
        # A seed beside the training's: other tasks than those that were learned on.
        result = evaluate_agent(
            agent, env_id, args.episodes, seed=(args.seed or 0) + 10_000, env_kwargs=env_kwargs,
            progress_bar=not args.no_progress_bar,
        )  # fmt: skip
        print(result)


def _agent(args: argparse.Namespace) -> tuple[Any, str | None, dict[str, Any]]:
    """The agent in its env, a new one or that of a file, and id and arguments of the env."""
    options = {
        "seed": args.seed,
        "tensorboard_log": args.tensorboard_log,
        "device": args.device,
        "verbose": int(args.verbose),
        **parse_settings(args.set),
    }
    if args.resume is not None:
        return load_stopped_agent(args.resume, args.env, _env_kwargs(args), options)
    env_id, env_kwargs = args.env or (None if args.data else ENV_ID), _env_kwargs(args)
    env = None if env_id is None else make_env(env_id, env_kwargs)
    return agent_class_of(AGENTS[args.agent])(env=env, **options), env_id, env_kwargs


def _learn(
    agent: Any, args: argparse.Namespace, data: OfflineDataset | None, out: Path, stop: StopCallback
) -> None:
    """Learn offline where there is data, or was, then online; or what is left of a stopped run."""
    options = {"progress_bar": not args.no_progress_bar, "reset_num_timesteps": not args.resume}
    # Before anything is learned here: what is left is forgotten then.
    left = dict(agent.unfinished) if args.resume else {}
    env_id = args.env if args.env or args.data else ENV_ID
    callbacks: list[BaseCallback] = [stop]
    if args.eval_freq and agent.get_env() is not None:
        spec = agent.get_env().spec
        env_id = env_id if spec is None else spec.id
        callbacks.append(
            EvalCallback(env_id, eval_freq=args.eval_freq, n_eval_episodes=20,
                         env_kwargs={} if spec is None else single_env_kwargs(spec))
        )  # fmt: skip
    target = args.total_timesteps
    if not args.resume:
        is_online = data is None or target is not None
    else:
        target = left.get("timesteps") if target is None else target
        is_online = target is not None
        target = None if target is None else target - agent.num_timesteps
        if data is None and "gradient_steps" not in left and (target is None or target <= 0):
            raise ValueError(
                f"nothing is left to do: {args.resume} has learned for {_done(agent, args)}; say "
                "up to how many with --total-timesteps"
            )
    steps = {} if args.gradient_steps is None else {"gradient_steps": args.gradient_steps}
    if data is None and not steps and "gradient_steps" in left:
        steps = {"gradient_steps": left["gradient_steps"] - agent.n_updates}
    if data is not None or "gradient_steps" in left:
        agent.learn_offline(
            data,
            callback=[*callbacks, *_checkpoints(args, out, f"{out.stem}_offline")],
            success_tolerance=args.success_tolerance,
            **steps,
            **options,
        )
    if is_online and stop.signals.received is None and (target is None or target > 0):
        agent.learn(
            total_timesteps=target,
            callback=[*callbacks, *_checkpoints(args, out, out.stem)],
            **options,
        )


def _done(agent: Any, args: argparse.Namespace) -> str:
    """How long it has learned."""
    steps = f"{agent.num_timesteps} steps"
    # What was learned by acting needs no word on updates.
    return (
        steps if agent.num_timesteps and not args.data else f"{steps} and {agent.n_updates} updates"
    )


def _going_on(args: argparse.Namespace, agent: Any, out: Path) -> str:
    """The command that goes on with a run that was stopped."""
    words = ["hierebm", "train", *([args.env] if args.env else []), "--resume", str(out)]
    if args.total_timesteps is not None and "timesteps" not in agent.unfinished:
        words += ["--total-timesteps", str(args.total_timesteps)]
    return shlex.join(words)


def _data(args: argparse.Namespace) -> OfflineDataset | None:
    """The data set that is asked for. Raises ValueError where arguments contradict each other."""
    if args.data is None:
        if args.success_tolerance is not None or (args.gradient_steps and not args.resume):
            raise ValueError("--gradient-steps and --success-tolerance go with --data")
        return None
    if (
        args.env is None
        and not args.resume
        and (args.total_timesteps is not None or args.eval_freq)
    ):
        raise ValueError(
            "--total-timesteps and --eval-freq take an environment: hierebm train ENV_ID --data ..."
        )
    if args.env is None and args.success_tolerance is None and not args.resume:
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


def _checkpoints(args: argparse.Namespace, out: Path, prefix: str) -> list[BaseCallback]:
    if not args.checkpoint_freq:
        return []
    keep = args.keep_checkpoints or None
    return [
        CheckpointCallback(
            args.checkpoint_freq, out.parent, prefix, save_replay_buffer=True, keep=keep
        )
    ]


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
