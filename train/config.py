"""Everything that decides how a run goes: the recipes, and what one is made of."""

from __future__ import annotations

from dataclasses import dataclass

from fer_stream.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Side of a FER2013 picture over the longer side of MTCNN's box in it: the median over the faces
# that MTCNN finds (benchmarks/crop_scale.py measures it).
FER2013_CROP_SCALE = 0.94


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are the baseline recipe's.

    Attributes:
        recipe: `baseline` or `strong`.
        epochs: Passes over the training split.
        batch_size: Pictures in a step, over all processes.
        lr: The learning rate, the highest where it changes.
        input_size: Side of the network's input in px.
        rotation_degrees: Pictures are rotated by up to this much either way in training.
        pretrained: `imagenet` (timm's weights), `none`, or the path of a file.
        grayscale: Whether pictures are reduced to their luma, in training and in use.
        crop_scale: Side of the training pictures over the longer side of MTCNN's box in them.
        seed: Makes a run repeatable on the same machine and device, with the same processes.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: Processes that prepare pictures; 0 is in the training process. The strong recipe
            prepares its training batches on the device, and uses these for validation and teachers.
        frozen_stages: Of a pretrained network the first layer and this many of the seven stages keep
            their weights: they see edges and textures, which are the same in faces, and take much of
            a step's time on a CPU. 0: nothing is kept.
        gentle_share: Share of the epochs, the last ones, in which pictures are changed little and not
            mixed; rounded to whole epochs.
        gentle_label_share: Share of the target that in them becomes the label again.
        gentle_lr: The highest learning rate in them, as a share of `lr`, where it changes.
        warmup_share: Share of the steps in which the learning rate rises linearly to its highest; after it,
            it falls to 0 along a cosine. In the gentle epochs it does so anew. None: the rate stays.
        weight_decay: AdamW's, on weights and not on biases or normalisation. None: plain Adam.
        ema_decay: What is validated and saved is the exponential moving average of the weights over
            the steps with this decay. None: the weights themselves.
        strong_augmentation: Shift, scale, light, noise, low resolution and erasing beside flips and
            rotation, for whole batches. Only then are the target's shares and `votes_weight` of use.
        standardize: Each picture is brought to one mean and contrast, in training and in use.
        mixup_alpha: Pictures are mixed in pairs in a proportion drawn from Beta(alpha, alpha). 0: never.
        dropout: Share of the features left out before the last layer.
        expected_share: Share of the target that is not the picture's label but which labels its FER+ votes
            let expect (`votes.expected_labels`); without votes beside the pictures all of it is the label.
        teachers: Paths of checkpoints whose mean answer is part of the target (`teachers.mean_answers`).
        teacher_share: That part. The rest is shared as without teachers: with an `expected_share` of 0.4
            and 0.35 here, 39 % are the label's, 26 % the expected ones' and 35 % the teachers', and in
            gentle epochs with a `gentle_label_share` of 2/3, 80, 9 and 12 %.
        votes_weight: Weight of a second last layer's loss, which learns the distribution of the
            FER+ votes and is dropped afterwards. 0, or no votes beside the pictures: none.
        best_by: Whether the weights of the best validation `loss` or `accuracy` are kept.
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
    frozen_stages: int = 0
    gentle_share: float = 0.0
    gentle_label_share: float = 2 / 3
    gentle_lr: float = 0.75
    warmup_share: float | None = None
    weight_decay: float | None = None
    ema_decay: float | None = None
    strong_augmentation: bool = False
    standardize: bool = False
    mixup_alpha: float = 0.0
    dropout: float = 0.0
    expected_share: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.0
    votes_weight: float = 0.0
    best_by: str = "loss"


# What each recipe sets; options of the command replace single values of it.
# docs/training.md has what was tried for the strong one.
RECIPES = {
    "baseline": TrainConfig(),
    "strong": TrainConfig(
        recipe="strong",
        epochs=60,
        input_size=112,
        rotation_degrees=25.0,
        frozen_stages=2,
        gentle_share=0.25,
        warmup_share=0.03,
        weight_decay=0.03,
        ema_decay=0.998,
        strong_augmentation=True,
        standardize=True,
        mixup_alpha=0.2,
        expected_share=0.4,
        teacher_share=0.35,
        dropout=0.2,
        votes_weight=0.5,
        best_by="accuracy",
    ),
}


def check_teachers_are_used(config: TrainConfig) -> None:
    """Raises a UsageError where teachers are given to a recipe that learns from labels alone."""
    if config.teachers and not (config.teacher_share and config.strong_augmentation):
        raise UsageError(
            f"teachers need the strong recipe (--recipe strong); the {config.recipe} one learns labels alone"
        )
