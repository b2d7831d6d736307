"""What weights may be given as."""

import numpy as np
import pytest

from pvt_spec import ConfigError
from pvt_spec.arrays import as_arrays
from tests.support.messages import naming


def test_tensors_and_other_orders_of_bytes_are_arrays() -> None:
    import torch

    exact = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = {"a": exact, "b": exact.astype(">f4"), "c": torch.from_numpy(exact)}
    found = as_arrays(given)
    assert found["a"] is exact
    for array in found.values():
        assert array.dtype == np.dtype(np.float32) and array.dtype.isnative
        assert np.array_equal(array, exact)


def test_what_numpy_makes_no_array_of_is_named() -> None:
    import torch

    for given in (torch.nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.bfloat16)):
        with pytest.raises(ConfigError, match=naming("head.bias", type(given).__name__, "numpy")):
            as_arrays({"head.bias": given})
