"""The type of arrays that may be anywhere."""

import jax
import numpy as np

# On the device or on the host: JAX takes both, and results may be asked of either.
AnyArray = jax.Array | np.ndarray
