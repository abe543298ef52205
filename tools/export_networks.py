"""Make the network files in fer_stream/data/ from PyTorch modules.

    python tools/export_networks.py     # needs fer-stream[dev]: PyTorch, timm, facenet-pytorch, onnx

pnet.onnx, rnet.onnx and onet.onnx are MTCNN's networks with the weights of facenet-pytorch, rewritten by
`mtcnn_for_onnx`. efficientnet_b0.onnx is timm's EfficientNet-B0 with seven outputs, without weights. Its
initializers are external data, named as in a checkpoint's `state_dict`, and are filled in when the program
starts. efficientnet_b0.json lists their shapes. To keep the names, batch normalization and constants are not
folded here. ONNX Runtime folds them when it loads the graph.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import warnings
from pathlib import Path

import onnx
import timm
import torch
from facenet_pytorch.models import mtcnn
from mtcnn_for_onnx import for_onnx
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer_stream.expressions import EXPRESSIONS  # noqa: E402

DATA = ROOT / "fer_stream" / "data"
ARCHITECTURE = "efficientnet_b0"
OPSET = 17
P_NET, R_NET, O_NET = (1, 3, 64, 96), (2, 3, 24, 24), (2, 3, 48, 48)  # example inputs


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=DATA, metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    detectors = (
        ("pnet", mtcnn.PNet(), P_NET, (2, 3), ["shifts", "probabilities"]),
        ("rnet", mtcnn.RNet(), R_NET, (), ["shifts", "probabilities"]),
        ("onet", mtcnn.ONet(), O_NET, (), ["shifts", "points", "probabilities"]),
    )
    for name, module, shape, free_axes, outputs in detectors:
        model = export(for_onnx(module.eval()), shape, free_axes, outputs)
        write(output / f"{name}.onnx", model)
    classifier = timm.create_model(ARCHITECTURE, num_classes=len(EXPRESSIONS)).eval()
    with torch.no_grad():
        for parameter in (*classifier.parameters(), *classifier.buffers()):
            if parameter.is_floating_point():
                parameter.uniform_(0.5, 1)  # the exporter merges parameters of equal values
    model = export(classifier, (2, 3, 64, 64), (2, 3), ["logits"], keep_weights=True)
    shapes = remove_weights(model)
    assert {*shapes} == {name for name in classifier.state_dict() if "num_batches_tracked" not in name}
    write(output / f"{ARCHITECTURE}.onnx", model)
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(shape)}" for name, shape in shapes.items())
    (output / f"{ARCHITECTURE}.json").write_text(f"{{\n{rows}\n}}\n", encoding="utf-8", newline="\n")


def export(
    module: nn.Module,
    shape: tuple[int, ...],
    free_axes: tuple[int, ...],
    outputs: list[str],
    *,
    keep_weights: bool = False,
) -> onnx.ModelProto:
    """Export a module with a free batch size.

    Args:
        module: The module, in evaluation mode.
        shape: (N, C, H, W) of an example input.
        free_axes: The other axes of the input that may have any size.
        outputs: Names of the outputs.
        keep_weights: Whether to keep batch normalization and every parameter, under its name in the module.
    """
    mode = torch.onnx.TrainingMode.PRESERVE if keep_weights else torch.onnx.TrainingMode.EVAL
    exported = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            exported,  # type: ignore[arg-type]  # some versions do not declare that it takes a file object
            dynamo=False,  # the newer exporter fixes the sizes of the pooling layers
            input_names=["input"],
            output_names=outputs,
            dynamic_axes={
                "input": {0: "batch", **{axis: f"axis{axis}" for axis in free_axes}},
                **{name: {0: "batch"} for name in outputs},
            },
            opset_version=OPSET,
            training=mode,
            do_constant_folding=not keep_weights,
        )
    model = onnx.load_from_string(exported.getvalue())
    onnx.checker.check_model(model)
    model.producer_version = ""  # the file depends on the network alone
    return model


def remove_weights(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Turn a model's weights into external data that does not exist yet, and return their shapes by name."""
    shapes = {}
    for tensor in model.graph.initializer:
        assert tensor.data_type == onnx.TensorProto.FLOAT, tensor.name
        shapes[tensor.name] = list(tensor.dims)
        size_bytes = 4 * math.prod(tensor.dims)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights"), ("offset", 0), ("length", size_bytes)):
            tensor.external_data.add(key=key, value=str(value))
    return shapes


def write(path: Path, model: onnx.ModelProto) -> None:
    """Write a model."""
    path.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
