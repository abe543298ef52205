"""Run a network on the CPU in ONNX Runtime.

A network is an ONNX file in fer_stream/data/. If the file has no weights, they are passed as arrays when it
loads. ONNX Runtime then folds batch normalization and other constants, which takes about 20 ms for
EfficientNet-B0. A cache of the folded model would save only half of that, so the model is not cached.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"


class OnnxNetwork:
    """A network in ONNX Runtime. Implements `network.Network`.

    Args:
        model_path: The ONNX file.
        weights: Arrays for initializers that the file declares as external data, by name.
        threads: CPU threads for one run; 0 for one per core.
        max_batch: Split larger batches into runs of at most this size, whose activations stay in the
            processor's cache; 0 runs any batch at once.

    Raises:
        onnxruntime.capi.onnxruntime_pybind11_state.Fail: The weights do not fit the graph.
    """

    def __init__(
        self,
        model_path: Path,
        weights: Mapping[str, np.ndarray] | None = None,
        *,
        threads: int = 0,
        max_batch: int = 0,
    ) -> None:
        # Disable telemetry: some builds report usage and store a machine identifier in the user's cache. A
        # face analyzer must not do that.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning thread would take a core away from the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if weights:
            # ONNX Runtime does not copy these; they must live as long as the session.
            self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), self._weights)
        self._session = onnxruntime.InferenceSession(
            model_path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._max_batch = max_batch

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the network on float32 (N, C, H, W). See `Network.__call__`."""
        if len(batch) <= (self._max_batch or len(batch)):
            return tuple(self._session.run(None, {self._input: batch}))
        parts = np.array_split(batch, -(-len(batch) // self._max_batch))
        runs = [self._session.run(None, {self._input: part}) for part in parts]
        return tuple(np.concatenate(outputs) for outputs in zip(*runs, strict=True))
