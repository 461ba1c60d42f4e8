# PYTHON_ARGCOMPLETE_OK
"""The ``hierebm`` command. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hierebm.cli.options import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        Exit status: 0, 1 after an error that was explained in one line, 130 after Ctrl-C; 143 and
        129 after SIGTERM and SIGHUP, which stop `train` as Ctrl-C does.
    """
    args = parsed(argv)
    # OpenMP threads that spin while they wait slow down runs side by side. It has to be set before
    # torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from hierebm.cli import commands

    try:
        getattr(commands, args.command)(args)
    except KeyboardInterrupt as stop:
        status: int = getattr(stop, "status", 130)
        return status
    except BrokenPipeError:
        # The reader of our output has gone (`hierebm settings | head`); Python would complain once
        # more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except commands.EXPLAINED as error:
        if args.traceback:
            raise
        # The log may be on the disk that is full.
        with suppress(OSError):
            print(f"hierebm {args.command}: error: {error}", file=sys.stderr)
        return 1
    return 0


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a command, with those of a config file below them."""
    parser = build_parser()
    # Set by a shell that asks for completions; nothing is imported otherwise.
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    if args.command != "train":
        return args
    # A file of an env that is not this one says nothing of this one's arguments.
    values: dict[str, Any] = {"settings": {}, "env_args": {}}
    if args.config is not None:
        from hierebm.cli.config_file import read_config

        bare = vars(parser.parse_args(["train"]))
        options = {k: v for k, v in bare.items() if k not in _NOT_IN_FILES}
        try:
            named = bool(args.env_id or args.env)
            values = read_config(args.config, options, may_name_env=not named)
        except (OSError, ValueError, ImportError) as error:
            parser.exit(1, f"hierebm train: error: {error}\n")
        # Parsed once more, with other defaults: what is given here goes first.
        own = {k: v for k, v in values.items() if k in options}
        if args.seeds is not None:
            # The file of a run has the seed of that one.
            own.pop("seed", None)
        args = build_parser(own).parse_args(argv)
    if args.env_id and args.env and args.env_id != args.env != values.get("env"):
        parser.error(
            f"train: two environments are named, {args.env_id} and {args.env}: leave one out"
        )
    args.env = args.env_id or args.env
    # What processes of single seeds are started with: all but the word train.
    args.argv = list(sys.argv[1:] if argv is None else argv)[1:]
    args.settings = values["settings"]
    same = values.get("env") in (None, args.env)
    args.env_args = values["env_args"] if same else {}
    return args


# Of the parser's own names; environment arguments and settings are mappings there, and a file says
# how one run goes, not how many there are.
_NOT_IN_FILES = (
    "command", "config", "env_id", "env_arg", "set", "traceback", "resume", "seeds", "jobs",
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
