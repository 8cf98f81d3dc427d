"""How raw examples become what a network takes: in words, and as JSON that `rlnas.data.reading.Reader` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlnas.data.spectrograms import LogMel
from rlnas.data.task import Task
from rlnas.space import Json

TOKENIZER = "tokenizer.json"
_SHOWN = 8


def task_as_json(task: Task) -> dict[str, Json]:
    """Return a task as the file ``task.json`` of an export: what goes in, what comes out, how inputs are made."""
    spec, normalised = task.spec, statistics(task)
    return {
        "name": spec.name,
        "kind": spec.kind,
        **spec.settings,
        "dtype": "int64" if spec.vocabulary_size is not None else "float32",
        "normalised_inside": False,
        **task.preparation,
        "classes": list(class_names(task)),
        **({} if normalised is None else dict(zip(("mean", "std"), normalised, strict=True))),
    }


def class_names(task: Task) -> tuple[str, ...]:
    """Return the names of the classes in the order of the logits; numbers where nobody has named them."""
    return task.classes or tuple(map(str, range(task.spec.num_classes)))


def statistics(task: Task) -> tuple[list[float], list[float]] | None:
    """Return mean and standard deviation of each channel, by which inputs are normalised; None where they are not."""
    made = task.preparation
    if "mean" not in made or "std" not in made:
        return None
    return list(made["mean"]), [value if value > 0 else 1.0 for value in made["std"]]  # constant channels stay


def tokenizer_of(task: Task) -> str | None:
    """Return the tokenizer as its own file has it, see the package `tokenizers`; None where there is none."""
    text = task.preparation.get("text")
    return None if text is None else json.dumps(text["tokenizer"], ensure_ascii=False, indent=1) + "\n"


def steps(task: Task) -> list[str]:
    """Return what must be done to a raw example, in order, for people."""
    made = task.preparation
    words = {"images": _of_image, "audio": _of_recording, "text": _of_text, "arrays": _of_array}
    found = [line for kind, say in words.items() if kind in made for line in say(made[kind])]
    if not found:
        found = ["Make it as the loader of the data set does, which does not say how."]
    normalised = statistics(task)
    if normalised is not None:
        mean, std = map(_listed, normalised)
        found.append(
            f"Normalise each channel: less its mean ({mean}), divided by its standard deviation ({std}), both of the "
            "training split. This is **not** inside the network."
        )
    return found


def _of_image(settings: Mapping[str, Any]) -> list[str]:
    height, width = settings["height"], settings["width"]
    colours = "RGB" if settings["channels"] == 3 else "grey"
    return [
        f"Decode the image, turn it as its Exif orientation says, lay what is transparent on white, make it {colours}.",
        f"Scale it (bicubic) so that it covers {height} x {width} pixels, and cut out the middle.",
        f"Divide by 255; order the axes as ({settings['channels']}, {height}, {width}).",
    ]


def _of_recording(settings: Mapping[str, Any]) -> list[str]:
    rate, samples = settings["rate"], settings["samples"]
    found = [
        f"Decode the recording to numbers in [-1, 1], take the mean of its channels, resample it to {rate} Hz.",
        f"Take the {samples} samples in its middle; add silence at both ends of a shorter one.",
    ]
    if settings["log_mel"] is None:
        return [*found, f"The input is the wave, (1, {samples})."]
    mel = LogMel(rate, **settings["log_mel"])
    return [
        *found,
        f"Cut it into frames of {mel.window} samples, one every {mel.hop}, without padding; multiply each by a "
        "periodic Hann window whose squares sum to 1, and take the squared magnitudes of its Fourier transform of "
        f"{mel.fft_size} points.",
        f"Sum them by {mel.mels} triangular filters of height 1, equally spaced from 0 to {rate / 2:g} Hz on the scale "
        "2595 log10(1 + f / 700); take the natural logarithm of what is at least 1e-7. The input is "
        f"(1, {mel.mels}, {mel.num_frames(samples)}).",
    ]


def _of_text(settings: Mapping[str, Any]) -> list[str]:
    return [
        f"Encode the text with `{TOKENIZER}` (of the package `tokenizers`), which also cuts and pads it to "
        f"{settings['length']} tokens; 0 is padding.",
        "The input is int64.",
    ]


def _of_array(settings: Mapping[str, Any]) -> list[str]:
    divided = f"Divide the numbers of an image by {settings['divided_by']:g}; o" if settings["divided_by"] != 1 else "O"
    return [f"{divided}rder its axes as (channels, height, width)."]


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.6g}" for value in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown}, ... ({len(values)} in all)"
