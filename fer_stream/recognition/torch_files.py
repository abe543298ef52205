"""Read files made by `torch.save` without PyTorch, safely even if they come from strangers.

Such a file is a ZIP archive: `data.pkl` describes objects and tensors, and `data/0`, `data/1`, ... hold the
tensors' bytes. `torch.load(weights_only=True)` runs no code from the file, but it calls a list of allowed
functions, such as `bytearray` and `torch.Tensor`, with arguments from the file. So a file of a hundred bytes
can ask for a hundred gigabytes. This reader is stricter. The pickle may name nothing but tensors and their
storages, every storage must be as large as its record, and every tensor must lie inside its storage. Tensors
become NumPy arrays.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 64 * 2**20  # compressed or not; EfficientNet-B0 takes 16 MB in float32
MAX_PICKLE_BYTES = 2 * 2**20  # names and shapes; those of EfficientNet-B0 take 60 kB
MAX_ELEMENTS = MAX_BYTES // 4  # of all tensors together; a view with stride 0 claims more than it stores

# The opcodes that torch.save uses for dicts, lists, texts, numbers and tensors, and no others.
_OPCODES = frozenset(
    {
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NEWTRUE", "NEWFALSE", "NONE"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    }
)
_DTYPES: dict[str, np.dtype[Any]] = {
    "ByteStorage": np.dtype("<u1"),
    "CharStorage": np.dtype("<i1"),
    "BoolStorage": np.dtype("<u1"),
    "ShortStorage": np.dtype("<i2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "BFloat16Storage": np.dtype("<u2"),  # NumPy has no bfloat16
}
# Conversions of the arrays from such a storage. bfloat16 is the upper half of a float32.
_CONVERSIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "BoolStorage": lambda array: array != 0,
    "BFloat16Storage": lambda array: (array.astype(np.uint32) << 16).view(np.float32),
}


class NotATorchFileError(Exception):
    """The file is not a PyTorch archive. If the reader knows what it is instead, the message says so."""


class UnsafeTorchFileError(Exception):
    """The file is damaged, or holds more than weights need. The message says which."""


def load_torch_file(path: Path) -> Any:
    """Return the object that `torch.save` stored, with NumPy arrays in place of tensors.

    Arrays are read-only and may have any strides, including 0. bfloat16 becomes float32; other types stay.

    Raises:
        NotATorchFileError: The file is something else.
        UnsafeTorchFileError: The file is damaged, too large, or asks for more than tensors.
        OSError: The file can't be read.
    """
    records = _records(path)
    content = records["data.pkl"]
    if len(content) > MAX_PICKLE_BYTES:
        raise UnsafeTorchFileError("it describes more tensors than a network has")
    if records.get("byteorder", b"little") != b"little":
        raise UnsafeTorchFileError("it was saved on a big-endian machine")
    try:
        _check_opcodes(content)
        return _Reader(content, records).load()
    except UnsafeTorchFileError:
        raise
    except Exception as error:  # a damaged pickle raises almost any type
        raise UnsafeTorchFileError("it is damaged") from error


def _records(path: Path) -> dict[str, bytes]:
    """Return the archive's records by name. The names omit the folder that holds all of them."""
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
            # Reading stops at the size that was added up, and fails if there are more or other bytes.
            records = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        if not is_archive:
            raise NotATorchFileError("it is not a PyTorch archive") from error
        raise UnsafeTorchFileError("it is damaged") from error
    except (UnsafeTorchFileError, OSError):
        raise
    except Exception as error:  # each decompressor raises its own types
        raise UnsafeTorchFileError("it is damaged") from error
    if "data.pkl" not in records:
        raise NotATorchFileError("it is an archive of something else")
    return records


def _check_opcodes(content: bytes) -> None:
    """Refuse a pickle that does more than describe tensors, before anything is built from it."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in _OPCODES:
            raise UnsafeTorchFileError("it holds more than weights")
        # The pickle chooses the memo index of each value. A large index would make a huge list.
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > len(content):
            raise UnsafeTorchFileError("it is damaged")


class _StandIn:
    """Replaces an object that a pickle names. The pickle can't set its attributes."""

    def __setstate__(self, _state: object) -> None:
        raise UnsafeTorchFileError("it holds more than weights")


@dataclass(frozen=True)
class _Function(_StandIn):
    """A function that a pickle may call."""

    call: Callable[..., Any]

    def __call__(self, *arguments: object) -> Any:
        return self.call(*arguments)


@dataclass(frozen=True)
class _Storage(_StandIn):
    """The bytes that tensors are views of.

    Attributes:
        kind: Name of its class in PyTorch, such as `HalfStorage`.
        items: The content as a 1-D array.
    """

    kind: str
    items: np.ndarray


class _Reader(pickle.Unpickler):
    """Unpickles with a stand-in for everything that the pickle names."""

    def __init__(self, content: bytes, records: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._records = records
        self._elements = 0

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a class or function."""
        if module == "torch" and name in _DTYPES:
            return name  # a string can't be called
        functions: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict[Any, Any],  # torch.save fills it item by item
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_requires_grad_and_hooks: tensor,
        }
        if (module, name) not in functions:
            raise UnsafeTorchFileError("it holds more than weights")
        return _Function(functions[module, name])

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a tensor's storage, if its record is as large as the pickle says."""
        what, kind, key, _, count = pid
        dtype, record = _DTYPES[kind], self._records.get(f"data/{key}", b"")
        if what != "storage" or count < 0 or len(record) != count * dtype.itemsize:
            raise UnsafeTorchFileError("it lacks a part of its weights")
        return _Storage(kind, np.frombuffer(record, dtype))

    def _tensor(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_requires_grad_and_hooks: object,
    ) -> np.ndarray:
        """Return a view of a storage as an array. Offset and strides count elements."""
        counts = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(
            type(count) is int and count >= 0 for count in counts
        ):
            raise UnsafeTorchFileError("its tensors do not fit together")
        elements = math.prod(shape)
        self._elements += elements
        if self._elements > MAX_ELEMENTS:
            raise UnsafeTorchFileError("its tensors are too large for the network")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if elements and last >= len(storage.items):
            raise UnsafeTorchFileError("its tensors do not fit together")
        dtype = storage.items.dtype
        if elements:
            bytes_strides = [stride * dtype.itemsize for stride in strides]
            array = np.lib.stride_tricks.as_strided(
                storage.items[offset:], shape, bytes_strides, writeable=False
            )
        else:
            array = np.zeros(shape, dtype)
        convert = _CONVERSIONS.get(storage.kind)
        return convert(array) if convert else array
