"""`--blur`: hides the faces right behind the analysis, so that nothing further on ever sees them.

A face is replaced by a few colours, each the mean of a large patch: what was averaged away can't be
computed back. Detectors miss faces in single frames, so a place stays hidden for a while after its
face was last seen there. A recording can look ahead, too, and is hidden for a while before a face
is first seen. A face that is never found is never hidden.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from fer_stream.errors import FerStreamError
from fer_stream.types import AnalyzedFrame, Face

MARGIN = 1.4  # side of what is hidden over that of the face's box: hair, ears and chin belong to a face
PATCHES = 3  # across a face: at 5 the detector still finds one in the picture, from 4 down none
HOLD_S = 1.0  # the tracker, too, takes a face for lost after this long
LOOK_AHEAD_S = 0.5
LOOK_AHEAD_FRAMES = 16  # at most; at 4K one takes 25 MB
DRIFT_PER_S = 0.6  # of a face's size: where nobody sees it, it may have moved this far
ROUNDNESS = 3.0  # exponent of the superellipse: 2 is an ellipse, and from 2.1 on the box lies within it


@dataclass(eq=False)
class _Pending:
    """A frame that waits for what later frames show, and the places to hide in it."""

    analyzed: AnalyzedFrame
    hidden_xyxy: list[np.ndarray] = field(default_factory=list)


def hide_faces(analyzed_frames: Iterable[AnalyzedFrame], kind: str) -> Generator[AnalyzedFrame, None, None]:
    """Yields the same frames with every face in their pictures hidden.

    Args:
        analyzed_frames: Of one source, in order.
        kind: See `SourceInfo.kind`. What is live is passed on at once; a recording is held back by
            half a second of frames; pictures have nothing to do with each other.
    """
    pending: deque[_Pending] = deque()
    seen: dict[int, tuple[float, np.ndarray]] = {}  # id: when and where last
    ended: FerStreamError | None = None
    iterator = iter(analyzed_frames)
    while ended is None:
        try:
            analyzed = next(iterator, None)
        except FerStreamError as error:  # of the source: what came before it still counts
            analyzed, ended = None, error
        if analyzed is None:
            break
        time_s = analyzed.frame.time_s
        entry = _Pending(analyzed, [face.box_xyxy for face in analyzed.faces])
        if kind != "images":
            present = {face.id for face in analyzed.faces}
            for face_id, (seen_s, box) in list(seen.items()):
                if abs(time_s - seen_s) > HOLD_S:
                    del seen[face_id]
                elif face_id not in present:
                    entry.hidden_xyxy.append(_drifted(box, time_s - seen_s))
            for face in analyzed.faces:
                if not any(face.id == other.id for other in _last_faces(pending)):
                    for earlier in pending:
                        gap_s = time_s - earlier.analyzed.frame.time_s
                        earlier.hidden_xyxy.append(_drifted(face.box_xyxy, gap_s))
                seen[face.id] = (time_s, face.box_xyxy)
        pending.append(entry)
        while pending and (
            kind != "video"
            or len(pending) > LOOK_AHEAD_FRAMES
            or time_s - pending[0].analyzed.frame.time_s > LOOK_AHEAD_S
        ):
            yield _hidden(pending.popleft())
    while pending:
        yield _hidden(pending.popleft())
    if ended is not None:
        raise ended


def _last_faces(pending: deque[_Pending]) -> tuple[Face, ...]:
    return pending[-1].analyzed.faces if pending else ()


def _drifted(box_xyxy: np.ndarray, away_s: float) -> np.ndarray:
    """Returns the box in which a face is that was seen in another one `away_s` seconds away."""
    grown = DRIFT_PER_S * abs(away_s) * float((box_xyxy[2:] - box_xyxy[:2]).max())
    return box_xyxy + np.array([-grown, -grown, grown, grown], np.float32)


def _hidden(entry: _Pending) -> AnalyzedFrame:
    """Returns the frame with its places hidden in a copy of the picture."""
    if not entry.hidden_xyxy:
        return entry.analyzed
    bgr = entry.analyzed.frame.bgr.copy()
    for box in entry.hidden_xyxy:
        hide(bgr, box)
    return replace(entry.analyzed, frame=replace(entry.analyzed.frame, bgr=bgr))


def hide(bgr: np.ndarray, box_xyxy: np.ndarray) -> None:
    """Hides a face in place: a rounded patch round it becomes a blur of a few mean colours.

    Args:
        bgr: uint8 (H, W, 3).
        box_xyxy: The face's box, float32 (4,) px; may lie partly outside.
    """
    height, width = bgr.shape[:2]
    center_xy = (box_xyxy[:2] + box_xyxy[2:]) / 2
    half_wh = np.maximum((box_xyxy[2:] - box_xyxy[:2]) / 2 * MARGIN, 2.0)
    left, top = np.maximum(np.floor(center_xy - half_wh), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(center_xy + half_wh), (width, height)).astype(int).tolist()
    if left >= right or top >= bottom:
        return
    region = bgr[top:bottom, left:right]
    size_wh = right - left, bottom - top
    patch_px = max(float(half_wh.min()) * 2 / MARGIN / PATCHES, 2.0)
    patches_wh = tuple(max(1, round(side / patch_px)) for side in size_wh)
    patches = cv2.resize(region, patches_wh, interpolation=cv2.INTER_AREA)
    # The blur is for the eye only: it adds nothing to what the patches tell.
    blurred = cv2.resize(patches, size_wh, interpolation=cv2.INTER_LINEAR)
    x = np.abs((np.arange(left, right) + 0.5 - center_xy[0]) / half_wh[0]) ** ROUNDNESS
    y = np.abs((np.arange(top, bottom) + 0.5 - center_xy[1]) / half_wh[1]) ** ROUNDNESS
    inside = (x[None, :] + y[:, None] <= 1).astype(np.uint8)
    cv2.copyTo(blurred, inside, region)
