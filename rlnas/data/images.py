"""Images from a folder, a table or an .npz file, of any sizes and modes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from rlnas.data.augmentation import augmentation
from rlnas.data.columns import Columns
from rlnas.data.hugging_face import from_path
from rlnas.data.preparation import Inputs, prepare
from rlnas.data.ragged import from_ragged
from rlnas.data.sources import File
from rlnas.data.splitting import SplitOptions
from rlnas.data.storage import DEFAULT_LIMIT_MB
from rlnas.data.task import InputArray, Task
from rlnas.errors import ConfigError

DEFAULT_LONGEST = 64
"""Of an image that nobody has given a size, in pixels: a search trains hundreds of networks on it."""

_SHORTEST = 4
_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"}
_COLOURED = {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV"}
_DEEP = "I;16"
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # Exif: the camera was held upright
# What Pillow raises at broken files: it has one exception for what is no image, and several for all else.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


def images(
    path: Path,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    crop_padding: int | None = None,
    flip: bool = False,
    examples: str | None = None,
    labels: str | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    max_examples: int | None = None,
    split_seed: int = 0,
    skip_unreadable: bool = False,
    memory_limit_mb: float = DEFAULT_LIMIT_MB,
) -> Task:
    """Return images of one size, split and standardised, from whatever sizes and modes there are.

    Args:
        path: A folder with one folder of images for each class, directly or in ``train``, ``validation`` and ``test``;
            or a parquet file with a column of images; or an .npz file with the bytes of image files, see
            `rlnas.data.ragged.from_ragged`.
        name: Of the task; None takes that of the file or folder.
        size: Height and width in pixels, one number for both; None: the common size of the training images, or the
            median of their shorter sides; at most 64 on the longer side. Images are scaled to cover it, and their
            middle is cut out.
        channels: 1 (grey) or 3 (RGB); None: 3 where any training image has colours.
        crop_padding: Training images are moved at random by up to so many pixels; 0: not at all; None: an eighth of
            the shorter side.
        flip: Half of the training images are mirrored, left for right: where a mirrored image is of the same class.
        examples: The column of the images in a table; None: it is inferred.
        labels: The column of the labels in a table; None: it is inferred.
        validation_fraction: Share of the examples (outside a given test split), in (0, 1); None: 0.2 where no
            validation split is given.
        test_fraction: Share of all examples, in (0, 1); None: 0.2 where no test split is given.
        max_examples: Keep at most so many examples outside given splits, stratified; None keeps all.
        split_seed: Decides which example falls into which split; not the run's seed, so that runs compare.
        skip_unreadable: Leave unreadable images out, and say which, instead of refusing the data set.
        memory_limit_mb: Prepared images of all splits that are kept in memory, in MiB; more lie in files.

    Raises:
        DataError: Files are missing or unreadable, or there are too few for the splits.
        ConfigError: A value is out of range, or without effect.
        MissingExtraError: `datasets` is not installed.
    """
    options = SplitOptions(validation_fraction, test_fraction, max_examples, split_seed)
    encoder = ImageEncoder(size=size, channels=channels, crop_padding=crop_padding, flip=flip)
    path = Path(path)
    limits: dict[str, Any] = {"memory_limit_mb": memory_limit_mb, "skip_unreadable": skip_unreadable}
    if path.suffix.lower() == ".npz" and path.is_file():
        Columns(examples, labels).refuse(path)
        return prepare(from_ragged(path, "image")[0], encoder, options, name=name, **limits)
    with from_path(path, "image", Columns(examples, labels)) as source:
        return prepare(source, encoder, options, name=name, **limits)


class ImageEncoder:
    """Makes images of one size and mode of all; see `images` for its arguments.

    Grey keeps its depth (16 bits are not cut to 8), transparent pixels are laid on white, pictures are turned as their
    camera says, and of a moving one the first frame counts.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        *,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        crop_padding: int | None = None,
        flip: bool = False,
    ) -> None:
        sides = None if size is None else (size, size) if isinstance(size, int) else tuple(size)
        if sides is not None and (len(sides) != 2 or min(sides) < _SHORTEST):
            raise ConfigError(
                f"dataset.size must be one number of pixels, or [height, width], each at least {_SHORTEST}; got {size}"
            )
        if channels not in (None, 1, 3):
            raise ConfigError(f"dataset.channels must be 1 (grey), 3 (RGB) or null, got {channels}")
        self._size = sides
        self._channels = channels
        self._crop_padding = crop_padding
        self._flip = flip

    def fit(self, raws: Callable[[], Iterator[tuple[int, Any]]]) -> Inputs | Mapping[int, str]:
        """Look at the headers of the training images; see `rlnas.data.preparation.Encoder`."""
        sizes: Counter[tuple[int, int]] = Counter()
        modes: Counter[str] = Counter()
        broken: dict[int, str] = {}
        for row, file in raws():
            try:
                with _opened(file) as image:
                    sizes[_upright_size(image)] += 1
                    modes[image.mode] += 1
            except _BROKEN as error:
                broken[row] = _reason(error)
        if broken or not sizes:
            return broken
        height, width = self._size or _inferred_size(sizes)
        channels = self._channels or (3 if any(mode in _COLOURED for mode in modes) else 1)
        shape = (channels, height, width)
        augment = augmentation(self._crop_padding, self._flip, shape)
        encode = ImageEncoding(channels, height, width)
        facts = _facts(sizes, modes, shape)
        return Inputs(shape, np.float32, encode, {"images": asdict(encode)}, augmentation=augment, facts=facts)


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """Decodes images to (channels, height, width), values in [0, 1]."""

    channels: int
    height: int
    width: int

    def __call__(self, raws: Sequence[Any]) -> tuple[InputArray, dict[int, str]]:
        """Return the inputs, and by position why some examples could not be read."""
        made = np.zeros((len(raws), self.channels, self.height, self.width), np.float32)
        broken: dict[int, str] = {}
        for position, file in enumerate(raws):
            try:
                with _opened(file) as image:
                    made[position] = self._pixels(image)
            except _BROKEN as error:
                broken[position] = _reason(error)
        return made, broken

    def _pixels(self, image: Image.Image) -> NDArray[np.float32]:
        flat = _opaque(ImageOps.exif_transpose(image))
        if self.channels == 3:
            flat = flat.convert("RGB")
        elif flat.mode == "RGB":
            flat = flat.convert("L")
        if flat.size != (self.width, self.height):
            flat = ImageOps.fit(flat, (self.width, self.height), Image.Resampling.BICUBIC)
        values: NDArray[np.float32] = np.asarray(flat, np.float32) / np.float32(255.0)
        return values[None] if self.channels == 1 else values.transpose(2, 0, 1)


