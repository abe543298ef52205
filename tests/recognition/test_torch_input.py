"""The GPU's half of the preprocessing gives the same input as the CPU's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.checkpoints import INPUT

torch = pytest.importorskip("torch")

from fer_stream.recognition.preprocessing import native_crop, network_input  # noqa: E402
from fer_stream.recognition.torch_input import input_from_crops  # noqa: E402


@pytest.mark.parametrize("native_size", [48, 112, 200])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("grayscale", [True, False])
def test_the_input_equals_that_of_the_cpu(
    hopper_bgr: np.ndarray, native_size: int, standardize: bool, grayscale: bool
) -> None:
    spec = replace(INPUT, size=112, native_size=native_size, standardize=standardize, grayscale=grayscale)
    squares = np.array(
        [[172, 110, 352, 290], [100, 50, 140, 90], [-30, 400, 200, 630], [0, 0, 9, 9]], np.float32
    )
    crops = np.stack([native_crop(hopper_bgr, square, spec, 0.1) for square in squares])
    expected = np.stack([network_input(hopper_bgr, square, spec, 0.1) for square in squares])
    given = input_from_crops(spec, torch.device("cpu"))(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-4)
