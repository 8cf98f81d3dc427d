"""A trained network becomes files: ONNX, a Python module, weights, how inputs are made, and a card about all that."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import nn

import rlnas
from rlnas.data.task import TASK, Split, Task
from rlnas.devices.complexity import count
from rlnas.errors import ExportError, OutputError
from rlnas.export import parity
from rlnas.export.choosing import Chosen
from rlnas.export.module import module_source
from rlnas.export.parity import Parity
from rlnas.export.preparing import TOKENIZER, class_names, statistics, task_as_json, tokenizer_of
from rlnas.interfaces import Evaluation, Failure
from rlnas.nets.onnx_export import export_onnx, require_onnx
from rlnas.proxies.training import Trained
from rlnas.results import write_atomically
from rlnas.space import Architecture, Json, SearchSpace

FORMATS = ("onnx", "torch")
"""What a network can be written as; ``torch``: a Python module and the weights."""

ONNX, MODULE, WEIGHTS, CARD = "network.onnx", "network.py", "network.safetensors", "README.md"
_TRAINING = 0.95  # of all the work, for the progress
FILES = (ONNX, MODULE, WEIGHTS, TASK, TOKENIZER, CARD)


class Trains(Protocol):
    """A proxy that hands out what it has trained, as `rlnas.proxies.training.TrainingProxy` does."""

    @property
    def fidelity(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Json]: ...  # noqa: D102

    def train(
        self, architecture: Architecture, *others: Split, watch: Callable[[int, int], None] | None = None
    ) -> Trained | Failure:
        """Train one architecture once, and look at further splits; `watch` learns of (epochs done, all epochs)."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the run knows of the architecture.

    Attributes:
        accuracy: By the very training that is done again, so that both must agree; None where there was none.
        searched: What the search was told of it; None where it never met it.
        fidelity: Name of the accuracy of `searched`.
        device: That gave its costs, for people.
        remeasured: Another device and what it measured at the end of the run.
    """

    accuracy: float | None
    searched: Evaluation | None
    fidelity: str
    device: str
    remeasured: tuple[str, Mapping[str, float]] | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """All that an export is made from.

    Attributes:
        chosen: The architecture.
        space: Where it lives.
        task: With the examples.
        proxy: Trains it.
        recorded: What the run knows of it.
        out: Where the files come.
        formats: Some of `FORMATS`.
        dataset: The node of the configuration that the task came from.
        origin: How the run and this export are repeated: lines for people.
        notes: What differs from what was asked for, or from the search: for people.
    """

    chosen: Chosen
    space: SearchSpace
    task: Task
    proxy: Trains
    recorded: Recorded
    out: Path
    formats: Sequence[str] = FORMATS
    dataset: Mapping[str, Json] = field(default_factory=dict)
    origin: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, eq=False)
class Exported:
    """What an export has come to.

    Attributes:
        accuracy: On the validation split, after the training.
        test_accuracy: On the test split.
        costs: Exact: ``num_params``, ``macs``, ``peak_memory_bytes``.
        parities: By file, how what was written compares with what was trained on the whole test split.
        files: What was written, in `Request.out`.
    """

    accuracy: float
    test_accuracy: float
    costs: Mapping[str, float]
    parities: Mapping[str, Parity]
    files: Sequence[str] = ()


def check_formats(formats: Sequence[str]) -> None:
    """Check, before any training, that all formats can be written and looked at.

    Raises:
        ExportError: One is unknown, or there is none.
        MissingExtraError: A package is not installed.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ExportError(f"formats={','.join(formats)}: give some of {', '.join(FORMATS)}")
    if "onnx" in formats:
        require_onnx()
        parity.require_onnxruntime()


