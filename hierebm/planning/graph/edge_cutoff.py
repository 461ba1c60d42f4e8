"""How far a subgoal may be: estimated from the subgoals that were reached and missed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from hierebm.checkpoint.arrays import checked
from hierebm.types import FloatArray

# Outcomes remembered: the low level gets better, and what it missed long ago says little.
REMEMBERED = 1000
# Share of subgoals reached, exploration noise included, up to which an edge counts as safe.
RELIABLE = 0.95
LOGIT = np.log(RELIABLE / (1.0 - RELIABLE))
# The prior before there are outcomes: that share at the configured steps, falling as steeply as it
# did in five mazes (4 to 7). Precisions of both: without them, many near subgoals that were reached
# would say that far ones are.
SLOPE, PRECISION = -5.0, np.array([0.5, 0.5])


class EdgeCutoff:
    """Where the chance of reaching a subgoal, falling with its predicted steps, comes to 95%.

    Maximum a posteriori logistic regression of the outcome on the logarithm of the predicted steps
    over the configured ones (Bishop 2006, section 4.3), on the last 1000 outcomes.

    Args:
        safe_edge: predicted steps that count as safe before there are outcomes.

    Attributes:
        safe_edge: those that count as safe since the last :meth:`refit`.
    """

    def __init__(self, safe_edge: float) -> None:
        self.safe_edge = self._configured = safe_edge
        self._prior = np.array([LOGIT, SLOPE])
        self._outcomes = np.zeros((0, 2), np.float32)

    def add(self, predicted: float, reached: bool) -> None:
        """A subgoal was chased that should have taken ``predicted`` steps."""
        outcome = np.array([[predicted, reached]], np.float32)
        self._outcomes = np.concatenate([self._outcomes, outcome])[-REMEMBERED:]

    @property
    def outcomes(self) -> FloatArray:
        """(n, 2) the remembered ones: predicted steps, and 1 where the subgoal was reached."""
        return self._outcomes

    def refit(self, low: float, high: float) -> None:
        """Set ``safe_edge`` to the steps up to which 95% are reached, within [low, high]."""
        height, slope = self._fit()
        if slope < 0.0:
            beyond = (LOGIT - height) / slope
        else:
            # A chance that does not fall is enough at every distance or at none.
            beyond = np.inf if height > LOGIT else -np.inf
        low, high = np.log(low / self._configured), np.log(high / self._configured)
        self.safe_edge = float(self._configured * np.exp(np.clip(beyond, low, high)))

    def _inputs(self, predicted: NDArray[np.floating]) -> NDArray[np.float64]:
        x = np.log(np.maximum(predicted, 1.0) / self._configured)
        return np.stack([np.ones_like(x), x], axis=-1)

    def _fit(self) -> NDArray[np.float64]:
        """The most likely height at the configured steps, and slope."""
        predicted, reached = self._outcomes.astype(np.float64).T
        inputs = self._inputs(predicted)

        def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            logit, off = inputs @ b, b - self._prior
            value = (np.logaddexp(0.0, logit) - reached * logit).sum() + 0.5 * PRECISION @ off**2
            return value, inputs.T @ (expit(logit) - reached) + PRECISION * off

        result: NDArray[np.float64] = minimize(loss, self._prior, jac=True).x
        return result

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores the outcomes from."""
        return {"outcomes": self._outcomes, "safe_edge": np.array(self.safe_edge)}

    def load_state_dict(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is none of outcomes."""
        outcomes = checked(arrays, "outcomes", (None, 2), low=0.0)
        # Below 1, nothing would be near enough to be reached.
        self.safe_edge = float(checked(arrays, "safe_edge", (), low=1.0))
        self._outcomes = outcomes[-REMEMBERED:].astype(np.float32)
