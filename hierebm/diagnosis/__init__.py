"""Why an agent reaches its goals or does not: figures, what limits it, and what to try."""

from hierebm.diagnosis.figures import Figures
from hierebm.diagnosis.limits import Limit, find_limits
from hierebm.diagnosis.report import Diagnosis

__all__ = ["Diagnosis", "Figures", "Limit", "find_limits"]
