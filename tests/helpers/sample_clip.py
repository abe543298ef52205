"""The sample clip, decoded once for all tests of it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from helpers.paths import SAMPLE

COMPARED_FRAMES = (66, 100, 207)  # leaving, out, close to the other


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """The decoded clip, with only those pictures that the tests compare.

    Attributes:
        size_wh: Width and height of all frames, px.
        times: Presentation time of each frame, s, exact.
        duration_s: The video's duration as its stream gives it.
        flash_luma: float64 (frames,), mean luma of a piece of backdrop that no card covers.
        pictures_bgr: The frames of `COMPARED_FRAMES`.
        sound: float32 (2, N), samples.
        sound_start_s: Time of the first sample.
        sample_rate_hz: Samples a second.
        streams: Each stream's codec and format.
    """

    size_wh: set[tuple[int, int]]
    times: list[Fraction]
    duration_s: float
    flash_luma: np.ndarray
    pictures_bgr: dict[int, np.ndarray]
    sound: np.ndarray
    sound_start_s: float
    sample_rate_hz: int
    streams: set[tuple[str, str]]


def decode_sample() -> DecodedClip:
    sizes, times, flash_luma, pictures_bgr = set(), [], [], {}
    with av.open(str(SAMPLE)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        streams = {
            (video.codec_context.name, video.codec_context.pix_fmt),
            (audio.codec_context.name, audio.layout.name),
        }
        duration_s = float(video.duration * video.time_base)
        for index, frame in enumerate(container.decode(video)):
            sizes.add((frame.width, frame.height))
            times.append(frame.pts * frame.time_base)
            luma = frame.planes[0]
            rows = np.frombuffer(luma, np.uint8).reshape(luma.height, luma.line_size)
            flash_luma.append(rows[5:45, 520:800].mean())
            if index in COMPARED_FRAMES:
                pictures_bgr[index] = frame.to_ndarray(format="bgr24")
    with av.open(str(SAMPLE)) as container:
        blocks = list(container.decode(audio=0))
    return DecodedClip(
        size_wh=sizes,
        times=times,
        duration_s=duration_s,
        flash_luma=np.array(flash_luma),
        pictures_bgr=pictures_bgr,
        sound=np.concatenate([block.to_ndarray() for block in blocks], axis=1),
        sound_start_s=float(blocks[0].time),
        sample_rate_hz=blocks[0].sample_rate,
        streams=streams,
    )
