"""Write HEIF pictures, whole or in tiles, as phones do. See ISO/IEC 23008-12."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_CODED = {  # encoder and options; kind of item and of its configuration
    ".heic": ("libx265", {"x265-params": "bframes=0:log-level=none"}, b"hvc1", b"hvcC"),
    ".avif": ("libsvtav1", {}, b"av01", b"av1C"),
}


def write_heif(path: Path, tiles: Sequence[np.ndarray], columns: int = 1) -> Path:
    """Write one picture, uint8 (H, W, 3) BGR, or several of the same size as a grid, row by row."""
    encoder, options, kind, configuration_kind = _CODED[path.suffix]
    brand = path.suffix[1:].encode()
    height, width = tiles[0].shape[:2]
    rows = len(tiles) // columns
    coded = [_encode(tile, encoder, options, path.with_suffix(".mp4")) for tile in tiles]
    kinds, contents = [kind] * len(tiles), [data for data, _ in coded]
    if len(tiles) > 1:
        kinds.append(b"grid")
        contents.append(struct.pack(">4B2H", 0, 0, rows - 1, columns - 1, width * columns, height * rows))
    ids = range(1, len(kinds) + 1)
    properties = _box(configuration_kind, coded[0][1])
    properties += _box(b"ispe", struct.pack(">3I", 0, width, height))
    properties += _box(b"ispe", struct.pack(">3I", 0, width * columns, height * rows))
    associations = b"".join(
        struct.pack(">H2B", each, 1, 3) if item == b"grid" else struct.pack(">H3B", each, 2, 0x81, 2)
        for each, item in zip(ids, kinds, strict=True)
    )
    entries = b"".join(
        _box(b"infe", struct.pack(">I2H4sB", 2 << 24, each, 0, item, 0))
        for each, item in zip(ids, kinds, strict=True)
    )
    references = b""
    if len(tiles) > 1:
        to = struct.pack(f">2H{len(tiles)}H", ids[-1], len(tiles), *ids[:-1])
        references = _box(b"iref", bytes(4) + _box(b"dimg", to))

    def meta(first_byte: int) -> bytes:
        places, offset = b"", first_byte
        for each, content in zip(ids, contents, strict=True):
            places += struct.pack(">3H2I", each, 0, 1, offset, len(content))
            offset += len(content)
        return _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", struct.pack(">2I4s13x", 0, 0, b"pict"))
            + _box(b"pitm", struct.pack(">IH", 0, ids[-1]))
            + _box(b"iloc", struct.pack(">I2BH", 0, 0x44, 0, len(ids)) + places)
            + _box(b"iinf", struct.pack(">IH", 0, len(ids)) + entries)
            + references
            + _box(
                b"iprp",
                _box(b"ipco", properties) + _box(b"ipma", struct.pack(">2I", 0, len(ids)) + associations),
            ),
        )

    file_type = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    first_byte = len(file_type) + len(meta(0)) + 8
    path.write_bytes(file_type + meta(first_byte) + _box(b"mdat", b"".join(contents)))
    return path


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _encode(bgr: np.ndarray, encoder: str, options: dict[str, str], scratch: Path) -> tuple[bytes, bytes]:
    """Return a coded picture and the configuration of its decoder."""
    with av.open(str(scratch), "w") as container:
        stream = container.add_stream(encoder, rate=1, options=options)
        stream.height, stream.width = bgr.shape[:2]
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(bgr), "bgr24")
        frame.pts, frame.time_base = 0, Fraction(1)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with av.open(str(scratch)) as container:
        stream = container.streams.video[0]
        coded = bytes(next(container.demux(stream))), bytes(stream.codec_context.extradata or b"")
    scratch.unlink()
    return coded
