"""Any csv or parquet file becomes a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import Grid
from hypothesis import given
from hypothesis import strategies as st
from published_parts import NOTATION_0, SPACE

from rlnas.errors import MissingExtraError, TableError
from rlnas.tables import Table
from rlnas.tables.importing.columnar import read_csv, read_parquet, table_of

GRID = Grid()
WIDE = "conv1,conv2,acc,seconds\nbig,on,0.9,3\nsmall,off,,4\nbig,off,nan,5\n"


def from_text(tmp_path: Path, text: str, name: str = "mine.csv", delimiter: str | None = None, **options: Any) -> Table:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return table_of(read_csv(tmp_path / name, delimiter=delimiter), name, **options)


def test_one_column_for_each_choice(tmp_path: Path) -> None:
    table = from_text(tmp_path, WIDE, choices=["conv1", "conv2"])
    assert table.choices == ("conv1", "conv2")
    assert table.candidates == (("big", "small"), ("off", "on"))
    assert table.architectures.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert table.columns == ("acc", "seconds")
    assert np.array_equal(table.column("acc"), np.array([0.9, np.nan, np.nan], np.float32), equal_nan=True)
    assert table.column("seconds").tolist() == [3, 4, 5]


def test_candidates_give_the_order_and_numbers_sort_as_numbers(tmp_path: Path) -> None:
    table = from_text(tmp_path, "width,x\n16,1\n8,2\n128,3\n", choices=["width"])
    assert table.candidates == (("8", "16", "128"),)
    table = from_text(tmp_path, "a,b\non,off\noff,on\n", choices=["a", "b"], candidates=["on", "off"])
    assert table.architectures.tolist() == [[0, 1], [1, 0]]
    assert table.values.shape == (2, 0)


def test_a_space_gives_choices_and_candidates(tmp_path: Path) -> None:
    text = "acc,choice2,choice0,choice1\n0.5,d,a,1\n0.6,2,3,b\n"  # names or indices, in any order
    table = from_text(tmp_path, text, space=GRID)
    table.check_space(GRID)
    assert table.architectures.tolist() == [[0, 1, 3], [3, 1, 2]]
    renamed = from_text(tmp_path, "x,y,z\na,b,c\n", space=GRID, choices=["x", "y", "z"])
    renamed.check_space(GRID)


@pytest.mark.parametrize("text", ["0,3,1", "031", "[0, 3, 1]", "0-3-1"])
def test_one_column_for_the_architecture(tmp_path: Path, text: str) -> None:
    content = f'arch,acc\n"{text}",0.5\n'
    for options in ({"space": GRID}, {"candidates": ["a", "b", "c", "d"]}):
        table = from_text(tmp_path, content, architecture="arch", **options)
        assert table.architectures.tolist() == [[0, 3, 1]]


def test_the_notation_of_cells(tmp_path: Path) -> None:
    table = from_text(tmp_path, f"cell;acc\n{NOTATION_0};0.5\n", delimiter=";", architecture="cell")
    table.check_space(SPACE)
    assert table.architectures.tolist() == [[4, 2, 1, 2, 1, 1]]
    with pytest.raises(TableError, match="space 'grid' has other choices"):
        from_text(tmp_path, f"cell,acc\n{NOTATION_0},0.5\n", architecture="cell", space=GRID)


def test_tabs_separate_a_tsv(tmp_path: Path) -> None:
    assert len(from_text(tmp_path, WIDE.replace(",", "\t"), "mine.tsv", choices=["conv1", "conv2"])) == 3


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {"choices": ["a"]}, "has no rows"),
        ("a,b\n", {"choices": ["a"]}, "has no rows"),
        ("a,b\n1\n", {"choices": ["a"]}, r"row 2 has 1 fields and the header 2; .*--delimiter"),
        ("a,a\n1,2\n", {"choices": ["a"]}, "two columns 'a'"),
        ("a,b\n1,2\n", {}, r"which columns .* name the architecture\?"),
        ("a,b\n1,2\n", {"choices": ["c"]}, "no column 'c'; it has a, b"),
        ("a,b\n1,x\n", {"choices": ["a"]}, r"column 'b' holds 'x' in row 0.*--drop b"),
        (
            "a,b\nx,1\n",
            {"choices": ["a"], "candidates": ["y", "z"]},
            "'x' in column 'a' is no candidate; those are y, z",
        ),
        ("a,b\n1,2\n1,3\n", {"choices": ["a"]}, "rows 0 and 1 are the same architecture"),
        ("a,b\n1,2\n", {"choices": ["a"], "architecture": "a"}, "not both"),
        ("a,b\n01,2\n", {"architecture": "a"}, "indices need names"),
        ("a,b\n01,2\n011,2\n", {"architecture": "a", "candidates": ["x", "y"]}, "different lengths"),
        ("a,b\n?,2\n", {"architecture": "a", "candidates": ["x", "y"]}, "is no architecture"),
        ("a,b\n02,2\n", {"architecture": "a", "candidates": ["x", "y"]}, "index 2 at choice 'choice1'"),
        ("a,b\n01,2\n", {"architecture": "a", "space": GRID}, "have 2 choices, the space 3"),
        ("a,b\n999 1,2\n", {"architecture": "a", "candidates": ["x", "y"]}, "an index is above 127"),
        ("a,b\n01,2\n", {"architecture": "a", "space": GRID, "candidates": ["x"]}, "--candidates has no effect"),
        ("a,b\n1,2\n", {"choices": ["a"], "space": GRID}, "has 3 choices, but 1 columns"),
    ],
)
def test_what_cannot_be_a_table_is_named(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        from_text(tmp_path, text, **options)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"gone\.csv is no readable csv"):
        read_csv(tmp_path / "gone.csv")


rows = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20, unique=True)
number = st.floats(width=32, allow_nan=True, allow_infinity=False)


@given(rows=rows, data=st.data())
def test_a_table_survives_the_way_through_columns(rows: list[tuple[int, ...]], data: st.DataObject) -> None:
    values = data.draw(st.lists(number, min_size=len(rows), max_size=len(rows)))
    names = [GRID.to_names(GRID.architecture(row)) for row in rows]
    columns = {name: [row[name] for row in names] for name in names[0]} | {"x": [repr(value) for value in values]}
    table = table_of(columns, "memory", space=GRID)
    assert [tuple(row) for row in table.architectures.tolist()] == rows
    assert np.array_equal(table.column("x"), np.array(values, np.float32), equal_nan=True)


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow (the extra rlnas[tables]) is not installed")
    from pyarrow import parquet

    content = {"conv1": ["big", "small", "big"], "conv2": [1, 0, 0], "acc": [0.9, None, float("nan")], "n": [1, 2, 3]}
    parquet.write_table(arrow.table(content), tmp_path / "mine.parquet")
    table = table_of(read_parquet(tmp_path / "mine.parquet"), "mine", choices=["conv1", "conv2"])
    assert table.architectures.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert np.array_equal(table.column("acc"), np.array([0.9, np.nan, np.nan], np.float32), equal_nan=True)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for name in ("bad.parquet", "gone.parquet"):
        with pytest.raises(TableError, match=f"{name} is no readable parquet"):
            read_parquet(tmp_path / name)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlnas\[tables\]'"):
        read_parquet(tmp_path / "mine.parquet")
