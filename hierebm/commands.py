"""What the commands of the command line do. Each takes the parsed arguments."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hierebm.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    PlanFigureCallback,
)
from hierebm.cli import ENV_ID
from hierebm.errors import CheckpointError
from hierebm.evaluation import EvaluationResult
from hierebm.evaluation import evaluate as evaluate_agent
from hierebm.files import atomic_write
from hierebm.serialization import read_meta

# Errors whose message is for the user. Anything else is our mistake and shows its traceback.
EXPLAINED = (OSError, ValueError, TypeError, ImportError, RuntimeError, gym.error.Error)

_AGENT_CLASSES = {"hierarchical": "HierarchicalEBMAgent", "ddpg-her": "DDPGHERAgent"}


def train(args: argparse.Namespace) -> None:
    """Train an agent, save it whatever happens, evaluate it."""
    agent_class = _agent_class(_AGENT_CLASSES[args.agent])
    overrides = {name: parse_value(text) for name, text in args.set}
    env_kwargs = _env_kwargs(args)
    env = _make_env(args.env, env_kwargs)
    agent = agent_class(
        seed=args.seed,
        tensorboard_log=args.tensorboard_log,
        device=args.device,
        verbose=int(args.verbose),
        **overrides,
    )
    callbacks: list[BaseCallback] = []
    if args.eval_freq:
        callbacks.append(
            EvalCallback(args.env, eval_freq=args.eval_freq, n_eval_episodes=20, verbose=0,
                         env_kwargs=env_kwargs)
        )  # fmt: skip
    if args.checkpoint_freq:
        folder, prefix = args.out.parent, args.out.stem
        callbacks.append(CheckpointCallback(args.checkpoint_freq, folder, prefix))
    if args.tensorboard_log is not None and hasattr(agent, "plan"):
        callbacks.append(PlanFigureCallback())
    try:
        agent.learn(
            env,
            total_timesteps=args.total_timesteps,
            callback=callbacks,
            progress_bar=not args.no_progress_bar,
        )
    finally:
        if agent.num_timesteps:
            agent.save(args.out)
            print(f"saved {args.out} after {agent.num_timesteps} steps", flush=True)
        env.close()
    if args.tensorboard_log is not None:
        print(f"look at it with: tensorboard --logdir {args.tensorboard_log}")
    if args.episodes:
        # A seed beside the training's: other tasks than those that were learnt on.
        result = evaluate_agent(
            agent, args.env, args.episodes, seed=(args.seed or 0) + 10_000, env_kwargs=env_kwargs
        )
        print(result)


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint and print (and write) what happened."""
    agent, env_id, env_kwargs = _load(args)
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


def plot(args: argparse.Namespace) -> None:
    """Draw a checkpoint's plans, energies and episodes, and the curve of its run."""
    agent, env_id, env_kwargs = _load(args)
    written = draw_agent(
        agent, env_id, env_kwargs, args.out, args.tasks, args.seed, options=_options(args)
    )
    if args.run is not None:
        from hierebm.plots import plot_success, read_progress

        steps, success = read_progress(args.run, "rollout/success_rate")
        written.append(_save_figure(plot_success(steps, success), args.out / "success.png"))
    for path in written:
        print(f"wrote {path}")


