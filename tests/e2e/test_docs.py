"""Every command and snippet of the documentation is executed, in the order of the page, in an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from published_parts import write_sources

ROOT = Path(__file__).resolve().parents[2]
MADE = "reference.md"  # from conf/, without a command
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != MADE)]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A# file: (\S+)\n")

# What makes a documented search small enough for a test; given where the run has the key.
SMALL = {
    "budget.evaluations": "3",
    "proxy.epochs": "1",
    "device.rounds": "2",
    "device.repeats": "2",
    "env.num_envs": "2",
    "executor": "serial",
    "tracker.mode": "disabled",
}

# What makes other commands small; given where the documented command does not.
SMALLER = {
    "profile": {"profile.networks": "8", "profile.visits": "1", "device.rounds": "2"},
    "retrain": {"top_k": "2", "sample": "2", "random": "2", "epochs": "5"},
}

Run = Callable[..., Any]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    yield from BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[list[str]]:
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def small(rlnas: Run, arguments: list[str]) -> list[str]:
    """Return the overrides of `SMALL` that a documented command takes and does not give itself."""
    given = {argument.split("=")[0] for argument in arguments}
    shown = rlnas("train", *[a for a in arguments if a != "-m" and "," not in a], "--cfg", "job")
    assert shown.exit_code == 0, shown.stderr
    config = yaml.safe_load(shown.stdout)
    found = []
    for key, value in SMALL.items():
        group, _, name = key.partition(".")
        node = config.get(group)
        if key not in given and (not name or (isinstance(node, dict) and name in node)):
            found.append(f"{key}={value}")
    return found


def shorter(argument: str) -> str:
    """Return an override with a long search cut to what a test can wait for."""
    key, _, value = argument.partition("=")
    return f"{key}=8" if key == "budget.evaluations" and value.isdigit() and int(value) > 20 else argument


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_the_page_works(page: Path, rlnas: Run, tmp_path: Path, cell_table: Path) -> None:
    (tmp_path / "TABLE.npz").symlink_to(cell_table)
    write_sources(tmp_path)
    executed = 0
    for language, text in blocks(page):
        assert language in {"bash", "python", "yaml", "text"}, f"nothing executes {language}"
        named = FILE.match(text)
        if named:
            path = tmp_path / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif language == "python":
            done = subprocess.run(
                [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, text + done.stderr
        elif language == "bash":
            for words in commands(text):
                execute(words, rlnas, tmp_path)
                executed += 1
        else:
            assert language == "text", f"a {language} block of {page.name} neither names its file nor is executed"
    assert executed


def execute(words: list[str], rlnas: Run, folder: Path) -> None:
    if words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif words[0] == "rlnas" and words[1] == "train":
        arguments = words[2:]
        if "--help" in arguments or "--cfg" in arguments:
            result = rlnas(*words[1:])
        else:
            result = rlnas("train", *map(shorter, arguments), *small(rlnas, arguments))
        assert result.exit_code == 0, (words, result.stderr)
    elif words[:2] == ["rlnas", "compare"]:
        kept = [word for word in words[2:] if not word.startswith(("seed=", "budget."))]
        smaller = [
            word for word in small(rlnas, [w for w in kept if not w.startswith("compare.")]) if "tracker" not in word
        ]
        result = rlnas("compare", *kept, *smaller, "seed=0,1")
        assert result.exit_code == 0, (words, result.stderr)
    elif words[0] == "rlnas":
        runs = sorted(folder.glob("outputs/*/*/best.json"))
        shown = [str(runs[-1].parent) if word == "RUN" else word for word in words[1:]]
        given = {word.split("=")[0] for word in shown}
        smaller = [f"{key}={value}" for key, value in SMALLER.get(words[1], {}).items() if key not in given]
        result = rlnas(*shown, *smaller)
        assert result.exit_code == 0, (words, result.stderr)
    elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
        assert (ROOT / (words[2].replace(".", "/") + ".py")).is_file(), words
    elif words[0] == "python":
        place = ROOT if words[1].startswith("examples/") else folder
        done = subprocess.run([sys.executable, *words[1:]], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    else:
        raise AssertionError(f"nothing executes {words}")


def main() -> None:
    """Print how much the pages hold that is executed."""
    found = [(language, text) for page in PAGES for language, text in blocks(page)]
    num_commands = sum(len(list(commands(text))) for language, text in found if language == "bash")
    num_snippets = sum(language in ("python", "yaml") for language, _ in found)
    sys.stdout.write(f"{num_commands} commands and {num_snippets} files and snippets on {len(PAGES)} pages\n")


if __name__ == "__main__":
    main()
