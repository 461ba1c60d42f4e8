"""Pictures of the point-mass world, drawn with pygame (an optional dependency)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import DependencyNotInstalled

from hierebm.envs.floor import Shape, ice, marks
from hierebm.envs.layouts import Layout

try:
    import pygame
except ImportError as error:
    raise DependencyNotInstalled(
        'rendering needs pygame: run `pip install "hierebm[render]"`.'
    ) from error

SIZE = 512
"""Pixels along the longer side of the world."""

# Drawn twice as large and scaled down, which smooths every edge.
_SUPERSAMPLE = 2

_FLOOR = (250, 249, 246)
_GRID = (238, 236, 230)
_WALL = (62, 68, 82)
_GOAL = (31, 158, 110)
_START = (150, 156, 168)
_TRAIL = (86, 140, 214)
_POINT = (32, 86, 178)
_PLAN = (230, 131, 38)
# The arrow spans what the point would cover in this many steps at its present velocity.
_VELOCITY_STEPS = 3.0


class Renderer:
    """Draws one world again and again.

    Args:
        layout: the walls.
        success_radius: radius of the goal disc, world units.
        size: pixels along the longer side.
    """

    def __init__(self, layout: Layout, success_radius: float, size: int = SIZE) -> None:
        self._low = layout.low
        self._radius = success_radius
        span = layout.high - layout.low
        self._frame = round(size * 0.02) * _SUPERSAMPLE
        self._scale = (size * _SUPERSAMPLE - 2 * self._frame) / float(span.max())
        width, height = np.round(span * self._scale).astype(int) + 2 * self._frame
        self._canvas_size = (int(width), int(height))
        # Even division keeps the frame's shape a whole number of pixels.
        self.shape = (int(height) // _SUPERSAMPLE, int(width) // _SUPERSAMPLE, 3)
        self._floor = self._draw_floor(layout)
        self._walls = self._draw_walls(layout)
        self._window: Any = None
        self._clock: Any = None

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(x_min, x_max, y_min, y_max) in world units of all that a frame shows."""
        left, low = (float(bound) - self._frame / self._scale for bound in self._low)
        width, height = (pixels / self._scale for pixels in self._canvas_size)
        return left, left + width, low, low + height

    def draw(
        self,
        *,
        trail: Sequence[tuple[float, float]],
        velocity: npt.NDArray[np.float32],
        goal: npt.NDArray[np.float32],
        subgoals: Sequence[Sequence[float]] | npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """One frame.

        Args:
            trail: positions since the start of the episode, the last one is now.
            velocity: (2,) world units per step.
            goal: (2,).
            subgoals: (K, 2) points of a plan, drawn as a chain from here to the goal.

        Returns:
            (H, W, 3) uint8.
        """
        surface = self._draw_surface(trail, velocity, goal, subgoals)
        return np.ascontiguousarray(pygame.surfarray.array3d(surface).transpose(1, 0, 2))

    def show(self, *, fps: int, **scene: Any) -> None:
        """Draw one frame (arguments of ``draw``) into a window, at most ``fps`` times a second."""
        surface = self._draw_surface(
            scene["trail"], scene["velocity"], scene["goal"], scene.get("subgoals")
        )
        if self._window is None:
            pygame.display.init()
            pygame.display.set_caption("PointMassGoal-v0")
            self._window = pygame.display.set_mode(surface.get_size())
            self._clock = pygame.time.Clock()
        self._window.blit(surface, (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(fps)

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            pygame.display.quit()
            self._window = None

    def _draw_surface(
        self,
        trail: Sequence[tuple[float, float]],
        velocity: npt.NDArray[np.float32],
        goal: npt.NDArray[np.float32],
        subgoals: Sequence[Sequence[float]] | npt.NDArray[Any] | None,
    ) -> Any:
        canvas = self._floor.copy()
        overlay = pygame.Surface(self._canvas_size, pygame.SRCALPHA)
        dot = max(10.0, 0.07 * self._scale)
        line = max(4, round(0.022 * self._scale))
        radius = self._radius * self._scale

        # The disc goes under the walls: what it covers beyond a wall is nowhere to stand.
        pygame.draw.circle(overlay, (*_GOAL, 58), self._pixel(goal), radius)
        pygame.draw.circle(overlay, (*_GOAL, 255), self._pixel(goal), radius, width=line)
        overlay.blit(self._walls, (0, 0))
        pygame.draw.circle(overlay, (*_GOAL, 255), self._pixel(goal), 0.55 * dot)
        here = trail[-1]
        if subgoals is not None and len(subgoals):
            chain = [self._pixel(point[:2]) for point in [here, *subgoals, goal]]
            pygame.draw.lines(overlay, (*_PLAN, 150), False, chain, line)
            for pixel in chain[1:-1]:
                pygame.draw.circle(overlay, (*_PLAN, 255), pixel, 0.8 * dot)
                pygame.draw.circle(overlay, (*_FLOOR, 255), pixel, 0.4 * dot)
        start = self._pixel(trail[0])
        pygame.draw.circle(overlay, (*_START, 255), start, 0.8 * dot, width=line)
        self._draw_trail(overlay, trail, line)
        self._draw_arrow(overlay, here, velocity, line, dot)
        pygame.draw.circle(overlay, (*_POINT, 255), self._pixel(here), dot)
        canvas.blit(overlay, (0, 0))
        return pygame.transform.smoothscale(canvas, (self.shape[1], self.shape[0]))

    def _draw_trail(self, surface: Any, trail: Sequence[tuple[float, float]], line: int) -> None:
        pixels = [self._pixel(point) for point in trail]
        for index in range(1, len(pixels)):
            # Older pieces fade, so that the direction of travel is visible.
            alpha = 70 + round(185 * index / len(pixels))
            pygame.draw.line(surface, (*_TRAIL, alpha), pixels[index - 1], pixels[index], line + 1)

    def _draw_arrow(
        self,
        surface: Any,
        here: tuple[float, float],
        velocity: npt.NDArray[np.float32],
        line: int,
        dot: float,
    ) -> None:
        speed = float(np.hypot(velocity[0], velocity[1]))
        if speed < 1e-3:
            return
        direction = np.array([velocity[0], velocity[1]], dtype=np.float64) / speed
        length = speed * _VELOCITY_STEPS + 1.2 * dot / self._scale
        head = min(0.7 * length, 1.3 * dot / self._scale)
        tip = np.asarray(here) + direction * length
        neck = tip - direction * head
        side = np.array([-direction[1], direction[0]]) * 0.6 * head
        pygame.draw.line(surface, (*_POINT, 255), self._pixel(here), self._pixel(neck), line + 2)
        corners = [self._pixel(point) for point in (tip, neck + side, neck - side)]
        pygame.draw.polygon(surface, (*_POINT, 255), corners)

    def _draw_floor(self, layout: Layout) -> Any:
        width, height = self._canvas_size
        surface = pygame.Surface(self._canvas_size)
        surface.fill(_FLOOR)
        self._draw_shapes(surface, ice(layout))
        for x in np.arange(layout.low[0], layout.high[0], layout.cell_size)[1:]:
            left, _ = self._pixel((x, 0.0))
            pygame.draw.line(surface, _GRID, (left, 0), (left, height), 2)
        for y in np.arange(layout.low[1], layout.high[1], layout.cell_size)[1:]:
            _, top = self._pixel((0.0, y))
            pygame.draw.line(surface, _GRID, (0, top), (width, top), 2)
        self._draw_shapes(surface, marks(layout))
        return surface

    def _draw_shapes(self, surface: Any, shapes: Sequence[Shape]) -> None:
        line = max(4, round(0.03 * self._scale))
        for shape in shapes:
            corners = [self._pixel(point) for point in shape.outline]
            width = 0 if shape.filled else line
            pygame.draw.polygon(surface, shape.colour, corners, width=width)

    def _draw_walls(self, layout: Layout) -> Any:
        surface = pygame.Surface(self._canvas_size, pygame.SRCALPHA)
        pygame.draw.rect(surface, _WALL, surface.get_rect(), width=self._frame)
        for x0, y0, x1, y1 in layout.wall_rectangles:
            left, top = self._pixel((x0, y1))
            right, bottom = self._pixel((x1, y0))
            pygame.draw.rect(surface, _WALL, (left, top, right - left, bottom - top))
        return surface

    def _pixel(self, point: Any) -> tuple[int, int]:
        """World coordinates to canvas pixels; y points up in the world and down on the canvas."""
        x = self._frame + (float(point[0]) - self._low[0]) * self._scale
        y = self._canvas_size[1] - self._frame - (float(point[1]) - self._low[1]) * self._scale
        return round(x), round(y)
