"""Compare the training speed of two processes with one thread each and of one process with two threads.

    torchrun --nproc-per-node 2 benchmarks/processes.py

Both train on whole batches of the strong recipe, with made-up pictures, and take turns. Other programs on the
machine therefore slow down both alike. Neither network is compiled.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from train.process import prepare_process  # noqa: E402

prepare_process()

import torch  # noqa: E402
from torch import distributed  # noqa: E402

from train.acceleration import as_trained  # noqa: E402
from train.architectures import TwoHeaded  # noqa: E402
from train.average import MovingAverage  # noqa: E402
from train.batches import StrongBatches  # noqa: E402
from train.config import RECIPES  # noqa: E402
from train.data import input_spec  # noqa: E402
from train.optimizers import make_optimizer, trained_parameters  # noqa: E402
from train.parallel import Processes, joined_processes  # noqa: E402
from train.pretrained import initial_body  # noqa: E402
from train.reporter import Reporter  # noqa: E402
from train.setup import freeze  # noqa: E402
from train.targets import targets_of  # noqa: E402
from train.updater import Updater  # noqa: E402
from train.votes import VOTED  # noqa: E402

CONFIG = RECIPES["strong"]
ROUNDS, WARM_UP_ROUNDS = 8, 1
CPU = torch.device("cpu")


def make_updater(processes: Processes) -> Updater:
    """Return an updater of a new network, which trains in these processes."""
    torch.manual_seed(0)
    body, _ = initial_body("none")
    freeze(body, CONFIG.frozen_stages)
    network = TwoHeaded(body, len(VOTED)).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    parameters, optimizer = trained_parameters(network), make_optimizer(network, CONFIG, CPU)
    average = MovingAverage(network, CONFIG.ema_decay or 0.0)
    return Updater(
        as_trained(network, CONFIG, 1, CPU, processes, Reporter()),
        parameters,
        optimizer,
        average,
        None,
        CONFIG,
        CPU,
    )


def main() -> None:
    """Measure both, and print their speeds in each round."""
    with joined_processes(CPU) as processes:
        labels = torch.arange(CONFIG.batch_size) % 7
        pixels = torch.randint(0, 256, (len(labels), 1, 48, 48), dtype=torch.uint8)
        targets = targets_of(labels, torch.eye(len(VOTED))[labels], CONFIG)
        batches = StrongBatches(pixels, targets, input_spec(CONFIG, 48), CONFIG.rotation_degrees, CPU)
        alone, together = make_updater(Processes()), make_updater(processes)
        ratios = []
        for number in range(WARM_UP_ROUNDS + ROUNDS):
            speeds = []
            for count, updater in ((1, alone), (processes.count, together)):
                distributed.barrier()
                torch.set_num_threads(processes.count // count)
                began_s = time.perf_counter()
                if processes.rank < count:
                    indices = torch.arange(len(labels))[processes.rank :: count]
                    updater.set_step(number, CONFIG.lr)
                    updater.update(batches.make(indices, torch.tensor(0.8), gentle=False), gentle=False)
                speeds.append(len(labels) / (time.perf_counter() - began_s))
            if processes.is_first and number >= WARM_UP_ROUNDS:
                ratios.append(speeds[1] / speeds[0])
                print(f"one process {speeds[0]:.1f} pictures/s, {processes.count} processes {speeds[1]:.1f}, "
                      f"median ratio {statistics.median(ratios):.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