def demo(args: argparse.Namespace) -> None:
    """Train the flat and the hierarchical agent on the same task and compare them."""
    from hierebm.plots import plot_success

    env_kwargs = {} if args.layout is None else {"layout": args.layout}
    rows: list[list[str]] = []
    curves: dict[str, tuple[list[int], list[float], list[tuple[float, float]]]] = {}
    written: list[Path] = []
    runs = args.out / "tensorboard"
    for name, class_name in (("flat", "DDPGHERAgent"), ("hierarchical", "HierarchicalEBMAgent")):
        agent = _agent_class(class_name)(seed=args.seed, tensorboard_log=runs)
        evaluation = EvalCallback(
            ENV_ID,
            n_eval_episodes=50,
            eval_freq=max(args.total_timesteps // 8, 1),
            verbose=0,
            seed=args.seed + 1,
            env_kwargs=env_kwargs,
        )
        callbacks: list[BaseCallback] = [evaluation]
        if hasattr(agent, "plan"):
            callbacks.append(PlanFigureCallback(max(args.total_timesteps // 4, 1)))
        print(f"\ntraining the {name} agent for {args.total_timesteps} steps", flush=True)
        started = time.perf_counter()
        env = _make_env(ENV_ID, env_kwargs)
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
        rows.append(_row(name, agent.num_timesteps, seconds, result))
        curves[name] = (
            [0, *(step for step, _ in evaluation.evaluations)],
            [0.0, *(r.success_rate for _, r in evaluation.evaluations)],
            [(0.0, 0.0), *(r.ci95 for _, r in evaluation.evaluations)],
        )
        if hasattr(agent, "plan"):
            written += draw_agent(agent, ENV_ID, env_kwargs, args.out, n_tasks=3, seed=args.seed)
    written.append(_save_figure(plot_success(curves), args.out / "success.png"))
    header = ["agent", "env steps", "seconds", "success", "95% interval", "mean steps"]
    print(f"\n{ENV_ID}{f', layout {args.layout}' if args.layout else ''}, "
          f"{args.episodes} episodes\n\n{format_rows([header, *rows])}\n")  # fmt: skip
    for path in written:
        print(f"wrote {path}")
    print(f"\nlook at the runs with: tensorboard --logdir {runs}")


def gallery(args: argparse.Namespace) -> None:
    """Draw the gallery of toy energies."""
    args.out.mkdir(parents=True, exist_ok=True)
    import_module("hierebm.energy.gallery").main(args.out, quick=args.quick)


def settings(args: argparse.Namespace) -> None:
    """Print the fields of an agent's config."""
    config = _agent_class(_AGENT_CLASSES[args.agent]).config_class()
    rows = [["setting", "default"]]
    rows += [[f.name, json.dumps(getattr(config, f.name))] for f in dataclasses.fields(config)]
    print(format_rows(rows))


def parse_value(text: str) -> Any:
    """A value from the command line: JSON where it is that, a number with underscores, or text."""
    try:
        return json.loads(text.replace("_", "") if text[:1].isdigit() else text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def draw_agent(
    agent: Any,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    out: Path,
    n_tasks: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Plan, energy and episode of a few tasks as PNG files; returns what was written."""
    from hierebm.plots import plan_figures, plot_rollout, walls_of

    env = _make_env(env_id, dict(env_kwargs))
    walls = walls_of(env)
    radius = getattr(env.unwrapped, "success_radius", None)
    written = []
    for i in range(n_tasks):
        observation, _ = env.reset(
            seed=seed + i, options=None if options is None else dict(options)
        )
        if hasattr(agent, "plan"):
            for name, figure in plan_figures(agent, observation, walls).items():
                written.append(_save_figure(figure, out / f"{name}_{i}.png"))
        trajectory, subgoals, success = run_episode(agent, env, observation)
        outcome = "Reached the goal in" if success else "Did not reach the goal in"
        figure = plot_rollout(
            trajectory,
            observation["desired_goal"],
            walls,
            subgoals=subgoals,
            success_radius=radius,
            title=f"{outcome} {len(trajectory) - 1} steps",
        )
        written.append(_save_figure(figure, out / f"episode_{i}.png"))
    env.close()
    return written


def run_episode(
    agent: Any, env: gym.Env, observation: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any] | None, bool]:
    """Act until the episode ends.

    Args:
        agent: with ``predict``; its state may tell the current ``subgoal``.
        env: just reset.
        observation: what the reset returned.

    Returns:
        (T + 1, goal_dim) achieved goals, (M, goal_dim) the subgoals chased on the way (None without
        any), and whether the env reported success at any step.
    """
    places, subgoals, success = [observation["achieved_goal"]], [], False
    state: Any = None
    done = False
    while not done:
        batch = {key: np.asarray(value)[None] for key, value in observation.items()}
        first = np.array([state is None])
        actions, state = agent.predict(batch, state, first, deterministic=True)
        subgoal = getattr(state[0], "subgoal", None) if isinstance(state, Sequence) else None
        if subgoal is not None and not (subgoals and np.array_equal(subgoals[-1], subgoal)):
            subgoals.append(np.array(subgoal))
        observation, _, terminated, truncated, info = env.step(actions[0])
        places.append(observation["achieved_goal"])
        success = success or bool(info.get("is_success", info.get("success", False)))
        done = terminated or truncated
    on_the_way = [s for s in subgoals if not np.array_equal(s, observation["desired_goal"])]
    return np.stack(places), np.stack(on_the_way) if on_the_way else None, success


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


def _agent_class(name: str) -> Any:
    import hierebm

    return getattr(hierebm, name)


def _load(args: argparse.Namespace) -> tuple[Any, str, dict[str, Any]]:
    """The agent of a checkpoint, and the env to try it in."""
    meta = read_meta(args.checkpoint)
    name = meta.get("agent")
    if name not in _AGENT_CLASSES.values():
        raise CheckpointError(
            f"{args.checkpoint} holds no agent ({name}); give a file that agent.save wrote"
        )
    trained_in = meta.get("env") or {}
    env_id = args.env or trained_in.get("id") or ENV_ID
    env_kwargs = dict(trained_in.get("kwargs") or {}) if env_id == trained_in.get("id") else {}
    env_kwargs.update(_env_kwargs(args))
    return _agent_class(str(name)).load(args.checkpoint), env_id, env_kwargs


def _env_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    kwargs = {name: parse_value(text) for name, text in args.env_arg}
    if args.layout is not None:
        kwargs["layout"] = args.layout
    return kwargs


def _make_env(env_id: str, kwargs: Mapping[str, Any]) -> gym.Env:
    try:
        return gym.make(env_id, **kwargs)
    except TypeError as error:
        if not kwargs:
            raise
        raise TypeError(f"{env_id} does not take {', '.join(kwargs)}: {error}") from error


def _options(args: argparse.Namespace) -> dict[str, Any] | None:
    return None if args.distance is None else {"distance": tuple(args.distance)}


def _save_figure(figure: Any, path: Path) -> Path:
    from hierebm.logger import figure_to_png

    with atomic_write(path) as file:
        file.write(figure_to_png(figure))
    return path
