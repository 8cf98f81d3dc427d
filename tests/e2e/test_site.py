"""The documentation as a site: every page has its place, every link leads somewhere, the reference is that of conf/."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def load_generator():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_reference"] = module
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_that_of_the_configuration() -> None:
    generator = load_generator()
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `make docs`"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_reference_finds_every_key_of_a_file_and_what_is_said_of_it(path: Path) -> None:
    generator = load_generator()
    text = path.read_text(encoding="utf-8")
    found = {".".join(key.path): key for key in generator.keys_of(text)}
    known = yaml.safe_load(text) or {}

    def names(node: object, prefix: str = "") -> set[str]:
        if not isinstance(node, dict):
            return set()
        below = [{f"{prefix}{key}"} | names(value, f"{prefix}{key}.") for key, value in node.items()]
        return set().union(*below)

    shown = {name for name in names(known) if not name.startswith("hydra")}
    written = {name for name in shown if name in found}
    flow = {name for name in shown - written if name.rpartition(".")[0] in found}  # within braces on one line
    assert written | flow == shown
    lines = [line for line in text.splitlines() if not line.startswith("#") and not line.lstrip().startswith("- ")]
    comments = [generator.split_comment(line)[1] for line in lines]
    said = " ".join(key.comment for key in found.values())
    assert all(comment in said for comment in comments)


@pytest.mark.slow
def test_the_site_builds_and_every_page_is_in_it(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages == {path.stem for path in tmp_path.glob("*.html")} - {"404"}
    shown = unescape(re.sub(r"<[^>]+>", "", (tmp_path / "reference.html").read_text(encoding="utf-8")))
    assert "agent.learning_rate" in shown
    for page in tmp_path.glob("*.html"):
        assert not re.search(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', page.read_text(encoding="utf-8"))
