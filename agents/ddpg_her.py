"""DDPGHERAgent: the low level alone, one policy for every goal."""

from __future__ import annotations

from typing import Any, ClassVar

from hierebm.agents.base import GoalAgent
from hierebm.agents.config import DDPGHERConfig

__all__ = ["DDPGHERAgent", "DDPGHERConfig"]


class DDPGHERAgent(GoalAgent):
    """Goal-conditioned DDPG with hindsight and an ensemble of distance critics.

    Sources: Lillicrap et al. 2016 (arXiv 1509.02971), Andrychowicz et al. 2017 (arXiv 1707.01495),
    Eysenbach et al. 2019 (arXiv 1906.05253). The arguments are those of
    :class:`~hierebm.agents.base.GoalAgent`.
    """

    config_class: ClassVar[type[Any]] = DDPGHERConfig
    default_log_name: ClassVar[str] = "DDPGHER"
    config: DDPGHERConfig
