"""What was noted on a clock that has been set back since, told on its new time (decision 27). Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class StepBack:
    """The clock ran back by ``by_ms`` to ``now_ms`` (epoch ms). A time later than now is one of before the step."""

    now_ms: int
    by_ms: int

    def time(self, at_ms: int) -> int:
        """The same moment on the new time."""
        return at_ms - self.by_ms if at_ms > self.now_ms else at_ms

    def column(self, at_ms: npt.NDArray[np.int64]) -> None:
        """The same for a whole column, in place."""
        at_ms[at_ms > self.now_ms] -= self.by_ms
