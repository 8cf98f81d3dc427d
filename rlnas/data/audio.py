"""Recordings from a folder, a table or an .npz file, of any lengths and rates, as spectrograms or waves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.data.columns import Columns
from rlnas.data.hugging_face import from_path
from rlnas.data.preparation import Inputs, prepare
from rlnas.data.ragged import from_ragged
from rlnas.data.sources import File
from rlnas.data.spectrograms import LogMel
from rlnas.data.splitting import SplitOptions
from rlnas.data.storage import DEFAULT_LIMIT_MB
from rlnas.data.task import InputArray, Task
from rlnas.errors import ConfigError, DataError, MissingExtraError

Representation: TypeAlias = Literal["log_mel", "wave"]
Wave: TypeAlias = NDArray[np.float32]

DEFAULT_RATE = 16_000
DEFAULT_LONGEST_SECONDS = 10.0
_PERCENTILE = 95


def audio(
    path: Path,
    name: str | None = None,
    representation: Representation = "log_mel",
    sample_rate: int | None = None,
    seconds: float | None = None,
    mels: int | None = None,
    window_ms: float | None = None,
    hop_ms: float | None = None,
    examples: str | None = None,
    labels: str | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    max_examples: int | None = None,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    memory_limit_mb: float = DEFAULT_LIMIT_MB,
) -> Task:
    """Return recordings of one length and rate, split and standardised.

    Args:
        path: A folder with one folder of recordings (wav, flac, ogg, mp3 ...) for each class, directly or in ``train``,
            ``validation`` and ``test``; or a parquet file with a column of recordings; or an .npz file with waves, see
            `rlnas.data.ragged.from_ragged`.
        name: Of the task; None takes that of the file or folder.
        representation: ``log_mel``, an image (1, mels, frames), see `LogMel`; or ``wave``, a signal (1, samples).
        sample_rate: In Hz; other rates are resampled; None: the most frequent one, at most 16000.
        seconds: Length; longer recordings lose both ends, shorter ones get silence at both; None: the 95th percentile
            of the training recordings, at most 10.
        mels: Of ``log_mel``: number of frequencies; None: 40.
        window_ms: Of ``log_mel``: length of a frame; None: 25.
        hop_ms: Of ``log_mel``: from one frame to the next; None: 10.
        examples: The column of the recordings in a table; None: it is inferred.
        labels: The column of the labels in a table; None: it is inferred.
        validation_fraction: Share of the examples (outside a given test split), in (0, 1); None: 0.2 where no
            validation split is given.
        test_fraction: Share of all examples, in (0, 1); None: 0.2 where no test split is given.
        max_examples: Keep at most so many examples outside given splits, stratified; None keeps all.
        split_seed: Decides which example falls into which split; not the run's seed, so that runs compare.
        skip_unreadable: Leave unreadable recordings out, and say which, instead of refusing the data set.
        memory_limit_mb: Prepared inputs of all splits that are kept in memory, in MiB; more lie in files.

    Raises:
        DataError: Files are missing or unreadable, or there are too few for the splits.
        ConfigError: A value is out of range, or without effect.
        MissingExtraError: `datasets` or `soundfile` is not installed.
    """
    options = SplitOptions(validation_fraction, test_fraction, max_examples, split_seed)
    sound = Sound(representation, sample_rate, seconds, mels, window_ms, hop_ms)
    path = Path(path)
    limits: dict[str, Any] = {"memory_limit_mb": memory_limit_mb, "skip_unreadable": skip_unreadable}
    if path.suffix.lower() == ".npz" and path.is_file():
        Columns(examples, labels).refuse(path)
        source, rate = from_ragged(path, "audio")
        if rate is None and sample_rate is None:
            raise DataError(
                f"{path} does not say its sample_rate; add it to the file, or say it with dataset.sample_rate=HERTZ"
            )
        return prepare(source, AudioEncoder(sound, rate or sample_rate), options, name=name, **limits)
    with from_path(path, "audio", Columns(examples, labels)) as source:
        return prepare(source, AudioEncoder(sound), options, name=name, **limits)


@dataclass(frozen=True, slots=True)
class Sound:
    """What is made of recordings; see `audio` for the meaning of each.

    Raises:
        ConfigError: A value is out of range, or without effect.
    """

    representation: Representation = "log_mel"
    sample_rate: int | None = None
    seconds: float | None = None
    mels: int | None = None
    window_ms: float | None = None
    hop_ms: float | None = None

    def __post_init__(self) -> None:
        if self.representation not in ("log_mel", "wave"):
            raise ConfigError(f"dataset.representation must be log_mel or wave, got {self.representation!r}")
        if self.sample_rate is not None and self.sample_rate < 1:
            raise ConfigError(f"dataset.sample_rate must be at least 1 Hz, got {self.sample_rate}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigError(f"dataset.seconds must be above 0, got {self.seconds}")
        if self.representation == "wave":
            for name in ("mels", "window_ms", "hop_ms"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"dataset.{name} has no effect with representation=wave; leave it out")
        self.spectrograms(self.sample_rate or DEFAULT_RATE)  # refuses what is out of range

    def spectrograms(self, rate: int) -> LogMel | None:
        """Return what makes spectrograms of waves of a rate; None where waves stay waves.

        Raises:
            ConfigError: A value is out of range.
        """
        if self.representation == "wave":
            return None
        given = {"mels": self.mels, "window_ms": self.window_ms, "hop_ms": self.hop_ms}
        return LogMel(rate, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


class AudioEncoder:
    """Makes inputs of one length and rate of all recordings.

    Args:
        sound: What to make.
        rate: Of raw waves, in Hz; files say theirs.
    """

    def __init__(self, sound: Sound, rate: int | None = None) -> None:
        self._sound = sound
        self._rate = rate

    def fit(self, raws: Callable[[], Iterator[tuple[int, Any]]]) -> Inputs | Mapping[int, str]:
        """Look at the lengths and rates of the training recordings; see `rlnas.data.preparation.Encoder`."""
        rates: Counter[int] = Counter()
        durations: list[float] = []
        broken: dict[int, str] = {}
        for row, raw in raws():
            try:
                samples, rate = _length(raw, self._rate)
            except (OSError, ValueError) as error:
                broken[row] = _reason(error)
                continue
            rates[rate] += 1
            durations.append(samples / rate)
        if broken or not durations:
            return broken
        sound = self._sound
        rate = sound.sample_rate or min(max(rates, key=lambda rate: (rates[rate], rate)), DEFAULT_RATE)
        seconds = sound.seconds or min(float(np.percentile(durations, _PERCENTILE)), DEFAULT_LONGEST_SECONDS)
        mel = sound.spectrograms(rate)
        samples = max(round(seconds * rate), 1 if mel is None else mel.window)
        shape = (1, samples) if mel is None else (1, mel.mels, mel.num_frames(samples))
        facts = _facts(durations, rates, rate, samples, mel)
        encode = AudioEncoding(rate, samples, None if mel is None else mel.settings, self._rate)
        return Inputs(shape, np.float32, encode, {"audio": asdict(encode)}, facts=facts)


@dataclass(frozen=True, slots=True)
class AudioEncoding:
    """Decodes recordings to waves (1, samples) or log-mel spectrograms (1, mels, frames)."""

    rate: int
    samples: int
    log_mel: Mapping[str, float] | None
    given_rate: int | None = None

    def __call__(self, raws: Sequence[Any]) -> tuple[InputArray, dict[int, str]]:
        """Return the inputs, and by position why some examples could not be read."""
        waves = np.zeros((len(raws), self.samples), np.float32)
        broken: dict[int, str] = {}
        for position, raw in enumerate(raws):
            try:
                wave, rate = _decoded(raw, self.given_rate)
                waves[position] = fitted(resampled(wave, rate, self.rate), self.samples)
            except (OSError, ValueError) as error:
                broken[position] = _reason(error)
        mel = None if self.log_mel is None else LogMel(self.rate, **self.log_mel)  # type: ignore[arg-type]
        return (waves if mel is None else mel(waves))[:, None], broken


def resampled(wave: Wave, rate: int, wanted: int) -> Wave:
    """Return a wave at another rate, low-passed as it must be."""
    if rate == wanted:
        return wave
    from scipy.signal import resample_poly  # type: ignore[import-untyped]  # here: it takes a while to import

    common = math.gcd(rate, wanted)
    made: Wave = resample_poly(wave, wanted // common, rate // common).astype(np.float32)
    return made


def fitted(wave: Wave, samples: int) -> Wave:
    """Return the middle of a wave, or a wave with silence at both ends, of so many samples."""
    excess = len(wave) - samples
    if excess >= 0:
        return wave[excess // 2 : excess // 2 + samples]
    before = -excess // 2
    return np.pad(wave, (before, -excess - before))


def _length(raw: File | NDArray[Any], rate: int | None) -> tuple[int, int]:
    """Return number of samples and rate.

    Raises:
        ValueError: It is empty, or no recording.
    """
    if isinstance(raw, np.ndarray):
        samples = len(raw)
    else:
        with _sound_file(raw) as file:
            samples, rate = int(file.frames), int(file.samplerate)
    if samples == 0 or not rate:
        raise ValueError("it is empty")
    return samples, rate


def _decoded(raw: File | NDArray[Any], rate: int | None) -> tuple[Wave, int]:
    """Return a mono wave in [-1, 1] and its rate.

    Raises:
        ValueError: It is empty, or no recording.
    """
    if isinstance(raw, np.ndarray):
        wave, known = _scaled(raw), rate or 0
    else:
        with _sound_file(raw) as file:
            wave, known = file.read(dtype="float32", always_2d=True).mean(axis=1), int(file.samplerate)
    if len(wave) == 0:
        raise ValueError("it is empty")
    if not np.isfinite(wave).all():
        raise ValueError("it has NaN or infinite values")
    return wave, known


def _scaled(wave: NDArray[Any]) -> Wave:
    """Return whole numbers as shares of their largest value; others as they are."""
    if wave.dtype.kind == "f":
        return wave.astype(np.float32)
    half = 2.0 ** (8 * wave.dtype.itemsize - 1)
    zero = half if wave.dtype.kind == "u" else 0.0
    scaled: Wave = ((wave.astype(np.float64) - zero) / half).astype(np.float32)
    return scaled


def _sound_file(raw: File) -> Any:
    """Open a recording.

    Raises:
        MissingExtraError: `soundfile` is not installed.
        ValueError: It is no recording that it can read.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the C library that it needs is missing
        raise MissingExtraError("recordings are read with `soundfile`: pip install 'rlnas[data]'") from error
    if (raw.stat().st_size if isinstance(raw, Path) else raw.getbuffer().nbytes) == 0:
        raise ValueError("it is empty")
    try:
        return soundfile.SoundFile(str(raw) if isinstance(raw, Path) else raw)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"it is no recording that can be read: {error.error_string}") from error


def _facts(
    durations: Sequence[float], rates: Mapping[int, int], rate: int, samples: int, mel: LogMel | None
) -> tuple[str, ...]:
    counted = ", ".join(f"{hertz} Hz {count}" for hertz, count in sorted(rates.items()))
    seconds = samples / rate
    cropped = sum(duration > seconds for duration in durations) / len(durations)
    made = "waves" if mel is None else f"log-mel spectrograms of {mel.mels} x {mel.num_frames(samples)}"
    return (
        f"training recordings: {min(durations):.2f} to {max(durations):.2f} s, {counted}",
        f"made {made}: {seconds:.3f} s at {rate} Hz, {cropped:.1%} are longer and cropped",
    )


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
