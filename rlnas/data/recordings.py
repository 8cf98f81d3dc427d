"""How `datasets` lists folders of recordings without the decoder, and the FFmpeg, that its own builder asks for."""

from __future__ import annotations

import datasets
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder


class RecordingsFolder(FolderBasedBuilder):  # type: ignore[misc]
    """The builder of ``audiofolder``, but that files stay files: `rlnas.data.audio` decodes them."""

    BASE_FEATURE = datasets.Image  # the same storage, of a file's path or bytes; it is never decoded as an image
    BASE_COLUMN_NAME = "audio"
    BUILDER_CONFIG_CLASS = AudioFolder.BUILDER_CONFIG_CLASS
    EXTENSIONS = AudioFolder.EXTENSIONS