def export(request: Request, card: Callable[[Request, Exported], str], show: Callable[[str, float], None]) -> Exported:
    """Train, write, load again and compare; only then the files take their place.

    Args:
        request: What to export.
        card: Writes the model card.
        show: Is told what is done and how much of all, in [0, 1].

    Raises:
        ExportError: The training fails, or a file does not compute what was trained.
        OutputError: A file cannot be written.
    """
    check_formats(request.formats)
    show(f"training to {request.proxy.fidelity}", 0.0)
    trained = request.proxy.train(request.chosen.architecture, request.task.test, watch=_shown(show))
    if isinstance(trained, Failure):
        raise ExportError(
            f"the network did not train ({trained.reason}: {trained.message}); choose another architecture=..., or "
            "other settings, as in proxy.learning_rate=0.003"
        )
    network = _plain(trained.network)
    part = request.out.with_name(f".{request.out.name}.part{os.getpid()}")
    try:
        part.mkdir(parents=True, exist_ok=True)
        show("writing", _TRAINING)
        described = request.space.describe(request.chosen.architecture)
        title = _title(request)
        write_network(network, request.task, part, formats=request.formats, title=title, description=described)
        show(f"comparing on {len(request.task.test)} test examples", _TRAINING)
        parities = compare_all(network, request.task, part, request.formats)
        files = [name for name in FILES if name == CARD or (part / name).is_file()]
        costs = count(network, request.task.spec)
        exported = Exported(trained.estimate.accuracy, trained.others[0], costs, parities, files)
        write_atomically(part / CARD, card(request, exported))
        _put_in_place(part, request.out)
    except OSError as error:
        raise OutputError(
            f"cannot write {request.out} ({error.strerror or error}); make room or choose another out=FOLDER"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return exported


def write_network(
    network: nn.Module, task: Task, folder: Path, *, formats: Sequence[str], title: str, description: str = ""
) -> None:
    """Write a network and how its inputs are made into an existing folder.

    Args:
        network: Trained, on the CPU.
        task: That it was built for.
        folder: Exists.
        formats: Some of `FORMATS`.
        title: Of the network, for people.
        description: Of its architecture, for people.

    Raises:
        ExportError: A layer cannot be written in a format.
        MissingExtraError: A package is not installed.
    """
    described = task_as_json(task)
    write_atomically(folder / TASK, json.dumps(described, indent=1) + "\n")
    tokenizer = tokenizer_of(task)
    if tokenizer is not None:
        write_atomically(folder / TOKENIZER, tokenizer)
    if "torch" in formats:
        write_atomically(folder / MODULE, module_source(network, task, title, WEIGHTS, description))
        state = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt", "rlnas": rlnas.__version__, "title": title})
    if "onnx" in formats:
        (folder / ONNX).write_bytes(_onnx(network, task, title))


def compare_all(network: nn.Module, task: Task, folder: Path, formats: Sequence[str]) -> dict[str, Parity]:
    """Load each network of a folder and compare it on the whole test split with the one it was written from.

    Raises:
        ExportError: One of them computes something else.
    """
    reference = parity.of_torch(network)
    loaders = {"torch": (MODULE, parity.of_module), "onnx": (ONNX, parity.of_onnx)}
    found: dict[str, Parity] = {}
    for name, load in (loaders[each] for each in FORMATS if each in formats):
        found[name] = parity.compare(reference, load(folder / name), task.test.inputs)
        if not found[name].holds:
            raise ExportError(
                f"{name} computes something else than the trained network: logits differ by up to "
                f"{found[name].max_relative:.2g} of the largest, {parity.TOLERANCE:g} is allowed; nothing was written"
            )
    return found


def _onnx(network: nn.Module, task: Task, title: str) -> bytes:
    """Return the ONNX file, checked, with what belongs to it as metadata."""
    import onnx

    model = onnx.load_from_string(export_onnx(network, [task.spec.input_shape], dynamic_batch=True))
    model.doc_string = title
    model.producer_version = rlnas.__version__
    told = {"task": task.spec.name, "classes": json.dumps(list(class_names(task))), "normalised_inside": "false"}
    normalised = statistics(task)
    if normalised is not None:
        told |= {"mean": json.dumps(normalised[0]), "std": json.dumps(normalised[1])}
    onnx.helper.set_model_props(model, told)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the checker of ONNX refuses the network: {error}") from error
    written: bytes = model.SerializeToString()
    return written


def _plain(network: nn.Module) -> nn.Module:
    """Return a network on the CPU, its tensors in the usual order of memory, in evaluation mode."""
    network = network.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval()


def _shown(show: Callable[[str, float], None]) -> Callable[[int, int], None]:
    """Return what tells of each epoch that is done."""
    return lambda epoch, epochs: show(f"training: {epoch} of {epochs} epochs", _TRAINING * epoch / epochs)


def _title(request: Request) -> str:
    spec = request.task.spec
    return f"A network of the space {request.space.name} for the task {spec.name}: {spec.num_classes} classes."


def _put_in_place(part: Path, out: Path) -> None:
    """Move what was written to where it belongs; what an earlier export has left of other formats goes."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (part / name).is_file():
            os.replace(part / name, out / name)  # noqa: PTH105 Path.replace would hide that this is the atomic call
        else:
            (out / name).unlink(missing_ok=True)
