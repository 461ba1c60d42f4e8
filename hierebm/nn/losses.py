"""Losses with their gradients by hand: what :class:`~hierebm.nn.kernels.DenseKernel` starts from.

Each writes dL/d(output) into ``grad`` and returns the loss, without a graph. ``weight`` multiplies
the loss: pass 1/B for a mean over the batch, and so on.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A trained critic gives most bins probabilities like 1e-40. Such numbers (denormal) slow processors
# down wherever they go, and gradients carry them into every product: updates of a trained ensemble
# took 1.8 times as long. Beside float32's rounding of the probable bins they are nothing.
NEGLIGIBLE = 1e-15


def flush_(values: Tensor) -> Tensor:
    """Zero what is at most ``NEGLIGIBLE`` in size, in place."""
    result: Tensor = torch.ops.aten.hardshrink.out(values, NEGLIGIBLE, out=values)
    return result


def cross_entropy_(logits: Tensor, target: Tensor, *, grad: Tensor, weight: float) -> Tensor:
    """Cross-entropy of softmax(logits) against soft targets.

    Args:
        logits: (..., N); unchanged.
        target: (..., N) probabilities that sum to 1.
        grad: (..., N) buffer for weight * (softmax(logits) - target).
        weight: factor of the loss.

    Returns:
        -weight * sum(target * log softmax(logits)), a scalar.
    """
    torch.log_softmax(logits, -1, out=grad)
    loss = torch.dot(target.reshape(-1), grad.reshape(-1)).mul_(-weight)
    # sum(target) = 1, so that the slope is softmax - target.
    flush_(grad.clamp_(min=-60.0).exp_().sub_(target).mul_(weight))
    return loss


def squared_error_(value: Tensor, target: Tensor, *, grad: Tensor, weight: float) -> Tensor:
    """Squared error weight * sum((value - target)^2); ``grad`` gets 2 weight (value - target)."""
    torch.sub(value, target, out=grad)
    loss = torch.dot(grad.reshape(-1), grad.reshape(-1)).mul_(weight)
    grad.mul_(2.0 * weight)
    return loss


def expected_value_(logits: Tensor, support: Tensor, *, grad: Tensor, weight: float) -> Tensor:
    """Mean of a categorical distribution, and the gradient of its weighted sum.

    Args:
        logits: (..., N); unchanged.
        support: (N,) values of the atoms.
        grad: (..., N) buffer for weight * p * (support - mean), the gradient of
            weight * sum(mean).
        weight: factor of the sum.

    Returns:
        (...,) means softmax(logits) . support.
    """
    torch.softmax(logits, -1, out=grad)
    mean = grad @ support
    # d mean / d logit_k = p_k (support_k - mean)
    flush_(grad.mul_((support - mean.unsqueeze(-1)).mul_(weight)))
    return mean
