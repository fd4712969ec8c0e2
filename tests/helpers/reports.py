"""What tests ask of report folders, and of commands that refuse."""

import os
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.image import imread


def assert_report_files(folder: Path, summary: str, names) -> None:
    """Check that a folder holds the summary and each picture, as PNG and SVG, and nothing else."""
    pictures = {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
    assert set(os.listdir(folder)) == {*pictures, summary}
    for name in names:
        picture = imread(folder / f"{name}.png")
        assert picture[..., :3].std() > 0.05, f"{name}.png is blank"
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("}svg")


def assert_refused(result, *parts: str) -> None:
    """Check that a command ended with status 2 and one line that holds `parts`."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("eqxesm: error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err
