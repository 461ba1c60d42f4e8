"""The commands of ``hierebm`` and their options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierebm import __version__
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.cli.values import parse_seeds


def build_parser(train_defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        train_defaults: of the options of train, other than usual.
    """
    parser = argparse.ArgumentParser(
        prog="hierebm",
        description="Goal-conditioned reinforcement learning with energy-based subgoals.",
    )
    parser.add_argument("--version", action="version", version=f"hierebm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        description = text[0].upper() + text[1:] + "."
        # Unabbreviated: else train would take --env for --env-arg.
        sub = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
        sub.add_argument("--traceback", action="store_true", help="show where an error came from")
        return sub

    train = command("train", "train an agent, evaluate it and save it")
    train.add_argument(
        "env_id", nargs="?", metavar="ENV_ID", help=f"{_ENV_HELP}, or with --data none"
    )
    train.add_argument("--env", metavar="ENV_ID", help="the same, as the other commands have it")
    train.add_argument(
        "--n-envs", type=_positive, default=1, metavar="N",
        help="environments that are stepped together; default: %(default)s",
    )  # fmt: skip
    train.add_argument(
        "--config", type=Path, metavar="FILE",
        help="options from a YAML or JSON file, such as the run.json of a run; those that are "
        "given here go first",
    )  # fmt: skip
    _add_env_arguments(train)
    train.add_argument(
        "--agent", choices=AGENTS, default="hierarchical", help="default: %(default)s"
    )
    train.add_argument(
        "--total-timesteps",
        type=_positive,
        metavar="N",
        help="env steps; default: the agent's, or none with --data",
    )
    train.add_argument(
        "--data", metavar="FILE",
        help="first learn offline from an .npz file of OGBench, or a Minari data set by its id; "
        "then online in ENV_ID if --total-timesteps is given",
    )  # fmt: skip
    train.add_argument(
        "--gradient-steps", type=_positive, metavar="N", help="offline; default: the agent's"
    )
    train.add_argument(
        "--success-tolerance", type=float, metavar="X",
        help="with --data and without ENV_ID: how far from a goal counts as reached",
    )  # fmt: skip
    train.add_argument(
        "--goal", type=_axes, metavar="AXES",
        help="with --data: which axes of an observation are the achieved goal, such as 0,1; "
        "default: what the data set says, or x and y in OGBench's mazes",
    )  # fmt: skip
    train.add_argument("--seed", type=_count, help="makes the run repeatable")
    train.add_argument(
        "--seeds", type=_seeds, metavar="LIST",
        help="several, such as 0-4 or 0,2,7: one process each, OUT with the seed in its name",
    )  # fmt: skip
    train.add_argument(
        "--jobs", type=_positive, metavar="N",
        help="of these, at the same time; default: as many as there are cores",
    )  # fmt: skip
    train.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="FIELD=VALUE",
        help="a setting of the agent, as often as you like (`hierebm settings` lists them)",
    )
    train.add_argument(
        "--resume", type=Path, metavar="FILE",
        help="go on with a run that was stopped, or killed, from the file that it saved last; "
        "--total-timesteps counts from its beginning",
    )  # fmt: skip
    train.add_argument(
        "--out", type=Path, help="checkpoint; default: agent.zip, or that of the resumed run"
    )
    train.add_argument(
        "--tensorboard-log", type=Path, metavar="DIR", help="folder of TensorBoard runs"
    )
    train.add_argument("--device", default="cpu", help="of the networks; default: %(default)s")
    train.add_argument(
        "--episodes", type=_count, default=100, metavar="N",
        help="of the evaluation at the end, 0 for none; default: %(default)s",
    )  # fmt: skip
    train.add_argument("--json", type=Path, metavar="FILE", help="write that evaluation there")
    train.add_argument(
        "--eval-freq",
        type=_count,
        default=0,
        metavar="N",
        help="also evaluate every N calls of step",
    )
    train.add_argument(
        "--checkpoint-freq", type=_count, default=0, metavar="N",
        help="also save every N calls of step, beside OUT",
    )  # fmt: skip
    train.add_argument(
        "--keep-checkpoints", type=_count, default=3, metavar="N",
        help="of those, keep the newest N, 0 for all; default: %(default)s",
    )  # fmt: skip
    train.add_argument("--no-progress-bar", action="store_true", help="print no progress bar")
    train.add_argument("--verbose", action="store_true", help="print tables of metrics")

    train.set_defaults(**(train_defaults or {}))

    sweep = command("sweep", "train many variants, environments and seeds, and compare them")
    sweep.add_argument(
        "study", type=Path, metavar="STUDY", help="YAML or JSON file: docs/sweeps.md"
    )
    sweep.add_argument(
        "--out", type=Path, metavar="DIR", help="where all of it goes; default: sweeps/STUDY. "
        "A sweep that was stopped or killed goes on there",
    )  # fmt: skip
    sweep.add_argument(
        "--jobs", type=_positive, metavar="N",
        help="trials at the same time; default: as many as there are cores. 1 needs no Ray",
    )  # fmt: skip
    sweep.add_argument(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="that STUDY may name as MODULE:ENV_ID; repeat for several. No other is imported",
    )  # fmt: skip
    sweep.add_argument("--address", help="of a Ray cluster that runs them instead, such as auto")

    evaluate = command("evaluate", "evaluate a checkpoint")
    _add_checkpoint_arguments(evaluate)
    _add_task_arguments(evaluate)
    evaluate.add_argument(
        "--episodes", type=_positive, default=100, metavar="N", help="default: %(default)s"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write every episode there")

    record = command("record", "write what a checkpoint's agent does as a Minari data set")
    _add_checkpoint_arguments(record)
    _add_task_arguments(record)
    record.add_argument(
        "--episodes", type=_positive, default=100, metavar="N", help="default: %(default)s"
    )
    record.add_argument(
        "--dataset-id",
        metavar="ID",
        help="NAMESPACE/NAME-v0; default: hierebm/ENV_ID-agent-v0",
    )
    record.add_argument("--overwrite", action="store_true", help="replace a data set of this id")

    watch = command("watch", "show what a checkpoint's agent does and plans, in a window or a file")
    _add_checkpoint_arguments(watch)
    _add_task_arguments(watch)
    watch.add_argument(
        "--record", type=Path, metavar="FILE", help="write it as .gif or .mp4; needs no screen"
    )
    watch.add_argument(
        "--episodes", type=_positive, default=3, metavar="N", help="default: %(default)s"
    )
    watch.add_argument(
        "--every", type=_positive, default=1, metavar="N",
        help="steps from one picture to the next; default: %(default)s",
    )  # fmt: skip
    watch.add_argument(
        "--fps", type=_positive, default=15, metavar="N",
        help="pictures in a second; default: %(default)s",
    )  # fmt: skip

    plot = command("plot", "draw the plans, energies and episodes of a checkpoint")
    _add_checkpoint_arguments(plot)
    _add_task_arguments(plot)
    plot.add_argument(
        "--out", type=Path, default=Path("plots"), help="folder; default: %(default)s"
    )
    plot.add_argument(
        "--tasks",
        type=_positive,
        default=3,
        metavar="N",
        help="number of tasks; default: %(default)s",
    )
    plot.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="run folder, for the curve of success while learning",
    )

    diagnose = command(
        "diagnose", "tell why a checkpoint's agent reaches its goals or does not, and what to try"
    )
    _add_checkpoint_arguments(diagnose)
    diagnose.add_argument(
        "--replay", type=Path, metavar="FILE", help="its replay buffer: more can be told with it"
    )
    diagnose.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")

    demo = command("demo", f"train both agents on {ENV_ID}, print the table, draw the pictures")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder; default: %(default)s")
    demo.add_argument("--seed", type=_count, default=0, help="default: %(default)s")
    demo.add_argument("--layout", help="of the walls; default: the open plane")
    demo.add_argument(
        "--total-timesteps", type=_positive, default=10_000, metavar="N",
        help="env steps per agent; default: %(default)s",
    )  # fmt: skip
    demo.add_argument(
        "--episodes", type=_positive, default=200, metavar="N",
        help="of the evaluation; default: %(default)s",
    )  # fmt: skip

    gallery = command("gallery", "draw what energies, objectives and samplers do on toy densities")
    gallery.add_argument("--out", type=Path, default=Path("gallery"), help="default: %(default)s")
    gallery.add_argument("--quick", action="store_true", help="smaller and faster")

    settings = command("settings", "list the settings of an agent with their defaults")
    settings.add_argument(
        "--agent", choices=AGENTS, default="hierarchical", help="default: %(default)s"
    )
    return parser


_ENV_HELP = (
    f"id of a goal env, with MODULE: in front where one has to be imported (PYTHONPATH=. for one "
    f"in this folder); default: {ENV_ID}"
)


def _add_env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layout", help="of the walls, for envs that have layouts")
    parser.add_argument(
        "--env-arg",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="another argument of the env, as often as you like",
    )


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file to load")
    parser.add_argument(
        "--env", metavar="ENV_ID", help="default: the one it was trained in, where it says so"
    )
    _add_env_arguments(parser)


def _add_task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--distance", nargs=2, type=float, metavar=("LO", "HI"),
        help="only tasks with a shortest path of this length, for envs that offer it",
    )  # fmt: skip
    parser.add_argument("--seed", type=_count, default=0, help="of the tasks; default: %(default)s")


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _count(text: str) -> int:
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (number >= 0 and number.is_integer()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(number)


def _axes(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _seeds(text: str) -> list[int]:
    try:
        return parse_seeds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    number = _count(text)
    if not number:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number
