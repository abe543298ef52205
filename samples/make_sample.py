"""Make the sample clip: two portraits in the public domain, moving over a studio backdrop, with sound.

    python samples/make_sample.py [--output PATH]

Grace Hopper (from matplotlib) stays in the picture. Eileen Collins (from scikit-image) leaves it to the right
and comes back. Near the end the two come close. Each whole second is marked by a plucked note and by a flash
of light, so that sound and picture can be compared. The same versions of the libraries make the same frames.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from fer_stream.errors import FerStreamError, OutputError, SourceError
from fer_stream.system.files import replacing

DEFAULT_OUTPUT = Path(__file__).with_name("two-faces-720p.mp4")
SIZE_WH = (1280, 720)
FPS = Fraction(30000, 1001)
FRAME_COUNT = 240
DURATION_S = float(FRAME_COUNT / FPS)
SAMPLE_RATE_HZ = 48000

PHOTO_SIZE_WH = (400, 500)
BORDER_PX = 10
CORNER_RADIUS_PX = 22
SHADOW_MARGIN_PX = 80
FLASH_DECAY_S = 0.16

# Positions of the cards: time in s, centre x and y in px, zoom, and rotation in degrees (clockwise).
HOPPER_KEYFRAMES = np.array(
    [
        (0.0, 372, 374, 0.96, -2.5),
        (1.8, 388, 358, 1.00, -1.0),
        (3.4, 560, 352, 1.12, 1.2),
        (4.5, 540, 364, 1.09, 1.8),
        (5.9, 372, 366, 0.97, -2.0),
        (6.9, 452, 358, 1.00, -3.0),
        (8.1, 384, 372, 0.98, -1.5),
    ]
)
COLLINS_KEYFRAMES = np.array(
    [
        (0.0, 918, 348, 0.94, 2.5),
        (1.5, 896, 366, 0.98, 0.8),
        (3.0, 1600, 330, 1.00, 8.0),
        (4.3, 1600, 396, 1.00, -7.0),
        (5.8, 924, 356, 0.98, 2.0),
        (6.9, 804, 366, 0.99, 2.8),
        (8.1, 902, 352, 0.95, 1.0),
    ]
)

# One chord every two seconds, in Hz: C major 7, A minor 7, F major 7, G 6.
CHORDS_HZ = (
    (130.81, 261.63, 329.63, 392.00, 493.88),
    (110.00, 220.00, 261.63, 329.63, 392.00),
    (87.31, 174.61, 220.00, 261.63, 329.63),
    (98.00, 196.00, 246.94, 293.66, 329.63),
)
# One plucked note for each whole second.
NOTES_HZ = (523.25, 659.25, 783.99, 659.25, 523.25, 440.00, 587.33, 783.99)


@dataclass(frozen=True, eq=False)
class Scene:
    """The layers of every frame.

    Attributes:
        backdrop_bgr: float32 (720, 1280, 3), 0 to 255.
        light_bgr: float32 (720, 1280, 3), added by the flash of each second at its brightest.
        bokeh_bgr: float32 (H, W, 3), larger than the frame. It drifts and is added.
        hopper_bgra: float32 (H, W, 4), a card with its shadow, colours premultiplied with alpha 0 to 1.
        collins_bgra: The other card, in the same format.
    """

    backdrop_bgr: np.ndarray
    light_bgr: np.ndarray
    bokeh_bgr: np.ndarray
    hopper_bgra: np.ndarray
    collins_bgra: np.ndarray


def make_scene() -> Scene:
    """Load the two photos and paint the layers.

    Raises:
        SourceError: scikit-image isn't installed, or a photo can't be read.
    """
    from matplotlib.cbook import get_sample_data

    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise SourceError("scikit-image isn't installed; run: pip install -e '.[dev]'") from error

    hopper_path = get_sample_data("grace_hopper.jpg", asfileobj=False)
    hopper_bgr = cv2.imread(str(hopper_path))
    if hopper_bgr is None:
        raise SourceError(f"can't read {hopper_path}; reinstall matplotlib with its sample data")
    collins_bgr = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR)

    backdrop_bgr, light_bgr = _paint_backdrop()
    return Scene(
        backdrop_bgr=backdrop_bgr,
        light_bgr=light_bgr,
        bokeh_bgr=_paint_bokeh(),
        # The crops give both faces about the same size.
        hopper_bgra=_make_card(hopper_bgr[0:600, 16:496]),
        collins_bgra=_make_card(collins_bgr[10:330, 98:354]),
    )


def render_frame(scene: Scene, index: int) -> np.ndarray:
    """Paint one frame.

    Args:
        scene: The layers, from `make_scene`.
        index: The frame's number, from 0 to `FRAME_COUNT` - 1.

    Returns:
        The picture, uint8 (720, 1280, 3), BGR.
    """
    time_s = float(index / FPS)
    # Time since the last whole second, in exact arithmetic: at 29.97 fps, only the first frame falls on one.
    since_second_s = float((index / FPS) % 1)

    drift_xy = (-60 + 30 * np.sin(2 * np.pi * time_s / 8), -50 + 20 * np.cos(2 * np.pi * time_s / 8))
    bokeh_bgr = cv2.warpAffine(
        scene.bokeh_bgr, np.array([[1, 0, drift_xy[0]], [0, 1, drift_xy[1]]]), SIZE_WH, flags=cv2.INTER_LINEAR
    )
    picture = scene.backdrop_bgr + bokeh_bgr + scene.light_bgr * np.exp(-since_second_s / FLASH_DECAY_S)

    # The cards brighten and darken slowly, out of step.
    hopper_gain = 0.97 + 0.09 * np.sin(2 * np.pi * time_s / 5.0)
    collins_gain = 0.97 + 0.09 * np.cos(2 * np.pi * time_s / 4.2)
    _paint_card(picture, scene.hopper_bgra, _pose(HOPPER_KEYFRAMES, time_s), hopper_gain)
    _paint_card(picture, scene.collins_bgra, _pose(COLLINS_KEYFRAMES, time_s), collins_gain)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def synthesize_audio() -> np.ndarray:
    """Make the sound: soft chords, and a plucked note on each whole second.

    Returns:
        Samples, float32 (2, N), left and right, within -1 and 1, as long as the video.
    """
    time_s = np.arange(round(DURATION_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sound = np.zeros((2, len(time_s)))

    for number, chord_hz in enumerate(CHORDS_HZ):
        # Each chord swells in, holds, and fades under the next one.
        start_s, last = 2.0 * number, number == len(CHORDS_HZ) - 1
        edges_s = [start_s, start_s + 0.5, start_s + 2.0, DURATION_S if last else start_s + 2.6]
        level = np.sin(np.pi / 2 * np.interp(time_s, edges_s, [0, 1, 0.8, 0])) ** 2
        for frequency_hz in chord_hz:
            for channel, detune in enumerate((0.9985, 1.0015)):
                phase = 2 * np.pi * frequency_hz * detune * time_s
                sound[channel] += 0.045 * level * (np.sin(phase) + 0.2 * np.sin(2 * phase))

    for second, frequency_hz in enumerate(NOTES_HZ):
        since_s = np.maximum(time_s - second, 0)
        attack = np.minimum(since_s / 0.004, 1)
        phase = 2 * np.pi * frequency_hz * since_s
        pluck = np.sin(phase) * np.exp(-since_s / 0.22) + 0.4 * np.sin(3 * phase) * np.exp(-since_s / 0.04)
        pan = 0.5 + 0.2 * (-1) ** second
        sound += 0.42 * attack * pluck * np.array([[1 - pan], [pan]])

    sound *= np.clip((DURATION_S - time_s) / 0.25, 0, 1)
    return (0.6 * sound / np.abs(sound).max()).astype(np.float32)


def write_clip(path: Path) -> None:
    """Render and encode the clip: H.264 yuv420p and AAC in MP4.

    Args:
        path: The file to write, replaced if it exists. It appears only once it is complete.

    Raises:
        SourceError: A photo can't be loaded.
        OutputError: The file can't be written.
    """
    if path.suffix != ".mp4":
        raise OutputError(f"{path}: the clip is an MP4 file; give a name that ends in .mp4")
    if not path.parent.is_dir():
        raise OutputError(f"can't write {path}: there is no folder {path.parent}; make it first")
    scene = make_scene()
    try:
        with replacing(path) as temporary:
            _encode(scene, temporary)
    except OSError as error:  # PyAV's errors of the file system are OSErrors too
        reason = error.strerror or type(error).__name__
        raise OutputError(f"can't write {path} ({reason}); choose another --output") from error


def _encode(scene: Scene, path: Path) -> None:
    """Encode all frames and the sound to an MP4 file."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "slow"})
        video.width, video.height = SIZE_WH
        video.pix_fmt = "yuv420p"
        video.time_base = 1 / FPS
        video.codec_context.thread_count = 4  # fixed, because x264's output depends on it
        # BT.709, which players assume for HD anyway.
        video.codec_context.colorspace = 1
        video.codec_context.color_primaries = 1
        video.codec_context.color_trc = 1
        video.codec_context.color_range = 1  # limited, 16 to 235
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="stereo")
        audio.bit_rate = 128_000

        samples = synthesize_audio()
        encoded = 0
        for index in range(FRAME_COUNT):
            frame = av.VideoFrame.from_ndarray(render_frame(scene, index), format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = index, 1 / FPS
            container.mux(video.encode(frame))
            # The sound of this frame follows right after it, so that players find both in the same place.
            due = round((index + 1) / FPS * SAMPLE_RATE_HZ)
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, encoded:due]), format="fltp", layout="stereo"
            )
            block.sample_rate = SAMPLE_RATE_HZ
            block.pts, block.time_base = encoded, Fraction(1, SAMPLE_RATE_HZ)
            container.mux(audio.encode(block))
            encoded = due
        container.mux(video.encode())
        container.mux(audio.encode())


