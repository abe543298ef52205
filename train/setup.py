"""Set up the parts of a run before its first step: pictures, votes, network, optimizer, teachers."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fer_stream.errors import UsageError, WeightsError, one_line
from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.preprocessing import InputSpec
from fer_stream.system.files import file_hash
from train.architectures import TwoHeaded
from train.average import MovingAverage
from train.config import TrainConfig
from train.data import check_sizes, input_spec
from train.optimizers import make_optimizer
from train.parallel import Processes
from train.pretrained import initial_body
from train.reporter import Reporter
from train.splits import Splits, open_splits
from train.state import Origin, RunState, load_state, pictures_digest, restore, resumed_config
from train.teachers import Teachers, load_teachers
from train.votes import VOTED

FEW_PICTURES, FEW_OF_A_CLASS = 5_000, 100


@dataclass(frozen=True, eq=False)
class Setup:
    """All parts of a run, ready for its next step.

    Attributes:
        config: The settings. A resumed run keeps its original ones.
        splits: The pictures.
        spec: The input that the network expects.
        origin: The things that the run was made from.
        state: The state of the run so far.
        network: The network in training, on the device.
        average: The network's moving average, or None.
        optimizer: The network's optimizer.
        teachers: The teachers, or None.
    """

    config: TrainConfig
    splits: Splits
    spec: InputSpec
    origin: Origin
    state: RunState
    network: TwoHeaded
    average: MovingAverage | None
    optimizer: torch.optim.Optimizer
    teachers: Teachers | None


def set_up(
    data: Path,
    output: Path,
    config: TrainConfig,
    device: torch.device,
    processes: Processes,
    reporter: Reporter,
    *,
    resume: bool,
) -> Setup:
    """Open the data and make the network, or read the state to resume from.

    Raises:
        The same errors as `loop.train`.
    """
    wants_votes = bool(config.votes_weight or config.expected_share)
    splits = open_splits(data, with_votes=wants_votes)
    _check_counts(splits, config, processes)
    _say_data(splits, reporter, wants_votes=wants_votes)
    native_size = check_sizes(splits.training)
    check_sizes(splits.validation)

    origin = Origin(
        pictures=pictures_digest(splits.training, splits.validation),
        votes=splits.votes is not None,
        teachers=_files_digest(config.teachers),
        weights="",
    )
    saved, state = None, RunState()
    if resume:
        given = origin
        saved = processes.share_result(lambda: load_state(output, config, given))
        config, origin, state = resumed_config(config, saved), saved.origin, saved.run
        if _files_digest(config.teachers) != origin.teachers:
            raise UsageError(f"the teachers of the run in {output} have changed; choose another --output")

    seed_everything(config.seed, 0, 0)
    pretrained = "none" if saved else config.pretrained
    body, description = initial_body(pretrained, config.architecture, drop_path=config.drop_path)
    if saved is None:
        origin = replace(origin, weights=description)
    if hasattr(body, "drop_rate"):
        body.drop_rate = config.dropout  # type: ignore[assignment]
    if config.pretrained != "none":  # random initial weights have to be trained, so none are frozen then
        freeze(body, config.frozen_stages)
    votes_outputs = len(VOTED) if splits.votes is not None and config.votes_weight else 0
    _check_input_size(body, config)
    # Channels last makes the depthwise convolutions faster on a CPU, and suits tensor cores.
    network = TwoHeaded(body, votes_outputs).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = None if config.ema_decay is None else MovingAverage(network, config.ema_decay)
    optimizer = make_optimizer(network, config, device)
    if saved is not None:
        restore(saved, output, network, average, optimizer, device)
    spec = input_spec(config, native_size)
    teachers = load_teachers([Path(teacher) for teacher in config.teachers], spec, device)
    return Setup(config, splits, spec, origin, state, network, average, optimizer, teachers)


def seed_everything(seed: int, epoch: int, rank: int) -> None:
    """Seed torch for an epoch, so that a resumed run draws the same numbers as an unbroken one."""
    # Augmentation, dropout and the initial weights of new layers all draw from torch's generators.
    torch.manual_seed(epoch_seed(seed, epoch) + rank * 1_000_000_007)


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed for the order of an epoch."""
    return seed * 100_003 + epoch


def freeze(body: nn.Module, stages: int) -> None:
    """Freeze the weights of an EfficientNet's first layer and first stages.

    Their running statistics still follow the pictures. With another architecture or 0 stages, nothing is
    frozen.
    """
    if stages and all(hasattr(body, name) for name in ("conv_stem", "bn1", "blocks")):
        for part in (body.conv_stem, body.bn1, *body.blocks[:stages]):  # type: ignore[index]
            part.requires_grad_(False)


def _check_counts(splits: Splits, config: TrainConfig, processes: Processes) -> None:
    training, validation, count = len(splits.training), len(splits.validation), processes.count
    if config.batch_size < 2 * count:
        raise UsageError(
            f"a batch of {config.batch_size} is too small for {count} processes; "
            f"give --batch-size {2 * count} or more"
        )
    if training < 2 * count or validation < count:
        raise UsageError(
            f"{training} pictures for training and {validation} for validation are too few for {count} "
            "processes; start fewer processes"
        )
    if config.batch_size > training:
        raise UsageError(
            f"a batch of {config.batch_size} is larger than the {training} training pictures; "
            f"give --batch-size {training // count * count} or less"
        )


def _say_data(splits: Splits, reporter: Reporter, *, wants_votes: bool) -> None:
    votes = ""
    if splits.votes is not None:
        voted = int(splits.votes.any(dim=1).sum())
        votes = f", FER+ votes for {voted} training pictures from {splits.votes_name}"
    elif splits.votes_name is not None:
        votes = f"; {splits.votes_name} names none of the pictures, so there are no FER+ votes"
    elif wants_votes:
        votes = ", no FER+ votes beside them"
    reporter.note(f"recognized {splits.name}{votes}")
    count = len(splits.training)
    by_class = Counter(splits.training.targets)
    fewest = min(range(len(EXPRESSIONS)), key=lambda label: by_class[label])
    if count < FEW_PICTURES or by_class[fewest] < FEW_OF_A_CLASS:
        reporter.note(
            f"warning: only {count} training pictures, {by_class[fewest]} of them {EXPRESSIONS[fewest]}; "
            f"expect poor readings (FER2013 has 28,709 and 436)"
        )


def _files_digest(paths: tuple[str, ...]) -> str:
    """Return a digest of the content of some files, or an empty string for no files."""
    if not paths:
        return ""
    try:
        hashes = [file_hash(Path(path)) for path in paths]
    except OSError as error:
        raise WeightsError(f"{error.filename} can't be read as a teacher: {error.strerror}") from error
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _check_input_size(body: nn.Module, config: TrainConfig) -> None:
    """Raise a UsageError if a network can't read pictures of the run's size, before anything is replaced."""
    body.eval()
    try:
        with torch.no_grad():
            body(torch.zeros(1, 3, config.input_size, config.input_size))
    except Exception as error:  # networks raise many types
        raise UsageError(
            f"{config.architecture} can't read pictures of {config.input_size} px ({one_line(error)}); "
            "choose another --input-size or --architecture"
        ) from error
