"""The bits of the two NaNs that a float32 feature can be. Pure, and imported by compiled code.

MISSING is the one that numpy and the processors give for a NaN that nobody computed; COMPUTED differs in the last bit,
so that 0 / 0 is a value and not a gap.
"""

from __future__ import annotations

import numpy as np

MISSING = np.uint32(0x7FC00000)
COMPUTED = np.uint32(0x7FC00001)
