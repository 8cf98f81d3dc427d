"""Texts from csv, tsv, parquet or JSON lines, as tokens of a vocabulary learned from the training split alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnas.data.columns import Columns
from rlnas.data.hugging_face import from_path
from rlnas.data.preparation import Inputs, prepare
from rlnas.data.splitting import SplitOptions
from rlnas.data.storage import DEFAULT_LIMIT_MB
from rlnas.data.task import Task
from rlnas.errors import ConfigError, MissingExtraError
from rlnas.space import IntArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_VOCABULARY_SIZE = 4096
DEFAULT_LONGEST = 256
PADDING = "[PAD]"
"""The token 0."""

_NUM_BYTES = 256
_PERCENTILE = 95


def text(
    path: Path,
    name: str | None = None,
    vocabulary_size: int | None = None,
    length: int | None = None,
    lowercase: bool | None = None,
    examples: str | None = None,
    labels: str | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    max_examples: int | None = None,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    memory_limit_mb: float = DEFAULT_LIMIT_MB,
) -> Task:
    """Return texts as sequences of tokens of one length, split.

    Args:
        path: A csv, tsv, parquet or JSON lines file with a column of texts and one of labels; or a folder with such
            files named ``train``, and perhaps ``validation`` and ``test``.
        name: Of the task; None takes that of the file or folder.
        vocabulary_size: At most so many tokens, the padding among them, >= 257; None: 4096.
        length: Of a sequence, in tokens; longer texts lose their end; None: the 95th percentile of the training texts,
            at most 256.
        lowercase: Whether capital letters count as small ones; None: yes.
        examples: The column of the texts; None: it is inferred.
        labels: The column of the labels; None: it is inferred.
        validation_fraction: Share of the examples (outside a given test split), in (0, 1); None: 0.2 where no
            validation split is given.
        test_fraction: Share of all examples, in (0, 1); None: 0.2 where no test split is given.
        max_examples: Keep at most so many examples outside given splits, stratified; None keeps all.
        split_seed: Decides which example falls into which split; not the run's seed, so that runs compare.
        skip_unreadable: Leave empty texts out, and say which, instead of refusing the data set.
        memory_limit_mb: Prepared inputs of all splits that are kept in memory, in MiB; more lie in files.

    Raises:
        DataError: Files are missing or unreadable, or there are too few texts for the splits.
        ConfigError: A value is out of range, or without effect.
        MissingExtraError: `datasets` or `tokenizers` is not installed.
    """
    options = SplitOptions(validation_fraction, test_fraction, max_examples, split_seed)
    encoder = TextEncoder(vocabulary_size, length, lowercase)
    with from_path(Path(path), "text", Columns(examples, labels)) as source:
        return prepare(
            source, encoder, options, name=name, memory_limit_mb=memory_limit_mb, skip_unreadable=skip_unreadable
        )


class TextEncoder:
    """Makes tokens of texts: byte pairs, merged as the training split suggests; see `text` for the arguments.

    Every text can be encoded, for single bytes are tokens too. Unicode is normalised (NFKC).

    Raises:
        ConfigError: A value is out of range.

    References:
        Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", 2016.
        Radford et al., "Language models are unsupervised multitask learners", 2019 (byte-level).
    """

    def __init__(
        self, vocabulary_size: int | None = None, length: int | None = None, lowercase: bool | None = None
    ) -> None:
        if vocabulary_size is not None and vocabulary_size <= _NUM_BYTES:
            raise ConfigError(
                f"dataset.vocabulary_size must be at least {_NUM_BYTES + 1} (all bytes and the padding), got "
                f"{vocabulary_size}"
            )
        if length is not None and length < 1:
            raise ConfigError(f"dataset.length must be at least 1 token, got {length}")
        self._vocabulary_size = DEFAULT_VOCABULARY_SIZE if vocabulary_size is None else vocabulary_size
        self._length = length
        self._lowercase = True if lowercase is None else lowercase

    def fit(self, raws: Callable[[], Iterator[tuple[int, Any]]]) -> Inputs | Mapping[int, str]:
        """Learn the vocabulary and the length from the training texts; see `rlnas.data.preparation.Encoder`."""
        broken = {row: reason for row, raw in raws() if (reason := _problem(raw)) is not None}
        texts = [raw for _, raw in raws()] if not broken else []
        if not texts:
            return broken
        tokenizer = trained_tokenizer(texts, self._vocabulary_size, lowercase=self._lowercase)
        lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(texts)])
        length = self._length or min(int(np.ceil(np.percentile(lengths, _PERCENTILE))), DEFAULT_LONGEST)
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=0, pad_token=PADDING)
        size = tokenizer.get_vocab_size()
        facts = (
            f"training texts: {lengths.min()} to {lengths.max()} tokens, of a vocabulary of {size} learned from them",
            f"made {length} tokens, {(lengths > length).mean():.1%} are longer and cut; 0 is padding",
        )
        recipe = {"text": {"tokenizer": json.loads(tokenizer.to_str()), "length": length}}
        encode = TextEncoding(tokenizer, length)
        return Inputs((length,), np.int64, encode, recipe, vocabulary_size=size, facts=facts)


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """Encodes texts to tokens, shape (n, length)."""

    tokenizer: Tokenizer
    length: int

    def __call__(self, raws: Sequence[Any]) -> tuple[IntArray, dict[int, str]]:
        """Return the inputs, and by position why some examples could not be read."""
        broken = {position: reason for position, raw in enumerate(raws) if (reason := _problem(raw)) is not None}
        texts = ["" if position in broken else raw for position, raw in enumerate(raws)]
        tokens = np.array([encoding.ids for encoding in self.tokenizer.encode_batch(texts)], dtype=np.int64)
        return tokens.reshape(len(texts), self.length), broken


def trained_tokenizer(texts: Sequence[str], vocabulary_size: int, *, lowercase: bool) -> Tokenizer:
    """Return a byte-level tokenizer whose merges are learned from texts; token 0 is the padding.

    Raises:
        MissingExtraError: `tokenizers` is not installed.
    """
    require_tokenizers()
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def require_tokenizers() -> Any:
    """Return the module `tokenizers`.

    Raises:
        MissingExtraError: It is not installed.
    """
    # It runs in threads of its own, and would warn at every process that is started later; none of ours uses it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtraError("texts are read with `tokenizers`: pip install 'rlnas[data]'") from error
    return tokenizers


def _problem(raw: Any) -> str | None:
    if not isinstance(raw, str):
        return "there is no text" if raw is None else f"it is no text but {type(raw).__name__}"
    return None if raw.strip() else "it is empty"
