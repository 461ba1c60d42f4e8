"""Many low levels that learn at once: a GPU takes about as long for sixteen as for one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.device_learner import BatchSource, DeviceLearner
from hierebm.control.device_update import DeviceUpdate, Learned
from hierebm.control.features import GoalFeatures
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.nn.layers import MLP, EnsembleMLP


class SideBySide:
    """The updates of S low levels, made together.

    Each learns what it would learn alone, within rounding: networks, batches and moments are its
    own. The low levels are of one kind and settings, and have made as many updates. Their networks
    are copied: :meth:`give_back` brings what was learned into them, before they act or are saved,
    and :meth:`take` what they are now, after they were loaded or scaled.

    Args:
        low_levels: S of them, on one device.

    Raises:
        ValueError: they differ in more than their numbers.
    """

    def __init__(self, low_levels: Sequence[CapturedDDPG]) -> None:
        self.low_levels = list(low_levels)
        first, s = self.low_levels[0], len(self.low_levels)
        self._check_alike()
        singles = [low_level.learned for low_level in self.low_levels]
        actors, actor_targets = (_together(singles[0].actor, s) for _ in range(2))
        critics, critics_targets = (_together(singles[0].critics, s) for _ in range(2))
        c = first.config
        self._learned = Learned(
            copy.deepcopy(first.features),
            first.head,
            actors,
            critics,
            actor_targets,
            critics_targets,
            flat_parameters(actor_targets),
            flat_parameters(critics_targets),
            FlatAdam(flat_parameters(actors), lr=c.actor_lr, name="actor"),
            FlatAdam(flat_parameters(critics), lr=c.critic_lr, name="critics"),
        )
        for name, buffer in self._learned.features.named_buffers():
            # (S, 1, n) for vectors; the frequencies, a matrix, are (S, rows, columns).
            shape = (s, 1, *buffer.shape) if buffer.dim() == 1 else (s, *buffer.shape)
            _set_buffer(self._learned.features, name, buffer.new_zeros(shape))
        # Where each number of the S low levels is here, and there.
        self._here: list[Tensor] = []
        self._there: list[Tensor] = []
        for i, single in enumerate(singles):
            self._join(single, i)
        self._learner = DeviceLearner(DeviceUpdate(self._learned, s))
        self.take()

    def learn(self, source: BatchSource, n: int, behavior_weight: float = 0.0) -> None:
        """n updates of each on batches of the source; see :meth:`DeviceLearner.learn`."""
        for low_level in self.low_levels:
            low_level.held_to_data = low_level.held_to_data or behavior_weight > 0.0
        self._learner.learn(source, n, self.low_levels[0].config.tau, behavior_weight)

    def take_metrics(self) -> list[dict[str, float]]:
        """Of each low level, means over the updates since they were taken last."""
        return self._learner.take_metrics()

    @torch.no_grad()
    def take(self) -> None:
        """Begin with what the low levels are now.

        Raises:
            ValueError: they have not made as many updates.
        """
        self._check_alike()
        torch._foreach_copy_(self._here, self._there)
        for mine, theirs in zip(self._steps(self._learned), self._steps_there(0), strict=True):
            mine.copy_(theirs)
        self._learner.refresh_scales()

    @torch.no_grad()
    def give_back(self) -> None:
        """Make the low levels what was learned here.

        Raises:
            TrainingDiverged: the networks are lost.
        """
        self._learner.check()
        torch._foreach_copy_(self._there, self._here)
        for i in range(len(self.low_levels)):
            for mine, theirs in zip(self._steps(self._learned), self._steps_there(i), strict=True):
                theirs.copy_(mine)

    def _check_alike(self) -> None:
        first = self.low_levels[0]
        for i, low_level in enumerate(self.low_levels):
            counts = ([float(step) for step in self._steps_there(j)] for j in (0, i))
            kinds = ((x.config, x.features.out_dim, x.device) for x in (first, low_level))
            for what, (mine, theirs) in (("updates", counts), ("settings and sizes", kinds)):
                if mine != theirs:
                    raise ValueError(
                        f"low levels side by side need the same {what}, got {mine} and {theirs}"
                    )

    def _steps_there(self, i: int) -> list[Tensor]:
        return self._steps(self.low_levels[i].learned)

    @staticmethod
    def _steps(learned: Learned) -> list[Tensor]:
        optimizers = learned.actor_optimizer, learned.critic_optimizer
        return [optimizer.state_dict()["step"] for optimizer in optimizers]

    def _join(self, single: Learned, i: int) -> None:
        """Note where the numbers of the i-th low level are."""
        mine = self._learned
        for (_, here), (_, there) in zip(
            mine.features.named_buffers(), single.features.named_buffers(), strict=True
        ):
            self._here.append(here[i].view(there.shape))
            self._there.append(there)
        for network, optimizer, target in (
            ("actor", "actor_optimizer", "actor_target_flat"),
            ("critics", "critic_optimizer", "critics_target_flat"),
        ):
            both = [_vectors(learned, optimizer, target) for learned in cast("Any", (mine, single))]
            for here, there in zip(*both, strict=True):
                self._here += _of_one(here, getattr(mine, network), i, len(self.low_levels))
                self._there += _parts(there, getattr(single, network))


def _vectors(learned: Learned, optimizer: str, target: str) -> list[Tensor]:
    """Everything of a network that has a number for each parameter."""
    adam: FlatAdam = getattr(learned, optimizer)
    state = adam.state_dict()
    return [adam.flat, state["exp_avg"], state["exp_avg_sq"], getattr(learned, target)]


def _together(network: MLP | EnsembleMLP, s: int) -> EnsembleMLP:
    """S times as many networks of the same shape, side by side."""
    members = network.n_members if isinstance(network, EnsembleMLP) else 1
    weights = [weight for weight, _ in _shapes(network)]
    sizes = [weight[-2:] for weight in weights]
    if isinstance(network, MLP):
        sizes = [size[::-1] for size in sizes]
    hidden = [out for _, out in sizes[:-1]]
    device = next(network.parameters()).device
    result = EnsembleMLP(s * members, sizes[0][0], hidden, sizes[-1][1], network.activation)
    return result.to(device)


def _shapes(network: nn.Module) -> list[tuple[torch.Size, torch.Size]]:
    parameters = list(network.parameters())
    return [(w.shape, b.shape) for w, b in zip(parameters[::2], parameters[1::2], strict=True)]


def _parts(flat: Tensor, network: nn.Module) -> list[Tensor]:
    """Views of a vector (P,) as the parameters of a network: (..., in, out) and (..., 1, out)."""
    parts, at = [], 0
    for parameter in network.parameters():
        part = flat[at : at + parameter.numel()].view(parameter.shape)
        at += parameter.numel()
        if isinstance(network, MLP):
            part = part.t()[None] if part.dim() == 2 else part[None, None]
        parts.append(part)
    return parts


def _of_one(flat: Tensor, network: nn.Module, i: int, s: int) -> list[Tensor]:
    """The i-th of s equal shares of each of the parts."""
    return [part.chunk(s)[i] for part in _parts(flat, network)]


def _set_buffer(features: GoalFeatures, name: str, value: Tensor) -> None:
    *path, last = name.split(".")
    module: nn.Module = features
    for part in path:
        module = cast("nn.Module", getattr(module, part))
    module.register_buffer(last, value)
