"""`rlnas profile` as a user meets it: a real device, kills and interrupts, a search on the profile, bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from signals import heed_interrupts

Run = Callable[..., Any]
SPACE = [
    "space=chain",
    "space.num_layers=2",
    "space.widths=[4,8]",
    "space.operations=[conv3x3,sepconv3x3,maxpool,identity]",
]
QUICK = ["device.rounds=2", "device.repeats=2", "device.max_seconds=0.01", "profile.visits=1", "profile.networks=8"]
PROFILE = Path("outputs/profiles/chain-digits-host.json")
SEARCH = [
    *SPACE,
    "device=lookup",
    f"device.profile={PROFILE}",
    "agent=random",
    "executor=serial",
    "tracker=none",
    "proxy.epochs=1",
    "budget.evaluations=2",
    "reward=accuracy",
    "hydra.run.dir=run",
]


def test_a_profile_and_a_search_with_it(rlnas: Run, tmp_path: Path) -> None:
    made = rlnas("profile", *SPACE, *QUICK)
    assert made.exit_code == 0, made.stderr
    assert f"{PROFILE}: chain on host" in made.stdout
    assert "8 networks measured" in made.stdout
    assert f"rlnas train device=lookup device.profile={PROFILE}" in made.stdout
    profile = json.loads((tmp_path / PROFILE).read_text())
    assert profile["device"]["config"]["_target_"] == "rlnas.devices.host.HostDevice"
    assert profile["device"]["config"]["rounds"] == 2
    assert {"torch", "python", "rlnas"} <= set(profile["software"])
    assert profile["sweep"]["unknown_share_at_most"] == 0.0
    assert all(row["isolated_ms"] > 0 for row in profile["blocks"])
    assert not list((tmp_path / "outputs" / "profiles").glob("*.measured"))

    searched = rlnas("train", *SEARCH)
    assert searched.exit_code == 0, searched.stderr
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["costs"]["latency_ms_low"] < best["costs"]["latency_ms"] < best["costs"]["latency_ms_high"]

    other = [word.replace("[4,8]", "[4,16]").replace("dir=run", "dir=other") for word in SEARCH]
    refused = rlnas("train", *other)
    assert refused.exit_code == 2
    assert "was measured for another space" in refused.stderr
    assert "[4, 8]" in refused.stderr
    assert "[4, 16]" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_profile_goes_on(rlnas: Run, tmp_path: Path, ending: signal.Signals) -> None:
    slow = [*SPACE, "device.rounds=8", "device.repeats=2", "profile.networks=12", "profile.visits=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlnas", "profile", *slow],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    part = tmp_path / f"{PROFILE}.measured"
    deadline = time.monotonic() + 60
    try:
        while not part.is_file() or len(part.read_text().splitlines()) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(ending)
        stdout, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (130 if ending == signal.SIGINT else -signal.SIGKILL)
    if ending == signal.SIGINT:
        assert "the same command goes on" in stdout
    assert not (tmp_path / PROFILE).exists()
    before = part.read_text().splitlines()

    resumed = rlnas("profile", *slow)
    assert resumed.exit_code == 0, resumed.stderr
    assert "going on with" in resumed.stderr
    profile = json.loads((tmp_path / PROFILE).read_text())
    kept = {key: value for line in before[1:] for key, value in json.loads(line)["values"].items()}
    alone = {json.dumps([r["kind"], r["settings"], r["input_shapes"]]): r["isolated_ms"] for r in profile["blocks"]}
    blocks = {key: value[0] for key, value in kept.items() if not key.startswith("network")}
    assert blocks
    assert {key: alone[key] for key in blocks} == pytest.approx(blocks, rel=1e-5), "nothing is timed twice"
    assert not part.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["agent=ppo"], "rlnas profile --help"),
        (["device=complexity"], "gives no latency_ms"),
        (["device=none"], "choose one as in device=host"),
        (["profile.networks=3"], "profile.networks must be at least 8"),
        (["profile.confidence=2"], "profile.confidence must be between 0 and 1"),
        (["profile.rounds=2"], "rounds"),
        (["device.rounds=1"], "device.rounds must be at least 2"),
        (["-m", "device.rounds=2,3"], "one profile at a time"),
        (["device=lookup", "device.profile=none.json"], "there is no profile"),
        (["device=lookup"], "device.profile must be given"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    rlnas: Run, tmp_path: Path, words: list[str], said: str
) -> None:
    result = rlnas("profile", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(tmp_path.glob("outputs/**/*.json"))


def test_a_device_that_knows_its_costs_is_not_profiled(rlnas: Run, cell_table: Path) -> None:
    result = rlnas("profile", "device=table", f"device.path={cell_table}", "device.device=board")
    assert result.exit_code == 2


def test_help_names_the_groups(rlnas: Run) -> None:
    shown = rlnas("profile", "--help")
    assert shown.exit_code == 0
    assert "rlnas profile device=onnxruntime space=cell201" in shown.stdout
    assert "rlnas profile" in rlnas("--help").stdout
