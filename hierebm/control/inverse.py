"""A learnt inverse model instead of a low level: the action that leads from one state to the next.

The way of acting of Du, Lin & Mordatch (2019, arXiv 1909.06878): a sequence of states is planned,
and a = f(s_t, s_t+1) carries it out. It is regression on transitions, whoever made them: neither
goals nor rewards, no critic and no exploration of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierebm.control.base import LowLevel
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.nn.layers import MLP
from hierebm.nn.trusted import check_network
from hierebm.replay.hindsight import TransitionBatch
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

# Hidden layers and rate of Adam: chosen by hand, nothing else has been measured.
WIDTHS, LEARNING_RATE = (64, 64), 1e-3


class InverseNetwork(nn.Module):
    """f(o, d): a linear map plus a network of observation o and move d of the achieved goal.

    The linear part keeps its direction beyond the moves that were seen: at full speed, actions
    come from there.

    Args:
        obs_dim, goal_dim, action_dim: lengths.
        generator: source of the initial parameters.
    """

    shift: Tensor
    scale: Tensor
    step: Tensor

    # Buffers that inputs are divided by: positive in every file.
    divisors: ClassVar[tuple[str, ...]] = ("scale", "step")

    def __init__(
        self, obs_dim: int, goal_dim: int, action_dim: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.linear = MLP(obs_dim + goal_dim, [], action_dim, "silu", generator)
        self.mlp = MLP(obs_dim + goal_dim, list(WIDTHS), action_dim, "silu", generator)
        self.register_buffer("shift", torch.zeros(obs_dim))
        self.register_buffer("scale", torch.ones(obs_dim))
        self.register_buffer("step", torch.ones(goal_dim))

    def forward(self, observation: Tensor, move: Tensor) -> Tensor:
        """(n, obs_dim), (n, goal_dim) -> (n, action_dim), not clipped."""
        x = torch.cat([(observation - self.shift) / self.scale, move / self.step], 1)
        actions: Tensor = self.linear(x) + self.mlp(x)
        return actions


class InverseModel(LowLevel):
    """Acts by an inverse model; distances are steps at full speed, straight ahead.

    Experience corrects these distances wherever it leads (the transition map); that way alone walls
    are known. A goal farther than a step at full speed is replaced by the point where that step
    ends.

    Args:
        obs_dim, goal_dim, action_dim: lengths.
        config: settings of the agent; none of them matter here.
        generator: source of the initial parameters.
        device: where the network lives.
    """

    def __init__(
        self,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        config: Any,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.network = InverseNetwork(obs_dim, goal_dim, action_dim, generator).to(device)
        self._flat = flat_parameters(self.network)
        self._optimiser = FlatAdam(self._flat, lr=LEARNING_RATE, name="inverse model")

    def fit_scale(self, scales: InputScales) -> None:
        """See :class:`LowLevel`; later scales are not taken."""
        self.network.shift.copy_(torch.from_numpy(scales.observation_shift))
        self.network.scale.copy_(torch.from_numpy(scales.observation_scale))
        self.network.step.copy_(torch.from_numpy(scales.step))

    @torch.no_grad()
    def act(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """See :class:`LowLevel`."""
        move = self._tensor(goal - achieved_goal)
        move = move / self._steps(move).clamp(min=1.0).unsqueeze(1)
        action = self.network(self._tensor(observation), move).clamp(-1.0, 1.0)
        result: FloatArray = action.numpy(force=True)
        return result

    @torch.no_grad()
    def distance(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """See :class:`LowLevel`."""
        steps = self._steps(self._tensor(goal - achieved_goal)).clamp(min=1.0)
        result: FloatArray = steps.numpy(force=True)
        return result

    def update(self, batch: TransitionBatch, behavior_weight: float = 0.0) -> dict[str, float]:
        """One gradient step on the mean squared error of the actions; goals are not looked at.

        Args:
            batch: transitions.
            behavior_weight: changes nothing: what is learned are the actions of the batch.

        Raises:
            TrainingDiverged: the loss, or a weight, is not finite.
        """
        moves = self._tensor(batch.next_achieved_goal - batch.achieved_goal)
        loss = F.mse_loss(
            self.network(self._tensor(batch.observation), moves), self._tensor(batch.action)
        )
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step(loss)
        return {"train/inverse_loss": float(loss.detach())}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LowLevel`."""
        return {"network": self.network.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`LowLevel`. Raises ValueError for weights that no training leaves."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        check_network(self.network, "inverse model")

    def _steps(self, move: Tensor) -> Tensor:
        """(n,) steps at full speed that a move (n, goal_dim) takes, along its longest axis."""
        steps: Tensor = (move.abs() / self.network.step).amax(1)
        return steps

    def _tensor(self, rows: FloatArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows, np.float32)).to(self._flat.device)
