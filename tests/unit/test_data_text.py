"""Texts: a vocabulary of the training split alone, tokens of one length, and what is refused by name."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_parts import csv_file, sentences

from rlnas.data.splitting import SplitOptions, plan_splits
from rlnas.data.text import TextEncoder, text, trained_tokenizer
from rlnas.errors import ConfigError, DataError


def reviews(folder: Path, **options: Any) -> Path:
    return csv_file(folder / "reviews.csv", sentences(), **options)


def test_texts_become_tokens_of_one_length(tmp_path: Path) -> None:
    task = text(reviews(tmp_path))
    assert task.spec.kind == "tokens"
    assert task.classes == ("bad", "good")
    assert [len(task.train), len(task.validation), len(task.test)] == [24, 8, 8]
    [length] = task.spec.input_shape
    lengths = (task.train.inputs > 0).sum(axis=1)
    assert lengths.max() == length
    for row, used in zip(task.train.inputs, lengths, strict=True):
        assert (row[:used] > 0).all(), "padding is 0, at the end, and nothing else is 0"


def test_the_length_holds_nineteen_of_twenty_training_texts_unless_it_is_given(tmp_path: Path) -> None:
    rows = [(" ".join(["word"] * (1 + number % 50)) + f" {number}", number % 2) for number in range(200)]
    task = text(csv_file(tmp_path / "a.csv", rows))
    [length] = task.spec.input_shape
    full = text(tmp_path / "a.csv", length=200)
    lengths = (full.train.inputs > 0).sum(axis=1)
    assert length == int(np.ceil(np.percentile(lengths, 95)))
    assert 0 < (lengths > length).mean() <= 0.05
    [short] = text(tmp_path / "a.csv", length=3).train.inputs[:1]
    np.testing.assert_array_equal(short, full.train.inputs[0, :3])


def test_the_vocabulary_is_that_of_the_training_split_alone(tmp_path: Path) -> None:
    path = reviews(tmp_path)
    task = text(path, vocabulary_size=300)
    rows = sentences()
    targets = np.array([label == "good" for _, label in rows]).astype(np.int64)
    plan = plan_splits({"train": targets}, ("bad", "good"), SplitOptions(), "here")
    training = [rows[row][0] for row in plan["train"].rows]
    tokenizer = trained_tokenizer(training, 300, lowercase=True)
    for row, tokens in zip(training, task.train.inputs, strict=True):
        assert tokens[tokens > 0].tolist() == tokenizer.encode(row).ids[: task.spec.input_shape[0]]
    assert task.spec.vocabulary_size == tokenizer.get_vocab_size() <= 300
    assert tokenizer.token_to_id("[PAD]") == 0
    everything = trained_tokenizer([row for row, _ in rows], 300, lowercase=True)
    assert everything.get_vocab() != tokenizer.get_vocab(), "or the test would show nothing"


def test_every_text_can_be_encoded_and_case_counts_only_on_demand() -> None:
    tokenizer = trained_tokenizer(["plain words only"] * 3, 400, lowercase=True)
    for strange in ("ünïcödé", "日本語", "😀", "\x00\x7f"):
        assert 0 not in tokenizer.encode(strange).ids
        assert tokenizer.encode(strange).ids
    assert tokenizer.encode("PLAIN").ids == tokenizer.encode("plain").ids
    exact = trained_tokenizer(["plain words only"] * 3, 400, lowercase=False)
    assert exact.encode("PLAIN").ids != exact.encode("plain").ids


def test_another_process_with_other_threads_learns_the_same_vocabulary(tmp_path: Path) -> None:
    path = reviews(tmp_path)
    code = "import sys; from pathlib import Path; from rlnas.data.text import text; print(text(Path(sys.argv[1])).key)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={
            "PATH": "",
            "RAYON_NUM_THREADS": "3",
            "PYTHONHASHSEED": "5",
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == text(path).key


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet"])
def test_every_file_format_gives_the_same_task(tmp_path: Path, suffix: str) -> None:
    expected = text(reviews(tmp_path)).key
    other = tmp_path / f"reviews{suffix}"
    if suffix == ".tsv":
        csv_file(other, sentences(), sep="\t")
    elif suffix == ".jsonl":
        other.write_text("\n".join(json.dumps({"text": one, "label": label}) for one, label in sentences()))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = zip(*sentences(), strict=True)
        pq.write_table(pa.table(dict(zip(("text", "label"), map(list, columns), strict=True))), other)
    assert text(other).key == expected


def test_words_that_look_like_missing_values_are_texts(tmp_path: Path) -> None:
    rows = [("NA", 0), ("null", 1), ("None", 0), ("nan", 1), *((f"word {n}", n % 2) for n in range(6))]
    assert len(text(csv_file(tmp_path / "a.csv", rows)).train) == 6


def test_a_folder_of_files_named_after_the_parts(tmp_path: Path) -> None:
    for part, count in (("train", 30), ("dev", 10), ("test", 8)):
        csv_file(tmp_path / f"{part}.csv", sentences(count, seed=count))
    task = text(tmp_path)
    assert [len(task.train), len(task.validation), len(task.test)] == [30, 10, 8]
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataError, match="no file named train"):
        text(tmp_path)


def test_a_test_part_without_labels_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part, rows in (("train", sentences()), ("test", [(one, None) for one, _ in sentences(6, seed=1)])):
        lines = (json.dumps({"text": one, "label": label}) for one, label in rows)
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING, logger="rlnas.data.sources"):
        task = text(tmp_path)
    assert "the test part has no labels" in caplog.text
    assert [len(task.train), len(task.validation), len(task.test)] == [24, 8, 8]


BAD_TABLES: dict[str, tuple[list[Any], tuple[str, ...], str]] = {
    "missing labels": ([("a b", "x"), ("c", ""), ("d", "y")] * 4, ("text", "label"), "4 of 12 examples have no label"),
    "one class": ([("a b", "x"), ("c d", "x")] * 4, ("text", "label"), "one class only"),
    "rare class": ([("a b", "x")] * 9 + [("c", "y")], ("text", "label"), "class 'y' has 1 examples"),
    "blank text": ([("a b", "x"), ("  ", "y")] * 4, ("text", "label"), r"row \d+ \(it is empty\)"),
    "fractions": ([("a b", 0.5), ("c d", 1.5)] * 4, ("text", "label"), "labels of type float"),
    "two texts": ([("a", "b", "x"), ("c", "d", "y")] * 4, ("first", "second", "label"), "which one is the text"),
    "no label": ([("a", "b"), ("c", "d")] * 4, ("text", "what"), "which one is the label"),
    "two labels": ([("a", "b", "x"), ("c", "d", "y")] * 4, ("text", "class", "label"), "which one is the label"),
}


@pytest.mark.parametrize("case", sorted(BAD_TABLES))
def test_what_is_no_task_is_refused(tmp_path: Path, case: str) -> None:
    rows, header, message = BAD_TABLES[case]
    path = csv_file(tmp_path / "bad.csv", rows, header)
    with pytest.raises(DataError, match=message) as caught:
        text(path)
    assert str(path) in str(caught.value)


def test_columns_can_be_named_and_must_be_there(tmp_path: Path) -> None:
    rows = [(f"a {n}", f"b {n} {n}", "xy"[n % 2], "uv"[n % 2]) for n in range(12)]
    path = csv_file(tmp_path / "two.csv", rows, ("first", "second", "class", "label"))
    task = text(path, examples="second", labels="class")
    assert task.classes == ("x", "y")
    assert text(path, examples="first", labels="class").key != task.key
    with pytest.raises(DataError, match=r"no column 'third'; it has first, second, class, label"):
        text(path, examples="third", labels="class")


def test_empty_texts_are_left_out_on_demand(tmp_path: Path) -> None:
    rows = sentences()
    path = csv_file(tmp_path / "reviews.csv", [*rows, ("", "good"), (" ", "bad")])
    (tmp_path / "clean").mkdir()
    assert text(path, skip_unreadable=True).key == text(csv_file(tmp_path / "clean" / "reviews.csv", rows)).key


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "torn.csv").write_text('a,b\n1,2\n1,2,3,4\n"x')
    (tmp_path / "fake.parquet").write_text("hello")
    (tmp_path / "letter.docx").write_text("hello")
    for name, message in (
        ("empty.csv", "is empty"),
        ("torn.csv", "cannot be read as csv"),
        ("fake.parquet", "cannot be read as parquet"),
        ("letter.docx", "is none of"),
        ("absent.csv", "there is no file"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            text(tmp_path / name)
        assert name in str(caught.value)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="vocabulary_size must be at least 257"):
        TextEncoder(vocabulary_size=256)
    with pytest.raises(ConfigError, match="length"):
        TextEncoder(length=0)


def test_rt_polarity(data_folder: Path) -> None:
    task = text(data_folder / "rt_polarity.csv", max_examples=2000)
    assert task.spec.kind == "tokens"
    assert task.classes == ("0", "1")
    assert len(task.train) + len(task.validation) + len(task.test) == 2000
    assert 20 < task.spec.input_shape[0] < 80
