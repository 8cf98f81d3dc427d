"""Small data sets of every form, made in a folder: images, recordings, texts that can be told apart."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODES = ("RGB", "L", "RGBA", "P", "1", "LA", "CMYK")
CLASSES = ("cat", "dog", "hen")
WORDS = {"good": "bright warm charming moving", "bad": "dull cold tedious empty"}


def picture(rng: np.random.Generator, shade: int, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Image.Image:
    """A noisy image of (height, width) whose top is as bright as `shade` says."""
    pixels = rng.integers(0, 80, (*size, 3), dtype=np.uint8)
    pixels[: size[0] // 2] += np.uint8(80 * shade)
    return Image.fromarray(pixels).convert(mode)


def image_folder(
    folder: Path, per_class: int = 10, *, mixed: bool = True, classes: Sequence[str] = CLASSES, seed: int = 0
) -> Path:
    """A folder of images for each class; mixed: of all sizes and modes, png, jpeg and gif."""
    rng = np.random.default_rng(seed)
    for shade, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            mode = MODES[number % len(MODES)] if mixed else "RGB"
            size = (int(rng.integers(12, 40)), int(rng.integers(12, 40))) if mixed else (16, 16)
            suffix = {"CMYK": "jpg", "P": "gif"}.get(mode, "png")
            picture(rng, shade, size, mode).save(folder / name / f"train_{number}.{suffix}")
    return folder


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def tone(hertz: float, seconds: float, rate: int, amplitude: float = 0.5) -> NDArray[np.float32]:
    """A sine wave."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def audio_folder(folder: Path, per_class: int = 8, *, rates: Sequence[int] = (8000, 8000, 16000)) -> Path:
    """Low and high tones of several rates, lengths and formats, mono and stereo."""
    import soundfile

    rng = np.random.default_rng(0)
    for name, hertz in (("high", 1500.0), ("low", 300.0)):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            rate = rates[number % len(rates)]
            wave = tone(hertz, 0.2 + 0.02 * number, rate)
            wave += rng.normal(0, 0.01, wave.shape).astype(np.float32)
            shaped = np.stack([wave, 0.5 * wave], axis=1) if number % 3 == 1 else wave
            soundfile.write(folder / name / f"{number}.{('wav', 'flac', 'ogg')[number % 3]}", shaped, rate)
    return folder


def sentences(count: int = 40, seed: int = 0) -> list[tuple[str, str]]:
    """Different texts with their labels."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = ("bad", "good")[number % 2]
        words = rng.choice(WORDS[label].split(), size=int(rng.integers(3, 9)))
        made.append((f"film {number} is {' '.join(words)}", label))
    return made


def csv_file(
    path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = ("text", "label"), sep: str = ","
) -> Path:
    """A table as text."""
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=sep)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def hub_folder(folder: Path, columns: Mapping[str, Any], features: Any = None, **more: Mapping[str, Any]) -> Path:
    """A folder with parquet files as repositories of data sets have them: train, and parts by name."""
    import datasets

    datasets.disable_progress_bars()
    (folder / "data").mkdir(parents=True)
    for part, content in {"train": columns, **more}.items():
        table = datasets.Dataset.from_dict(dict(content), features=features)
        table.to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    return folder


def ragged(path: Path, key: str, examples: Sequence[Any], labels: Any, **more: Any) -> Path:
    """An .npz file of examples of uneven length."""
    offset = np.cumsum([0, *map(len, examples)])
    np.savez(path, **{key: np.concatenate(examples), "offset": offset, "label": np.asarray(labels)}, **more)
    return path


def tone_file(path: Path, count: int = 30, rate: int | None = 8000) -> Path:
    """Waves of two pitches in an .npz file."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    waves = []
    for number, label in enumerate(labels):
        wave = tone((300.0, 1500.0)[label], 0.1 + 0.002 * number, 8000) + rng.normal(0, 0.01, round(800 + 16 * number))
        waves.append((wave * 20000).astype(np.int16))
    return ragged(path, "wave", waves, labels, **({} if rate is None else {"sample_rate": rate}))


def npz_file(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(path, x=rng.integers(0, 256, (60, 9, 7), dtype=np.uint8), y=np.arange(60) % 3)
    return path


def hub_of_texts(folder: Path) -> Path:
    texts = sentences()
    return hub_folder(folder / "reviews", {"text": [text for text, _ in texts], "label": [label for _, label in texts]})


REQUIRED: Mapping[str, Callable[[Path], dict[str, str]]] = {
    "digits": lambda _: {},
    "npz": lambda folder: {"path": str(npz_file(folder))},
    "images": lambda folder: {"path": str(image_folder(folder / "pets"))},
    "audio": lambda folder: {"path": str(audio_folder(folder / "tones"))},
    "text": lambda folder: {"path": str(csv_file(folder / "reviews.csv", sentences()))},
    "hub": lambda folder: {"name": str(hub_of_texts(folder))},
}
"""What each option of the group ``dataset`` must be given, made in a folder."""