@contextmanager
def _opened(file: File) -> Iterator[Image.Image]:
    """Open an image file whose pixels we know how to read.

    Raises:
        ValueError: We do not, or it is empty.
    """
    if (file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes) == 0:
        raise ValueError("it is empty")
    with Image.open(file) as image:
        if image.mode not in _GREY | _COLOURED:
            raise ValueError(f"its pixels are of mode {image.mode}, neither grey nor colours")
        yield image


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image without transparency, in the modes L or RGB; or F, of values up to 255, where it is deeper."""
    if image.mode.startswith(_DEEP):
        return Image.fromarray(np.asarray(image).astype(np.float32) * np.float32(255.0 / 65535.0))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image_over_white = Image.alpha_composite(white, image.convert("RGBA"))
        return image_over_white.convert("L" if image.mode in _GREY else "RGB")
    return image.convert("L" if image.mode in _GREY else "RGB")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) as it is seen."""
    if image.getexif().get(_ORIENTATION) in _TURNED:
        return image.width, image.height
    return image.height, image.width


def _inferred_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    if len(sizes) == 1:
        [(height, width)] = sizes
    else:
        shorter = np.repeat([min(size) for size in sizes], list(sizes.values()))
        height = width = int(np.median(shorter))
    scale = min(1.0, DEFAULT_LONGEST / max(height, width))
    return max(round(scale * height), _SHORTEST), max(round(scale * width), _SHORTEST)


def _facts(sizes: Counter[tuple[int, int]], modes: Counter[str], shape: tuple[int, int, int]) -> tuple[str, ...]:
    heights, widths = ([size[axis] for size in sizes] for axis in (0, 1))
    span = f"heights {min(heights)} to {max(heights)}, widths {min(widths)} to {max(widths)}"
    if len(sizes) == 1:
        span = f"all of {heights[0]} x {widths[0]}"
    counted = ", ".join(f"{mode} {count}" for mode, count in sorted(modes.items()))
    colours = "RGB" if shape[0] == 3 else "grey"
    return (f"training images: {span}, modes {counted}; made {colours} of {shape[1]} x {shape[2]}",)


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image, or a damaged one"
    return (str(error).splitlines() or [type(error).__name__])[0]
