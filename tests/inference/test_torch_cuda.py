"""The GPU's code on CPU tensors: padded batches, and results that later calls do not overwrite."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fer_stream.inference.torch_cuda import BatchFunction, Lane, TorchNetwork  # noqa: E402


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, 3, 48, 48)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
def test_padding_to_a_few_sizes_changes_nothing(count: int) -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.Flatten(), torch.nn.Linear(5 * 46 * 46, 7)
    )
    batch = images(count)
    module.eval().requires_grad_(False)
    expected = module(torch.from_numpy(batch)).numpy()
    (given,) = TorchNetwork(module, Lane("cpu:0"), sizes=(2, 4))(batch)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_only_batches_of_the_stated_sizes_reach_the_function() -> None:
    seen = []

    def function(batch):
        seen.append(len(batch))
        return batch * 2

    run = BatchFunction(function, Lane("cpu:0"), (2, 4))
    for count in (1, 2, 3, 4, 5, 11):
        batch = np.arange(count, dtype=np.float32)[:, None]
        np.testing.assert_array_equal(run(batch), batch * 2)
    assert set(seen) == {2, 4}


def test_a_result_outlives_the_next_call() -> None:
    run = BatchFunction(lambda batch: batch + 1, Lane("cpu:0"), (2,))
    first = run(np.zeros((2, 1), np.float32))
    run(np.full((2, 1), 5, np.float32))
    np.testing.assert_array_equal(first, np.ones((2, 1)))
