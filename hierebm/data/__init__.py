"""Offline data sets of goal-conditioned experience: arrays, OGBench's files, Minari's data sets."""

from hierebm.data.dataset import OfflineDataset
from hierebm.data.future import future_goals
from hierebm.data.goals import GoalOf
from hierebm.data.minari_data import load_minari
from hierebm.data.ogbench_file import load_ogbench

__all__ = ["GoalOf", "OfflineDataset", "future_goals", "load_minari", "load_ogbench"]
