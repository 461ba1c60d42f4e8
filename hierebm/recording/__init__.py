"""What agents do, as data sets that Minari reads.

Minari (https://minari.farama.org) keeps data sets of experience in one folder of the user, each
under an id like ``hierebm/PointMassGoal-v0-agent-v0``. It is an extra of this package: ``pip
install "hierebm[minari]"``.

In a data set, an episode of T steps has T + 1 observations (Dict, in the environment's shapes and
dtypes), T actions (in the environment's units), rewards, terminations and truncations, and in its
infos T + 1 times ``success``: whether the goal was reached, False at the start; left out where the
environment does not say.
"""

from hierebm.recording.dataset import DatasetWriter, default_dataset_id
from hierebm.recording.episodes import EpisodeRecorder, RecordedEpisode, Rows, Transitions
from hierebm.recording.policy import record_episodes

__all__ = [
    "DatasetWriter",
    "EpisodeRecorder",
    "RecordedEpisode",
    "Rows",
    "Transitions",
    "default_dataset_id",
    "record_episodes",
]
