"""The GPU form of MTCNN's networks gives the same results as facenet-pytorch's. Tested on CPU tensors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fer_stream.detection.torch_mtcnn import load_torch_mtcnn  # noqa: E402


@pytest.mark.parametrize(
    ("name", "shape"), [("PNet", (1, 3, 64, 97)), ("RNet", (3, 3, 24, 24)), ("ONet", (3, 3, 48, 48))]
)
def test_the_gpu_form_agrees_with_facenet_pytorch(name: str, shape: tuple[int, ...]) -> None:
    mtcnn = pytest.importorskip("facenet_pytorch.models.mtcnn")
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected = getattr(mtcnn, name)().eval()(images)
        given = load_torch_mtcnn(name, torch.device("cpu"))(images)
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)
