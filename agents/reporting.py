"""What a call of ``learn`` tells of its own accord: that nothing improves, and why."""

from __future__ import annotations

import textwrap
import warnings

from hierebm.agents.progress import ProgressWatch
from hierebm.agents.state import AgentState
from hierebm.diagnosis import Diagnosis


class ProgressReport:
    """Watches the progress of an agent during one call of ``learn``.

    Args:
        agent: which is about to learn.
    """

    def __init__(self, agent: AgentState) -> None:
        self._agent = agent
        episodes = agent.episodes
        # None once it has warned.
        self._watch: ProgressWatch | None = ProgressWatch(
            agent.num_timesteps, episodes.n_ended, episodes.n_successes
        )

    def look(self) -> None:
        """Warn, once, when nothing improves; at the end of an episode or of the call."""
        agent, episodes, landmarks = self._agent, self._agent.episodes, 0
        if agent.high_level is not None and agent.high_level.context.transition_map is not None:
            landmarks = len(agent.high_level.context.transition_map.landmarks)
        totals = agent.num_timesteps, episodes.n_ended, episodes.n_successes, landmarks
        if self._watch is None or not self._watch.note(*totals):
            return
        self._watch = None
        diagnosis = self._diagnose()
        if diagnosis is not None and diagnosis.limits:
            limit = diagnosis.limits[0]
            warnings.warn(
                f"nothing has improved for a long time. {limit.finding} Try: {limit.advice} "
                "More is told by print(agent.diagnose())",
                RuntimeWarning,
                stacklevel=4,
            )

    def close(self) -> None:
        """Leave the diagnosis in the log, where that is kept in files."""
        logger = self._agent.logger
        if logger.dir is not None and (diagnosis := self._diagnose()) is not None:
            # TensorBoard shows what is indented as it is.
            text = textwrap.indent(str(diagnosis), "    ")
            logger.record("diagnosis", text, exclude=("stdout", "json"))

    def _diagnose(self) -> Diagnosis | None:
        try:
            return self._agent.diagnose()
        # Whatever parts of one's own raise: a report is not worth a training run.
        except Exception as error:
            warnings.warn(f"there is no diagnosis: {error!r}", RuntimeWarning, stacklevel=5)
            return None
