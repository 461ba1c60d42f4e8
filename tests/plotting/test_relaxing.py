"""The sequence optimiser at work, as pictures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from hierebm.planning.sequence import SequenceConfig, SequenceOptimizer
from hierebm.plotting.drawing import Walls
from hierebm.plotting.relaxing import relaxing_frames


def test_every_langevin_step_is_a_picture_and_the_plan_stays() -> None:
    g = torch.Generator().manual_seed(0)
    config = SequenceConfig(chains=4, langevin_steps=3, levels=2, lattice_states=16)
    optimizer = SequenceOptimizer(2, config, g)
    s = torch.rand(64, 2, generator=g) * 4 - 2
    optimizer.update(torch.stack([s, s + 0.3 * torch.randn(64, 2, generator=g)], 1))
    walls = Walls(np.zeros((8, 8), np.bool_), (-2.0, 2.0, -2.0, 2.0))
    ends = np.array([[-1.5, 0.0], [1.5, 0.5]], np.float32)
    frames = list(relaxing_frames(optimizer, *ends, walls, last=2))
    assert len(frames) == 2 * 3 + 2
    assert all(f.dtype == np.uint8 and f.shape == frames[0].shape for f in frames)
    np.testing.assert_array_equal(frames[-1], frames[-2])
    assert all((a != b).any() for a, b in pairwise(frames[:-1]))
    again = list(relaxing_frames(optimizer, *ends, walls, last=2))
    np.testing.assert_array_equal(frames[3], again[3])
