"""The wheel alone, in an environment without this checkout, runs a search from any folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_runs_a_search_from_any_folder(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ".", cwd=ROOT)
    [wheel] = (tmp_path / "dist").glob("rlnas-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "rlnas/conf/config.yaml" in names
    assert "rlnas/py.typed" in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"rlnas", "envs", "agents"}

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel, cwd=tmp_path)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    # The dependencies are those of this environment; a plain path line does not bring in its editable installs.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home = run(python, "-c", "import rlnas; print(rlnas.__file__)", cwd=elsewhere)
    assert str(tmp_path / "venv") in home
    tiny = ["experiment=quick", "space.num_layers=2", "space.widths=[4]", "budget.evaluations=2", "proxy.epochs=1"]
    said = run(tmp_path / "venv" / "bin" / "rlnas", "train", *tiny, "tracker=none", "hydra.run.dir=run", cwd=elsewhere)
    assert "best by reward" in said
    assert (elsewhere / "run" / "best.json").is_file()
    made = run(python, "-c", "import gymnasium; print(gymnasium.make('envs:rlnas/Digits201-v0'))", cwd=elsewhere)
    assert "rlnas/Digits201-v0" in made, "the bundled table is in the wheel"
