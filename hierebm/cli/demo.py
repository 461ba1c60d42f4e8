"""``hierebm demo``: both agents on one task, compared."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from hierebm.callbacks import BaseCallback, EvalCallback, PlanFigureCallback
from hierebm.cli.checkpoints import agent_class_of
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.cli.values import format_rows
from hierebm.evaluation import EvaluationResult
from hierebm.evaluation import evaluate as evaluate_agent
from hierebm.files import check_writable
from hierebm.goal_env.make import make_env
from hierebm.plotting.pictures import draw_agent, save_figure


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
