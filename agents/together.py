"""Many agents that learn at the same time, in one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hierebm.agents.learning import LearningAgent
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.rendezvous import Rendezvous
from hierebm.goal_env.adapter import EnvLike


def learn_together(
    agents: Sequence[LearningAgent], envs: Sequence[EnvLike | None], **learn: Any
) -> None:
    """``agent.learn(env, ...)`` of independent agents, as seeds of one experiment.

    Each learns what it would learn alone, within rounding: networks, experience, environments and
    random numbers are its own. On a GPU the updates of all are made in one launch. Elsewhere they
    learn one after the other, and processes are faster (``hierebm train --seeds``).

    Args:
        agents: of one class and settings; those with as many updates behind them go together.
        envs: one for each, as for ``learn``; those of different agents must not be the same object.
        learn: keyword arguments of ``learn``, for every agent.

    Raises:
        ValueError: agents or environments of other numbers, or shared ones.
        Exception: what one of them raised; the others end then, and keep what they have learned.
    """
    _check(agents, envs)
    for agent, env in zip(agents, envs, strict=True):
        if env is not None:
            agent.set_env(env)
    low_levels = [a.low_level for a in agents if isinstance(a.low_level, CapturedDDPG)]
    if len(low_levels) < len(agents):
        for agent in agents:
            agent.learn(**learn)
        return
    rendezvous = Rendezvous(low_levels)

    def work(i: int) -> None:
        # What goes wrong is told below, once: the first error ends all.
        with suppress(BaseException), rendezvous.member(i):
            agents[i].learn(**learn)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(agents))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:
        # As Ctrl-C, which the main thread alone is told.
        rendezvous.stop(error)
        for thread in threads:
            thread.join()
        raise
    if rendezvous.error is not None:
        raise rendezvous.error


def _check(agents: Sequence[LearningAgent], envs: Sequence[EnvLike | None]) -> None:
    if not agents or len(agents) != len(envs):
        raise ValueError(f"need an environment for each agent, got {len(envs)} for {len(agents)}")
    for what, some in (("agent", agents), ("environment", envs)):
        objects = [id(one) for one in some if one is not None and not isinstance(one, str)]
        if len(set(objects)) < len(objects):
            raise ValueError(f"one {what} was given twice: each needs its own")