def _paint_backdrop() -> tuple[np.ndarray, np.ndarray]:
    """Paint a studio backdrop, teal to violet with a warm light behind the cards, and its flash."""
    width, height = SIZE_WH
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width, y / height

    teal_bgr = np.array((84, 66, 24), np.float32)
    violet_bgr = np.array((88, 44, 66), np.float32)
    diagonal = np.clip(0.75 * x + 0.35 * y, 0, 1)[..., None]
    wall_bgr = teal_bgr * (1 - diagonal) + violet_bgr * diagonal

    glow = np.exp(-(((x - 0.52) / 0.42) ** 2) - ((y - 0.50) / 0.50) ** 2)[..., None]
    vignette = 1 - 0.55 * np.clip(((x - 0.5) / 0.72) ** 2 + ((y - 0.5) / 0.80) ** 2, 0, 1)[..., None]
    backdrop_bgr = (wall_bgr + glow * np.array((70, 102, 142), np.float32)) * vignette
    # Noise hides the steps that 8 bits would show in such a soft gradient.
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (height, width, 1)).astype(np.float32)
    light_bgr = glow * vignette * np.array((30, 60, 86), np.float32)
    return backdrop_bgr + noise, light_bgr


def _paint_bokeh() -> np.ndarray:
    """Paint lights out of focus: soft discs, to be added to the backdrop."""
    width, height = SIZE_WH[0] + 120, SIZE_WH[1] + 100
    random = np.random.default_rng(4)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    layer_bgr = np.zeros((height, width, 3), np.float32)
    for number in range(22):
        # One disc in each of 22 columns, so that they neither clump nor leave a hole.
        center_x = (number + random.uniform(0.2, 0.8)) / 22 * width
        center_y = random.uniform(0.02, 0.98) * height
        radius_px = random.uniform(18, 62)
        warm = random.uniform(0, 1)
        color_bgr = warm * np.array((70, 130, 200)) + (1 - warm) * np.array((190, 150, 90))
        # Only the square around the disc.
        top, left = max(int(center_y - radius_px), 0), max(int(center_x - radius_px), 0)
        around = np.s_[top : int(center_y + radius_px) + 2, left : int(center_x + radius_px) + 2]
        distance_px = np.hypot(x[around] - center_x, y[around] - center_y)
        disc = np.clip((radius_px - distance_px) / (0.16 * radius_px), 0, 1)
        rim = 0.75 + 0.25 * np.clip(distance_px / radius_px, 0, 1) ** 4
        strength = random.uniform(0.07, 0.22)
        layer_bgr[around] += (strength * disc * rim)[..., None] * color_bgr.astype(np.float32)
    return cv2.GaussianBlur(layer_bgr, (0, 0), 2.0)


