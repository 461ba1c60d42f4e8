"""The actor's forward pass for acting: few rows, over and over, hardly any arithmetic.

With a row for each environment, most of a forward pass is not arithmetic but calls, and the
products themselves run at half speed, because the weights (out, in) lie the wrong way round for
them. Here every row is a *column*: ``weight @ columns`` takes the weights as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.control.features import LOCAL_STEPS, STEPS_PER_RADIAN, GoalFeatures, cut_off
from hierebm.nn.layers import MLP
from hierebm.types import FloatArray

# Multiply-adds of a product up to which NumPy is faster than torch: it takes half as long to get
# to work. Beyond twice as many, NumPy would wake a second thread, whatever torch was told.
SMALL_PRODUCT = 2**17


def product_into(out: Tensor, left: Tensor, right: Tensor) -> Callable[[], object]:
    """``out[...] = left @ right``, to be done over and over on the same memory."""
    if left.numel() * right.shape[1] <= SMALL_PRODUCT:
        return partial(np.dot, left.numpy(), right.numpy(), out=out.numpy())
    return partial(torch.mm, left, right, out=out)


class ActingPass:
    """``tanh(actor(features(observation, achieved_goal, goal)))`` without autograd or fresh memory.

    Weights and scales are the modules' own, whoever trains or loads them.

    Args:
        features: on the CPU.
        actor: on the CPU, with ReLU.

    Raises:
        TypeError: if ``actor`` is another kind of network.
    """

    def __init__(self, features: GoalFeatures, actor: MLP) -> None:
        if type(actor) is not MLP or actor.activation != "relu":
            raise TypeError(f"acting in columns knows an MLP with ReLU, not {actor}")
        self._features = features
        layers = [cast("nn.Linear", layer) for layer in actor.layers]
        self._weights = [layer.weight.detach() for layer in layers]
        self._biases = [layer.bias.detach().numpy()[:, None] for layer in layers]
        self._zero = np.array(0.0, np.float32)
        self._wave_size = features.wave_size.numpy()
        self._scales = [scale.numpy().data for scale in features.buffers()]
        self._seen, self._rows = b"", -1

    @torch.inference_mode(False)  # the buffers outlive the caller's mode
    def _prepare(self, rows: int) -> None:
        """Buffers, and products bound to them, for this number of rows and the current scales."""
        f = self._features
        # None until the end: after an interrupt in between, the next pass comes here again.
        self._rows = -1
        o, g = len(f.observation_shift), len(f.goal_shift)
        n = 0 if f.fourier is None else f.fourier.n_features
        state, inputs = torch.empty(o + 2 * g, rows), torch.empty(f.out_dim, rows)
        shift = torch.cat([f.observation_shift, f.goal_shift, f.goal_shift])
        self._shift = shift[:, None].repeat(1, rows).numpy()
        self._state = state.numpy()
        self._observation, self._achieved_goal, self._goal = (
            part.T for part in np.split(self._state, [o, o + g])
        )
        # Cutting off, tanh, sine and cosine apart, features are linear in the state.
        self._linear = product_into(inputs[: o + 2 * g + n], self._matrix(), state)
        self._scaled = inputs[: o + g].numpy()
        self._displacement = inputs[o + g : o + 2 * g].numpy()
        self._waves = inputs[o + 2 * g :].numpy()
        self._phase, self._cosine = self._waves.reshape(2, n, rows)
        self._sees_walls = f.sees_walls
        self._layers = []
        for weight, bias in zip(self._weights, self._biases, strict=True):
            outputs = torch.empty(len(bias), rows)
            self._layers.append((product_into(outputs, weight, inputs), outputs.numpy(), bias))
            inputs = outputs
        self._rows = rows

    def _matrix(self) -> Tensor:
        """(o + 2 g + n, o + 2 g): scaled observation, goal, displacement and phases of a state."""
        f = self._features
        o, g = len(f.observation_shift), len(f.goal_shift)
        n = 0 if f.fourier is None else f.fourier.n_features
        achieved, goal = slice(o, o + g), slice(o + g, o + 2 * g)
        matrix = torch.zeros(o + 2 * g + n, o + 2 * g)
        matrix[:o, :o] = torch.diag(1.0 / f.observation_scale)
        matrix[achieved, goal] = torch.diag(1.0 / f.goal_scale)
        local = torch.diag(1.0 / (LOCAL_STEPS * f.step_scale))
        matrix[goal, achieved], matrix[goal, goal] = -local, local
        if f.fourier is not None:
            unit = STEPS_PER_RADIAN * torch.cat([f.step_scale, f.step_scale])
            matrix[o + 2 * g :, o:] = (f.fourier.frequencies / unit[:, None]).T
        return matrix

    def act(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(B, obs_dim), (B, goal_dim), (B, goal_dim) -> (B, action_dim) in [-1, 1], no noise."""
        scales = b"".join(self._scales)
        if scales != self._seen or len(goal) != self._rows:
            self._prepare(len(goal))
            self._seen = scales
        self._observation[...] = observation
        self._achieved_goal[...] = achieved_goal
        self._goal[...] = goal
        self._state -= self._shift
        self._linear()
        cut_off(self._scaled)
        np.tanh(self._displacement, out=self._displacement)
        if not self._sees_walls:
            self._waves[...] = 0.0
        else:
            np.cos(self._phase, out=self._cosine)
            np.sin(self._phase, out=self._phase)
            self._waves *= self._wave_size
        *hidden, last = self._layers
        for product, output, bias in hidden:
            product()
            output += bias
            np.maximum(output, self._zero, out=output)
        product, output, bias = last
        product()
        output += bias
        action: FloatArray = np.tanh(output.T, order="C")
        return action
