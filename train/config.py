"""The settings of a run, and the recipes, which are named sets of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fer_stream.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Side of a FER2013 picture over the longer side of MTCNN's box in it: the median over the faces
# that MTCNN finds (benchmarks/crop_scale.py measures it).
FER2013_CROP_SCALE = 0.94


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run. The defaults are the baseline recipe's.

    Attributes:
        recipe: `baseline` or `strong`.
        architecture: timm's name of the network. `fer-stream` runs `efficientnet_b0`; others are teachers.
        epochs: Passes over the training split; ignored if `minutes` is given.
        minutes: Length of the run. The schedule then follows the clock instead of the epochs.
        batch_size: Pictures in a step, over all processes.
        lr: The learning rate, or its peak if it changes over the run.
        input_size: Side of the network's input in px.
        rotation_degrees: Rotate pictures by up to this much either way in training.
        pretrained: `imagenet` (timm's weights), `none`, or the path of a file.
        grayscale: Reduce pictures to their luma, in training and in use.
        crop_scale: Side of the training pictures over the longer side of MTCNN's box in them.
        seed: Makes a run repeatable on the same CPU with the same number of processes.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: Processes that prepare pictures; 0 prepares them in the training process. The strong
            recipe prepares its training batches on the device and uses these for validation only.
        frozen_stages: Freeze the first layer and this many of EfficientNet's seven stages. They detect edges
            and textures, which are the same in faces, and take much of a step's time on a CPU. 0 trains
            everything.
        gentle_share: Share of the run, at its end, with weak augmentation and no mixing. A run by epochs
            rounds it to whole epochs.
        gentle_lr: Peak learning rate in that part, as a share of `lr`.
        warmup_share: Share of the steps in which the learning rate rises linearly to its peak. After that
            it falls to 0 along a cosine. The gentle part does the same again. None: a constant rate.
        optimizer: `adam` (which ignores `weight_decay`), `adamw`, or `sgd` with Nesterov momentum of 0.9.
        weight_decay: Decay of weights, but not of biases and normalization layers.
        clip_norm: Largest norm of the gradients; larger ones are scaled down. 0: no limit.
        ema_decay: Validate and save the exponential moving average of the weights over the steps, with
            this decay. None: the weights themselves.
        strong_augmentation: Whether to add shift, scale, gamma, noise, low resolution and erasing to flips
            and rotation, for whole batches on the device. Without it, `mixup_alpha`, `expected_share` and
            `gentle_expected_share` have no effect, the FER+ layer learns nothing, and teachers are refused.
        standardize: Give each picture the same mean and contrast, in training and in use.
        mixup_alpha: Mix pictures in pairs in a proportion drawn from Beta(alpha, alpha). 0: never.
        dropout: Share of the features that are dropped before the last layer.
        drop_path: Highest share of the residual branches that are dropped (stochastic depth).
        expected_share: Share of the FER2013 target that is the label distribution predicted from the
            picture's FER+ votes (`votes.expected_labels`). The rest is the label.
        gentle_expected_share: The same in the gentle part.
        teachers: Paths of checkpoints that answer for the same pictures as the network in training.
        teacher_share: Share of both targets that is the teachers' mean answer.
        gentle_teacher_share: The same in the gentle part.
        votes_weight: Weight of the FER+ layer's loss; the FER2013 layer's is 1. With 0, or without votes
            beside the pictures, there is no FER+ layer.
        best_by: Measure by which the best weights are chosen: the validation `loss` or `accuracy` on
            FER2013's labels, or `both`, the mean of that accuracy and the agreement with the FER+ majority.
    """

    recipe: str = "baseline"
    architecture: str = "efficientnet_b0"
    epochs: int = 15
    minutes: float | None = None
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
    frozen_stages: int = 0
    gentle_share: float = 0.0
    gentle_lr: float = 0.75
    warmup_share: float | None = None
    optimizer: str = "adam"
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    ema_decay: float | None = None
    strong_augmentation: bool = False
    standardize: bool = False
    mixup_alpha: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0
    expected_share: float = 0.0
    gentle_expected_share: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.0
    gentle_teacher_share: float = 0.0
    votes_weight: float = 0.0
    best_by: str = "loss"


RECIPES = {
    "baseline": TrainConfig(),
    "strong": TrainConfig(
        recipe="strong",
        epochs=60,
        input_size=112,
        rotation_degrees=25.0,
        frozen_stages=2,
        gentle_share=0.2,
        gentle_lr=0.5,
        warmup_share=0.03,
        optimizer="adamw",
        weight_decay=0.05,
        clip_norm=5.0,
        ema_decay=0.998,
        strong_augmentation=True,
        standardize=True,
        mixup_alpha=0.2,
        expected_share=0.4,
        gentle_expected_share=0.15,
        teacher_share=0.7,
        gentle_teacher_share=0.42,
        dropout=0.2,
        votes_weight=1.0,
        best_by="both",
    ),
}

# A GPU needs larger batches to be busy, trains every stage at little cost, and gets through many more epochs
# in the same time.
GPU_VALUES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "strong": {
        "batch_size": 256,
        "lr": 0.002,
        "frozen_stages": 0,
        "gentle_lr": 0.3,
        "ema_decay": 0.999,
        "drop_path": 0.1,
    },
}

SMALL_RESNET = "resnet18_48px"
# SGD works best for this network, which is for small pictures and starts from random weights.
ARCHITECTURE_VALUES: dict[str, dict[str, Any]] = {
    SMALL_RESNET: {
        "input_size": 48,
        "pretrained": "none",
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 0.0005,
        "gentle_lr": 0.1,
        "dropout": 0.3,
        "drop_path": 0.0,
    }
}


def recipe_config(recipe: str, given: dict[str, Any], *, on_gpu: bool) -> TrainConfig:
    """Return the settings of a run.

    Args:
        recipe: A key of `RECIPES`.
        given: Values that the user chose. They override all defaults.
        on_gpu: Whether the run is on a GPU, for which the strong recipe has other defaults.

    Raises:
        UsageError: The settings can't be used together.
    """
    values: dict[str, Any] = dict(GPU_VALUES[recipe]) if on_gpu else {}
    config = RECIPES[recipe]
    if config.strong_augmentation:
        values |= ARCHITECTURE_VALUES.get(given.get("architecture", config.architecture), {})
    config = replace(config, **(values | given))
    check_settings(config)
    return config


def check_settings(config: TrainConfig) -> None:
    """Raise a UsageError if settings can't be used together."""
    if config.teachers and not (config.teacher_share and config.strong_augmentation):
        raise UsageError(f"teachers need --recipe strong; the {config.recipe} recipe learns from labels only")
    if config.minutes and not config.strong_augmentation:
        raise UsageError(
            f"--minutes needs --recipe strong; the {config.recipe} recipe runs for a number of epochs"
        )
