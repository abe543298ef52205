"""Everything that decides how a run goes. The defaults are the baseline recipe."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Side of a FER2013 picture over the longer side of MTCNN's box in it: the median over the faces
# that MTCNN finds (benchmarks/crop_scale.py measures it).
FER2013_CROP_SCALE = 0.94


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        recipe: `baseline`: cross-entropy, Adam, random horizontal flips and rotation.
        epochs: Passes over the training split.
        batch_size: Pictures in a step.
        lr: Adam's learning rate.
        input_size: Side of the network's input in px.
        rotation_degrees: Pictures are rotated by up to this much either way in training.
        pretrained: `imagenet` (timm's weights), `none`, or the path of a file.
        grayscale: Whether pictures are reduced to their luma, in training and in use.
        crop_scale: Side of the training pictures over the longer side of MTCNN's box in them.
        seed: Makes a run repeatable on the same machine and device, with the same workers.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: Processes that prepare pictures; 0 is in the training process.
    """

    recipe: str = "baseline"
    epochs: int = 15
    batch_size: int = 64
    lr: float = 0.001
    input_size: int = 64
    rotation_degrees: float = 20.0
    pretrained: str = "imagenet"
    grayscale: bool = True
    crop_scale: float = FER2013_CROP_SCALE
    seed: int = 0
    device: str = "auto"
    workers: int = 0


# What each recipe sets; options of the command replace single values of it.
RECIPES = {"baseline": TrainConfig()}
