"""Files are read within bounds, and what is written is whole or absent, whenever the process dies."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from eqxesm import files
from eqxesm.errors import InputError
from eqxesm.files import (
    MAX_BYTES,
    check_writable,
    checked_path,
    expand_user,
    make_folder,
    nearest_existing,
    read_bytes,
    read_json,
    read_text,
    recover_folder,
    replace_file,
    replace_folder,
    write_file,
)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its text, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Reading


def test_reads_small_files(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"é": [1, null]}', encoding="utf-8")
    assert read_bytes(path) == '{"é": [1, null]}'.encode()
    assert read_text(path) == '{"é": [1, null]}'
    assert read_json(path) == {"é": [1, None]}


def test_refuses_a_large_file_before_reading_it(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES)
    assert len(read_bytes(path)) == MAX_BYTES
    with open(path, "wb") as file:
        file.truncate(10**12)
    for read in (read_bytes, read_text, read_json):
        with pytest.raises(InputError, match=r"1,000,000,000,000 bytes, over the limit of 16,777,216. Not read."):
            read(path)


@pytest.mark.parametrize("read", [read_bytes, read_text, read_json])
def test_refuses_what_is_not_a_file(read, tmp_path):
    """A pipe would be waited for endlessly, and a device never ends."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "dangling", tmp_path / "none"):
        with pytest.raises(FileNotFoundError):
            read(path)
    kinds = {tmp_path / "folder": "a folder", tmp_path / "pipe": "a named pipe", Path("/dev/zero"): "a device"}
    for path, kind in kinds.items():
        with pytest.raises(InputError, match=f"is {kind}"):
            read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_refuses_a_file_without_permission(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(InputError, match=r"secret: cannot be read \(Permission denied\)"):
        read_bytes(tmp_path / "secret")


def test_refuses_text_that_is_not_utf_8(tmp_path):
    (tmp_path / "latin").write_bytes(b"\xe9t\xe9")
    with pytest.raises(InputError, match="latin: not UTF-8 text"):
        read_text(tmp_path / "latin")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"\xff", "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b'{"a": 1, "a": 2}', "a key appears twice"),
        (b'[{"b": {"a": 1, "a": 1}}]', "a key appears twice"),
        (rb'"\ud800"', "surrogates not allowed"),
    ],
)
def test_refuses_json_that_is_not_readable(content, reason, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: not readable as JSON \(.*{reason}") as caught:
        read_json(tmp_path / "a.json")
    assert len(str(caught.value).splitlines()) == 1


# Links


def test_refuses_links_that_lead_out_of_the_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "inside").write_text("x")
    (folder / "to-inside").symlink_to("inside")
    assert checked_path(folder, "to-inside") == folder / "to-inside"
    assert checked_path(folder, "inside") == folder / "inside"
    assert checked_path(folder, "none") == folder / "none"
    (folder / "chain").symlink_to("hop")
    (folder / "hop").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("../secret")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("chain", "hop", "up", "dangling"):
        with pytest.raises(InputError, match=f"{name}: link that leads out of its folder"):
            checked_path(folder, name)


def test_links_to_the_blobs_of_the_hub_cache_are_followed(tmp_path):
    snapshot = tmp_path / "models--me--x" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--me--x" / "blobs"
    blobs.mkdir()
    (blobs / "123").write_text("x")
    (tmp_path / "secret").write_text("x")
    (snapshot / "config.json").symlink_to("../../blobs/123")
    (snapshot / "stolen").symlink_to(tmp_path / "secret")
    assert checked_path(snapshot, "config.json") == snapshot / "config.json"
    with pytest.raises(InputError, match="leads out"):
        checked_path(snapshot, "stolen")
    # The same link outside a cache.
    other = tmp_path / "models--me--x" / "copies" / "one"
    other.mkdir(parents=True)
    (other / "config.json").symlink_to("../../blobs/123")
    with pytest.raises(InputError, match="leads out"):
        checked_path(other, "config.json")


def test_a_folder_may_itself_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "real" / "again").symlink_to("file")
    (tmp_path / "link").symlink_to("real")
    assert checked_path(tmp_path / "link", "again") == tmp_path / "link" / "again"


# Files


