"""What Weights & Biases holds of a run, read back from the files that it writes offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_files import read_parts, read_records, read_scalars

from rlnas.evaluation.history import read_history
from rlnas.results import read_best

Run = Callable[..., Any]


def of_type(records: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def test_a_run_is_recorded_offline_in_full(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    options = ["project=boards", "entity=team", "name=first", "group=trial", "tags=[cells,raspi]"]
    result = rlnas("train", *table_run, *(f"tracker.{option}" for option in options), "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    assert "wandb sync run/wandb/offline-run-*" in result.stdout
    assert "wandb:" not in result.stderr
    records = read_records(tmp_path / "run")

    [run] = of_type(records, "run")
    assert (run.project, run.entity, run.display_name, run.run_group) == ("boards", "team", "first", "trial")
    assert list(run.tags) == ["cells", "raspi"]
    assert {"seed", "budget", "agent", "space", "proxy", "device"} <= {item.key for item in run.config.update}

    metrics = of_type(records, "metric")
    assert [(m.glob_name, m.step_metric) for m in metrics if m.glob_name] == [("*", "search/evaluations")]

    scalars = read_scalars(records)
    history = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    by_step = [row for row in scalars if "search/reward" in row]
    assert [row["search/evaluations"] for row in by_step] == list(range(1, 31))
    assert [row["search/reward"] for row in by_step] == [record.reward for record in history]
    assert [row["proxy/val_accuracy@12"] for row in by_step] == [record.evaluation.accuracy for record in history]
    best = [row["search/best_reward"] for row in by_step]
    assert best == sorted(best)
    assert best[-1] == read_best(tmp_path / "run")["reward"]
    volumes = [row["search/hypervolume"] for row in by_step]
    assert volumes == sorted(volumes)
    assert any("policy/entropy" in row for row in scalars)
    assert any(row.get("search/front_table/nrows") for row in scalars)
    assert any(row.get("search/architectures/nrows") == 30 for row in scalars)
    assert any(row.get("choices/preferred/nrows") == 6 * 5 for row in scalars)  # of each edge each operation
    assert any("choices/decided_table/nrows" in row for row in scalars)
    told = [item for record in of_type(records, "config") for item in record.update]
    panels = {item.nested_key[2] for item in told if list(item.nested_key[:2]) == ["_wandb", "visualize"]}
    assert panels == {"search/front", "choices/decided"}
    assert of_type(records, "stats")  # of the machine

    artifacts = {
        artifact.type: [entry.path for entry in artifact.manifest.contents] for artifact in of_type(records, "artifact")
    }
    assert {"best.json", "pareto.csv"} <= set(artifacts["search-result"])
    assert any(path.startswith("checkpoint/") for path in artifacts["search-result"])
    assert "config.yaml" in artifacts["search-result"]
    assert artifacts["report"] == ["report.html"]
    [end] = of_type(records, "exit")
    assert end.exit_code == 0


def test_each_job_of_a_multirun_is_a_run_of_one_group(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    result = rlnas("train", "-m", *table_run, "seed=0,1", "hydra.sweep.dir=sweep")
    assert result.exit_code == 0, result.stderr
    runs = [of_type(read_records(tmp_path / "sweep" / job), "run")[0] for job in ("0", "1")]
    assert runs[0].run_id != runs[1].run_id
    assert {run.run_group for run in runs} == {"sweep"}


@pytest.mark.parametrize("checkpoints", [0, 100], ids=["from a checkpoint", "from the start"])
def test_a_run_that_is_taken_up_again_is_one_run_without_gap_or_double(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], checkpoints: int, monkeypatch: Any
) -> None:
    from rlnas.continuation import Continuation

    class PowerCut(BaseException):
        pass

    options = [*table_run, "env.num_envs=4", f"checkpoint.seconds={checkpoints}"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    original, updates = Continuation.after_update, 0

    def cut(self: Continuation, recorder: Any) -> Callable[[Any], None]:
        update = original(self, recorder)

        def checked(metrics: Any) -> None:
            nonlocal updates
            updates += 1
            if updates == 2:
                raise PowerCut  # the scalars of this update are not told any more
            update(metrics)

        return checked

    with monkeypatch.context() as patch:
        patch.setattr(Continuation, "after_update", cut)
        with pytest.raises(PowerCut):
            rlnas("train", *options, "hydra.run.dir=cut")
    time.sleep(1.1)  # W&B names folders by the second
    assert rlnas("resume", "cut").exit_code == 0

    parts = read_parts(tmp_path / "cut")
    assert len(parts) == 2
    assert len({of_type(part, "run")[0].run_id for part in parts}) == 1
    assert of_type(parts[1], "run")[0].resume
    told = [row for part in parts for row in read_scalars(part)]
    scalars = [_told(row) for row in told if not any("nrows" in name for name in row)]
    assert scalars == [_told(row) for row in read_scalars(read_records(tmp_path / "whole")) if "nrows" not in str(row)]
    rows = [row["_step"] for row in told]
    assert rows == list(range(len(rows)))


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what depends on the clock."""
    return {name: value for name, value in row.items() if not name.startswith(("_", "time/"))}


