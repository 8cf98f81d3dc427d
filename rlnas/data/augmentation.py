"""Which random changes of training images are sensible by their size."""

from __future__ import annotations

from collections.abc import Sequence

from rlnas.data.task import Augmentation
from rlnas.errors import ConfigError

_SHARE_OF_SIDE = 8  # 4 pixels of 32, as is usual for CIFAR-10


def augmentation(crop_padding: int | None, flip: bool, shape: Sequence[int]) -> Augmentation | None:
    """Return what to do to training images, None for nothing.

    Mirroring is never inferred: it would turn one letter, sign or digit into another.

    Args:
        crop_padding: In pixels; None: an eighth of the shorter side.
        flip: Whether a mirrored image is as good as the image.
        shape: Of an image, (C, H, W).

    Raises:
        ConfigError: The padding is negative, or so large that nothing of the image may remain.
    """
    side = min(shape[1:])
    if crop_padding is not None and not 0 <= crop_padding < side:
        raise ConfigError(
            f"dataset.crop_padding must be at least 0 and below the shorter side of the images, {side}, "
            f"got {crop_padding}"
        )
    return Augmentation(side // _SHARE_OF_SIDE if crop_padding is None else crop_padding, flip) or None
