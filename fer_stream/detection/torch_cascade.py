"""MTCNN's networks in PyTorch on a GPU, fed with the same pixels as those of the CPU (`cascade.py`).

- A scan sends the frame to the device, which sums it there. The sums stay in one buffer, whatever their size,
  so that the captured R-Net and O-Net find them at the same place. Each crop comes with the layout of the
  sums. P-Net is captured for each size of frame, with its whole pyramid.
- To refine known faces, the CPU cuts them out, and O-Net reads the crops on the device.
- To search for a lost face, the CPU runs P-Net and R-Net, and O-Net reads the crops on the device. The area
  is small and has a new size each time, so on the device P-Net would take hundreds of operations that were
  never captured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fer_stream.detection.cascade import CpuCascade, CpuPixels, TakeStrip, Use
from fer_stream.detection.mtcnn import O_NET_INPUT, R_NET_INPUT
from fer_stream.detection.pixels import PIXEL_SCALE, PartPixels, whole_pixels, windows
from fer_stream.detection.torch_mtcnn import load_torch_mtcnn
from fer_stream.inference.torch_cuda import BatchFunction, CapturedFunction, Lane

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")

R_NET_SIZES = (64, 256)  # in crops; a crowd gives a few hundred candidates at first
O_NET_SIZES = (4, 16, 64)
FIRST_BUFFER = 4096 * 2160  # in pixels; it grows for a larger picture
P_NETS_KEPT = 2  # sizes of frames whose pyramid stays captured
_RGB_OF_BGR = (2, 1, 0)


@dataclass(frozen=True)
class DeviceSums:
    """Describes the frame in the buffer of sums.

    Attributes:
        size_wh: Size of the frame, px.
    """

    size_wh: tuple[int, int]


class TorchCascade:
    """Runs the three networks of MTCNN on a device of torch. See `Cascade` for its use by two threads.

    Args:
        device: `cuda:N`, or a name of the CPU in torch, such as `cpu:0`.
    """

    def __init__(self, device: str) -> None:
        import torch

        # Two lanes, because one thread may scan while another one refines.
        self._lane, refining = Lane(device), Lane(device)
        self._p_net, self._r_net, self._o_net = (
            load_torch_mtcnn(name, self._lane.device) for name in ("PNet", "RNet", "ONet")
        )
        self._run_o_net_on_crops = BatchFunction(
            lambda crops: torch.cat(self._o_net(crops), dim=1), refining, O_NET_SIZES
        )
        self._run_o_net_on_crops.warm_up((3, O_NET_INPUT, O_NET_INPUT), torch.float32)
        self._make_buffers(FIRST_BUFFER if self._lane.is_cuda else 0)
        self._on_cpu = CpuCascade(threads=1)  # to search and to refine

    def _make_buffers(self, pixels: int) -> None:
        """Make the buffers of a frame and of its sums. CUDA graphs that use the old buffers are dropped."""
        import torch

        values = 3 * pixels
        self._host = self._lane.host_buffer((values,), torch.uint8)
        self._frame = torch.empty(values, dtype=torch.uint8, device=self._lane.device)
        self._sums = torch.empty(values, dtype=torch.int32, device=self._lane.device)
        self._pyramids: dict[tuple[tuple[int, int], tuple[float, ...]], _Pyramid] = {}
        self._run_r_net = self._on_squares(self._r_net, R_NET_INPUT, R_NET_SIZES)
        self._run_o_net = self._on_squares(self._o_net, O_NET_INPUT, O_NET_SIZES)

    def _on_squares(
        self, network: Callable[..., tuple[torch.Tensor, ...]], size: int, sizes: Sequence[int]
    ) -> BatchFunction:
        import torch

        sums = self._sums
        index = torch.arange(size, device=self._lane.device)
        rgb = torch.tensor(_RGB_OF_BGR, device=self._lane.device)[:, None, None]

        def run(places: torch.Tensor) -> torch.Tensor:
            return torch.cat(network(_crops(sums, places, index, rgb)), dim=1)

        batch_function = BatchFunction(run, self._lane, sizes)
        if len(sums):
            batch_function.warm_up((6,), torch.int64)
        return batch_function

    def read(self, image_bgr: np.ndarray, use: Use) -> DeviceSums | CpuPixels:
        """Send a frame to the device and sum it there, unless the CPU will read it; see `Cascade.read`."""
        import torch

        if use != Use.SCAN:
            return self._on_cpu.read(image_bgr, use)
        height, width = image_bgr.shape[:2]
        rows, columns = height + 1, width + 1
        if 3 * rows * columns > len(self._host):
            self._make_buffers(rows * columns)
        values = 3 * rows * columns
        self._lane.wait()  # until the previous frame has left the buffer
        # An integral image begins with a row and a column of zeros.
        host = self._host[:values].numpy().reshape(rows, columns, 3)
        host[0], host[:, 0] = 0, 0
        host[1:, 1:] = image_bgr
        with torch.inference_mode(), self._lane.active():
            self._frame[:values].copy_(self._host[:values], non_blocking=True)
            planes = self._frame[:values].view(rows, columns, 3).permute(2, 0, 1)
            sums = planes.to(torch.int32, memory_format=torch.contiguous_format).cumsum(2, dtype=torch.int32)
            # Sum along the rows both times, because a GPU does that much faster than along columns.
            out = self._sums[:values].view(3, columns, rows)
            torch.cumsum(sums.transpose(1, 2).contiguous(), 2, dtype=torch.int32, out=out)
        return DeviceSums((width, height))

    def read_part(self, image_bgr: np.ndarray, part_xyxy: np.ndarray) -> PartPixels:
        """Read a part of a frame, to search it on the CPU; see `Cascade.read_part`."""
        return self._on_cpu.read_part(image_bgr, part_xyxy)

    def p_net(
        self, pixels: DeviceSums | PartPixels, scales: Sequence[float], take: TakeStrip[_T]
    ) -> list[list[_T]]:
        """Run P-Net over the pyramid; see `Cascade.p_net`."""
        if not isinstance(pixels, DeviceSums):
            return self._on_cpu.p_net(pixels, scales, take)
        key = (pixels.size_wh, tuple(scales))
        if key not in self._pyramids:
            while len(self._pyramids) >= P_NETS_KEPT:
                del self._pyramids[next(iter(self._pyramids))]
            self._pyramids[key] = _Pyramid(self._lane, self._p_net, self._sums, *key)
        maps_of_levels = self._pyramids[key]()
        return [[take(*maps, scale, (0, 0))] for maps, scale in zip(maps_of_levels, scales, strict=True)]

    def r_net(self, pixels: DeviceSums | CpuPixels, squares_xyxy: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run R-Net on squares; see `Cascade.r_net`."""
        if not isinstance(pixels, DeviceSums):
            return self._on_cpu.r_net(pixels, squares_xyxy)
        shifts, probabilities = np.split(self._run_r_net(_places(pixels, squares_xyxy)), [4], axis=1)
        return shifts, probabilities

    def o_net(self, pixels: DeviceSums | CpuPixels, squares_xyxy: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run O-Net on squares; see `Cascade.o_net`."""
        if isinstance(pixels, DeviceSums):
            outputs = self._run_o_net(_places(pixels, squares_xyxy))
        else:
            outputs = self._run_o_net_on_crops(pixels.crops(squares_xyxy, O_NET_INPUT))
        shifts, points, probabilities = np.split(outputs, [4, 14], axis=1)
        return shifts, points, probabilities

    def unsplit(self) -> TorchCascade:
        """Return the cascade itself, which splits nothing; see `Cascade.unsplit`."""
        return self


class _Pyramid:
    """P-Net on every level of the pyramid of frames of one size."""

    def __init__(
        self,
        lane: Lane,
        network: Callable[..., tuple[torch.Tensor, ...]],
        sums: torch.Tensor,
        size_wh: tuple[int, int],
        scales: tuple[float, ...],
    ) -> None:
        import torch

        width, height = size_wh
        plane = sums[: 3 * (width + 1) * (height + 1)].view(3, width + 1, height + 1)
        levels = []
        for scale in scales:
            starts_x, ends_x = windows(width, int(width * scale + 1))
            starts_y, ends_y = windows(height, int(height * scale + 1))
            factor = PIXEL_SCALE / ((ends_y - starts_y)[:, None] * (ends_x - starts_x))
            level = (starts_x, ends_x, starts_y, ends_y, factor.astype(np.float32))
            levels.append([torch.from_numpy(array).to(lane.device) for array in level])
        self._shapes: list[tuple[int, int]] = []

        def run(_: torch.Tensor) -> torch.Tensor:
            outputs = []
            shapes: list[tuple[int, int]] = []
            for starts_x, ends_x, starts_y, ends_y, factor in levels:
                columns = plane[:, ends_x] - plane[:, starts_x]
                summed = (columns[:, :, ends_y] - columns[:, :, starts_y]).transpose(1, 2)
                shifts, probabilities = network(_normalized(summed.flip(0), factor)[None])
                outputs.append(torch.cat([shifts[0], probabilities[0]]).flatten())
                shapes.append((shifts.shape[2], shifts.shape[3]))
            self._shapes = shapes
            return torch.cat(outputs)

        self._run = CapturedFunction(run, lane, (0,), torch.float32)

    def __call__(self) -> list[tuple[np.ndarray, np.ndarray]]:
        values, levels = self._run(), []
        for height, width in self._shapes:
            level, values = values[: 6 * height * width], values[6 * height * width :]
            maps = level.reshape(6, height, width)
            levels.append((maps[:4], maps[4:]))
        return levels


def _places(sums: DeviceSums, squares_xyxy: np.ndarray) -> np.ndarray:
    """Return the places of squares in the sums, int64 (N, 6).

    The columns are left, top, right, bottom, and the strides of a column and of a colour in the sums.
    """
    lows, highs = whole_pixels(squares_xyxy, sums.size_wh)
    columns, rows = sums.size_wh[0] + 1, sums.size_wh[1] + 1
    strides = np.broadcast_to(np.array([rows, rows * columns]), (len(lows), 2))
    return np.concatenate([lows, highs, strides], axis=1)


def _crops(sums: torch.Tensor, places: torch.Tensor, index: torch.Tensor, rgb: torch.Tensor) -> torch.Tensor:
    """Cut squares out of the sums as `pixels.SummedPixels.crops` does: float32 (N, 3, size, size).

    Args:
        sums: int32, flat.
        places: int64 (N, 6), see `_places`.
        index: int64 (size,), 0, 1, 2... up to the side of a crop in px.
        rgb: int64 (3, 1, 1), the colour in the sums of each channel of the crop.
    """
    size = len(index)
    left, top, right, bottom, column, plane = (part[:, None] for part in places.unbind(1))
    starts_x, ends_x = left + index * (right - left) // size, left - -(index + 1) * (right - left) // size
    starts_y, ends_y = top + index * (bottom - top) // size, top - -(index + 1) * (bottom - top) // size
    colours = plane[:, :, None, None] * rgb

    def at(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return sums[(x * column)[:, None, None, :] + y[:, None, :, None] + colours]

    summed = at(ends_x, ends_y) - at(ends_x, starts_y) - at(starts_x, ends_y) + at(starts_x, starts_y)
    pixels = ((ends_y - starts_y)[:, :, None] * (ends_x - starts_x)[:, None, :]).clamp(min=1)
    return _normalized(summed, (PIXEL_SCALE / pixels.double()).float()[:, None])


def _normalized(sums: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return sums.float() * factor - 127.5 * PIXEL_SCALE
