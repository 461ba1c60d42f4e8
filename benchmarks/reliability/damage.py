"""Kinds of damage to a zip file of arrays, JSON and tensors: by chance, and by hand.

Every kind is a function of the file's bytes and a source of random numbers. Flipped bytes and cut
files are what disks and networks do; the other kinds are made on purpose, with knowledge of the
format: checksums are right again, and the sizes that are declared are lies.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Generator = np.random.Generator
Damage = Callable[[bytes, Generator], bytes]

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**40, -(10**12), 1e300, 1e6, 1_000_000, 0.5, -1e-9, 3000,
    "", "x", "this:PointMassGoal-v0", "9" * 4000, [], {}, [[]], [1e9], [-1], [1] * 3000, {"a": 1},
)  # fmt: skip
"""What takes the place of a value in JSON."""
ODD_NAMES = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 6000, "[" * 3000)
"""What is no value, and some readers take for one."""


def flipped(data: bytes, rng: Generator) -> bytes:
    """A few bits are others."""
    changed = bytearray(data)
    for position in rng.integers(0, len(data), int(rng.integers(1, 30))).tolist():
        changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(data: bytes, rng: Generator) -> bytes:
    """The end is missing, or the beginning, or a piece from the middle."""
    start, stop = sorted(rng.integers(0, len(data), 2).tolist())
    if rng.random() < 0.3:
        # A little at either end: the headers are still there, and point beside their members.
        start = int(rng.integers(0, 200))
        return data[start:] if rng.random() < 0.5 else data[: len(data) - start]
    kinds = (data[:start], data[stop:], data[:start] + data[stop:])
    return kinds[int(rng.integers(3))]


def blocks(data: bytes, rng: Generator) -> bytes:
    """A block is zero, doubled, in another place, or another file's."""
    changed = bytearray(data)
    size = int(2 ** rng.uniform(2, 14))
    here, there = rng.integers(0, max(1, len(data) - size), 2).tolist()
    kind = int(rng.integers(4))
    if kind == 0:
        changed[here : here + size] = bytes(size)
    elif kind == 1:
        changed[here:here] = data[there : there + size]
    elif kind == 2:
        changed[here : here + size] = data[there : there + size]
    else:
        changed[here : here + size] = rng.bytes(size)
    return bytes(changed)


def headers(data: bytes, rng: Generator) -> bytes:
    """Numbers of the zip's own headers are others: sizes, offsets, counts, methods, flags."""
    changed = bytearray(data)
    marks = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"]
    mark = marks[int(rng.integers(3))]
    found = [i for i in range(len(data) - 40) if data[i : i + 4] == mark]
    if not found:
        found = [data.rfind(b"PK\x05\x06")]
    at = found[int(rng.integers(len(found)))] + int(rng.integers(4, 42))
    if rng.random() < 0.5:
        number = struct.pack("<H", int(rng.choice([0, 1, 8, 12, 14, 99, 255, 0x7FFF, 0xFFFF])))
    else:
        values = [0, 1, len(data), 1 << 30, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]
        number = struct.pack("<I", int(rng.choice(values)))
    changed[at : at + len(number)] = number
    return bytes(changed)


