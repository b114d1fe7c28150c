"""Names for numpy arrays in annotations; shapes and units are said in docstrings, where a reader looks for them."""

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[Any]]
Ints = np.ndarray[Any, np.dtype[Any]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
