"""`rlnas table` as a user meets it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_parts import SPACE, hw_nas_bench, write_nas_bench_macro, write_nats_bench

from rlnas.evaluation.history import read_history
from rlnas.tables import Table, cached_table

Run = Callable[..., Any]

WIDE = "conv1,conv2,acc,seconds,note\nbig,on,90,3,x\nsmall,off,80,4,y\nbig,off,70,5,z\n"


def test_help_says_what_there_is(rlnas: Run) -> None:
    for arguments in (["--help"], ["import", "--help"], ["show", "--help"], ["check", "--help"]):
        result = rlnas("table", *arguments)
        assert result.exit_code == 0
        assert "usage: rlnas table" in result.stdout
    said = rlnas("table", "import", "--help").stdout
    for kind in ("nats-bench", "hw-nas-bench", "nas-bench-macro", "csv", "parquet", "table", "--join"):
        assert kind in said
    assert "rlnas table import" in rlnas("--help").stdout


def test_other_commands_do_not_pay_for_it() -> None:
    code = "import sys, rlnas.cli; assert 'rlnas.tables.importing' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_accuracies_and_devices_become_one_table(rlnas: Run, data_folder: Path, tmp_path: Path) -> None:
    published = cached_table(data_folder / "nb201_cifar10.npz")
    rows = [0, 1, 6111, 13714, 3]
    write_nats_bench(tmp_path / "NATS-tss-v1_0-3ffb9-simple", published, rows)
    (tmp_path / "HW-NAS-Bench-v1_0.pickle").write_bytes(pickle.dumps(hw_nas_bench()))
    first = rlnas("table", "import", "nats-bench", "NATS-tss-v1_0-3ffb9-simple", "nb201.npz", "--workers", "1")
    assert first.exit_code == 0, first.stderr
    assert "nb201.npz: 4 architectures" in first.stdout
    second = rlnas("table", "import", "hw-nas-bench", "HW-NAS-Bench-v1_0.pickle", "devices.npz", "--join", "nb201.npz")
    assert second.exit_code == 0, second.stderr
    table = Table.read("devices.npz")
    assert len(table) == 4
    [row] = table.rows(published.architectures[:1].astype(np.int64))
    assert table.column("raspi4.latency_ms")[row] == pytest.approx(10.481976820010459, rel=1e-6)
    assert table.column("val_accuracy@12")[row] == pytest.approx(published.column("val_accuracy@12")[0], rel=1e-5)
    assert "NATS-Bench" in table.meta["source"]
    assert "HW-NAS-Bench" in table.meta["source"]

    check = rlnas("table", "check", "devices.npz", "space=cell201")
    assert check.exit_code == 0, check.stdout
    assert "4 of the space's 15625 architectures" in check.stdout


def test_a_search_sees_the_noise_as_it_was_measured(rlnas: Run, data_folder: Path, tmp_path: Path) -> None:
    path = data_folder / "nb201_cifar10.npz"
    table = cached_table(path)
    options = f"experiment=nb201 proxy.path={path} proxy.column=val_accuracy@200 proxy.seeds=sample device=none"
    options += " reward=accuracy evaluator.canonical=false tracker=none agent=random budget.evaluations=40"
    found = {}
    for seed in (1, 2):
        run = rlnas("train", *options.split(), f"proxy.sampling_seed={seed}", f"hydra.run.dir=run{seed}")
        assert run.exit_code == 0, run.stderr
        records = list(read_history(tmp_path / f"run{seed}" / "evaluations.sqlite"))
        found[seed] = {r.evaluation.architecture.indices: r.evaluation.accuracy for r in records}
    assert found[1].keys() == found[2].keys()
    assert 10 < sum(found[1][key] != found[2][key] for key in found[1]) < 40
    rows = table.rows(np.array(list(found[1])))
    seeds = np.stack([table.column(f"val_accuracy@200/seed{seed}")[rows] for seed in (777, 888, 999)], axis=1)
    for seed in (1, 2):
        accuracies = np.array(list(found[seed].values()), dtype=np.float32)
        assert (accuracies[:, None] == seeds).any(axis=1).all()


def test_nas_bench_macro_is_imported(rlnas: Run, data_folder: Path, tmp_path: Path) -> None:
    write_nas_bench_macro(tmp_path / "macro.json", cached_table(data_folder / "nasbench_macro_cifar10.npz"))
    result = rlnas("table", "import", "nas-bench-macro", "macro.json", "macro.npz")
    assert result.exit_code == 0, result.stderr
    shown = rlnas("table", "show", "macro.npz")
    assert shown.exit_code == 0, shown.stderr
    for said in ("6561 architectures", "NAS-Bench-Macro", "0.93127", "mbconv_e6_k5", "sd between seeds"):
        assert said in shown.stdout
    assert (
        "--dataset has no effect"
        in rlnas("table", "import", "nas-bench-macro", "macro.json", "x.npz", "--dataset", "cifar100").stderr
    )


def test_show_fits_one_screen_and_tells_the_facts(rlnas: Run, data_folder: Path) -> None:
    shown = rlnas("table", "show", data_folder / "nb201_cifar10.npz")
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) <= 45
    for said in ("15625 architectures", "row 6111", "0.94373", "0.772", "0.504", "476.0 h", "nor_conv_3x3"):
        assert said in shown.stdout
    devices = rlnas("table", "show", data_folder / "nb201_devices.npz").stdout
    for said in ("devices (device.device=NAME): raspi4, gold_6226", "3071", "edgegpu.energy_mj"):
        assert said in devices


def test_a_csv_is_imported_checked_and_searched(rlnas: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(WIDE)
    options = ["--choices", "conv1,conv2", "--drop", "note", "--scale", "acc=0.01", "--rename", "acc=val_accuracy@3"]
    result = rlnas("table", "import", "csv", "mine.csv", "mine.npz", *options, "--rename", "seconds=train_seconds@3")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    table = Table.read("mine.npz")
    assert table.columns == ("val_accuracy@3", "train_seconds@3")
    assert table.column("val_accuracy@3").tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert rlnas("table", "check", "mine.npz").exit_code == 0
    assert "best val_accuracy@3 0.90000: row 0" in rlnas("table", "show", "mine.npz").stdout


def test_percents_are_reported_at_once(rlnas: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,val_accuracy@1\n1,93\n2,94\n")
    result = rlnas("table", "import", "csv", "mine.csv", "mine.npz", "--choices", "a")
    assert result.exit_code == 0
    assert "--scale val_accuracy@1=0.01" in result.stderr
    check = rlnas("table", "check", "mine.npz")
    assert check.exit_code == 2
    assert "problem" in check.stdout
    mended = rlnas("table", "import", "table", "mine.npz", "mine.npz", "--scale", "val_accuracy@1=0.01")
    assert mended.exit_code == 0
    assert rlnas("table", "check", "mine.npz").exit_code == 0


def test_a_space_of_the_command_line_names_the_choices(rlnas: Run, tmp_path: Path) -> None:
    architecture = SPACE.from_notation("|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|")
    (tmp_path / "cells.csv").write_text(f"cell,val_accuracy@1\n{''.join(map(str, architecture.indices))},0.1\n")
    result = rlnas("table", "import", "csv", "cells.csv", "cells.npz", "space=cell201", "--architecture", "cell")
    assert result.exit_code == 0, result.stderr
    assert rlnas("table", "check", "cells.npz", "space=cell201", "space.num_cells=1").exit_code == 0
    wrong = rlnas("table", "check", "cells.npz", "space=chain")
    assert wrong.exit_code == 2
    assert "is not a table of space 'chain'" in wrong.stdout


def test_a_space_of_ones_own(rlnas: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my_conf" / "space"
    folder.mkdir(parents=True)
    (folder / "short.yaml").write_text("_target_: rlnas.spaces.chain.Chain\nnum_layers: 2\nwidths: [8, 16]\n")
    architecture = ",".join("0" * 5)
    (tmp_path / "short.csv").write_text(f'arch,val_accuracy@1\n"{architecture}",0.1\n')
    options = ["--architecture", "arch", "--config-dir", "my_conf", "space=short"]
    result = rlnas("table", "import", "csv", "short.csv", "short.npz", *options)
    assert result.exit_code == 0, result.stderr
    assert Table.read("short.npz").meta["space"] == "chain"


CASES = {
    "no action": ([], ["required"]),
    "unknown action": (["list"], ["invalid choice"]),
    "a table that is not there": (["show", "gone.npz"], ["no table at 'gone.npz'"]),
    "a file that is no table": (["check", "mine.csv"], ["mine.csv is no readable table"]),
    "unknown kind": (["import", "json", "mine.csv", "o.npz"], ["invalid choice: 'json'", "nats-bench"]),
    "unknown word": (["check", "mine.npz", "cell201"], ["unrecognized arguments: cell201"]),
    "unknown space": (["check", "mine.npz", "space=nowhere"], ["nowhere"]),
    "unknown key of a space": (["check", "mine.npz", "space=cell201", "space.cels=3"], ["cels"]),
    "a space to show": (["show", "mine.npz", "space=cell201"], ["space=cell201 has no effect on show"]),
    "a config folder for nothing": (["check", "mine.npz", "--config-dir", "x"], ["--config-dir has no effect"]),
    "no choices": (["import", "csv", "mine.csv", "o.npz"], ["which columns of mine.csv name the architecture?"]),
    "text in a column": (["import", "csv", "mine.csv", "o.npz", "--choices", "conv1,conv2"], ["'note'", "--drop note"]),
    "an option of another kind": (
        ["import", "hw-nas-bench", "mine.csv", "o.npz", "--choices", "a"],
        ["--choices has no effect on hw-nas-bench"],
    ),
    "a factor that is none": (["import", "csv", "mine.csv", "o.npz", "--scale", "acc=x"], ["'x' is no number"]),
    "a pair that is none": (["import", "csv", "mine.csv", "o.npz", "--rename", "acc"], ["is not of the form"]),
    "an unknown column to drop": (["import", "csv", "mine.csv", "o.npz", "--drop", "nt"], ["no column 'nt' to drop"]),
    "negative workers": (["import", "nats-bench", ".", "o.npz", "--workers", "-1"], ["--workers -1 is negative"]),
    "no folder of NATS-Bench": (["import", "nats-bench", ".", "o.npz"], ["has no meta.pickle.pbz2"]),
    "a folder that is not there": (
        ["import", "table", "mine.npz", "nowhere/o.npz"],
        ["cannot write the table nowhere/o.npz"],
    ),
    "no JSON": (["import", "nas-bench-macro", "mine.csv", "o.npz"], ["mine.csv is no JSON"]),
    "a pickle that runs code": (["import", "hw-nas-bench", "bad.pickle", "o.npz"], ["is refused", "print"]),
}


class Prints:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("pwned",)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(rlnas: Run, tmp_path: Path, case: str) -> None:
    arguments, said = CASES[case]
    (tmp_path / "mine.csv").write_text(WIDE)
    (tmp_path / "bad.pickle").write_bytes(pickle.dumps({"nasbench201": Prints()}))
    small = {"choices": ["a"], "candidates": ["x"]}
    Table(np.zeros((1, 1), np.int8), ("v",), np.zeros((1, 1), np.float32), small).write(tmp_path / "mine.npz")
    result = rlnas("table", *arguments)
    assert result.exit_code == 2, result
    assert result.stdout == ""
    for word in said:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "o.npz").exists()


def test_what_is_written_is_plain_json_and_numbers(rlnas: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,x\n1,2\n2,3\n")
    assert rlnas("table", "import", "csv", "a.csv", "a.npz", "--choices", "a").exit_code == 0
    with np.load("a.npz", allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        assert file["architectures"].dtype == np.int8
    assert meta == {"choices": ["a"], "candidates": [["1", "2"]], "source": "a.csv"}
