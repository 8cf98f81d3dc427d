"""Checkpoints: whole or not at all, the last two of them; and a tracker that is told everything again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from rlnas.checkpoints import Checkpoints
from rlnas.errors import OutputError
from rlnas.tracking.counted import CountedTracker
from rlnas.tracking.silent import SilentTracker


def saver(text: str) -> object:
    def save(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights.bin").write_text(text)

    return save


def written(folder: Path, *texts: str) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for text in texts:
        checkpoints.write(saver(text), {"text": text})  # type: ignore[arg-type]
    return checkpoints


def test_the_last_two_are_kept_and_read_newest_first(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, "a", "b", "c")
    found = list(checkpoints.read())
    assert [one.state["text"] for one in found] == ["c", "b"]
    assert (found[0].agent / "deep" / "weights.bin").read_text() == "c"
    assert sorted(path.name for path in (tmp_path / "resume").iterdir()) == ["00000002", "00000003"]


@pytest.mark.parametrize("damage", ["cut", "lost", "more", "no state", "half a state", "foreign"])
def test_a_damaged_one_is_named_and_the_one_before_it_taken(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = written(tmp_path, "aaaa", "bbbb")
    newest = tmp_path / "resume" / "00000002"
    weights, state = newest / "agent" / "deep" / "weights.bin", newest / "state.json"
    {
        "cut": lambda: weights.write_text("bb"),
        "lost": weights.unlink,
        "more": lambda: (newest / "agent" / "other").write_text(""),
        "no state": state.unlink,
        "half a state": lambda: state.write_text(state.read_text()[:30]),
        "foreign": lambda: state.write_text("[]"),
    }[damage]()
    with caplog.at_level(logging.WARNING):
        assert [one.state["text"] for one in checkpoints.read()] == ["aaaa"]
    assert str(newest) in caplog.text
    written(tmp_path, "cccc")  # and the next one does not take its place
    assert (tmp_path / "resume" / "00000003").is_dir()


def test_what_was_cut_off_while_writing_is_not_taken_for_one(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, "a")
    (tmp_path / "resume" / "00000002.part" / "agent").mkdir(parents=True)
    assert [one.state["text"] for one in checkpoints.read()] == ["a"]
    written(tmp_path, "b")
    assert sorted(path.name for path in (tmp_path / "resume").iterdir()) == ["00000001", "00000002"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_full_disk_leaves_those_of_before(tmp_path: Path, error: Exception) -> None:
    checkpoints = written(tmp_path, "a", "b")

    def save(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(OutputError, match="all that was evaluated is kept") as caught:
        checkpoints.write(save, {})
    assert "rlnas resume" in str(caught.value)
    assert [one.state["text"] for one in checkpoints.read()] == ["b", "a"]
    assert not list((tmp_path / "resume").glob("*.part"))


class Log(SilentTracker):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:  # noqa: ARG002
        self.told.append(int(metrics["n"]))


class Resuming(Log):
    def __init__(self, num_recorded: int) -> None:
        super().__init__()
        self.num_recorded = num_recorded


def play(tracker: CountedTracker, first: int = 0) -> None:
    for n in range(first, 10):
        tracker.log({"n": n}, n // 2 + 1)


def test_what_a_tracker_holds_is_not_told_again(tmp_path: Path) -> None:
    log = Resuming(num_recorded=6)
    tracker = CountedTracker(log)
    tracker.start(tmp_path, {})
    tracker.go_on(last_step=4, extra=2)  # two of its rows are tables
    play(tracker)
    assert log.told == [4, 5, 6, 7, 8, 9]
    assert tracker.calls == 10
    assert tracker.taken() == (0, [({"n": n}, n // 2 + 1) for n in range(10)])
    assert tracker.taken() == (10, [])


def test_what_a_crash_has_swallowed_before_a_checkpoint_is_told(tmp_path: Path) -> None:
    log = Resuming(num_recorded=3)
    tracker = CountedTracker(log)
    tracker.start(tmp_path, {})
    assert tracker.missing(5) == 3
    tracker.skip_to(5, [({"n": n}, 2) for n in (3, 4)])
    play(tracker, 5)
    assert log.told == [3, 4, 5, 6, 7, 8, 9]


def test_a_tracker_that_does_not_say_is_told_what_comes_after_the_last_evaluation(tmp_path: Path) -> None:
    log = Log()
    tracker = CountedTracker(log)
    tracker.start(tmp_path, {})
    tracker.go_on(last_step=3, extra=0)
    play(tracker)
    assert log.told == [6, 7, 8, 9]
