"""Notices in the course of ``learn`` that nothing improves any more."""

from __future__ import annotations

from bisect import bisect_left

# So long a stretch has to be without improvement, and hold so many episodes. Slower worlds than
# that (a giant maze takes 65,000 to 95,000 steps) are explored meanwhile, which counts.
STRETCH, EPISODES = 20_000, 50
# An agent that succeeds that often has learned its task in part, and may do so at its best.
LOW_SUCCESS = 0.5
# Known ground that grows by this share in half of the stretch still grows.
GROWTH = 1.05
# Steps between two notes at least, and how much longer the stretch is at the next look: looking
# often would find one by chance.
SPACING, LATER = 500, 1.5


class ProgressWatch:
    """Compares the second half of a call of ``learn`` with the first one.

    Nothing improves if the second half has no higher share of successful episodes than the first,
    that share is below .5, and the transition map, where there is one, has grown by less than 5%
    in the second half; all of it over at least 20,000 environment steps and 50 episodes.

    Args:
        timesteps: environment steps when the call began.
        n_ended, n_successes: episodes until then.
    """

    def __init__(self, timesteps: int, n_ended: int, n_successes: int) -> None:
        # Steps, episodes, successes and landmarks: totals, of which differences are taken.
        self._notes = [(timesteps, n_ended, n_successes, 0)]
        self._next_look = STRETCH

    def note(self, timesteps: int, n_ended: int, n_successes: int, landmarks: int) -> bool:
        """Take ends of episodes into account; returns whether nothing improves any more.

        Args:
            timesteps, n_ended, n_successes: totals until now.
            landmarks: of the transition map; 0 without one.
        """
        first, last = self._notes[0], (timesteps, n_ended, n_successes, landmarks)
        if timesteps - self._notes[-1][0] >= SPACING:
            self._notes.append(last)
        length = timesteps - first[0]
        if length < self._next_look or n_ended - first[1] < EPISODES:
            return False
        self._next_look = int(LATER * length)
        half = self._notes[bisect_left(self._notes, ((first[0] + last[0]) // 2,))]
        before, now = _success(first, half), _success(half, last)
        grows = last[3] > GROWTH * half[3]
        return now <= before and now < LOW_SUCCESS and not grows


def _success(start: tuple[int, ...], end: tuple[int, ...]) -> float:
    """Share of successful episodes between two notes."""
    return (end[2] - start[2]) / max(end[1] - start[1], 1)
