"""Run a network in ONNX Runtime, on the CPU.

A network is exported from its torch module once, into the user's cache, and a later start loads
it from there without importing torch, which alone takes seconds. A cache file is

    one line of JSON: the SHA-256 of what follows, and what the network needs to be used
    the ONNX model

named by a key over everything that shapes it. It is written to a temporary name and renamed, so
two processes may do it at once; a damaged one is made again; where no cache can be written, the
model is kept in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.inference.network import Network
from fer_stream.system.files import replacing

if TYPE_CHECKING:
    from torch import nn

EXPORT_VERSION = 3  # raise it when the exported graphs change
OPSET = 17


@dataclass(frozen=True)
class ModuleSpec:
    """How to come by a network.

    Attributes:
        name: Part of the cache file's name.
        key: Says everything that shapes the network: hash of the weights, versions.
        build: Makes the torch module, in evaluation mode on the CPU, and what is to be stored with it.
        example_shape: (N, C, H, W) of an input.
        dynamic_axes: The axes of the input that vary, besides the batch: such as (2, 3).
        outputs: How many arrays come out.
        for_onnx: Puts the module into operations that ONNX Runtime does quickly.
        most_on_cpu: Runs on the CPU take no more of a batch at once than this: what the layers hand
            on then stays in the processor's cache. 0: the whole batch.
    """

    name: str
    key: Sequence[str]
    build: Callable[[], tuple[nn.Module, dict[str, Any]]]
    example_shape: tuple[int, int, int, int]
    dynamic_axes: tuple[int, ...] = ()
    outputs: int = 1
    for_onnx: Callable[[nn.Module], nn.Module] = lambda module: module
    most_on_cpu: int = 0


def load_network(spec: ModuleSpec, threads: int = 0) -> tuple[Network, dict[str, Any]]:
    """Load a network.

    Args:
        spec: The network.
        threads: CPU threads for one run of the network; 0 takes one a core.

    Returns:
        The network, and what `spec.build` stored with it.
    """
    path = cache_folder() / f"{spec.name}-{_digest(spec)[:32]}.onnx"
    cached = _read_cache(path)
    if cached is not None:
        with contextlib.suppress(Exception):  # ONNX Runtime can't read it: make it again
            return OnnxNetwork(cached[0], threads, most=spec.most_on_cpu), cached[1]
    module, stored = spec.build()
    model = export_onnx(spec.for_onnx(module), spec)
    _write_cache(path, model, stored)
    return OnnxNetwork(model, threads, most=spec.most_on_cpu), stored


class OnnxNetwork:
    """A network in ONNX Runtime, on the CPU, with at most `most` of a batch at once (0: all of it)."""

    def __init__(self, model: bytes, threads: int = 0, *, most: int = 0) -> None:
        # Faces are nobody else's business: without this, its builds report their use to their maker
        # and leave an identifier of the machine in the user's cache.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning thread would take the core from the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._most = most

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Runs the network on float32 (N, C, H, W)."""
        if len(batch) <= (self._most or len(batch)):
            return tuple(self._session.run(None, {self._input: batch}))
        portions = np.array_split(batch, -(-len(batch) // self._most))
        runs = [self._session.run(None, {self._input: portion}) for portion in portions]
        return tuple(np.concatenate(parts) for parts in zip(*runs, strict=True))


def export_onnx(module: nn.Module, spec: ModuleSpec) -> bytes:
    """Exports a torch module as an ONNX model whose batch size is free."""
    import torch

    axes = {0: "batch", **{axis: f"axis{axis}" for axis in spec.dynamic_axes}}
    outputs = [f"output{index}" for index in range(spec.outputs)]
    model = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(spec.example_shape),),
            model,  # type: ignore[arg-type]  # a file object is fine, whatever some versions declare
            dynamo=False,  # the newer exporter fixes the sizes of the pooling layers
            input_names=["input"],
            output_names=outputs,
            dynamic_axes={"input": axes, **{name: {0: "batch"} for name in outputs}},
            opset_version=OPSET,
        )
    return model.getvalue()


def cache_folder() -> Path:
    """Returns where exported networks are kept: the usual place for caches of this system."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fer-stream"


def _digest(spec: ModuleSpec) -> str:
    parts = [spec.name, str(EXPORT_VERSION), str(OPSET), *spec.key]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read_cache(path: Path) -> tuple[bytes, dict[str, Any]] | None:
    try:
        content = path.read_bytes()
        header, _, model = content.partition(b"\n")
        said = json.loads(header)
        if said["sha256"] != hashlib.sha256(model).hexdigest():
            return None
        return model, said["stored"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(path: Path, model: bytes, stored: dict[str, Any]) -> None:
    header = json.dumps({"sha256": hashlib.sha256(model).hexdigest(), "stored": stored}).encode()
    # A home that is read-only or full costs a slower start, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(header + b"\n" + model)
