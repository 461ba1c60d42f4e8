"""The actor's forward pass for acting: few rows, over and over, hardly any arithmetic.

With a row for each environment, most of a forward pass is not arithmetic but calls, and the
products themselves run at half speed, because the weights (out, in) lie the wrong way round for
them. Here every row is a *column*: ``weight @ columns`` takes the weights as they lie in memory.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.control.features import LOCAL_STEPS, STEPS_PER_RADIAN, GoalFeatures
from hierebm.nn.modules import MLP
from hierebm.replay.episodes import FloatArray

# Multiply-adds of a product up to which NumPy is faster than torch: it takes half as long to get
# to work. Beyond twice as many, NumPy would wake a second thread, whatever torch was told.
SMALL_PRODUCT = 2**17


class Columns:
    """A block of memory (rows, columns) that both NumPy and torch see."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.array = tensor, tensor.numpy()

    def set_product(self, left: Columns, right: Columns) -> None:
        """``self = left @ right``."""
        if left.array.size * right.array.shape[1] <= SMALL_PRODUCT:
            np.dot(left.array, right.array, out=self.array)
        else:
            torch.mm(left.tensor, right.tensor, out=self.tensor)


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
        self._layers = [
            (Columns(layer.weight.detach()), layer.bias.detach().numpy()[:, None])
            for layer in layers
        ]
        self._scales = [scale.numpy() for scale in features.buffers()]
        self._seen = b""
        self._resize(0)

    @torch.inference_mode(False)  # the buffers outlive the caller's mode
    def _resize(self, rows: int) -> None:
        widths = [len(bias) for _, bias in self._layers]
        o, g = len(self._features.observation_shift), len(self._features.goal_shift)
        self._state = Columns(torch.empty(o + 2 * g, rows))
        self._inputs = Columns(torch.empty(self._features.out_dim, rows))
        self._outputs = [Columns(torch.empty(width, rows)) for width in widths]
        # Windows of the two: what comes in, and what is made of it.
        state, inputs = self._state.array, self._inputs.tensor
        self._observation, self._achieved_goal, self._goal = (
            part.T for part in np.split(state, [o, o + g])
        )
        n = 0 if self._features.fourier is None else self._features.fourier.n_features
        self._linear = Columns(inputs[: o + 2 * g + n])
        self._displacement = inputs[o + g : o + 2 * g].numpy()
        self._phase, self._cosine = inputs[o + 2 * g :].numpy()[:n], inputs[o + 2 * g + n :].numpy()
        self._rows = rows

    @torch.inference_mode(False)
    def _read_scales(self) -> None:
        """Features before tanh and sine as one matrix on the centred state."""
        f = self._features
        o, g = len(f.observation_shift), len(f.goal_shift)
        achieved, goal = slice(o, o + g), slice(o + g, o + 2 * g)
        matrix = torch.zeros(len(self._linear.array), o + 2 * g)
        matrix[:o, :o] = torch.diag(1.0 / f.observation_scale)
        matrix[achieved, goal] = torch.diag(1.0 / f.goal_scale)
        local = torch.diag(1.0 / (LOCAL_STEPS * f.step_scale))
        matrix[goal, achieved], matrix[goal, goal] = -local, local
        if f.fourier is not None:
            unit = STEPS_PER_RADIAN * torch.cat([f.step_scale, f.step_scale])
            matrix[o + 2 * g :, o:] = (f.fourier.frequencies / unit[:, None]).T
        self._matrix = Columns(matrix)
        shift = torch.cat([f.observation_shift, f.goal_shift, f.goal_shift])
        self._shift = shift[:, None].numpy()

    def act(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(B, obs_dim), (B, goal_dim), (B, goal_dim) -> (B, action_dim) in [-1, 1], no noise."""
        if len(goal) != self._rows:
            self._resize(len(goal))
        seen = b"".join([scale.tobytes() for scale in self._scales])
        if seen != self._seen:
            self._read_scales()
            self._seen = seen
        self._observation[...] = observation
        self._achieved_goal[...] = achieved_goal
        self._goal[...] = goal
        self._state.array -= self._shift
        self._linear.set_product(self._matrix, self._state)
        np.tanh(self._displacement, out=self._displacement)
        if len(self._phase):
            np.cos(self._phase, out=self._cosine)
            np.sin(self._phase, out=self._phase)
        x = self._inputs
        for (weight, bias), output in zip(self._layers, self._outputs, strict=True):
            if x is not self._inputs:
                x.tensor.relu_()
            output.set_product(weight, x)
            output.array += bias
            x = output
        action: FloatArray = np.tanh(x.array.T, order="C")
        return action
