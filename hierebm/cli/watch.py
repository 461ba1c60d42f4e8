"""``hierebm watch``: an agent at work, in a window or in a file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hierebm.cli.checkpoints import load_agent
from hierebm.cli.values import env_kwargs_of, options_of
from hierebm.files import check_writable
from hierebm.goal_env.make import make_env
from hierebm.plotting.watching import watch_frames, write_video

# Any of them says that there is a screen, or that none is needed.
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


def watch(args: argparse.Namespace) -> None:
    """Show what a checkpoint's agent does, and what it plans.

    Raises:
        RuntimeError: there is no screen; use --record.
    """
    if args.record is not None:
        check_writable(args.record)
    elif sys.platform.startswith("linux") and not any(map(os.environ.get, SCREENS)):
        raise RuntimeError("there is no screen: write a file with --record NAME.gif")
    agent, env_id, env_kwargs = load_agent(args.checkpoint, args.env, env_kwargs_of(args))
    env = _rendered(env_id, env_kwargs)
    try:
        frames = watch_frames(
            agent, env, args.episodes, seed=args.seed, options=options_of(args), every=args.every
        )
        if args.record is not None:
            print(f"wrote {write_video(args.record, frames, args.fps)}")
        else:
            _show(frames, args.fps)
    finally:
        env.close()


def _rendered(env_id: str, env_kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    """The env with pictures of its own, where it has them."""
    try:
        env = make_env(env_id, {**env_kwargs, "render_mode": "rgb_array"})
        env.reset(seed=0)
        env.render()
    # Whatever drawing lacks, such as pygame or a graphics driver: the plan is drawn without.
    except Exception as error:
        print(f"the env itself is not drawn ({error})", file=sys.stderr)
        return make_env(env_id, env_kwargs)
    return env


def _show(frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    try:
        import pygame
    except ImportError as error:
        raise ImportError('a window needs pygame: pip install "hierebm[render]"') from error
    screen, clock = None, pygame.time.Clock()
    try:
        for picture in frames:
            if screen is None:
                pygame.display.init()
                screen = pygame.display.set_mode((picture.shape[1], picture.shape[0]))
                pygame.display.set_caption("hierebm watch")
            screen.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
            pygame.display.flip()
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                return
            clock.tick(fps)
    finally:
        pygame.quit()
