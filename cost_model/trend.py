"""Lines and parabolas along the coordinates: beyond what was measured, what a process forgets.

A stationary process expects the mean of everything far from its examples, with one deviation
however far. With a line and a parabola along every coordinate beside it, whose coefficients are
learnt (explicit basis functions: Rasmussen and Williams, "Gaussian Processes for Machine Learning",
section 2.7), values of a knob outside of those measured are the less certain the further out they
are, and what made schedules faster is expected to go on doing so for a while.
"""

from __future__ import annotations

import numpy as np

from cost_model.base import Floats

DEVIATION = 0.15
"""Of each coefficient before anything is learnt; `benchmarks/replay.md` compares."""


def trend(inputs: Floats) -> Floats:
    """Lines, then parabolas, at (examples, coordinates): (examples, 2 × coordinates).

    Coordinates were measured from 0 to 1. There both have a mean of 0, and from the middle to an
    end a parabola rises as much as a line.
    """
    lines = inputs - 0.5
    parabolas = 2.0 * (np.square(lines) - 1.0 / 12.0)
    functions: Floats = DEVIATION * np.hstack([lines, parabolas])
    return functions
