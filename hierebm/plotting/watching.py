"""An agent at work, frame by frame: the environment with graph, path and subgoal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    Extent,
    dots,
    frames_to_gif,
    mark_ends,
)
from hierebm.plotting.maps import map_on, pairs_of
from hierebm.plotting.world import World, frame_extent_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of more edges, the shortest are drawn.
MOST_EDGES = 600
SIDE, MOST_MAPS = 480, 2
# Pixels above a frame, for what is said of it.
HEADER = 26


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
        env: a goal environment; its own picture is there where it has ``render_mode`` =
            ``"rgb_array"``: under graph, path and subgoal where it names its ``frame_extent`` and
            goals have two axes, else on the left.
        n_episodes: how many.
        seed: of the first reset.
        options: of every reset.
        every: steps from one picture to the next; the last of an episode is always there.

    Raises:
        ValueError: what the environment names for its pictures makes no sense.
    """
    world, pictures = World.of(env), list[NDArray[np.uint8]]()
    drawn = env.render_mode == "rgb_array"
    extent = frame_extent_of(env) if drawn else None
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
        plan = seen.states[0] if isinstance(seen.states, Sequence) else None
        own = np.asarray(env.render()) if drawn else None
        if own is not None and extent is not None and len(goal) == 2:
            pictures.append(scene[0].draw_over(own, extent, goal, plan))
        else:
            maps = scene[0].draw(goal, plan)
            pictures.append(maps if own is None else _beside(own, maps))

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

    @property
    def told(self) -> str:
        """How far it is, in words."""
        reached = self.reached_after
        return f"step {self.n_steps}" + ("" if reached is None else f", reached at step {reached}")

    def draw(self, goal: NDArray[Any], plan: Any) -> NDArray[np.uint8]:
        """Where it went to this goal (goal_dim,), and what it plans, as a picture."""
        trail, graph = np.stack(self.trail), _graph_of(plan)
        nodes = np.zeros((0, len(goal))) if graph is None else np.asarray(graph.nodes)
        points = np.concatenate([self.seen, trail[-1:], goal[None], nodes])
        self.seen = np.stack([points.min(0), points.max(0)])
        self._pairs = self._pairs or pairs_of(points, self.world.walls, MOST_MAPS)
        n = len(self._pairs)
        figure = Figure(figsize=(n * SIDE / DPI, SIDE / DPI), dpi=DPI)
        for i, pair in enumerate(self._pairs):
            ax = figure.add_axes(((i + 0.13) / n, 0.11, 0.84 / n, 0.82))
            on = map_on(ax, pair, self.seen, self.world, goal)
            _draw_plan(ax, on.of, plan, graph, trail[-1])
            ax.plot(*on.of(trail).T, color=INK, linewidth=1.4, zorder=5)
            mark_ends(ax, on.of(trail)[-1], on.of(goal[None])[0])
        figure.axes[0].set_title(self.told, fontsize=9, color=INK)
        return _pixels(figure)

    def draw_over(
        self, own: NDArray[Any], extent: Extent, goal: NDArray[Any], plan: Any
    ) -> NDArray[np.uint8]:
        """What it plans on the way to this goal (2,), over the environment's own picture (height,
        width, channels), which shows this extent of the plane."""
        larger = max(SIDE / max(own.shape[:2]), 1.0)
        # Encoders of videos want even sizes.
        width, height = (2 * round(larger * side / 2) for side in (own.shape[1], own.shape[0]))
        whole = height + HEADER
        figure = Figure(figsize=(width / DPI, whole / DPI), dpi=DPI)
        ax = figure.add_axes((0.0, 0.0, 1.0, height / whole))
        ax.imshow(own.astype(np.uint8), extent=extent, aspect="auto")
        _draw_plan(ax, np.asarray, plan, _graph_of(plan), self.trail[-1])
        mark_ends(ax, self.trail[-1], goal)
        ax.set(xlim=extent[:2], ylim=extent[2:])
        ax.set_axis_off()
        middle = 1.0 - HEADER / whole / 2
        figure.text(0.5, middle, self.told, fontsize=9, color=INK, ha="center", va="center")
        return _pixels(figure)


def _graph_of(plan: Any) -> Any:
    """The graph and the path of a plan, where it has one."""
    graph = getattr(plan, "graph", None)
    return None if graph is None else graph.to_plan([0, *plan.path] if plan.path else [])


def _draw_plan(
    ax: Axes,
    on: Callable[[NDArray[Any]], NDArray[Any]],
    plan: Any,
    graph: Any,
    here: NDArray[Any],
) -> None:
    """Graph, path from here (goal_dim,), subgoal; ``on`` tells where points (N, goal_dim) are."""
    if graph is not None:
        at = on(np.asarray(graph.nodes))
        edges, distances = np.asarray(graph.edges).reshape(-1, 2), graph.distances
        lines = at[edges[np.argsort(distances)[:MOST_EDGES]]]
        ax.add_collection(LineCollection(list(lines), colors=INK, linewidths=0.4, alpha=0.25))
        dots(ax, at[1:-1], s=10, c="#868e96", zorder=3)
        if graph.path:
            # From where it is now: the first node is where the plan was made.
            way = np.concatenate([on(here[None]), at[graph.path[1:]]])
            ax.plot(*way.T, color=PATH, linewidth=2, zorder=4, path_effects=CASING)
    subgoal = getattr(plan, "subgoal", None)
    if subgoal is not None:
        dots(ax, on(np.asarray(subgoal)[None]), s=90, facecolors="none", edgecolors=PATH,
             linewidths=2, zorder=6)  # fmt: skip


def _pixels(figure: Figure) -> NDArray[np.uint8]:
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
