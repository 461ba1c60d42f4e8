"""``hierebm train``: learn, save whatever happens, evaluate."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hierebm.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from hierebm.checkpoint.state import single_env_kwargs
from hierebm.cli.checkpoints import agent_class_of, load_stopped_agent, make_as_many
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.cli.seeds import train_seeds
from hierebm.cli.stopping import StopCallback, Stopped, StopSignals
from hierebm.cli.training import claimed_out, out_of, save_anywhere, say
from hierebm.cli.values import env_kwargs_of, parse_settings
from hierebm.data import OfflineDataset, load_minari, load_ogbench
from hierebm.evaluation import evaluate as evaluate_agent
from hierebm.files import atomic_write, check_writable


def train(args: argparse.Namespace, callbacks: Sequence[BaseCallback] = ()) -> None:
    """Train an agent, on data first if there is any, save it whatever happens, evaluate it.

    With several seeds, each of them in a process of its own.

    Args:
        args: the parsed arguments.
        callbacks: further ones, called before checkpoints are written.
    """
    if args.seeds is not None:
        train_seeds(args)
        return
    data = _data(args)
    out, claim = claimed_out(out_of(args))
    try:
        check_writable(out)
        with StopSignals() as signals:
            agent, env_id, env_kwargs = _agent(args)
            try:
                _learn(agent, args, data, out, StopCallback(signals), callbacks)
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
        if args.json is not None:
            row = {"env": env_id, "env_kwargs": env_kwargs, "seed": args.seed,
                   "timesteps": agent.num_timesteps, **result.to_dict()}  # fmt: skip
            with atomic_write(args.json) as file:
                file.write((json.dumps(row, indent=1) + "\n").encode())


def _agent(args: argparse.Namespace) -> tuple[Any, str | None, dict[str, Any]]:
    """The agent in its env, a new one or that of a file, and id and arguments of the env."""
    options = {
        "seed": args.seed,
        "tensorboard_log": args.tensorboard_log,
        "device": args.device,
        "verbose": int(args.verbose),
        **parse_settings(args.set, args.settings),
    }
    if args.resume is not None:
        return load_stopped_agent(args.resume, args.env, env_kwargs_of(args), options)
    env_id, env_kwargs = args.env or (None if args.data else ENV_ID), env_kwargs_of(args)
    env = None if env_id is None else make_as_many(env_id, env_kwargs, args.n_envs)
    return agent_class_of(AGENTS[args.agent])(env=env, **options), env_id, env_kwargs


def _learn(
    agent: Any,
    args: argparse.Namespace,
    data: OfflineDataset | None,
    out: Path,
    stop: StopCallback,
    further: Sequence[BaseCallback],
) -> None:
    """Learn offline where there is data, or was, then online; or what is left of a stopped run."""
    options = {"progress_bar": not args.no_progress_bar, "reset_num_timesteps": not args.resume}
    # Before anything is learned here: what is left is forgotten then.
    left = dict(agent.unfinished) if args.resume else {}
    env_id = args.env if args.env or args.data else ENV_ID
    callbacks: list[BaseCallback] = [stop, *further]
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
        alone = args.success_tolerance is not None or args.goal is not None
        if alone or (args.gradient_steps and not args.resume):
            raise ValueError("--gradient-steps, --success-tolerance and --goal go with --data")
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
        return load_ogbench(args.data, goal=args.goal)
    return load_minari(args.data, goal=args.goal)


def _checkpoints(args: argparse.Namespace, out: Path, prefix: str) -> list[BaseCallback]:
    if not args.checkpoint_freq:
        return []
    keep = args.keep_checkpoints or None
    return [
        CheckpointCallback(
            args.checkpoint_freq, out.parent, prefix, save_replay_buffer=True, keep=keep
        )
    ]
