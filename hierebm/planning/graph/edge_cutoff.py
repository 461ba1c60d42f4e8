"""What became of tries: how far a subgoal may be, and whether the fewest steps are to be expected.

A *try* is an edge that was chased until its subgoal was reached or missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from hierebm.at_once import set_at_once
from hierebm.checkpoint.arrays import checked
from hierebm.planning.graph.edges import FARTHEST
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
# The prior of the expected share: none, give or take this much. Tries differ by chance by so many
# steps, as if so many had shown it. So many standard deviations below its mean, the share is
# believed.
SPREAD, NOISE, SHOWN, CAUTION = 0.5, 4.0, 20.0, 2.0
# The tries that tell the share: a low level that has learned little is wrong without luck, too.
RECENT = 150
# Tries that count as missed before there are any.
UNKNOWN = 8.0
# Shares below this are none: worlds without luck are to be as if nobody had asked.
NOTICED = 0.2


class EdgeCutoff:
    """Where the chance of reaching a subgoal, falling with its predicted steps, comes to 95%.

    Maximum a posteriori logistic regression of the outcome on the logarithm of the predicted steps
    over the configured ones (Bishop 2006, section 4.3), on the last 1000 outcomes.

    The same tries tell what the fewest steps of experience are worth. Where the low level predicts
    more, it may be wrong or luck may have been at work; what tries then took, those that missed
    included, decides (Bayesian linear regression, Bishop 2006, section 3.3).

    Args:
        safe_edge: predicted steps that count as safe before there are outcomes.

    Attributes:
        safe_edge: those that count as safe since the last :meth:`refit`.
        expected_share: how much of the steps that are predicted beyond the fewest tries have taken,
            0 to 1; since the last :meth:`refit`.
    """

    def __init__(self, safe_edge: float) -> None:
        self.safe_edge = self._configured = safe_edge
        self._prior = np.array([LOGIT, SLOPE])
        self.expected_share = 0.0
        self._outcomes = np.zeros((0, 5), np.float32)

    def add(
        self,
        predicted: float,
        reached: bool,
        *,
        fewest: float = 0.0,
        expected: float = 0.0,
        spent: float = 0.0,
    ) -> None:
        """A subgoal was chased that should have taken ``predicted`` steps.

        Args:
            predicted: steps that the graph counted with.
            reached: whether it was reached; else it was missed.
            fewest, expected: steps as the fastest trajectories and as the low level predicted them;
                equal where they do not differ.
            spent: steps that the try took.
        """
        outcome = np.array([[predicted, reached, fewest, expected, spent]], np.float32)
        self._outcomes = np.concatenate([self._outcomes, outcome])[-REMEMBERED:]

    @property
    def outcomes(self) -> FloatArray:
        """(n, 2) the remembered ones: predicted steps, and 1 where the subgoal was reached."""
        return self._outcomes[:, :2]

    @property
    def surprise(self) -> float:
        """Nats, how surprising it is that a try is missed, by the outcomes that are remembered."""
        n, reached = len(self._outcomes), float(self._outcomes[:, 1].sum())
        return float(np.log((n + UNKNOWN) / (n - reached + UNKNOWN)))

    def refit(self, low: float, high: float) -> None:
        """Set ``safe_edge`` to the steps up to which 95% are reached, within [low, high]."""
        height, slope = self._fit()
        if slope < 0.0:
            beyond = (LOGIT - height) / slope
        else:
            # A chance that does not fall is enough at every distance or at none.
            beyond = np.inf if height > LOGIT else -np.inf
        low, high = np.log(low / self._configured), np.log(high / self._configured)
        safe_edge = float(self._configured * np.exp(np.clip(beyond, low, high)))
        set_at_once(self, safe_edge=safe_edge, expected_share=self._fit_share())

    def _fit_share(self) -> float:
        """What share of ``expected - fewest`` tries spent beyond ``fewest``, with caution."""
        fewest, expected, spent = self._outcomes[-RECENT:, 2:].astype(np.float64).T
        gap, more = expected - fewest, spent - fewest
        told = gap > 0.0
        gap, more = gap[told], more[told]
        if not gap.size:
            return 0.0
        rest = more - gap * (gap @ more) / (gap @ gap)
        noise = (rest @ rest + SHOWN * NOISE**2) / (len(rest) + SHOWN)
        precision = 1.0 / SPREAD**2 + gap @ gap / noise
        share = gap @ more / noise / precision - CAUTION / np.sqrt(precision)
        return float(min(share, 1.0)) if share > NOTICED else 0.0

    def _inputs(self, predicted: NDArray[np.floating]) -> NDArray[np.float64]:
        x = np.log(np.maximum(predicted, 1.0) / self._configured)
        return np.stack([np.ones_like(x), x], axis=-1)

    def _fit(self) -> NDArray[np.float64]:
        """The most likely height at the configured steps, and slope."""
        predicted, reached = self.outcomes.astype(np.float64).T
        inputs = self._inputs(predicted)

        def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            logit, off = inputs @ b, b - self._prior
            value = (np.logaddexp(0.0, logit) - reached * logit).sum() + 0.5 * PRECISION @ off**2
            return value, inputs.T @ (expit(logit) - reached) + PRECISION * off

        result: NDArray[np.float64] = minimize(loss, self._prior, jac=True).x
        return result

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores the outcomes from."""
        return {
            "outcomes": self._outcomes,
            "safe_edge": np.array(self.safe_edge),
            "expected_share": np.array(self.expected_share),
        }

    def load_state_dict(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is none of outcomes."""
        # Older files tell what became of tries, not what they took.
        width = 2 if arrays["outcomes"].shape[1:] == (2,) else 5
        outcomes = checked(arrays, "outcomes", (None, width), "floats", low=0.0)
        share = checked(arrays, "expected_share", (), low=0.0, high=1.0) if width == 5 else 0.0
        # Below 1, nothing would be near enough to be reached; and as far as a setting may say.
        self.safe_edge = float(checked(arrays, "safe_edge", (), low=1.0, high=FARTHEST))
        nothing = np.zeros((len(outcomes), 5 - width), np.float32)
        outcomes = np.concatenate([outcomes, nothing], axis=1)
        self._outcomes = outcomes[-REMEMBERED:].astype(np.float32)
        self.expected_share = float(share)