def _make_card(photo_bgr: np.ndarray) -> np.ndarray:
    """Make a portrait card: the photo with round corners in a white frame, over its soft shadow."""
    shrinks = photo_bgr.shape[1] > PHOTO_SIZE_WH[0]
    photo_bgr = cv2.resize(
        photo_bgr, PHOTO_SIZE_WH, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    inset = SHADOW_MARGIN_PX + BORDER_PX
    width, height = PHOTO_SIZE_WH[0] + 2 * inset, PHOTO_SIZE_WH[1] + 2 * inset

    # Distance to the edge of a rectangle with round corners, in px, negative inside.
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    from_center_x, from_center_y = np.abs(x - (width - 1) / 2), np.abs(y - (height - 1) / 2)

    def coverage(border_px: float) -> np.ndarray:
        radius_px = CORNER_RADIUS_PX - BORDER_PX + border_px
        over_x = from_center_x - (PHOTO_SIZE_WH[0] / 2 + border_px - radius_px)
        over_y = from_center_y - (PHOTO_SIZE_WH[1] / 2 + border_px - radius_px)
        outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
        distance_px = outside + np.minimum(np.maximum(over_x, over_y), 0) - radius_px
        return np.clip(0.5 - distance_px, 0, 1)[..., None]

    photo_alpha, card_alpha = coverage(0), coverage(BORDER_PX)
    canvas_bgr = np.full((height, width, 3), (240, 243, 246), np.float32)
    placed_bgr = cv2.copyMakeBorder(photo_bgr, inset, inset, inset, inset, cv2.BORDER_REPLICATE)
    canvas_bgr += (placed_bgr - canvas_bgr) * photo_alpha

    shadow_alpha = cv2.GaussianBlur(card_alpha, (0, 0), 20)
    shadow_alpha = 0.6 * cv2.warpAffine(shadow_alpha, np.array([[1.0, 0, 0], [0, 1, 18]]), (width, height))
    # The blur has a long tail. It fades out at the layer's edge, so that no line is visible.
    edge_px = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    shadow_alpha = (shadow_alpha * np.clip(edge_px / 30, 0, 1))[..., None]
    alpha = card_alpha + shadow_alpha * (1 - card_alpha)
    return np.concatenate([canvas_bgr * card_alpha, alpha], axis=2).astype(np.float32)


def _pose(keyframes: np.ndarray, time_s: float) -> np.ndarray:
    """Return centre x, centre y, zoom and rotation in degrees at a time, eased between keyframes."""
    after = int(np.clip(np.searchsorted(keyframes[:, 0], time_s, side="right"), 1, len(keyframes) - 1))
    start, end = keyframes[after - 1], keyframes[after]
    share = (time_s - start[0]) / (end[0] - start[0])
    share = share * share * (3 - 2 * share)
    pose = start[1:] + (end[1:] - start[1:]) * share
    # A little sway, so that no card stands still.
    return pose + np.array(
        (3 * np.sin(1.7 * time_s), 4 * np.sin(2.3 * time_s), 0, 0.4 * np.sin(1.9 * time_s))
    )


def _paint_card(picture_bgr: np.ndarray, card_bgra: np.ndarray, pose: np.ndarray, gain: float) -> None:
    """Draw a card onto the float32 picture, in place, clipped to the frame."""
    center_x, center_y, zoom, rotation_deg = pose
    height, width = card_bgra.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -rotation_deg, zoom)
    matrix[:, 2] += (center_x - (width - 1) / 2, center_y - (height - 1) / 2)

    # Only the columns that the card reaches.
    reach_px = zoom * np.hypot(width, height) / 2
    left, right = np.clip((center_x - reach_px, center_x + reach_px), 0, SIZE_WH[0]).astype(int)
    if left == right:
        return
    matrix[0, 2] -= left
    layer_bgra = cv2.warpAffine(card_bgra, matrix, (int(right - left), SIZE_WH[1]), flags=cv2.INTER_CUBIC)
    # The cubic filter overshoots at edges.
    alpha = np.clip(layer_bgra[..., 3:], 0, 1)
    region_bgr = picture_bgr[:, left:right]
    region_bgr *= 1 - alpha
    region_bgr += np.clip(layer_bgra[..., :3], 0, 255) * gain


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Make the sample clip with two faces.")
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, metavar="PATH", help="default: beside this script"
    )
    arguments = parser.parse_args(argv)
    try:
        write_clip(arguments.output)
    except FerStreamError as error:
        print(f"make_sample.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
