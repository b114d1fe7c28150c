"""Names for numpy arrays in annotations; docstrings give shapes and units."""

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[Any]]
Ints = np.ndarray[Any, np.dtype[Any]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
