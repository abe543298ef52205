"""The GPU form of the network gives the same results as timm's. Tested on CPU tensors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fer_stream.recognition.torch_efficientnet import EfficientNetB0  # noqa: E402
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint  # noqa: E402
from train.architectures import evaluation_network  # noqa: E402


@pytest.mark.parametrize("size", [112, 64])
def test_the_gpu_form_agrees_with_timm(size: int) -> None:
    model = evaluation_network(load_checkpoint(BUILT_IN_WEIGHTS))
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.inference_mode():
        expected = model(images).numpy()
        given = EfficientNetB0(model.state_dict(), torch.device("cpu"), torch.float32)(images).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-4)
