"""Save crops of the faces, in one folder per face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import cannot_write
from fer_stream.recognition.preprocessing import cut, face_square
from fer_stream.sinks.base import Sink, check_folder
from fer_stream.sinks.images import write_image

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.types import AnalyzedFrame


CROPS_PATTERN = "[0-9]*/[0-9]*.jpg"  # the glob of all crops in their folder


class CropsSink(Sink):
    """Writes every face of every frame as `<face_id>/<frame>.jpg`.

    A crop is the square that the network sees, in the frame's own resolution and without the overlay. A
    tilted head stays tilted, although the network sees it upright. Where the square reaches beyond the frame,
    the crop repeats the frame's border pixels.
    """

    name = "crops"

    def __init__(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Check the folder. Make it if it is missing.

        Args:
            folder: The folder for the folders of the faces.
            overwrite: Whether existing crops are replaced.

        Raises:
            OutputError: The folder can't be written, or contains crops and `overwrite` is False.
        """
        super().__init__()
        self._folder = check_folder(folder, overwrite=overwrite, pattern=CROPS_PATTERN, source_path=None)
        self._crop_scale = 1.0
        self._overwrite = overwrite
        self._ids: set[int] = set()

    def begin(self, context: RunContext) -> None:
        """Receive the size of the network's crop. See `Sink.begin`."""
        self._crop_scale = context.crop_scale

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Write the crops of one frame. See `Sink.write`."""
        frame = analyzed.frame
        for face in analyzed.faces:
            folder = self._folder / str(face.id)
            if face.id not in self._ids:
                try:
                    folder.mkdir(exist_ok=True)
                except OSError as error:
                    raise cannot_write(folder, error) from error
                self._ids.add(face.id)
            square = face_square(face.box_xyxy, self._crop_scale)
            size = max(1, round(float(square[2] - square[0])))
            write_image(
                folder / f"{frame.index:06d}.jpg", cut(frame.bgr, square, size), overwrite=self._overwrite
            )

    def close(self) -> None:
        """Do nothing: every crop is finished when written."""

    def outputs(self) -> list[Path]:
        """Return the folder, once it holds a crop."""
        return [self._folder] if self._ids else []
