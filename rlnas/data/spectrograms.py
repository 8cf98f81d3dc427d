"""Log-mel spectrograms: what the ear makes of a wave, as an image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError
from rlnas.space import FloatArray

_FLOOR = 1e-7
"""Of the power, so that silence has a logarithm: 70 dB below white noise of amplitude 1."""

_MAX_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class LogMel:
    """Makes log-mel spectrograms of waves of one rate.

    Frames are Hann windows without padding. The power of each, divided by that of the window, is summed by triangular
    filters equally spaced on the mel scale from 0 to half the rate, and its natural logarithm is taken.

    Args:
        sample_rate: Of the waves, in Hz.
        mels: Number of filters, >= 1.
        window_ms: Length of a frame.
        hop_ms: From one frame to the next.

    Raises:
        ConfigError: A value is out of range, or there are more filters than the window can tell apart.

    References:
        Stevens, Volkmann and Newman, "A scale for the measurement of the psychological magnitude pitch", 1937; the
        formula 2595 log10(1 + f / 700) is that of O'Shaughnessy, "Speech Communication", 1987.
    """

    sample_rate: int
    mels: int = 40
    window_ms: float = 25.0
    hop_ms: float = 10.0
    window: int = field(init=False)
    hop: int = field(init=False)
    _taper: FloatArray = field(init=False, repr=False, compare=False)
    _filters: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("mels", "window_ms", "hop_ms"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"dataset.{name} must be above 0, got {getattr(self, name)}")
        window, hop = (max(round(self.sample_rate * ms / 1000), 1) for ms in (self.window_ms, self.hop_ms))
        taper = np.hanning(window + 1)[:-1]  # periodic, as spectra are
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "hop", hop)
        object.__setattr__(self, "_taper", taper / np.sqrt(np.maximum((taper**2).sum(), _FLOOR)))
        object.__setattr__(self, "_filters", self._dense_filters(window))

    @property
    def settings(self) -> dict[str, float]:
        """The arguments but the rate."""
        return {"mels": self.mels, "window_ms": self.window_ms, "hop_ms": self.hop_ms}

    @property
    def fft_size(self) -> int:
        """Points of the Fourier transform; zeros fill up what a frame lacks."""
        return 2 * (int(self._filters.shape[1]) - 1)

    def num_frames(self, samples: int) -> int:
        """Return how many frames a wave of so many samples has."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.hop

    def __call__(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the spectrograms of waves (n, samples), shape (n, mels, frames)."""
        frames = np.lib.stride_tricks.sliding_window_view(waves, self.window, axis=-1)[:, :: self.hop]
        spectra = np.fft.rfft(frames * self._taper, n=self.fft_size)
        power = (spectra.real**2 + spectra.imag**2) @ self._filters.T
        return np.log(np.maximum(power, _FLOOR)).astype(np.float32).transpose(0, 2, 1)

    def _dense_filters(self, window: int) -> FloatArray:
        """Return the filters over so many frequencies that none of them is empty."""
        size = 1 << max(window - 1, 1).bit_length()
        for _ in range(_MAX_DOUBLINGS):
            filters = mel_filters(self.mels, size // 2 + 1, self.sample_rate)
            if (filters.sum(axis=1) > 0).all():
                return filters
            size *= 2
        raise ConfigError(
            f"dataset.mels={self.mels} filters are more than windows of {self.window_ms:g} ms at {self.sample_rate} Hz "
            "can tell apart; take fewer, or a longer dataset.window_ms"
        )


def mel_filters(mels: int, frequencies: int, sample_rate: int) -> FloatArray:
    """Return triangular filters of height 1, shape (mels, frequencies).

    Args:
        mels: Number of filters; their peaks and ends are equally spaced on the mel scale.
        frequencies: From 0 to half the rate, both included.
        sample_rate: In Hz.
    """
    top = 2595.0 * np.log10(1.0 + sample_rate / 2.0 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, mels + 2) / 2595.0) - 1.0)
    hertz = np.linspace(0.0, sample_rate / 2.0, frequencies)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    filters: FloatArray = np.maximum(np.minimum(rising, falling), 0.0)
    return filters
