"""Networks in PyTorch answer what the module answers."""

from __future__ import annotations

import numpy as np

from fer_stream.inference.torch_cuda import TorchNetwork


def test_a_torch_network_gives_what_its_module_gives() -> None:
    import torch
    from facenet_pytorch.models.mtcnn import ONet

    module = ONet().eval()
    batch = np.random.default_rng(0).uniform(-1, 1, (3, 3, 48, 48)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch))
    given = TorchNetwork(module, "cpu")(batch)
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4, rtol=1e-4)
