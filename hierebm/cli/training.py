"""What ``hierebm train`` keeps: where it saves, how it stops, and how a stopped run goes on."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hierebm.files import Claim, checkpoint_path, remove_stale


def claimed_out(out: Path) -> tuple[Path, Claim]:
    """A file that no other run writes to, and its claim: OUT, or one with a number in its name.

    What a run that was killed has left of it is removed.

    Raises:
        OSError: its folder cannot be written to.
    """
    claim = Claim(out.parent, out.stem, out.suffix)
    path = out.with_name(claim.name + out.suffix)
    if path != out:
        say(f"another run writes to {out}: this one writes to {path}", error=True)
    remove_stale(path.parent, re.escape(path.name))
    return path, claim


def out_of(args: argparse.Namespace) -> Path:
    """The file that the agent is saved to: as asked for, or the one that a resumed run had."""
    if args.out is not None:
        if args.out.is_dir():
            raise IsADirectoryError(f"{str(args.out)!r} is a folder; name a file in it")
        return checkpoint_path(args.out)
    if args.resume is None:
        return Path("agent.zip")
    path = checkpoint_path(args.resume, must_exist=True)
    # Checkpoints are called after it.
    return path.with_name(re.sub(r"_\d+_steps$", "", path.stem) + path.suffix)


def save_anywhere(agent: Any, out: Path) -> None:
    """Save the agent with its experience to OUT; where that fails, elsewhere.

    Raises:
        OSError: it is not in OUT; says where it is instead.
    """
    try:
        agent.save(out, replay_buffer=True)
        return
    except OSError as error:
        reason = error
    name = f"{out.stem}_{agent.num_timesteps}_steps_{os.getpid()}.zip"
    elsewhere = [folder / name for folder in (Path(tempfile.gettempdir()), Path.cwd(), Path.home())]
    # A smaller file may have room where the whole has not. One that is there may hold experience.
    beside = out.with_name(name) if out.exists() else out
    places = [(path, True) for path in elsewhere] + [(path, False) for path in (beside, *elsewhere)]
    for path, replay_buffer in places:
        try:
            agent.save(path, replay_buffer=replay_buffer)
        except OSError:
            continue
        without = "" if replay_buffer else " without its experience"
        raise OSError(
            f"{out} could not be written ({reason}). The agent was saved to {path}{without}: go on "
            f"with hierebm train --resume {path}"
        )
    tried = ", ".join(str(path.parent) for path in elsewhere)
    raise OSError(
        f"{out} could not be written ({reason}), nor a file in {tried}: the agent of "
        f"{agent.num_timesteps} steps is lost. Checkpoints (--checkpoint-freq) are where they were"
    )


def say(text: str, *, error: bool = False) -> None:
    """Print a line; a terminal that was closed meanwhile does not matter."""
    with suppress(OSError):
        print(text, file=sys.stderr if error else sys.stdout, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
