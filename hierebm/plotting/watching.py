"""An agent at work, frame by frame: the environment, and beside it graph, path and subgoal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hierebm.episode_loop import ObservedStep, Policy, run_episodes
from hierebm.files import atomic_write
from hierebm.goal_env.autoreset import AutoresetEnv
from hierebm.plotting.drawing import (
    CASING,
    DPI,
    INK,
    PATH,
    Walls,
    dots,
    draw_walls,
    extent_of,
    frame,
    frames_to_gif,
    label_axes,
    mark_ends,
    plane,
)
from hierebm.plotting.plots import walls_of

# Of more edges, the shortest are drawn.
MOST_EDGES = 600
SIDE = 480


def watch_frames(
    agent: Policy,
    env: gym.Env[Any, Any],
    n_episodes: int,
    *,
    seed: int,
    options: Mapping[str, Any] | None = None,
    every: int = 1,
) -> Iterator[NDArray[np.uint8]]:
    """Let an agent act in a goal environment and yield pictures (height, width, 3).

    Args:
        agent: with ``predict``; its state tells the current plan.
        env: a goal environment; its own picture is on the left where it has ``render_mode`` =
            ``"rgb_array"``.
        n_episodes: how many.
        seed: of the first reset.
        options: of every reset.
        every: steps from one picture to the next; the last of an episode is always there.
    """
    walls, pictures = walls_of(env), list[NDArray[np.uint8]]()
    trail: list[NDArray[Any]] = []

    def observe(seen: ObservedStep) -> None:
        before, after = seen.observations, seen.step.next_observation
        if seen.episode_starts[0]:
            trail[:] = [np.array(before["achieved_goal"][0]).reshape(-1)]
        trail.append(np.array(after["achieved_goal"][0]).reshape(-1))
        if (len(trail) - 1) % every and not seen.step.ended[0]:
            return
        goal = np.array(before["desired_goal"][0]).reshape(-1)
        plan = seen.states[0] if isinstance(seen.states, Sequence) else None
        drawn = _draw(np.stack(trail), goal, plan, walls)
        own = env.render() if env.render_mode == "rgb_array" else None
        pictures.append(drawn if own is None else _beside(np.asarray(own), drawn))

    episodes = run_episodes(
        agent, AutoresetEnv(env), n_episodes, seed=seed, options=options, observe=observe
    )
    for _ in episodes:
        yield from pictures
        pictures.clear()


def _draw(
    trail: NDArray[Any], goal: NDArray[Any], plan: Any, walls: Walls | None
) -> NDArray[np.uint8]:
    """(T, goal_dim) where it went, and what it plans, as a picture."""
    figure = Figure(figsize=(SIDE / DPI, SIDE / DPI), dpi=DPI)
    ax = figure.add_axes((0.13, 0.1, 0.84, 0.84))
    points, target = plane(trail), plane(goal[None])[0]
    graph = getattr(plan, "graph", None)
    shown = None if graph is None else graph.to_plan([0, *plan.path] if plan.path else [])
    nodes = np.zeros((0, 2)) if shown is None else plane(shown.nodes)
    draw_walls(ax, walls)
    frame(ax, extent_of(walls, np.concatenate([points, target[None], nodes])), enclosed=bool(walls))
    if shown is not None:
        edges, distances = np.asarray(shown.edges).reshape(-1, 2), np.asarray(shown.distances)
        lines = nodes[edges[np.argsort(distances)[:MOST_EDGES]]]
        ax.add_collection(LineCollection(list(lines), colors=INK, linewidths=0.4, alpha=0.25))
        dots(ax, nodes[1:-1], s=10, c="#868e96", zorder=3)
    subgoal = getattr(plan, "subgoal", None)
    if shown is not None and shown.path:
        # From where it is now: the first node is where the plan was made.
        way = np.concatenate([points[-1:], nodes[shown.path[1:]]])
        ax.plot(*way.T, color=PATH, linewidth=2, zorder=4, path_effects=CASING)
    ax.plot(*points.T, color=INK, linewidth=1.4, zorder=5)
    if subgoal is not None:
        dots(ax, plane(np.asarray(subgoal)[None]), s=90, facecolors="none", edgecolors=PATH,
             linewidths=2, zorder=6)  # fmt: skip
    mark_ends(ax, points[-1], target)
    label_axes(ax, len(goal))
    ax.set_title(f"step {len(trail) - 1}", fontsize=9, color=INK)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _beside(left: NDArray[Any], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    picture = Image.fromarray(left.astype(np.uint8))
    width = max(round(picture.width * len(right) / picture.height), 1)
    # Encoders of videos want even sizes.
    scaled = picture.resize((width + width % 2, len(right)))
    return np.concatenate([np.asarray(scaled.convert("RGB")), right], axis=1)


def write_video(path: Path, frames: Iterator[NDArray[np.uint8]], fps: float) -> Path:
    """Write frames as a GIF or, by the name of the file, a video; returns the path.

    Raises:
        ImportError: a video needs imageio with FFmpeg, and they are missing.
        OSError: it cannot be written.
        ValueError: the file is called neither .gif nor .mp4.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"{path}: call it NAME.gif or NAME.mp4")
    if path.suffix == ".mp4":
        try:
            import imageio.v2 as imageio
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'an .mp4 needs FFmpeg: pip install "imageio[ffmpeg]", or call the file .gif'
            ) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        writer: Any = imageio.get_writer(path, fps=fps, macro_block_size=1)
        with writer:
            for picture in frames:
                writer.append_data(picture)
        return path
    encoded = frames_to_gif(frames, fps)
    with atomic_write(path) as file:
        file.write(encoded)
    return path
