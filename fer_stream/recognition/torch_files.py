"""Files of PyTorch from strangers: read so that they can neither run code nor allocate without bound.

`torch.load(weights_only=True)` runs no code, but calls what it has on its list with the file's own
arguments, `bytearray` and `torch.Tensor` among them: a hundred bytes may ask for a hundred gigabytes.
So the file is gone through first, without torch: its pickle may name tensors and their storages and
nothing else, and every storage has to be as large as what is stored for it. Then torch gets an archive
made anew from what was read, because two readers of ZIP may see two different archives in one file.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 2**20  # packed and unpacked; EfficientNet-B0 takes 16 MB in float32
MAX_PICKLE_BYTES = 2 * 2**20  # names and shapes; those of EfficientNet-B0 take 60 kB

# What torch.save makes of dicts, lists, texts, numbers and tensors, and nothing else of pickle.
_OPCODES = frozenset(
    {
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NEWTRUE", "NEWFALSE", "NONE"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    }
)
_ITEM_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage"), 8),
}
_CALLED = frozenset(
    {
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "OrderedDict"),
    }
)


class NotATorchFileError(Exception):
    """A file that is no archive of PyTorch; its message says what it is instead, if anything."""


class UnsafeTorchFileError(Exception):
    """A file that is damaged, or holds what weights do not need; its message says what."""


def check_torch_file(path: Path) -> Any:
    """Check a file without loading torch.

    Returns:
        The stored object, with None in place of each tensor.

    Raises:
        NotATorchFileError: It is something else.
        UnsafeTorchFileError: It is damaged, too large, or asks for more than tensors.
        OSError: It can't be read.
    """
    return _check_pickle(_records(path))


def load_torch_file(path: Path) -> Any:
    """Returns what `torch.save` stored, on the CPU, after `check_torch_file`.

    Raises:
        NotATorchFileError: It is something else.
        UnsafeTorchFileError: It is damaged, too large, or asks for more than tensors.
        OSError: It can't be read.
    """
    import torch

    records = _records(path)
    _check_pickle(records)
    anew = io.BytesIO()
    with zipfile.ZipFile(anew, "w") as archive:
        for name, data in records.items():
            archive.writestr(f"archive/{name}", data)
    anew.seek(0)
    try:
        return torch.load(anew, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged or a hostile file
        raise UnsafeTorchFileError("its tensors do not fit together") from error


def _records(path: Path) -> dict[str, bytes]:
    """Returns an archive's records by their names, without the folder that all of them lie in."""
    if path.stat().st_size > MAX_BYTES:
        raise UnsafeTorchFileError(f"it has {path.stat().st_size / 2**20:.0f} MB, and such weights take 16")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            unpacked_bytes = sum(entry.file_size for entry in entries)
            if unpacked_bytes > MAX_BYTES:
                raise UnsafeTorchFileError(
                    f"it unpacks to {unpacked_bytes / 2**20:.0f} MB, and such weights take 16"
                )
            # Reading stops at the size that was added up, and fails where more or other bytes come.
            records = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        if not is_archive:
            raise NotATorchFileError("it is no archive of PyTorch") from error
        raise UnsafeTorchFileError("it is damaged") from error
    except (UnsafeTorchFileError, OSError):
        raise
    except Exception as error:  # of the decompressors, each its own
        raise UnsafeTorchFileError("it is damaged") from error
    if "data.pkl" not in records:
        raise NotATorchFileError("it is an archive of something else")
    return records


def _check_pickle(records: Mapping[str, bytes]) -> Any:
    """Go through a pickle twice: by its opcodes alone, then with stand-ins for all that it names.

    Returns:
        The object that it describes, with None in place of each tensor.
    """
    content = records["data.pkl"]
    if len(content) > MAX_PICKLE_BYTES:
        raise UnsafeTorchFileError("it describes more tensors than a network has")
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name not in _OPCODES:
                raise UnsafeTorchFileError("it holds more than weights")
            if opcode.name == "GLOBAL":
                _check_name(*str(argument).split(" ", 1))
            # Each value is remembered at a place of its choice: far places would make a huge list.
            if opcode.name == "LONG_BINPUT" and int(argument or 0) > len(content):
                raise UnsafeTorchFileError("it is damaged")
        return _DryRun(content, records).load()
    except UnsafeTorchFileError:
        raise
    except Exception as error:  # as many types as there are ways to be damaged
        raise UnsafeTorchFileError("it is damaged") from error


def _check_name(module: str, name: str) -> None:
    if (module, name) not in _CALLED and (module != "torch" or name not in _ITEM_BYTES):
        raise UnsafeTorchFileError("it holds more than weights")


class _DryRun(pickle.Unpickler):
    """Unpickles with harmless stand-ins, to learn how large the storages are said to be."""

    def __init__(self, content: bytes, records: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        _check_name(module, name)
        if name in _ITEM_BYTES:
            return _ITEM_BYTES[name]  # an int, which can't be called
        return OrderedDict if name == "OrderedDict" else _nothing

    def persistent_load(self, pid: Any) -> None:
        """Compares what a tensor's storage is said to hold with what is there for it."""
        kind, item_bytes, key, _, count = pid
        size = count * item_bytes
        if kind != "storage" or count < 0 or len(self._records.get(f"data/{key}", b"")) != size:
            raise UnsafeTorchFileError("it lacks a part of its weights")


def _nothing(*_arguments: object) -> None:
    """Stands in for the functions that put a tensor together."""
