"""The faces cut out of the frames, a folder a face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.recognition.preprocessing import cut, face_square
from fer_stream.sinks.base import Sink, cannot_write, check_folder
from fer_stream.sinks.images import write_image

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.types import AnalyzedFrame


class CropsSink(Sink):
    """Writes every face of every frame as `<face_id>/<frame>.jpg`.

    A crop is the square that the network sees, in the frame's own resolution and without the overlay;
    a tilted head, which the network sees turned back, stays as it is in the frame. What lies outside
    the frame repeats its border.
    """

    name = "crops"

    def __init__(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Checks the folder and makes it if missing.

        Args:
            folder: Where the folders of the faces go.
            overwrite: Whether existing crops are replaced.

        Raises:
            OutputError: The folder can't be written, or holds crops and `overwrite` is False.
        """
        super().__init__()
        self._folder = check_folder(
            folder, overwrite=overwrite, pattern="[0-9]*/[0-9]*.jpg", source_path=None
        )
        self._crop_scale = 1.0
        self._overwrite = overwrite
        self._ids: set[int] = set()

    def begin(self, context: RunContext) -> None:
        """Take over the side of the network's crop. See `Sink.begin`."""
        self._crop_scale = context.crop_scale

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Writes the crops of one frame. See `Sink.write`."""
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
        """Does nothing: every crop is finished when written."""

    def outputs(self) -> list[Path]:
        """Returns the folder, once it holds a crop."""
        return [self._folder] if self._ids else []