@pytest.mark.parametrize("content", ["text é", b"\x00\xff", ""])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(content, tmp_path):
    path = tmp_path / "file"
    path.write_text("old" * 1000)
    write_file(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("step", ["write_bytes", "fsync", "replace"])
def test_a_failure_leaves_the_file_as_it_was(step, existing, tmp_path, monkeypatch):
    path = tmp_path / "file"
    if existing:
        path.write_text("old")
    before = tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path if step == "write_bytes" else os, step, fill_disk)
        with pytest.raises(InputError, match=r"file: cannot be written \(No space left on device\). Nothing was"):
            write_file(path, "new")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_file_as_it_was(error, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with replace_file(path) as partial:
            partial.write_text("new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert tree(tmp_path) == {"file": "old"}


def test_a_block_that_writes_nothing_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match="file: cannot be written"), replace_file(tmp_path / "file"):
        pass
    assert tree(tmp_path) == {"file": "old"}


def test_the_new_file_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replace(*paths)))
    write_file(tmp_path / "file", "new")
    assert steps == ["fsync", "replace"]


def test_a_link_that_is_written_to_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real"
    real.write_text("old")
    (tmp_path / "link").symlink_to(real)
    write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert real.read_text() == "new"
    assert not real.is_symlink()
    assert os.listdir(tmp_path / "elsewhere") == ["real"]


@pytest.fixture
def umask():
    earlier = os.umask(0o022)
    yield os.umask
    os.umask(earlier)


