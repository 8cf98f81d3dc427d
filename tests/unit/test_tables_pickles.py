"""Published pickles: plain data is read, all else is refused by its name and never run."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
from argparse import Namespace
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import TableError
from rlnas.tables.importing.pickles import read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content), "here.pickle")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.tuples(st.text(), st.integers()), inner).map(OrderedDict)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers())
        | st.sets(st.text())
    ),
    max_leaves=10,
)


@given(content=plain, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_comes_back(content: Any, protocol: int) -> None:
    assert read(pickle.dumps(content, protocol)) == content


@given(
    array=st.sampled_from(["<f8", ">f4", "<i8", "|i1", "<u2", "|b1", "<U3", "|S2", "O", "<c16"]).flatmap(
        lambda code: st.builds(
            lambda rows, order: np.asarray(
                np.arange(rows * 3).reshape(rows, 3).astype(str if code == "<U3" else None).astype(code), order=order
            ),
            st.integers(0, 4),
            st.sampled_from("CF"),
        )
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_arrays_come_back(array: np.ndarray[Any, Any], protocol: int) -> None:
    found = read(pickle.dumps(array, protocol))
    assert len(found) == len(array)
    again = np.asarray(found)
    assert np.array_equal(again, array)
    assert again.dtype.kind == array.dtype.kind


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scalar", [np.float64(1.5), np.float32(0.5), np.int64(-3), np.bool_(True), np.str_("ab")])
def test_scalars_become_numbers(scalar: np.generic, protocol: int) -> None:
    found = read(pickle.dumps({"x": [scalar]}, protocol))["x"][0]
    assert found == scalar
    assert type(found) in (float, int, bool, str)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_defaultdict_is_plain(protocol: int) -> None:
    content = defaultdict(list, {"a": [1]})
    assert read(pickle.dumps(content, protocol)) == content


class Runs:
    """Runs a function of somebody's choice when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch ran",), r"(posix|nt)\.system"),
        (eval, ("open('ran', 'w')",), r"eval"),
        (exec, ("open('ran', 'w')",), r"exec"),
        (getattr, ("", "join"), r"getattr"),
        (__import__, ("os",), r"__import__"),
        (open, ("ran", "w"), r"open"),
        (np.save, ("ran", 1), r"numpy.*save"),
        (np.load, ("ran", None, True), r"numpy.*load"),
        (Path, ("ran",), r"pathlib"),
        (Runs, (print,), r"Runs"),
        (pickle.loads, (b"",), r"pickle\.loads"),
    ],
)
def test_what_runs_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, arguments: Any, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"cifar10": [1.0, Runs(function, *arguments)]}, protocol)
    with pytest.raises(TableError, match=rf"here\.pickle is refused: .*{name}"):
        read(content)
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_somebody_is_refused_by_name() -> None:
    content = pickle.dumps(Namespace(x=1))
    with pytest.raises(TableError, match=r"refused: .*argparse\.Namespace"):
        read(content)


def forged(state: bytes) -> bytes:
    """An array of objects whose content is raw bytes: with numpy's own code these would be used as pointers."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R" + state + b"\x89U\x08AAAAAAAAtb."
    )


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb",
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",  # flags that deny the objects
    ],
)
def test_forged_objects_are_refused(state: bytes) -> None:
    content = forged(state)
    pickletools.dis(content, io.StringIO())  # well-formed
    with pytest.raises(TableError, match="array of objects that is no list"):
        read(content)


@pytest.mark.parametrize("code", ["V8", "M8[s]", "m8", "i4,i4", "nonsense", "Z"])
def test_other_dtypes_are_refused(code: str) -> None:
    encoded = code.encode()
    content = b"\x80\x02cnumpy\ndtype\nU" + struct.pack("B", len(encoded)) + encoded + b"K\x00K\x01\x87R."
    with pytest.raises(TableError, match=r"numpy\.dtype of"):
        read(content)


def test_the_codec_of_bytes_is_latin1_alone() -> None:
    with pytest.raises(TableError, match=r"_codecs\.encode to 'rot13'"):
        read(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")


@given(data=st.data())
def test_damage_is_a_table_error_or_plain_data(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps({"a": [np.float64(1), np.arange(3.0), "x", (1, 2)], "b": {1}}, protocol=4))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    error: TableError | None = None
    try:
        read(bytes(content))
    except TableError as raised:
        error = raised
    assert error is None or "here.pickle" in str(error)
