"""Tensors from strangers: what ``torch.save`` wrote, read with nothing but sizes taken on trust.

``torch.load(weights_only=True)`` runs no code, but a hundred bytes can make it allocate any amount:
it calls ``bytearray(n)``, and makes a storage as large as a shape asks. Here every size is compared
with the bytes that are there. Read are dicts and lists of tensors, numbers, strings and None,
which is all that a checkpoint holds.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hierebm.checkpoint.archive import open_archive

if TYPE_CHECKING:
    import torch

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# A tensor is described by about two hundred bytes, and a tree of them is not deep.
_DESCRIPTION_BYTES, _EACH_BYTES, _DEPTH = 256 << 10, 1 << 10, 100
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)


def read_tensors(data: bytes) -> Any:
    """The tree that ``torch.save`` wrote, its tensors on the CPU.

    Raises:
        pickle.UnpicklingError: it holds more than tensors and plain values.
        Exception: nearly any other for a damaged file.
    """
    with open_archive(io.BytesIO(data), max_ratio=1) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if "byteorder" in names and archive.read(names["byteorder"]) != sys.byteorder.encode():
            raise ValueError("it was written on a machine of another byte order")
        longest = max(_DESCRIPTION_BYTES, _EACH_BYTES * len(names))
        if archive.getinfo(names["data.pkl"]).file_size > longest:
            raise ValueError("its description is longer than that of any network")
        description = archive.read(names["data.pkl"])
        return _TreeReader(archive, names).read(description)


class _Global(str):
    """The name of a function or class in a description."""


class _TreeReader:
    """Follows the instructions of a pickle that make a tree of tensors; all others are refused.

    Args:
        archive: holds the numbers.
        names: of its members, without the folder that they are in.
    """

    def __init__(self, archive: zipfile.ZipFile, names: Mapping[str, str]) -> None:
        self._archive, self._names = archive, names
        self._storages: dict[str, torch.Tensor] = {}
        # The stack below each open mark, and the one that is worked on.
        self._below: list[list[Any]] = []
        self._stack: list[Any] = []
        self._known: dict[int, Any] = {}

    def read(self, description: bytes) -> Any:
        """The tree."""
        for opcode, argument, _ in pickletools.genops(description):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._follow(opcode.name, argument)
        raise ValueError("it does not end")

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"):
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._known[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._known[argument])
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"D": dict, "L": list, "T": tuple}[name[6]]())
        elif name == "MARK":
            if len(self._below) == _DEPTH:
                raise ValueError("its parts are too deep in one another")
            self._below.append(stack)
            self._stack = []
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            self._stack = self._below.pop()
            self._add(name, stack)
        elif name in ("APPEND", "SETITEM"):
            n = 1 if name == "APPEND" else 2
            entries = stack[-n:]
            del stack[-n:]
            self._add(f"{name}S", entries)
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif name == "BUILD" and isinstance(stack[-2], OrderedDict):
            # Notes on the versions of modules.
            state = stack.pop()
            stack[-1]._metadata = state.get("_metadata")
        elif name != "PROTO":
            raise pickle.UnpicklingError(f"{name} is not expected in it")

    def _add(self, name: str, entries: list[Any]) -> None:
        """Make a tuple of entries, or put them into the list or dict that is on top."""
        if name == "TUPLE":
            self._stack.append(tuple(entries))
            return
        top = self._stack[-1]
        if name == "APPENDS" and type(top) is list:
            top.extend(entries)
        elif name == "SETITEMS" and isinstance(top, dict):
            top.update(zip(entries[::2], entries[1::2], strict=True))
        else:
            raise ValueError(f"{name} on a {type(top).__name__}")

    def _storage(self, description: Any) -> torch.Tensor:
        """The numbers of a storage, as one flat tensor."""
        import torch

        kind, of_type, key, _, n = description
        module, _, name = str(of_type).partition(" ")
        if kind != "storage" or module != "torch" or name not in _STORAGES:
            raise pickle.UnpicklingError(f"{of_type} is not expected in it")
        dtype = getattr(torch, _STORAGES[name])
        if key not in self._storages:
            data = bytearray(self._archive.read(self._names[f"data/{key}"]))
            if len(data) != n * dtype.itemsize:
                raise ValueError(f"storage {key} has {len(data)} bytes, not {n} numbers")
            flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self._storages[key] = flat
        if self._storages[key].dtype != dtype:
            raise ValueError(f"storage {key} is of two types")
        return self._storages[key]


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(function, _Global) or function not in (_DICT, _TENSOR, _PARAMETER):
        raise pickle.UnpicklingError(f"{function} is not expected in it")
    if function == _DICT and not arguments:
        return OrderedDict()
    if function == _PARAMETER:
        return arguments[0]
    storage, offset, size, stride, *_ = arguments
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError(f"a tensor of the shape {size} and the strides {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # A stride of 0 would make a large tensor of a small storage.
    if math.prod(size) and (last >= len(storage) or math.prod(size) > len(storage)):
        raise ValueError(f"a tensor of the shape {size} does not fit its {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)


def with_nan(tree: Any, name: str = "") -> Iterator[str]:
    """Names of the tensors and numbers in a tree that hold NaN."""
    import torch

    # Parts that are there several times are looked at once: a few may stand for millions.
    seen: set[int] = set()
    left = [(name, tree)]
    while left:
        name, part = left.pop()
        if isinstance(part, torch.Tensor):
            if part.is_floating_point() and bool(torch.isnan(part).any()):
                yield name
        elif isinstance(part, float):
            if math.isnan(part):
                yield name
        elif isinstance(part, (dict, list, tuple)) and id(part) not in seen:
            seen.add(id(part))
            entries = part.items() if isinstance(part, dict) else enumerate(part)
            left += [(f"{name}.{key}".lstrip("."), below) for key, below in entries]