def json_values(data: bytes, rng: Generator) -> bytes:
    """A value of ``meta.json`` or ``config.json`` is another, missing, or of no JSON."""
    members = unpacked(data)
    trees = {name: json.loads(members[name]) for name in members if name.endswith(".json")}
    names = [name for name, tree in trees.items() if tree]
    if not names:
        return arrays(data, rng)
    name = names[int(rng.integers(len(names)))]
    tree = trees[name]
    branch, key = _somewhere(tree, rng)
    kind = rng.random()
    if kind < 0.1:
        del branch[key]
        text = json.dumps(tree)
    elif kind < 0.2:
        branch[key] = "@odd@"
        odd = ODD_NAMES[int(rng.integers(len(ODD_NAMES)))]
        text = json.dumps(tree).replace('"@odd@"', odd)
    else:
        branch[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        text = json.dumps(tree)
    members[name] = text.encode()
    return packed(members)


def arrays(data: bytes, rng: Generator) -> bytes:
    """An array has another shape, type or content, or a header that is none."""
    members = unpacked(data)
    names = [name for name in members if name.endswith(".npy")]
    name = names[int(rng.integers(len(names)))]
    kind = int(rng.integers(8))
    array = np.load(io.BytesIO(members[name]))
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = _broken_header(members[name], rng)
    elif kind == 2:
        members[name] = _npy(array.reshape(-1)[: int(rng.integers(0, array.size + 1))])
    elif kind == 3:
        members[name] = _npy(np.zeros((int(rng.integers(0, 5)),) * int(rng.integers(0, 4))))
    elif kind == 4:
        types = [np.int64, np.float16, np.complex128, np.bool_, np.uint8, "S3", np.float64]
        with np.errstate(all="ignore"):
            members[name] = _npy(array.astype(types[int(rng.integers(len(types)))]))
    elif kind == 5:
        members[name] = _npy(np.zeros((int(rng.choice([10**5, 10**6, 3 * 10**6])), 2), np.float32))
    else:
        flat = array.astype(array.dtype).reshape(-1)
        odd = [np.nan, np.inf, -1, 0, 1e30, -1e9, 10**6, 2**31]
        with np.errstate(all="ignore"):
            for at in rng.integers(0, max(1, flat.size), int(rng.integers(1, 9))).tolist():
                if flat.size:
                    flat[at] = np.array(odd[int(rng.integers(len(odd)))]).astype(flat.dtype)
        members[name] = _npy(flat.reshape(array.shape))
    return packed(members)


def tensors(data: bytes, rng: Generator) -> bytes:
    """Tensors have other shapes, types or content, or their description is another."""
    import torch

    members = unpacked(data)
    if "tensors.pt" not in members:
        return arrays(data, rng)
    kind = int(rng.integers(6))
    if kind < 2:
        # The description itself, with the checksums right again.
        inner = unpacked(members["tensors.pt"])
        name = next(n for n in inner if n.endswith("data.pkl"))
        damage = (flipped, cut, blocks, _odd_numbers)[int(rng.integers(4))]
        inner[name] = damage(inner[name], rng)
        members["tensors.pt"] = packed(inner)
    elif kind == 2:
        members["tensors.pt"] = headers(members["tensors.pt"], rng)
    else:
        tree = torch.load(io.BytesIO(members["tensors.pt"]), weights_only=True)
        branch, key = _somewhere(tree, rng)
        value = branch[key]
        if kind == 3 and isinstance(value, torch.Tensor) and value.is_floating_point():
            odd = [math.nan, math.inf, 1e38, -1e38, 1e17, 1e-17, -1.0, 0.0]
            n = int(rng.integers(value.numel() + 1))
            value.reshape(-1)[:n] = odd[int(rng.integers(len(odd)))]
        elif kind == 4:
            del branch[key]
        else:
            odds: list[Any] = [
                torch.zeros(3), torch.zeros(0), torch.zeros(2, 2, dtype=torch.int64), None, 7,
                "x", {}, [], torch.zeros(1000, 1000), -(10**12), 1e300, torch.zeros(()),
            ]  # fmt: skip
            branch[key] = odds[int(rng.integers(len(odds)))]
        buffer = io.BytesIO()
        torch.save(tree, buffer)
        members["tensors.pt"] = buffer.getvalue()
    return packed(members)


def bombs(data: bytes, rng: Generator) -> bytes:
    """Small files that ask for much: memory, time, or depth."""
    members = unpacked(data)
    kind, method = int(rng.integers(10)), zipfile.ZIP_DEFLATED
    names = list(members)
    some_json = [n for n in names if n.endswith(".json")] or ["meta.json"]
    some_arrays = [n for n in names if n.endswith(".npy")] or ["arrays/x.npy"]
    a_json = some_json[int(rng.integers(len(some_json)))]
    an_array = some_arrays[int(rng.integers(len(some_arrays)))]
    size = int(rng.choice([15 << 20, 20 << 20, 40 << 20]))
    if kind == 0:
        members[a_json] = (
            b'{"format": "hierebm-checkpoint", "x": [' + b"[]," * (size // 3) + b"[]]}"
        )
    elif kind == 1:
        members[a_json] = b" " * size
    elif kind == 2:
        members[an_array] = _npy(np.zeros((size // 8, 2), np.float32))
    elif kind == 3:
        members[an_array] = _npy_header("<f4", (10 ** int(rng.integers(6, 18)),)) + bytes(80)
    elif kind == 4:
        members[a_json] = b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    elif kind == 5:
        members[a_json] = b'{"x": ' + b"9" * (4 << 20) + b"}"
    elif kind == 6:
        members |= {f"arrays/x{i}.npy": b"" for i in range(5_000)}
    elif kind == 7:
        return _lying_size(packed(members, zipfile.ZIP_DEFLATED), rng)
    elif kind == 8:
        # Their readers take memory for blocks and dictionaries of a size that the file says.
        method = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[int(rng.integers(2))]
    elif "tensors.pt" in members:
        members["tensors.pt"] = _pickle_bomb(members["tensors.pt"], rng)
    else:
        members[an_array] = bytes(size)
    return packed(members, method)


KINDS: dict[str, Damage] = {
    "flipped bits": flipped,
    "cut off": cut,
    "blocks moved or zeroed": blocks,
    "zip headers": headers,
    "settings and metadata": json_values,
    "arrays": arrays,
    "tensors": tensors,
    "bombs": bombs,
}
"""Name -> the damage."""


def unpacked(data: bytes) -> dict[str, bytes]:
    """Members of a zip by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members, with right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _somewhere(tree: Any, rng: Generator) -> tuple[Any, Any]:
    """A dict or list somewhere in the tree, and a key of it."""
    branch, key = tree, next(iter(tree))
    while True:
        keys = list(branch) if isinstance(branch, dict) else list(range(len(branch)))
        key = keys[int(rng.integers(len(keys)))]
        below = branch[key]
        if not isinstance(below, (dict, list)) or not below or rng.random() < 0.2:
            return branch, key
        branch = below


def _odd_numbers(data: bytes, rng: Generator) -> bytes:
    """Small whole numbers of a pickle are large ones."""
    at = [i for i, byte in enumerate(data) if byte in (0x4B, 0x4D)]
    if not at:
        return data
    here = at[int(rng.integers(len(at)))]
    size = 2 if data[here] == 0x4B else 3
    value = int(rng.choice([2**31 - 1, 10**6, 10**9, -1, -5]))
    return data[:here] + b"J" + struct.pack("<i", value) + data[here + size :]


def _pickle_bomb(data: bytes, rng: Generator) -> bytes:
    """A description of tensors that asks for a gigabyte in a hundred bytes."""
    inner = unpacked(data)
    name = next(n for n in inner if n.endswith("data.pkl"))
    many = struct.pack("<i", 2 * 10**9)
    bodies = [
        b"\x80\x02c__builtin__\nbytearray\nJ" + many + b"\x85R.",
        b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x02" + b"(" * 1_000_000 + b"}.",
        b"\x80\x02}" + b"2" * 1_000_000 + b".",
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x80\x02]" + b"(hq\x00" + b"h\x00" * 500_000 + b"e.",
    ]
    inner[name] = bodies[int(rng.integers(len(bodies)))]
    return packed(inner)


def _lying_size(data: bytes, rng: Generator) -> bytes:
    """A compressed member says that it is smaller, or larger, than it is."""
    changed = bytearray(data)
    found = [i for i in range(len(data) - 46) if data[i : i + 4] == b"PK\x01\x02"]
    at = found[int(rng.integers(len(found)))] + 24
    value = int(rng.choice([0, 10, 1 << 20, 50 << 20, 0x7FFFFFFF]))
    changed[at : at + 4] = struct.pack("<I", value)
    return bytes(changed)


def _broken_header(data: bytes, rng: Generator) -> bytes:
    """An array whose header is text that is no header."""
    texts = [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': 3, 'shape': (1e9,), }",
        b"{'descr': [('a', '<f4')] * 99, 'fortran_order': False, 'shape': (1,), }",
        b"((((((((((((((((((((((((", b"'''", b"\\", b"1L\n\t  \\\n 0x", b"\xff\xfe\x00", b"{}",
        b"[" * 900,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
        b"{'descr': '<V2147483647', 'fortran_order': False, 'shape': (), }",
    ]  # fmt: skip
    text = texts[int(rng.integers(len(texts)))]
    version = bytes([int(rng.choice([1, 2, 3, 9])), 0])
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    if rng.random() < 0.2:
        length = b"\xff" * len(length)
    return b"\x93NUMPY" + version + length + text + data[128:]


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()
