"""Published ESM-C: of each size the repository, and the commit of it that was reviewed."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A repository, the commit of it that was reviewed, and its licence."""

    size: str
    repository: str
    revision: str
    license: str


RELEASES = {
    release.size: release
    for release in (
        Release("esmc_300m", "biohub/ESMC-300M", "a59b831785f907e96e6a246b1d142bfb76df31ee", "mit"),
        Release("esmc_600m", "biohub/ESMC-600M", "a7e82012c83126b9eedb055fea9fa84b6c02f094", "mit"),
        Release("esmc_6b", "biohub/ESMC-6B", "45b0fa5d7fb06faefbd5e3b89bdcef35d564e79a", "mit"),
    )
}
"""What a size stands for when no source is named."""


def find_release(source: str | os.PathLike | None) -> Release | None:
    """The release that a size or the name of its repository stands for."""
    return next((release for release in RELEASES.values() if source in (release.size, release.repository)), None)
