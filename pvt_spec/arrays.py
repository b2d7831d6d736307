"""The type of a numpy array whose shape and dtype are said in words."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of any shape and dtype; bfloat16 is ``ml_dtypes.bfloat16``."""
