"""Where the batches come from that a low level on a GPU learns from."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from hierebm.agents.state import AgentState
from hierebm.replay import CoveredGround, EpisodeReplay, TransitionBatch, sample_transitions
from hierebm.replay.device_batches import HindsightBatches, HostBatches
from hierebm.replay.device_replay import DeviceReplay
from hierebm.replay.ellipsoid import ellipsoid_of
from hierebm.types import FloatArray


def sample_batch(agent: AgentState, covered: CoveredGround | None = None) -> TransitionBatch:
    """A relabelled batch of the replay buffer, drawn on the host.

    Args:
        covered: of the replay buffer, where nothing is added to it any more.
    """
    c, replay = agent.config, agent.replay_buffer
    replay.flush()
    return sample_transitions(
        replay,
        c.batch_size,
        agent._reached,
        agent.rng,
        future=c.her_future,
        random=c.her_random,
        horizon=c.her_horizon,
        moving=None if _moves_at_will(agent) else agent.moving_rows,
        covered=covered,
    )


def device_batches(
    agent: AgentState, covered: CoveredGround | None = None
) -> HindsightBatches | HostBatches:
    """Where the agent's batches come from, as things are now.

    They are drawn on the device where that can tell which goals are reached; elsewhere on the host,
    as they are where some rows are to be preferred.

    Args:
        covered: of the replay buffer, where nothing is added to it any more.
    """
    c, replay, kept = agent.config, agent.replay_buffer, agent.batches
    axes = None
    if covered is None and _moves_at_will(agent):
        axes = _ellipsoid(agent)
    told = None if axes is None else axes.tolist()
    settings = c.batch_size, c.her_future, c.her_random, c.her_horizon
    made_for = replay, covered, agent.env, agent.rng, settings, told
    if kept.source is None or not _same(made_for, kept.made_for):
        kept.source, kept.made_for = _make(agent, axes, covered), made_for
    return kept.source


def _ellipsoid(agent: AgentState) -> FloatArray | None:
    """In which goals count as reached; asked again when experience has doubled, or is another."""
    replay, kept = agent.replay_buffer, agent.batches
    is_other = kept.made_for[:1] != (replay,) or kept.made_for[2] is not agent.env
    if is_other or replay.n_added.bit_length() > kept.asked_at.bit_length():
        replay.flush()
        kept.axes, kept.asked_at = _ask(agent, replay), replay.n_added
    return kept.axes


def _ask(agent: AgentState, replay: EpisodeReplay) -> FloatArray | None:
    tolerance, scales = agent._success_tolerance(), agent.scales
    if tolerance is None or scales is None:
        return None
    farthest = np.full_like(tolerance, np.inf) if agent.env is None else 2.0 * scales.goal_scale
    return ellipsoid_of(agent._reached, replay, tolerance, farthest)


def _make(
    agent: AgentState, axes: FloatArray | None, covered: CoveredGround | None
) -> HindsightBatches | HostBatches:
    c, replay, device = agent.config, agent.replay_buffer, agent.device
    if axes is None:
        widths = replay.observation.shape[1], replay.goal.shape[1], replay.action.shape[1]
        return HostBatches(partial(sample_batch, agent, covered), c.batch_size, widths, device)
    return HindsightBatches(
        DeviceReplay([replay], device),
        c.batch_size,
        axes[None],
        [agent.rng],
        future=c.her_future,
        random=c.her_random,
        horizon=c.her_horizon,
    )


def _moves_at_will(agent: AgentState) -> bool:
    """Whether some axis of the achieved goal is moved whenever the agent wants."""
    return agent.scales is None or bool(agent.scales.at_will.any())


def _same(key: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether the first four are the same objects, and the others equal."""
    return all(a is b for a, b in zip(key[:4], other[:4], strict=True)) and key[4:] == other[4:]
