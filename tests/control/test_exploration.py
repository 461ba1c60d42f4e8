"""Exploration noise: what was asked for, the same however it is cut into blocks and saved."""

from __future__ import annotations

import numpy as np

from hierebm.control.exploration import BLOCK, ExplorationNoise


def test_noise_has_the_scale_and_the_share_of_random_actions_asked_for() -> None:
    noise = ExplorationNoise(0.1, 0.25, np.random.default_rng(0))
    action = np.tile(np.array([[0.5, -0.5]], np.float32), (40, 1))
    given = np.array([noise.add(action) for _ in range(3 * BLOCK)])
    assert given.dtype == np.float32 and (np.abs(given) <= 1.0).all()
    off = given - action
    # Half of the random actions are that far off, on either axis.
    at_random = (np.abs(off) > 0.5).any(-1)
    assert abs(at_random.mean() / 0.25 - (1 - 0.5**2)) < 0.05
    near = off[~at_random]
    assert abs(near.mean()) < 0.01
    assert 0.1 < near.std() < 0.2, "the noise, and random actions that came near"
    exact = ExplorationNoise(0.1, 0.0, np.random.default_rng(0))
    off = np.array([exact.add(action) for _ in range(BLOCK)]) - action
    assert abs(off.std() - 0.1) < 0.005
    uniform = ExplorationNoise(0.1, 1.0, np.random.default_rng(0))
    drawn = np.array([uniform.add(action) for _ in range(BLOCK)])
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - np.sqrt(1 / 3)) < 0.02


def test_noise_goes_on_from_its_state_in_the_middle_of_a_block() -> None:
    action = np.zeros((3, 2), np.float32)
    noise = ExplorationNoise(0.2, 0.1, np.random.default_rng(0))
    for _ in range(BLOCK + 7):
        noise.add(action)
    rng = np.random.default_rng(99)
    rng.bit_generator.state = noise.rng.bit_generator.state
    resumed = ExplorationNoise(0.2, 0.1, rng)
    resumed.set_state(noise.state())
    for _ in range(2 * BLOCK):
        assert np.array_equal(noise.add(action), resumed.add(action))


def test_noise_is_as_wide_as_the_actions() -> None:
    noise = ExplorationNoise(0.2, 0.1, np.random.default_rng(0))
    for shape in ((3, 2), (1, 2), (3, 2)):
        assert noise.add(np.zeros(shape, np.float32)).shape == shape
    empty = ExplorationNoise(0.2, 0.1, np.random.default_rng(0))
    empty.set_state(empty.state())
    assert empty.add(np.zeros((2, 1), np.float32)).shape == (2, 1)
