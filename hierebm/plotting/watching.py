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
    dots,
    frames_to_gif,
    mark_ends,
)
from hierebm.plotting.maps import map_on, pairs_of
from hierebm.plotting.world import World

# Of more edges, the shortest are drawn.
MOST_EDGES = 600
SIDE, MOST_MAPS = 480, 2


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
    world, pictures = World.of(env), list[NDArray[np.uint8]]()
    scene: list[_Scene] = []

    def observe(seen: ObservedStep) -> None:
        before, after = seen.observations, seen.step.next_observation
        if seen.episode_starts[0]:
            scene[:] = [_Scene(world, _goal_of(before, "achieved_goal"))]
        goal = _goal_of(before, "desired_goal")
        # Where the environment's info says nothing, its compute_reward does.
        success, reported = seen.step.infos.success()
        scene[0].move(_goal_of(after, "achieved_goal"), goal, success[0] if reported[0] else None)
        if scene[0].n_steps % every and not seen.step.ended[0]:
            return
        drawn = scene[0].draw(goal, seen.states[0] if isinstance(seen.states, Sequence) else None)
        own = env.render() if env.render_mode == "rgb_array" else None
        pictures.append(drawn if own is None else _beside(np.asarray(own), drawn))

    episodes = run_episodes(
        agent, AutoresetEnv(env), n_episodes, seed=seed, options=options, observe=observe
    )
    for _ in episodes:
        yield from pictures
        pictures.clear()


def _goal_of(observation: Any, key: str) -> NDArray[Any]:
    return np.array(observation[key][0]).reshape(-1)


class _Scene:
    """An episode as far as it has gone.

    Args:
        world: where it is.
        start: (goal_dim,) achieved goal.
    """

    def __init__(self, world: World, start: NDArray[Any]) -> None:
        self.world, self.trail = world, [start]
        self.reached_after: int | None = None
        # (2, goal_dim) corners of what all pictures of the episode show: maps must not jump.
        self.seen = start[None]
        self._pairs: list[tuple[int, int]] = []

    @property
    def n_steps(self) -> int:
        """Steps so far."""
        return len(self.trail) - 1

    def move(self, achieved: NDArray[Any], goal: NDArray[Any], success: Any) -> None:
        """Take a step to ``achieved`` (goal_dim,), with the desired goal (goal_dim,)."""
        self.trail.append(achieved)
        if success is None and self.world.reached is not None:
            ends = np.stack([achieved, goal]).astype(np.float32)
            success = self.world.reached(ends[:1], ends[1:])[0]
        if success and self.reached_after is None:
            self.reached_after = self.n_steps

    def draw(self, goal: NDArray[Any], plan: Any) -> NDArray[np.uint8]:
        """Where it went to this goal (goal_dim,), and what it plans, as a picture."""
        trail = np.stack(self.trail)
        graph = getattr(plan, "graph", None)
        shown = None if graph is None else graph.to_plan([0, *plan.path] if plan.path else [])
        nodes = np.zeros((0, len(goal))) if shown is None else np.asarray(shown.nodes)
        points = np.concatenate([self.seen, trail[-1:], goal[None], nodes])
        self.seen = np.stack([points.min(0), points.max(0)])
        self._pairs = self._pairs or pairs_of(points, self.world.walls, MOST_MAPS)
        n = len(self._pairs)
        figure = Figure(figsize=(n * SIDE / DPI, SIDE / DPI), dpi=DPI)
        for i, pair in enumerate(self._pairs):
            ax = figure.add_axes(((i + 0.13) / n, 0.11, 0.84 / n, 0.82))
            on = map_on(ax, pair, self.seen, self.world, goal)
            if shown is not None:
                at = on.of(nodes)
                edges, distances = np.asarray(shown.edges).reshape(-1, 2), shown.distances
                lines = at[edges[np.argsort(distances)[:MOST_EDGES]]]
                ax.add_collection(
                    LineCollection(list(lines), colors=INK, linewidths=0.4, alpha=0.25)
                )
                dots(ax, at[1:-1], s=10, c="#868e96", zorder=3)
                if shown.path:
                    # From where it is now: the first node is where the plan was made.
                    way = np.concatenate([on.of(trail[-1:]), at[shown.path[1:]]])
                    ax.plot(*way.T, color=PATH, linewidth=2, zorder=4, path_effects=CASING)
            ax.plot(*on.of(trail).T, color=INK, linewidth=1.4, zorder=5)
            subgoal = getattr(plan, "subgoal", None)
            if subgoal is not None:
                dots(ax, on.of(np.asarray(subgoal)[None]), s=90, facecolors="none",
                     edgecolors=PATH, linewidths=2, zorder=6)  # fmt: skip
            mark_ends(ax, on.of(trail)[-1], on.of(goal[None])[0])
        told = f"step {self.n_steps}"
        if self.reached_after is not None:
            told += f", reached at step {self.reached_after}"
        figure.axes[0].set_title(told, fontsize=9, color=INK)
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
                'an .mp4 needs FFmpeg: pip install "hierebm[video]", or call the file .gif'
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
