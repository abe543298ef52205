"""Load MTCNN's three networks: P-Net, R-Net and O-Net.

Source: facenet-pytorch (MIT; fer_stream/data/LICENSE-facenet-pytorch.md). `tools/export_networks.py` made the
ONNX files from it, in operations that ONNX Runtime runs fast.
"""

from __future__ import annotations

from typing import Literal

from fer_stream.inference.network import Network
from fer_stream.inference.onnx_runtime import DATA, OnnxNetwork

P_NET_INPUT = 12  # side in px of the face that P-Net recognizes
P_NET_STRIDE = 2
R_NET_INPUT = 24  # side in px
O_NET_INPUT = 48
# Measured: with 360 crops of a crowd in one run, R-Net takes a quarter longer per crop. With 27, O-Net takes
# a sixth longer.
_MAX_BATCHES = {"PNet": 0, "RNet": 64, "ONet": 8}


def load_mtcnn(name: Literal["PNet", "RNet", "ONet"], threads: int) -> Network:
    """Load one of the networks for the CPU.

    Args:
        name: Its class in facenet-pytorch.
        threads: CPU threads for one run of the network; 0 for one per core.
    """
    return OnnxNetwork(DATA / f"{name.lower()}.onnx", threads=threads, max_batch=_MAX_BATCHES[name])
