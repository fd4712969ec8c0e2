"""Checkpoints that were saved once, and copies of them to damage."""

import functools
import json
import shutil
from pathlib import Path

import pytest
from checkpoints import MAKERS, SHARD_BYTES, made

from eqxesm.checkpoint.folder import CONFIG


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    for kind in MAKERS:
        made(kind).save_pretrained(root / kind)
    made("model").save_pretrained(root / "sharded", shard_bytes=SHARD_BYTES)
    return root


@pytest.fixture
def copy(saved, tmp_path):
    def _copy(kind: str) -> Path:
        return Path(shutil.copytree(saved / kind, tmp_path / kind))

    return _copy


@pytest.fixture
def edit(copy):
    """A copy of a checkpoint whose configuration was changed in one place."""

    def _edit(kind: str, path: str, value) -> Path:
        folder = copy(kind)
        config = json.loads((folder / CONFIG).read_text())
        *parents, key = path.split("/")
        place = functools.reduce(dict.__getitem__, parents, config)
        if value is None and key in place:
            del place[key]
        else:
            place[key] = value
        (folder / CONFIG).write_text(json.dumps(config))
        return folder

    return _edit


@pytest.fixture
def fuzzed(copy, tmp_path):
    """A folder with copies that one fuzzing test damages again and again."""
    for kind in ("model", "small"):
        copy(kind)
    return tmp_path
