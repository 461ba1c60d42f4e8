"""The parameters of a network as one flat tensor, and Adam and target averaging on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hierebm.errors import TrainingDiverged
from hierebm.nn.scratch import zeros_when_written


def flat_parameters(module: nn.Module) -> Tensor:
    """Move all parameters of ``module`` into one contiguous tensor, and their gradients too.

    Afterwards every parameter (in the order of ``module.parameters()``) is a view of the returned
    tensor, and every ``parameter.grad`` a view of its ``.grad``; optimiser and target averaging
    then are single operations on it (:class:`FlatAdam`, :func:`polyak_`). ``state_dict`` and
    ``load_state_dict`` keep working, in place. Call it after ``module.to(device)``, which would
    undo it, and clear gradients with ``FlatAdam.zero_grad`` (in place): ``module.zero_grad()``
    would drop the views. :func:`is_flat` tells whether they are intact.

    Both tensors begin at a cache line and positions within follow from the shapes alone, so that
    products with the parameters round alike in every process.

    Returns:
        (P,) tensor that needs no gradient itself, with ``.grad`` a zeroed (P,) tensor.

    Raises:
        ValueError: if there are no parameters, or they differ in dtype or device.
    """
    parameters = list(module.parameters())
    if not parameters:
        raise ValueError(f"{type(module).__name__} has no parameters to flatten")
    if len({(p.dtype, p.device) for p in parameters}) > 1:
        raise ValueError("all parameters must have one dtype and one device to be flattened")
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    flat.grad = zeros_when_written(flat)
    offset = 0
    for p in parameters:
        window = slice(offset, offset + p.numel())
        p.data = flat[window].view(p.shape)
        p.grad = flat.grad[window].view(p.shape)
        offset += p.numel()
    return flat


def is_flat(module: nn.Module, flat: Tensor) -> bool:
    """Whether the parameters and gradients of ``module`` still are views of ``flat``."""
    if flat.grad is None:
        return False
    offset = 0
    for p in module.parameters():
        window = slice(offset, offset + p.numel())
        if p.grad is None or p.data_ptr() != flat[window].data_ptr():
            return False
        if p.grad.data_ptr() != flat.grad[window].data_ptr():
            return False
        offset += p.numel()
    return offset == flat.numel()


# As many tensors go into one launch of the fused step.
PIECES = 36


class _Adam(NamedTuple):
    beta1: float
    beta2: float
    eps: float

    def most(self) -> float:
        """How many times the second moment the square of the first may be, whatever the gradients
        were (Cauchy and Schwarz), and as much again for rounding."""
        if self.beta2 <= self.beta1**2:
            return math.inf
        share = (1.0 - self.beta1) ** 2 / (1.0 - self.beta2)
        return 2.0 * share / (1.0 - self.beta1**2 / self.beta2)


def _adam_by_hand_(
    flat: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: Tensor,
    lr: float | Tensor,
    *,
    options: _Adam,
) -> None:
    """Kingma & Ba 2015, algorithm 1, for versions of torch without a fused kernel."""
    t, lr = float(step), float(lr)
    m.lerp_(grad, 1.0 - options.beta1)
    v.mul_(options.beta2).addcmul_(grad, grad, value=1.0 - options.beta2)
    root = (v / (1.0 - options.beta2**t)).sqrt_().add_(options.eps)
    flat.addcdiv_(m, root, value=-lr / (1.0 - options.beta1**t))


def _adam_fused_(
    flat: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: Tensor,
    lr: float | Tensor,
    *,
    options: _Adam,
) -> None:
    """The same in one pass over memory."""
    params, grads, means, squares = [flat], [grad], [m], [v]
    if (size := _piece(flat)) < flat.numel():
        params, grads, means, squares = (list(x.split(size)) for x in (flat, grad, m, v))
    torch._fused_adam_(
        params,
        grads,
        means,
        squares,
        [],
        [step] * len(params),
        lr=lr,
        beta1=options.beta1,
        beta2=options.beta2,
        weight_decay=0.0,
        eps=options.eps,
        amsgrad=False,
        maximize=False,
    )


def _piece(flat: Tensor) -> int:
    """Elements of the pieces of ``flat`` that the fused step takes as tensors.

    On CUDA it has one block of threads for 65536 elements of a tensor: a small network in one piece
    would keep a few of a hundred processors busy, for five times as long.
    """
    if flat.device.type != "cuda":
        return flat.numel()
    # Of a multiple of four, all pieces begin where four numbers can be read at once.
    return 4 * math.ceil(flat.numel() / (4 * PIECES))


def _has_fused_adam(like: Tensor) -> bool:
    tensors = [torch.zeros(1, dtype=like.dtype, device=like.device) for _ in range(4)]
    step = torch.ones((), device=like.device)
    flat, grad, m, v = tensors
    try:
        _adam_fused_(flat, grad, m, v, step, 0.0, options=_Adam(0.9, 0.999, 1e-8))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return True


# The moments of a unit that never fires (ReLU) decay towards zero and arrive, after some 800 steps,
# at numbers so small (denormal) that processors slow down: with two units in five dead, a step of
# Adam took three times as long. Beside ``eps`` such moments are nothing; they are zeroed before.
NEGLIGIBLE = 1e-30
FLUSH_EVERY = 64


# Root of the mean square of a network's weights beyond which it has diverged. Weights begin below 1
# and stay there; features that are scaled again take them to some times that.
LARGEST_RMS = 100.0


class FlatAdam:
    """Adam (Kingma & Ba 2015) on one flat tensor, in one fused pass over memory.

    Not a ``torch.optim.Optimizer``: making one of those imports torch's compiler (over a second),
    and its way around options that are not used here costs as much as the step itself.

    Args:
        flat: what :func:`flat_parameters` returned; ``flat.grad`` is what ``step`` descends.
        lr: learning rate; an attribute that may be changed at any time.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        name: of the network, for messages.

    Raises:
        ValueError: if ``flat`` has no gradient buffer, or a setting is out of range.
    """

    def __init__(
        self,
        flat: Tensor,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        name: str = "network",
    ) -> None:
        if flat.grad is None:
            raise ValueError("flat has no .grad: pass the tensor that flat_parameters() returned")
        if not lr >= 0.0 or not eps > 0.0 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"need lr >= 0, eps > 0, betas in [0, 1), got {lr}, {eps}, {betas}")
        self.flat, self.name = flat, name
        self.lr = lr
        # Compared with a sum of squares, which is NaN or infinite where one weight is.
        self._most = LARGEST_RMS**2 * flat.numel()
        self._options = _Adam(*betas, eps)
        self._exp_avg = zeros_when_written(flat)
        self._exp_avg_sq = zeros_when_written(flat)
        self._step = torch.zeros((), device=flat.device)
        self._descend_ = _adam_fused_ if _has_fused_adam(flat) else _adam_by_hand_

    @property
    def grad(self) -> Tensor:
        """(P,) what :meth:`step` descends."""
        grad = self.flat.grad
        assert grad is not None
        return grad

    @torch.no_grad()
    def step(self, loss: Tensor | float | None = None) -> None:
        """Descend ``flat.grad`` once.

        Args:
            loss: whose gradient that is, for the message.

        Raises:
            TrainingDiverged: the weights are NaN, infinite or absurdly large now. They and the
                moments are lost: go on from a copy.
        """
        self._step.add_(1.0)
        self._descend_(
            self.flat,
            self.grad,
            self._exp_avg,
            self._exp_avg_sq,
            self._step,
            self.lr,
            options=self._options,
        )
        if int(self._step) % FLUSH_EVERY == 0:
            for moment in (self._exp_avg, self._exp_avg_sq):
                moment.masked_fill_(moment.abs() < NEGLIGIBLE, 0.0)
        # One product over memory that was just written: half a percent of an update.
        if not float(torch.dot(self.flat, self.flat)) <= self._most:
            self._raise(loss)

    @torch.no_grad()
    def descend(self, rate: Tensor) -> None:
        """:meth:`step` where nothing may be waited for: the caller looks at the weights later.

        Args:
            rate: the learning rate, a scalar on the device of the parameters.
        """
        moments = self._exp_avg, self._exp_avg_sq
        self._step.add_(1.0)
        self._descend_(self.flat, self.grad, *moments, self._step, rate, options=self._options)

    def _raise(self, loss: Tensor | float | None) -> None:
        """Say what of the loss, the gradient and the weights was the first to go wrong."""
        grad, what = self.grad, "weights"
        if loss is not None and not math.isfinite(loss):
            what, value = "loss", float(loss)
        elif not bool(torch.isfinite(grad).all()):
            what, value = "gradient", float(grad[~torch.isfinite(grad)][0])
        else:
            value = float(self.flat.double().square().mean().sqrt())
        raise self.diverged(what, value, int(self._step))

    def diverged(self, what: str, value: float, update: int) -> TrainingDiverged:
        """The error that says so.

        Args:
            what: "loss", "gradient" or "weights".
            value: what it came to; of the weights, the root of the mean square.
            update: in which this was seen.
        """
        size = "root mean square " if what == "weights" else ""
        return TrainingDiverged(
            f"training diverged: the {what} of the {self.name} came to {size}{value:.3g} in update "
            f"{update}, at the learning rate {self.lr:g}. Lower it, or look for outliers "
            "in what the environment observes"
        )

    def zero_grad(self) -> None:
        """Zero the flat gradient in place: the parameters' gradients stay views of it."""
        self.grad.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """Moments (P,) and step count, by reference as in torch's modules."""
        return {"step": self._step, "exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave, in place; the learning rate stays as configured.

        Raises:
            ValueError: if ``state`` is of another network or another optimiser, or holds what no
                training leaves: infinity, or squares below zero.
        """
        own = self.state_dict()
        if state.keys() != own.keys() or any(state[k].shape != own[k].shape for k in own):
            found = {k: tuple(getattr(v, "shape", ())) for k, v in state.items()}
            raise ValueError(
                f"this is not the state of Adam on {self.flat.numel()} parameters: {found}"
            )
        for key, tensor in own.items():
            tensor.copy_(state[key])
        # NaN compares as False. The square of a gradient may be too large for a number.
        mean, squares = self._exp_avg, self._exp_avg_sq
        if not (
            max(-mean.min(), mean.max()) < math.inf
            and squares.min() >= 0.0
            and (mean.square() <= self._options.most() * (squares + NEGLIGIBLE)).all()
        ):
            raise ValueError(f"moments of the optimiser of the {self.name} are none of Adam's")
        if not 0.0 <= self._step < math.inf:
            raise ValueError(f"the optimiser of the {self.name} has made {self._step:g} steps")


@torch.no_grad()
def polyak_(target_flat: Tensor, flat: Tensor, tau: float) -> Tensor:
    """Move ``target_flat`` (P,) a fraction ``tau`` towards ``flat`` (P,), in place."""
    return target_flat.lerp_(flat, tau)
