"""What Weights & Biases holds of a run, read back from the files that it writes offline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
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

    artifacts = {
        artifact.type: [entry.path for entry in artifact.manifest.contents] for artifact in of_type(records, "artifact")
    }
    assert {"best.json", "pareto.csv"} <= set(artifacts["search-result"])
    assert any(path.startswith("checkpoint/") for path in artifacts["search-result"])
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
