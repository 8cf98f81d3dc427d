"""Recordings: spectrograms against an independent computation, rates, lengths, and what is refused by name."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_parts import audio_folder, hub_folder, ragged, tone, tone_file
from hypothesis import given
from hypothesis import strategies as st

from rlnas.data.audio import audio, fitted, resampled
from rlnas.data.spectrograms import LogMel, mel_filters
from rlnas.errors import ConfigError, DataError


def test_log_mel_is_what_torch_and_the_definition_of_the_filters_give() -> None:
    rate = 8000
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(3, 2000)).astype(np.float32)
    log_mel = LogMel(rate, mels=12, window_ms=32.0, hop_ms=10.0)
    window = torch.hann_window(256, periodic=True, dtype=torch.float64)
    spectra = torch.stft(
        torch.from_numpy(waves).double(), 256, 80, window=window, center=False, return_complex=True
    ).abs()
    power = spectra.numpy() ** 2 / float((window**2).sum())
    edges = [700 * (10 ** (mel / 2595) - 1) for mel in np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 14)]
    expected = np.zeros((3, 12, power.shape[2]))
    for band in range(12):
        low, peak, high = edges[band : band + 3]
        for index in range(129):
            hertz = index * rate / 256
            height = (hertz - low) / (peak - low) if hertz <= peak else (high - hertz) / (high - peak)
            expected[:, band] += max(height, 0.0) * power[:, index]
    got = log_mel(waves)
    assert got.shape == (3, 12, log_mel.num_frames(2000))
    np.testing.assert_allclose(got, np.log(expected), atol=1e-4)


def test_a_tone_is_loudest_where_its_frequency_is() -> None:
    log_mel = LogMel(16000)
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)[1:-1] / 2595) - 1)
    for hertz in (300.0, 1000.0, 5000.0):
        loudest = log_mel(tone(hertz, 0.3, 16000)[None])[0].mean(axis=1).argmax()
        assert loudest == np.abs(centres - hertz).argmin()


def test_silence_has_a_logarithm_and_no_filter_is_empty() -> None:
    assert np.isfinite(LogMel(8000)(np.zeros((1, 400), np.float32))).all()
    for rate in (4000, 8000, 16000, 44100):
        assert LogMel(rate, mels=64)(np.ones((1, rate), np.float32)).shape[1] == 64
    assert (mel_filters(40, 257, 16000).max(axis=1) > 0).all()
    with pytest.raises(ConfigError, match="more than windows"):
        LogMel(8000, mels=4000)


def test_resampling_keeps_the_tone_and_leaves_out_what_the_rate_cannot_hold() -> None:
    kept = resampled(tone(440.0, 1.0, 16000), 16000, 8000)
    np.testing.assert_allclose(kept[500:-500], tone(440.0, 1.0, 8000)[500:-500], atol=0.01)
    lost = resampled(tone(7000.0, 1.0, 16000), 16000, 8000)
    assert np.abs(lost[500:-500]).max() < 0.01
    up = resampled(tone(440.0, 1.0, 11025), 11025, 16000)
    assert len(up) == 16000
    np.testing.assert_allclose(up[500:-500], tone(440.0, 1.0, 16000)[500:-500], atol=0.01)


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_wave_is_fitted_around_its_middle(length: int, wanted: int) -> None:
    wave = np.arange(1, length + 1, dtype=np.float32)
    made = fitted(wave, wanted)
    assert len(made) == wanted
    kept = made[made > 0]
    assert len(kept) == min(length, wanted)
    np.testing.assert_array_equal(np.diff(kept), 1)
    before, after = np.flatnonzero(made > 0)[[0, -1]]
    assert abs(before - (wanted - 1 - after)) <= 1, "silence on both sides"
    assert abs((kept[0] - 1) - (length - kept[-1])) <= 1, "both ends are lost"


def test_a_folder_of_recordings_of_several_rates_lengths_and_formats(tmp_path: Path) -> None:
    task = audio(audio_folder(tmp_path / "tones"))
    assert task.classes == ("high", "low")
    assert task.spec.kind == "image"
    assert task.spec.input_shape[:2] == (1, 40)
    assert "8000 Hz" in " ".join(task.facts)
    assert [len(task.train), len(task.validation), len(task.test)] == [10, 3, 3]
    for split in (task.train, task.validation, task.test):
        pitch = split.inputs[:, 0].mean(axis=2).argmax(axis=1)
        assert (pitch[split.targets == 0] > pitch[split.targets == 1].max()).all(), "high is above low at every rate"


def test_raw_waves_are_signals_of_the_length_that_is_asked_for(tmp_path: Path) -> None:
    folder = audio_folder(tmp_path / "tones")
    task = audio(folder, representation="wave", sample_rate=4000, seconds=0.25)
    assert task.spec.kind == "signal"
    assert task.spec.input_shape == (1, 1000)
    with pytest.raises(ConfigError, match="mels has no effect"):
        audio(folder, representation="wave", mels=10)


def test_stereo_is_the_mean_of_both_sides(tmp_path: Path) -> None:
    import soundfile

    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            left = tone(200.0 * (number + 1), 0.1, 8000)
            sides = np.stack([left, np.zeros_like(left)], axis=1) if name == "a" else 0.5 * left
            soundfile.write(tmp_path / name / f"{number}.wav", sides, 8000, subtype="FLOAT")
    task = audio(tmp_path, representation="wave")
    waves = np.concatenate([split.inputs[:, 0] for split in (task.train, task.validation, task.test)])
    assert len(np.unique(waves.round(4), axis=0)) == 3, "each mono wave is that of a stereo one"


def test_unreadable_recordings_are_refused_by_name_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = audio_folder(tmp_path / "tones")
    key = audio(folder).key
    (folder / "low" / "empty.wav").write_bytes(b"")
    (folder / "low" / "noise.flac").write_bytes(b"this is no music")
    with pytest.raises(DataError, match="2 of 18 examples cannot be read") as caught:
        audio(folder)
    assert "empty.wav (it is empty)" in str(caught.value)
    assert "noise.flac (it is no recording" in str(caught.value)
    with caplog.at_level(logging.WARNING, logger="rlnas.data.preparation"):
        assert audio(folder, skip_unreadable=True).key == key
    assert "empty.wav" in caplog.text


def test_an_npz_file_of_waves(tmp_path: Path) -> None:
    task = audio(tone_file(tmp_path / "tones.npz"))
    assert task.spec.name == "tones"
    assert task.spec.num_classes == 2
    with pytest.raises(DataError, match="does not say its sample_rate"):
        audio(tone_file(tmp_path / "unknown.npz", rate=None))
    told = audio(tmp_path / "unknown.npz", sample_rate=8000, name="tones")
    assert told.key == task.key
    with pytest.raises(ConfigError, match="has no columns"):
        audio(tmp_path / "tones.npz", examples="wave")


def test_whole_numbers_and_fractions_give_the_same_waves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = [rng.integers(-30000, 30000, 500).astype(np.int16) for _ in range(12)]
    labels = np.arange(12) % 2
    keys = set()
    for number, waves in enumerate(
        (whole, [w.astype(np.float64) / 2**15 for w in whole], [w.astype(np.int32) * 2**16 for w in whole])
    ):
        path = ragged(tmp_path / f"{number}.npz", "wave", waves, labels, sample_rate=8000)
        keys.add(audio(path, name="same", representation="wave").key)
    assert len(keys) == 1


def test_an_empty_or_broken_wave_is_refused(tmp_path: Path) -> None:
    waves = [np.ones(50, np.float32)] * 10
    path = ragged(tmp_path / "a.npz", "wave", [*waves, np.zeros(0, np.float32)], np.arange(11) % 2, sample_rate=100)
    with pytest.raises(DataError, match=r"wave number 10 \(it is empty\)"):
        audio(path)
    broken = [*waves, np.full(50, np.nan, np.float32)]
    path = ragged(tmp_path / "b.npz", "wave", broken, np.arange(11) % 2, sample_rate=100)
    with pytest.raises(DataError, match=r"wave number 10 \(it has NaN"):
        audio(path, representation="wave")


BAD_OPTIONS: list[dict[str, Any]] = [
    {"representation": "mfcc"},
    {"sample_rate": 0},
    {"seconds": 0.0},
    {"mels": 0},
    {"window_ms": -1.0},
    {"hop_ms": 0.0},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_values_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        audio(tone_file(tmp_path / "tones.npz"), **options)


def test_a_parquet_file_of_recordings_needs_no_other_decoder(tmp_path: Path) -> None:
    import datasets
    import soundfile

    recordings = []
    for number in range(12):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone((300.0, 1500.0)[number % 2], 0.1 + 0.001 * number, 8000), 8000, format="wav")
        recordings.append({"bytes": buffer.getvalue(), "path": None})
    storage = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"audio": storage, "label": datasets.ClassLabel(names=["low", "high"])})
    folder = hub_folder(tmp_path / "repo", {"audio": recordings, "label": [n % 2 for n in range(12)]}, features)
    task = audio(next(folder.rglob("*.parquet")))
    assert task.classes == ("low", "high")
    assert task.spec.input_shape[:2] == (1, 40)


def test_fsdd(data_folder: Path) -> None:
    task = audio(data_folder / "fsdd.npz", max_examples=300)
    assert task.spec.num_classes == 10
    assert task.spec.kind == "image"
    assert [len(task.train), len(task.validation), len(task.test)] == [180, 60, 60]
    assert audio(data_folder / "fsdd.npz", max_examples=60, representation="wave").spec.kind == "signal"
