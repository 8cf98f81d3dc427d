"""The model card: what a network is, how good, how fast, how to use it, and how to make it again."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import torch

import rlnas
from rlnas.data.task import TASK
from rlnas.export.exporting import MODULE, ONNX, WEIGHTS, Exported, Request
from rlnas.export.parity import TOLERANCE
from rlnas.export.preparing import TOKENIZER, class_names, statistics, steps
from rlnas.nets.onnx_export import OPSET

_PIPELINES = {"image": "image-classification", "tokens": "text-classification", "signal": "audio-classification"}
_EXACT = {"num_params": "parameters", "macs": "multiply-adds for one input", "peak_memory_bytes": "bytes at the peak"}
_MOST_CLASSES = 40
_NORMAL = 1.959964  # standard deviations on each side of 95 %


def card(request: Request, exported: Exported) -> str:
    """Return the card as Markdown, with the head that model hubs read."""
    spec = request.task.spec
    parts = [
        _head(request),
        f"# A network for {spec.name}",
        f"Found by rlnas {rlnas.__version__} in the space `{request.space.name}`; it is {request.chosen.reason}.",
        *(f"**{note}**" for note in request.notes),
        "## Use",
        *_use(request, exported),
        "## Inputs",
        "\n".join(f"{number}. {step}" for number, step in enumerate(steps(request.task), start=1)),
        f"`{TASK}` says the same for programs (`rlnas.data.reading.Reader` reads it).",
        "## Outputs",
        _outputs(request),
        "## How good it is",
        *_quality(request, exported),
        "## What it costs",
        *_costs(request, exported),
        "## Architecture",
        f"`{request.space.describe(request.chosen.architecture)}`",
        _table(["choice", "candidate"], list(request.space.to_names(request.chosen.architecture).items())),
        "## Files",
        _files(exported),
        "## Make it again",
        *_again(request),
    ]
    return "\n\n".join(parts) + "\n"


def _head(request: Request) -> str:
    task = request.task
    kind = "signal" if "audio" in task.preparation else task.spec.kind
    lines = ["---", "library_name: pytorch"]
    lines += [f"pipeline_tag: {_PIPELINES[kind]}"] if kind in _PIPELINES else []
    return "\n".join([*lines, "tags: [rlnas, neural-architecture-search]", "---"])


def _use(request: Request, exported: Exported) -> list[str]:
    spec = request.task.spec
    shape = ", ".join(map(str, ("batch", *spec.input_shape)))
    kind = "int64" if spec.vocabulary_size is not None else "float32"
    is_normalised = statistics(request.task) is not None
    found = [f"It takes {kind} of shape ({shape}), any batch, and returns logits of shape (batch, {spec.num_classes})."]
    if MODULE in exported.files:
        lines = ["import network  # from the folder of this file; needs torch and safetensors", ""]
        lines += ["model = network.load()"]
        lines += [f"logits = model({'network.normalise(inputs)' if is_normalised else 'inputs'})"]
        lines += ["names = [network.CLASSES[index] for index in logits.argmax(1)]"]
        found.append(_code(lines))
    if ONNX in exported.files:
        found.append(_code(_in_onnx(request)))
    return found


def _in_onnx(request: Request) -> list[str]:
    """Return the lines that run the ONNX file."""
    lines = ["import json", "", "import numpy as np", "import onnxruntime", "", f'task = json.load(open("{TASK}"))']
    given = "inputs"
    if statistics(request.task) is not None:
        axes = ", ".join(["-1", *["1"] * (len(request.task.spec.input_shape) - 1)])
        lines.append(f'mean, std = (np.reshape(task[key], ({axes})) for key in ("mean", "std"))')
        given = '((inputs - mean) / std).astype("float32")'
    lines += [f'session = onnxruntime.InferenceSession("{ONNX}")']
    lines += [f'[logits] = session.run(None, {{"input": {given}}})']
    return [*lines, 'names = [task["classes"][index] for index in logits.argmax(1)]']


def _outputs(request: Request) -> str:
    names = class_names(request.task)
    listed = ", ".join(f"{index}: {name}" for index, name in enumerate(names[:_MOST_CLASSES]))
    more = f", and {len(names) - _MOST_CLASSES} more in `{TASK}`" if len(names) > _MOST_CLASSES else ""
    if all(name == str(index) for index, name in enumerate(names)):
        listed, more = f"0 to {len(names) - 1}", ""
    return f"A logit for each class, in the order of {listed}{more}. Their softmax are probabilities."


def _quality(request: Request, exported: Exported) -> list[str]:
    fidelity = request.proxy.fidelity
    tested = fidelity.replace("val_", "test_", 1)
    splits = request.task
    rows = [
        _row(fidelity, "", "validation", exported.accuracy, len(splits.validation)),
        _row(tested, "", "test", exported.test_accuracy, len(splits.test)),
    ]
    searched = request.recorded.searched
    known = None if searched is None else searched.stopped_at or request.recorded.fidelity
    if searched is not None and known is not None and known != fidelity:
        before = _row(known, ", as the search saw it", "validation", searched.accuracy, len(splits.validation))
        rows.insert(0, before)
    return [
        f"Trained on {_examples(request)}; the number after the @ counts passes over them.",
        _table(["metric", "split", "accuracy", "95 % interval", "examples"], rows),
        "A search chooses by the validation split, so that its figure is rather too high for what was chosen. The test "
        "split is looked at only here: no choice of the search could see it. The intervals (Wilson's) are those of so "
        "many examples; they do not say by how much another training would differ.",
        sentence_of_record(request, exported),
    ]


def _examples(request: Request) -> str:
    """Return on how many examples the network was trained, for people."""
    share, whole = request.proxy.settings.get("train_fraction", 1.0), f"{len(request.task.train):,} examples"
    return whole if share == 1.0 else f"a stratified share of {share:g} of {whole}"


def sentence_of_record(request: Request, exported: Exported) -> str:
    """Return whether the training gave what the run has recorded, for people."""
    fidelity, recorded = request.proxy.fidelity, request.recorded.accuracy
    if recorded is None:
        return f"The run has no {fidelity} of this training to compare with."
    if np.float32(recorded) == np.float32(exported.accuracy):  # tables keep no more digits
        return f"{fidelity} {exported.accuracy:.4f} is what the run has recorded: it is the very same network."
    return (
        f"The run has recorded {fidelity} {recorded:.4f}, and this training gave {exported.accuracy:.4f}: the "
        "processor, the versions of the libraries or the data are others than they were."
    )


def _costs(request: Request, exported: Exported) -> list[str]:
    rows = [[said, f"{exported.costs[name]:,.0f}", "exact"] for name, said in _EXACT.items() if name in exported.costs]
    searched, again = request.recorded.searched, request.recorded.remeasured
    for where, costs in (
        (request.recorded.device, {} if searched is None else searched.costs),
        *([] if again is None else [(f"{again[0]}, measured again at the end of the run", again[1])]),
    ):
        rows += [[name, text, where] for name, text in _other_costs(costs)]
    return [_table(["cost", "value", "of"], rows)]


def _other_costs(costs: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return what is not exact: latency and energy, with their intervals."""
    found = []
    for name, value in costs.items():
        if name in _EXACT or name.endswith(("_low", "_high")):
            continue
        low, high = costs.get(f"{name}_low"), costs.get(f"{name}_high")
        interval = f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
        found.append((name, f"{value:.4g}{interval}"))
    return found


