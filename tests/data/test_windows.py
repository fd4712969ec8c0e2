"""Windows cover a protein from end to end, and overlap by half."""

import itertools

import pytest

from eqxesm.data.windows import cut_windows


@pytest.mark.parametrize("size", [1, 2, 7, 60])
@pytest.mark.parametrize("length", [1, 2, 59, 60, 61, 89, 90, 91, 120, 1001])
def test_windows_cover_everything(length, size):
    windows = cut_windows(length, size)
    assert (windows[0].start, windows[-1].stop) == (0, length)
    if length <= size:
        assert len(windows) == 1
        return
    assert all(each.stop - each.start == size for each in windows)
    steps = [second.start - first.start for first, second in itertools.pairwise(windows)]
    assert max(steps) <= max(1, -(-size // 2))
    assert max(steps) - min(steps) <= 1