@pytest.mark.parametrize(
    ("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_come_from_the_umask(mask, file_mode, folder_mode, umask, tmp_path):
    umask(mask)
    write_file(tmp_path / "file", "x")
    with replace_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("x")
    make_folder(tmp_path / "made" / "below")
    modes = {path: stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("file", "folder", "folder/file", "made")}
    assert modes == {"file": file_mode, "folder": folder_mode, "folder/file": file_mode, "made": folder_mode}


def test_what_is_replaced_keeps_its_permissions(umask, tmp_path):
    umask(0o022)
    write_file(tmp_path / "file", "old")
    (tmp_path / "file").chmod(0o600)
    write_file(tmp_path / "file", "new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    replace_with(tmp_path / "folder", "old")
    (tmp_path / "folder").chmod(0o700)
    replace_with(tmp_path / "folder", "new")
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_file("~/file", "x")
    assert tree(tmp_path) == {"file": "x"}
    assert expand_user("~/a") == str(tmp_path / "a")
    assert expand_user("a~") == "a~"


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (os.mkdir, "is a folder. Name a file in it."),
        (os.mkfifo, "is a named pipe. Name a file."),
        (lambda path: path.symlink_to("/dev/zero"), "is a device or a socket. Name a file."),
        (lambda path: path.symlink_to(path.parent / "none" / "file"), "its folder does not exist. Make it first."),
    ],
)
def test_refuses_to_write_to_what_is_not_a_file(make, part, tmp_path):
    make(tmp_path / "out")
    with pytest.raises(InputError, match=f"out: {part}"):
        check_writable(tmp_path / "out")


# Folders


def replace_with(folder: Path, text: str) -> None:
    with replace_folder(folder) as partial:
        assert list(partial.iterdir()) == []
        (partial / "sub").mkdir()
        (partial / "sub" / "file").write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "a" / "folder"
    replace_with(folder, "old")
    (folder / "another").write_text("x")
    replace_with(folder, "new")
    assert tree(tmp_path) == {"a/folder/sub/file": "new"}
    assert os.listdir(tmp_path / "a") == ["folder"]


def test_refuses_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file: is a file. Choose another name"):
        replace_with(tmp_path / "file", "new")
    with pytest.raises(InputError, match=r"below: cannot be written \((File exists|Not a directory)\)"):
        replace_with(tmp_path / "file" / "below", "new")
    with pytest.raises(InputError, match="cannot be made"):
        make_folder(tmp_path / "file" / "below")
    assert tree(tmp_path) == {"file": "mine"}


def test_refuses_a_name_that_is_too_long(tmp_path):
    for write in (lambda path: replace_with(path, "x"), lambda path: write_file(path, "x"), make_folder):
        with pytest.raises(InputError, match="too long"):
            write(tmp_path / ("a" * 300))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_refuses_a_parent_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        for write in (lambda path: replace_with(path, "x"), lambda path: write_file(path, "x"), make_folder):
            with pytest.raises(InputError, match="Permission denied"):
                write(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["folder", "run[1]*"])
@pytest.mark.parametrize(("call", "existing"), [(1, False), (1, True), (2, True)])
def test_a_failing_step_leaves_the_folder_as_it_was(call, existing, name, tmp_path, monkeypatch):
    folder = tmp_path / name
    if existing:
        replace_with(folder, "old")
    before = tree(tmp_path)
    done = []

    def fail_once(step):
        def run(*arguments, **options):
            done.append(step)
            return fill_disk() if len(done) == call else step(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_once(Path.rename))
        with pytest.raises(InputError, match=r"No space left on device.*Nothing was changed"):
            replace_with(folder, "new")
    assert len(done) >= call
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == [name] * existing
    replace_with(folder, "new")
    assert tree(tmp_path) == {f"{name}/sub/file": "new"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("x"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_folder_as_it_was(error, tmp_path):
    replace_with(tmp_path / "folder", "old")

    def write() -> None:
        with replace_folder(tmp_path / "folder") as partial:
            (partial / "file").write_text("new")
            raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        write()
    assert tree(tmp_path) == {"folder/sub/file": "old"}
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_is_replaced_through_a_link_and_from_within(tmp_path, monkeypatch):
    replace_with(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    replace_with(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "sub" / "file").read_text() == "new"
    monkeypatch.chdir(tmp_path / "real" / "sub")
    replace_with(Path("../../real"), "newer")
    monkeypatch.chdir(tmp_path)
    assert tree(tmp_path / "real") == {"sub/file": "newer"}
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


KILLED = """
import os, signal, sys
from pathlib import Path
from eqxesm.files import replace_file, replace_folder

step, count = sys.argv[1], int(sys.argv[2])
place = Path.cwd()

def die_at(owner, name):
    real, calls = getattr(owner, name), []
    def run(*arguments, **options):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(owner, name, run)

die_at({"rename": Path, "write_text": Path}.get(step, os), step)
if step in ("replace", "fsync"):
    with replace_file(place / "file") as partial:
        partial.write_bytes(b"new")
else:
    with replace_folder(place / "folder") as partial:
        (partial / "one").write_text("new")
        (partial / "two").write_text("new")
"""


@pytest.mark.parametrize(
    ("step", "count"),
    [("fsync", 1), ("replace", 1), ("write_text", 1), ("write_text", 2), ("rename", 1), ("rename", 2)],
)
def test_a_process_that_is_killed_leaves_the_old_state(step, count, tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_text("old")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, step, str(count)], cwd=tmp_path, env=environment, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    recover_folder(tmp_path / "folder")
    assert (tmp_path / "file").read_text() == "old"
    assert tree(tmp_path / "folder") == {"one": "old"}
    # What the process left behind is hidden and is not taken for the real thing.
    assert all(name.startswith(".") for name in set(os.listdir(tmp_path)) - {"file", "folder"})
    replace_with(tmp_path / "folder", "new")
    assert tree(tmp_path / "folder") == {"sub/file": "new"}


def test_only_the_missing_folder_is_recovered(tmp_path):
    replace_with(tmp_path / "folder", "new")
    aside = tmp_path / ".folder.abcd" / "folder"
    aside.mkdir(parents=True)
    (aside / "file").write_text("old")
    recover_folder(tmp_path / "folder")
    assert tree(tmp_path / "folder") == {"sub/file": "new"}
    recover_folder(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_latest_of_several_folders_is_recovered(tmp_path):
    """One that was only to be deleted may be left from an earlier kill."""
    for age, (suffix, text) in enumerate([("b", "latest"), ("a", "stale"), ("c", "stale")]):
        aside = tmp_path / f".folder.{suffix}" / "folder"
        aside.mkdir(parents=True)
        (aside / "file").write_text(text)
        os.utime(aside.parent, (1000 - age, 1000 - age))
    recover_folder(tmp_path / "folder")
    assert (tmp_path / "folder" / "file").read_text() == "latest"


def test_the_nearest_existing_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert nearest_existing(tmp_path / "a" / "b" / "c") == tmp_path / "a"
    assert nearest_existing(tmp_path / "a") == tmp_path / "a"
    assert nearest_existing(tmp_path / "link" / "b") == tmp_path / "a"


def test_a_failing_write_names_the_path_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files.os, "replace", fill_disk)
    with pytest.raises(InputError) as caught:
        write_file("out.csv", json.dumps({}))
    assert str(caught.value).startswith("out.csv: cannot be written")
