"""``rlnas check`` on parts of the user's own, in a folder outside this repository; the README's agent is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlnas.commands.check import CHECKED, Request
from rlnas.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "examples" / "own_agent"

Run = Callable[..., Any]

PARTS = '''
import numpy as np
from my_agents import Greedy


class Deaf(Greedy):
    """Never hears how good it was."""

    def play(self, env, changes):
        indices, rewards = super().play(env, changes)
        return indices, np.where(np.isfinite(rewards), self.rng.random(len(rewards)), rewards)


class Raising(Greedy):
    def learn(self, env, ledger, callback):
        raise KeyError("policy")


class Proud:
    cost, target, failed = None, None, 0.9

    def __call__(self, accuracy, cost, target):
        return accuracy
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of a user, who has the README's agent and some of less quality."""
    shutil.copytree(OWN, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "my_parts.py").write_text(PARTS)
    for group, name in (("agent", "Deaf"), ("agent", "Raising"), ("reward", "Proud")):
        path = tmp_path / "my_conf" / group / f"{name.lower()}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"_target_: my_parts.{name}\n")
    return tmp_path


def test_the_readme_shows_this_agent() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (OWN / "my_agents.py", OWN / "my_conf" / "agent" / "greedy.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# file: {path.relative_to(OWN)}\n")
        assert f"\n{text}```\n" in readme


def test_an_agent_of_ones_own_searches_and_passes(rlnas: Run, own: Path, table_run: Sequence[str]) -> None:
    conf = ["--config-dir", str(own / "my_conf"), "agent=greedy"]
    checked = rlnas("check", *conf)
    assert checked.exit_code == 0, checked.stdout
    assert "agent: my_agents.Greedy" in checked.stdout
    assert "18 rules hold (4 could not be checked)" in checked.stdout
    searched = rlnas("train", *conf, *(one for one in table_run if not one.startswith("agent=")), "tracker=none")
    assert searched.exit_code == 0, searched.stderr
    assert "30 unique architectures evaluated" in searched.stdout


def test_what_is_wrong_is_said_with_what_to_do(rlnas: Run, own: Path) -> None:
    found = rlnas("check", "--config-dir", str(own / "my_conf"), "agent=deaf", "reward=proud")
    assert found.exit_code == 1
    assert found.stderr == ""
    words = " ".join(found.stdout.split())
    assert "WRONG it beats random search on a problem with a known optimum" in words
    assert "what to do: see whether each architecture gets its own reward" in words
    assert "WRONG a failed candidate earns least reward.failed is 0.9, but a working candidate got 0.0" in words
    assert "2 of 27 rules are broken" in words


def test_what_a_part_raises_is_a_finding_and_a_traceback_on_request(
    rlnas: Run, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["check", "--config-dir", str(own / "my_conf"), "agent=raising"]
    found = rlnas(*arguments)
    assert found.exit_code == 1
    assert "it raised KeyError: 'policy'" in found.stdout
    assert "the rule 'it learns without an error' comes first" in found.stdout
    monkeypatch.setenv("RLNAS_DEBUG", "1")
    with pytest.raises(KeyError, match="policy"):
        rlnas(*arguments)


def test_our_own_parts_are_checked_on_the_command_line(rlnas: Run) -> None:
    found = rlnas("check", "experiment=digits201", "proxy=digits201", "device=digits201", "constraint=limits")
    assert found.exit_code == 0, found.stdout
    assert [line.split(":")[0] for line in found.stdout.splitlines() if not line.startswith(" ")][:-1] == [
        "proxy",
        "device",
        "constraint",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env.num_envs=3"], "name what to check, as in agent=mine"),
        (["agent"], "'agent' is no override"),
        (["--config-dir", "nowhere", "agent=mine"], "must be followed by a folder, got 'nowhere'"),
        (["agent=ppo", "agent.learning_rat=1"], "learning_rat"),
        (["device=none", "reward=accuracy"], "device=none is no part that could be checked"),
        (["proxy=table"], "proxy.path must be given"),
    ],
)
def test_bad_input_is_refused_before_any_check(rlnas: Run, arguments: list[str], message: str) -> None:
    found = rlnas("check", *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr


def test_help_names_all_groups(rlnas: Run) -> None:
    shown = rlnas("check", "--help")
    assert shown.exit_code == 0
    assert all(group in shown.stdout for group in CHECKED)


def test_a_request(tmp_path: Path) -> None:
    request = Request.of([f"-cd={tmp_path}", "reward=mine", "space.num_layers=2", "agent=mine", "+dataset.root=x"])
    assert request.groups == ("space", "reward", "agent")
    assert request.config_folder == str(tmp_path)
    with pytest.raises(ConfigError, match="must be followed by a folder"):
        Request.of(["agent=mine", "--config-dir"])
