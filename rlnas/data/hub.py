"""Images, recordings or texts from the Hugging Face hub, or from a local folder with the layout of a data set there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlnas.data.audio import AudioEncoder, Representation, Sound
from rlnas.data.columns import Columns, ExampleKind
from rlnas.data.hugging_face import from_hub
from rlnas.data.images import ImageEncoder
from rlnas.data.preparation import Encoder, prepare
from rlnas.data.splitting import SplitOptions
from rlnas.data.storage import DEFAULT_LIMIT_MB
from rlnas.data.task import Task
from rlnas.data.text import TextEncoder
from rlnas.errors import ConfigError


def hub(
    name: str,
    subset: str | None = None,
    revision: str | None = None,
    kind: ExampleKind | None = None,
    examples: str | None = None,
    labels: str | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    crop_padding: int | None = None,
    flip: bool | None = None,
    representation: Representation | None = None,
    sample_rate: int | None = None,
    seconds: float | None = None,
    mels: int | None = None,
    window_ms: float | None = None,
    hop_ms: float | None = None,
    vocabulary_size: int | None = None,
    length: int | None = None,
    lowercase: bool | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    max_examples: int | None = None,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    memory_limit_mb: float = DEFAULT_LIMIT_MB,
) -> Task:
    """Return a data set of the hub, whatever its kind; given splits are kept.

    Args:
        name: As on the hub, such as ``owner/name``; or a local folder with parquet, csv or JSON lines files.
        subset: One of its configurations, where it has several.
        revision: Branch, tag or commit of its repository; None: the newest. Name a commit for results that last.
        kind: ``image``, ``audio`` or ``text``; None: by the types of its columns.
        examples: The column of the examples; None: it is inferred.
        labels: The column of the labels; None: it is inferred.
        size: Of images, see `rlnas.data.images.images`; so are `channels`, `crop_padding` and `flip`.
        channels: Of images.
        crop_padding: Of images.
        flip: Of images.
        representation: Of recordings, see `rlnas.data.audio.audio`; so are the next five.
        sample_rate: Of recordings.
        seconds: Of recordings.
        mels: Of recordings.
        window_ms: Of recordings.
        hop_ms: Of recordings.
        vocabulary_size: Of texts, see `rlnas.data.text.text`; so are `length` and `lowercase`.
        length: Of texts.
        lowercase: Of texts.
        validation_fraction: Share of the examples (outside a given test split), in (0, 1); None: 0.2 where no
            validation split is given.
        test_fraction: Share of all examples, in (0, 1); None: 0.2 where no test split is given.
        max_examples: Keep at most so many examples outside given splits, stratified; None keeps all.
        split_seed: Decides which example falls into which split; not the run's seed, so that runs compare.
        skip_unreadable: Leave unreadable examples out, and say which, instead of refusing the data set.
        memory_limit_mb: Prepared inputs of all splits that are kept in memory, in MiB; more lie in files.

    Raises:
        DataError: It cannot be reached or read, or there are too few examples for the splits.
        ConfigError: A value is out of range, or without effect on this kind.
        MissingExtraError: A library that it needs is not installed.
    """
    asked: dict[ExampleKind, dict[str, Any]] = {
        "image": {"size": size, "channels": channels, "crop_padding": crop_padding, "flip": flip},
        "audio": {
            "representation": representation,
            "sample_rate": sample_rate,
            "seconds": seconds,
            "mels": mels,
            "window_ms": window_ms,
            "hop_ms": hop_ms,
        },
        "text": {"vocabulary_size": vocabulary_size, "length": length, "lowercase": lowercase},
    }
    options = SplitOptions(validation_fraction, test_fraction, max_examples, split_seed)
    source, found = from_hub(name, subset=subset, revision=revision, kind=kind, columns=Columns(examples, labels))
    encoder = _encoder(found, asked, name)
    return prepare(source, encoder, options, memory_limit_mb=memory_limit_mb, skip_unreadable=skip_unreadable)


def _encoder(kind: ExampleKind, asked: Mapping[ExampleKind, Mapping[str, Any]], name: str) -> Encoder:
    """Return what encodes examples of a kind.

    Raises:
        ConfigError: A key of another kind is given.
    """
    for other, keys in asked.items():
        without = [key for key, value in keys.items() if value is not None]
        if other != kind and without:
            raise ConfigError(
                f"dataset.{without[0]} has no effect: the examples of {name!r} are of the kind {kind}; leave it out, "
                f"or choose dataset.kind={other}"
            )
    given = {key: value for key, value in asked[kind].items() if value is not None}
    if kind == "image":
        return ImageEncoder(**given)
    return AudioEncoder(Sound(**given)) if kind == "audio" else TextEncoder(**given)
