"""Energy networks E(y), E(y | x) and E(y | x, z) with hand-written input gradients.

Low energy means likely. The network is a multilayer perceptron over the normalised inputs and
random Fourier features of them (Rahimi & Recht 2007; Tancik et al. 2020, arXiv:2006.10739): plain
MLPs are too smooth for thin data manifolds, sines and cosines at the input are not.

Everything that depends on the condition x or the latent z alone enters the first layer as a sum, so
it is computed once per condition and not once per candidate y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hierebm.energy.kernels import ACTIVATIONS, BoundEnergy, Layers, Workspace, anchor_features
from hierebm.energy.protocol import EnergyModel, autograd_energy_and_grad

FourierMode = Literal["joint", "y", "separate"]


class EnergyMLP(nn.Module):
    """E(y), E(y | x) or E(y | x, z) as an MLP with random Fourier features.

    Args:
        y_dim: size of the variable that is scored and sampled.
        x_dim: size of the condition; 0 for an unconditional energy.
        z_dim: size of the latent variable; 0 for none.
        width: units of every hidden layer.
        depth: hidden layers, at least 1.
        activation: "silu", "tanh", "softplus" or "relu"; gradient samplers want a smooth one.
        fourier_features: number of random frequencies (each gives a cosine and a sine); 0 for none.
        fourier_scale: standard deviation of the frequencies, in radians per unit of *normalised*
            input. A sequence spreads the frequencies evenly over several scales.
        fourier_mode: "joint" takes the frequencies over [y, x] together, so that a feature can
            depend on differences y - x; "y" over y alone; "separate" over y and over x, each alone.
        anchors: the first ``anchors * y_dim`` entries of x are points in the space of y. With one
            or more, the distances of y to them are inputs as well; with two (start and goal), also
            the root of the detour over y. A density of what lies between two points is easy to
            write with these and hard to write with the coordinates.
        spectral_norm: divide every hidden weight matrix by its largest singular value (Miyato et
            al. 2018, arXiv:1802.05957; power iteration, one step per training forward). The output
            layer stays free, as it sets the unit of energy; so do condition and latent, which no
            sampler moves.
        generator: source of the initial weights and frequencies, on the CPU.

    Raises:
        ValueError: a size or name out of range; the message names the argument.
    """

    freq_y: Tensor
    freq_x: Tensor
    y_mean: Tensor
    y_std: Tensor
    x_mean: Tensor
    x_std: Tensor

    # Buffers that inputs are divided by: positive in every file.
    divisors: ClassVar[tuple[str, ...]] = ("y_std", "x_std")

    def __init__(
        self,
        y_dim: int,
        x_dim: int = 0,
        z_dim: int = 0,
        *,
        width: int = 128,
        depth: int = 3,
        activation: str = "silu",
        fourier_features: int = 64,
        fourier_scale: float | Sequence[float] = 2.0,
        fourier_mode: FourierMode = "joint",
        anchors: int = 0,
        spectral_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if y_dim < 1 or x_dim < 0 or z_dim < 0:
            raise ValueError(f"y_dim must be >= 1, x_dim and z_dim >= 0; got {y_dim, x_dim, z_dim}")
        if width < 1 or depth < 1 or fourier_features < 0:
            raise ValueError("width and depth must be >= 1 and fourier_features >= 0")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is none of {sorted(ACTIVATIONS)}")
        if fourier_mode not in ("joint", "y", "separate"):
            raise ValueError(f"fourier_mode {fourier_mode!r} is none of 'joint', 'y', 'separate'")
        scales = list(fourier_scale) if isinstance(fourier_scale, Sequence) else [fourier_scale]
        if not scales or min(scales) <= 0:
            raise ValueError(f"fourier_scale must be positive, got {fourier_scale!r}")
        if anchors * y_dim > x_dim or anchors < 0:
            raise ValueError(f"anchors={anchors} points of y_dim={y_dim} do not fit x_dim={x_dim}")
        self.y_dim, self.x_dim, self.z_dim, self.anchors = y_dim, x_dim, z_dim, anchors
        self.fourier_mode = fourier_mode
        self.config: dict[str, Any] = {
            "y_dim": y_dim, "x_dim": x_dim, "z_dim": z_dim, "width": width, "depth": depth,
            "activation": activation, "fourier_features": fourier_features,
            "fourier_scale": scales, "fourier_mode": fourier_mode, "anchors": anchors,
            "spectral_norm": spectral_norm,
        }  # fmt: skip
        self._activation = ACTIVATIONS[activation]
        self._workspace = Workspace()

        features = fourier_features
        per_feature = torch.tensor([scales[i % len(scales)] for i in range(features)])
        self.register_buffer("freq_y", _randn((y_dim, features), generator) * per_feature)
        self.register_buffer("freq_x", _randn((x_dim, features), generator) * per_feature)
        for name, size in (("y", y_dim), ("x", x_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

        x_inputs = x_dim + (2 * features if fourier_mode == "separate" and x_dim else 0)
        relative = 3 if anchors == 2 else anchors
        fan_in = y_dim + 2 * features + relative + x_inputs + z_dim
        self.y_in = _linear(y_dim + 2 * features + relative, width, fan_in, generator)
        self.x_in = _linear(x_inputs, width, fan_in, generator, bias=False) if x_dim else None
        # A latent that starts with large weights gets used. One with small weights among many
        # inputs is ignored until the rest of the network has settled without it.
        self.z_in = _linear(z_dim, width, 2 * z_dim, generator, bias=False) if z_dim else None
        self.hidden = nn.ModuleList(
            _linear(width, width, width, generator) for _ in range(depth - 1)
        )
        self.out = _linear(width, 1, width, generator)
        self.spectral_norm = spectral_norm
        if spectral_norm:
            for i, layer in enumerate(self._layers()):
                u = _randn((layer.weight.shape[0],), generator)
                self.register_buffer(f"singular_{i}", u / u.norm())

    def set_normalisation(
        self,
        y_mean: Tensor,
        y_std: Tensor,
        x_mean: Tensor | None = None,
        x_std: Tensor | None = None,
    ) -> None:
        """Set the affine input normalisation; y_mean, y_std (y_dim,), x_mean, x_std (x_dim,).

        A standard deviation of zero (a constant coordinate) counts as one.

        Raises:
            ValueError: a value that is not finite or of another shape; the message names it.
        """
        given = {"y_mean": y_mean, "y_std": y_std, "x_mean": x_mean, "x_std": x_std}
        for name, value in given.items():
            if value is None:
                continue
            buffer = getattr(self, name)
            value = torch.as_tensor(value, dtype=buffer.dtype, device=buffer.device)
            if value.shape != buffer.shape:
                wanted, got = tuple(buffer.shape), tuple(value.shape)
                raise ValueError(f"{name} must have shape {wanted}, got {got}")
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} is not finite: clean the data before normalising")
            if name.endswith("std"):
                value = torch.where(value > 0, value, torch.ones_like(value))
            buffer.copy_(value)

    # ------------------------------------------------------------------ forward

    def forward(self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        """Energies, over broadcast leading dimensions.

        Args:
            y: (..., y_dim). The common case is (B, K, y_dim): K candidates for B conditions.
            x: (..., x_dim), for example (B, 1, x_dim).
            z: (..., z_dim), in the latent's own units.

        Returns:
            Energies of shape (...), in nats where the objective makes them so.
        """
        if not torch.is_grad_enabled():
            return self._bound_call(y, x, z, with_grad=False)[0]
        raw, y = y, (self._check("y", y, self.y_dim) - self.y_mean) / self.y_std
        condition, phase_x = self._condition(x, z)
        inputs = [y]
        if self.freq_y.shape[1]:
            phase = y @ self.freq_y
            phase = phase if phase_x is None else phase + phase_x
            inputs += [phase.cos(), phase.sin()]
        if self.anchors and x is not None:
            inputs.append(anchor_features(raw, self._anchor_part(x), 1.0 / self.y_std)[1])
        # One condition may serve many y, or one y be scored under many conditions.
        lead = torch.broadcast_shapes(*(t.shape[:-1] for t in inputs))
        features = torch.cat([t.expand(*lead, t.shape[-1]) for t in inputs], dim=-1)
        a = F.linear(features, self._weight(0), self.y_in.bias)
        h = self._activation.function(a if condition is None else a + condition)
        for i, layer in enumerate(self._layers()[1:], start=1):
            h = self._activation.function(F.linear(h, self._weight(i), layer.bias))
        return F.linear(h, self.out.weight, self.out.bias).squeeze(-1)

    @torch.no_grad()
    def energy_and_grad(
        self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies (...) and dE/dy (..., y_dim), by a backward pass written by hand.

        No graph is recorded, and no gradient of a weight or a condition is ever formed. Shapes are
        those of ``forward``; the gradient has the shape of the energies plus (y_dim,).
        """
        energy, grad = self._bound_call(y, x, z, with_grad=True)
        return energy, cast(Tensor, grad)

    @torch.no_grad()
    def bind(self, x: Tensor | None = None, z: Tensor | None = None) -> BoundEnergy:
        """The energy of y alone under fixed x and z, prepared for many evaluations.

        x (B or 1, K or 1, x_dim) and z alike, or with fewer leading dimensions; the result takes y
        (B, K, y_dim). It holds until the weights change.
        """
        condition, phase_x = self._condition(x, z)
        modules = self._layers()
        first, *rest = [self._weight(i).T for i in range(len(modules))]
        d, n = self.y_dim, self.freq_y.shape[1]
        freq = self.freq_y / self.y_std[:, None]
        y_weight = first[:d] / self.y_std[:, None]
        phase = -(self.y_mean @ freq)
        bias = self.y_in.bias - self.y_mean @ y_weight
        return BoundEnergy(
            Layers(
                freq=freq,
                phase=_as_grid(phase if phase_x is None else phase + phase_x),
                y_weight=y_weight,
                cos_weight=first[d : d + n],
                sin_weight=first[d + n : d + 2 * n],
                first_bias=_as_grid(bias if condition is None else bias + condition),
                weights=rest,
                biases=[m.bias for m in modules[1:]],
                out_weight=self.out.weight.T,
                out_bias=self.out.bias,
                activation=self._activation,
                freq_t=freq.T,
                y_weight_t=y_weight.T,
                cos_weight_t=first[d : d + n].T,
                sin_weight_t=first[d + n : d + 2 * n].T,
                weights_t=[w.T for w in rest],
                anchors=_as_grid(self._anchor_part(x)) if self.anchors and x is not None else None,
                anchor_weight=first[d + 2 * n :],
                inverse_std=1.0 / self.y_std,
            ),
            self._workspace,
        )

    def autograd_energy_and_grad(
        self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The reference for ``energy_and_grad``: same result, by autograd."""
        return autograd_energy_and_grad(self, y, x, z)

    # ------------------------------------------------------------------ pieces

    def _anchor_part(self, x: Tensor) -> Tensor:
        return x[..., : self.anchors * self.y_dim]

    def _condition(self, x: Tensor | None, z: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What x and z add to the first pre-activation, and x to the Fourier phases."""
        for name, value, size in (("x", x, self.x_dim), ("z", z, self.z_dim)):
            if value is not None and not size:
                raise ValueError(f"this energy has {name}_dim=0: it takes no {name}")
        condition: Tensor | None = None
        phase_x: Tensor | None = None
        if self.x_in is not None:
            x = (self._check("x", x, self.x_dim) - self.x_mean) / self.x_std
            if self.fourier_mode != "y" and self.freq_y.shape[1]:
                phase_x = x @ self.freq_x
            if self.fourier_mode == "separate" and phase_x is not None:
                x, phase_x = torch.cat([x, phase_x.cos(), phase_x.sin()], dim=-1), None
            condition = self.x_in(x)
        if self.z_in is not None:
            latent = self.z_in(self._check("z", z, self.z_dim))
            condition = latent if condition is None else condition + latent
        return condition, phase_x

    @torch.no_grad()
    def _bound_call(
        self, y: Tensor, x: Tensor | None, z: Tensor | None, with_grad: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One evaluation through ``bind``, for any number of leading dimensions."""
        self._check("y", y, self.y_dim)
        lead = torch.broadcast_shapes(*(t.shape[:-1] for t in (y, x, z) if t is not None))
        if len(lead) > 2:  # the kernel takes conditions times candidates: make it one long row
            y = y.expand(*lead, y.shape[-1]).flatten(0, -2)
            x = None if x is None else x.expand(*lead, x.shape[-1]).flatten(0, -2)
            z = None if z is None else z.expand(*lead, z.shape[-1]).flatten(0, -2)
        bound = self.bind(x, z)
        energy, grad = bound.energy_and_grad(y) if with_grad else (bound(y), None)
        return energy.view(lead), None if grad is None else grad.view(*lead, self.y_dim)

    def _layers(self) -> list[nn.Linear]:
        return [self.y_in, *cast("list[nn.Linear]", list(self.hidden))]

    def _weight(self, i: int) -> Tensor:
        """Weight of input layer (0) or hidden layer i, spectrally normalised where asked for."""
        weight = self._layers()[i].weight
        if not self.spectral_norm:
            return weight
        u = getattr(self, f"singular_{i}")
        stepping = torch.is_grad_enabled()
        with torch.no_grad():
            v = F.normalize(weight.T @ u, dim=0)
            u_next = F.normalize(weight @ v, dim=0)
            # Sampling must not move the estimate: only training forwards step the iteration.
            if self.training and stepping:
                u.copy_(u_next)
        return weight / (u_next @ weight @ v)

    @staticmethod
    def _check(name: str, value: Tensor | None, size: int) -> Tensor:
        if value is None or value.shape[-1] != size:
            shape = None if value is None else tuple(value.shape)
            raise ValueError(f"{name} must have shape (..., {size}), got {shape}")
        return value


def bind(
    energy: EnergyModel, x: Tensor | None = None, z: Tensor | None = None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """y -> (E, dE/dy) under fixed x and z, prepared once for many steps where that is possible."""
    if isinstance(energy, EnergyMLP):
        return energy.bind(x, z).energy_and_grad
    return lambda y: energy.energy_and_grad(y, x, z)


def _as_grid(t: Tensor) -> Tensor:
    """View t (c,), (K, c) or (B, K, c) with three dimensions."""
    return t.view((1,) * (3 - t.ndim) + t.shape)


def _randn(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator)


def _linear(
    inputs: int, outputs: int, fan_in: int, generator: torch.Generator | None, bias: bool = True
) -> nn.Linear:
    """A linear layer uniform in +-1/sqrt(fan_in), drawn from the generator and nothing else."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if bias:
            layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