def _files(exported: Exported) -> str:
    told = {
        ONNX: f"the network as ONNX, opset {OPSET}, dynamic batch; passes the checker of ONNX",
        MODULE: "the network in plain torch",
        WEIGHTS: f"its weights: the `state_dict` of `{MODULE}`, and of the network in rlnas",
        TASK: "how inputs are made, names of classes",
        TOKENIZER: "text to tokens, for the package `tokenizers`",
    }
    rows = []
    for name in exported.files:
        if name in told:
            parity = exported.parities.get(name)
            compared = ""
            if parity is not None:
                compared = (
                    f"the same class on {parity.agreeing:,} of {parity.examples:,} test examples; logits differ by "
                    f"{parity.max_relative:.1e} of the largest at most ({TOLERANCE:g} is allowed)"
                )
            rows.append([f"`{name}`", told[name], compared])
    return _table(["file", "what", "against the trained network"], rows)


def _again(request: Request) -> list[str]:
    settings = [[name, str(value)] for name, value in request.proxy.settings.items()]
    settings += [[f"dataset.{key}", str(value)] for key, value in request.dataset.items() if value is not None]
    settings.append(["digest of the data and their splits", request.task.key])
    software = f"rlnas {rlnas.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return [
        _code(list(request.origin), "bash"),
        f"Written on {datetime.now(UTC).date().isoformat()} with {software}. The training depends on nothing but:",
        _table(["setting", "value"], settings),
    ]


def _row(fidelity: str, more: str, split: str, accuracy: float, examples: int) -> list[str]:
    """Return an accuracy and the number of examples; with Wilson's interval where it is a share of these."""
    interval = ""
    if re.match(r"(val|test)_accuracy@", fidelity):  # not of balanced ones, nor of scores
        low, high = wilson(accuracy, examples)
        interval = f"[{low:.4f}, {high:.4f}]"
    if not re.match(r"(val|test)_accuracy", fidelity):  # a score has seen no examples of the split
        return [f"{fidelity}{more}", "", f"{accuracy:.4f}", "", ""]
    return [f"{fidelity}{more}", split, f"{accuracy:.4f}", interval, f"{examples:,}"]


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` examples.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    spread = _NORMAL**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = _NORMAL / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(lines: Sequence[str], language: str = "python") -> str:
    return "\n".join([f"```{language}", *lines, "```"])