SWEEP = Path(__file__).resolve().parents[2] / "docs" / "sweep.yaml"


def parameters_of_a_sweep(config: dict[str, Any]) -> dict[str, Any]:
    """Return values as W&B's server would choose them: the fixed, the first, or the least."""
    chosen = {}
    for name, parameter in config["parameters"].items():
        value = parameter.get("value", parameter.get("values", [parameter.get("min")])[0])
        chosen[name] = {"value": value}
    return chosen


def test_a_sweep_of_wandb_drives_hydra(tmp_path: Path) -> None:
    """As ``wandb agent`` does it, with its own code and in a process, but for the server that chooses the values."""
    from wandb.sdk.launch.sweeps import utils
    from wandb.sdk.lib import config_util

    config = yaml.safe_load(SWEEP.read_text())
    chosen = parameters_of_a_sweep(config)
    macros = utils.create_sweep_command_args({"args": chosen})
    words = []
    for word in utils.create_sweep_command(list(config["command"])):
        words += macros[word[2:-1]] if word in {"${args}", "${args_no_hyphens}", "${env}", "${program}"} else [word]
    config_util.save_config_file_from_dict(str(tmp_path / "parameters.yaml"), chosen)
    given = {"WANDB_SWEEP_ID": "sweep7", "WANDB_RUN_ID": "run12345"}
    given["WANDB_SWEEP_PARAM_PATH"] = str(tmp_path / "parameters.yaml")

    assert words[0] == config["program"] == "rlnas"
    words = ["tracker.mode=offline" if word == "tracker.mode=online" else word for word in words[1:]]
    command = [sys.executable, "-m", "rlnas", *words, "budget.evaluations=30"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **given}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "sweeps" / "sweep7" / "run12345"
    records = read_records(folder)
    [run] = of_type(records, "run")
    assert (run.run_id, run.sweep_id) == ("run12345", "sweep7")
    recorded = {item.key: json.loads(item.value_json) for item in run.config.update if item.key}
    for record in of_type(records, "config"):
        recorded |= {item.key: json.loads(item.value_json) for item in record.update if item.key}
    assert recorded["agent"] == "reinforce"  # as the sweep has set it, and so as its charts want it
    assert recorded["resolved"]["agent"]["_target_"] == "agents.reinforce.Reinforce"
    assert recorded["resolved"]["agent"]["learning_rate"] == chosen["agent.learning_rate"]["value"]
    assert config["metric"]["goal"] == "maximize"
    assert any(config["metric"]["name"] in row for row in read_scalars(records))
    assert read_best(folder)["seed"] == chosen["seed"]["value"]


def test_a_tracker_that_draws_no_curves_is_asked_for_none(tmp_path: Path) -> None:
    from rlnas.tracking.counted import CountedTracker
    from rlnas.tracking.silent import SilentTracker

    counted = CountedTracker(SilentTracker())
    counted.start(tmp_path, {})
    counted.log_curves("choices/decided", "proposals", [0.0], {"a": [1.0]})
    assert counted.extra == 0


def test_disabled_records_nothing(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    result = rlnas("train", *table_run, "tracker.mode=disabled", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    assert not list((tmp_path / "run").glob("wandb/offline-run-*"))


def test_online_without_an_account_is_refused_before_any_compute(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], monkeypatch: Any
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    result = rlnas("train", *table_run, "tracker.mode=online", "hydra.run.dir=run")
    assert result.exit_code == 2
    assert "wandb login" in result.stderr
    assert "tracker.mode=offline" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_cannot_be_reached_does_not_stop_a_search(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
    monkeypatch.setattr("rlnas.tracking.wandb._INIT_SECONDS", 3.0)
    result = rlnas("train", *table_run, "tracker.mode=online", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    assert "recorded offline" in result.stderr
    assert read_best(tmp_path / "run")["reward"] > 0
    assert read_records(tmp_path / "run")
