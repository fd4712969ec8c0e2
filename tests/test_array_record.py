import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import grain
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from eqxesm.data.array_record import ArrayRecords, write_array_record
from eqxesm.data.records import LabelledProtein, Selection
from eqxesm.errors import InputError

PROTEINS = [
    LabelledProtein("a", "MKV", 1, "A", "MIT", "0", "c1"),
    LabelledProtein("ü→蛋白", "mk*-\tJ\n", 0, 'B "x"'),
    LabelledProtein("c", "", 1, "", license="CC0", cluster=""),
]


def many(number: int) -> list[LabelledProtein]:
    rng = np.random.default_rng(0)
    letters = rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), (number, 300))
    return [LabelledProtein(f"p{i}", "".join(row), i % 2, "A") for i, row in enumerate(letters)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "p.arrayrecord"


def test_round_trip(path):
    assert write_array_record(path, iter(PROTEINS)) == 3
    records = ArrayRecords(path)
    assert list(records) == PROTEINS
    assert (len(records), records[-1], records[-3]) == (3, PROTEINS[2], PROTEINS[0])
    assert os.listdir(path.parent) == [path.name]


def test_records_are_json_one_a_group(path):
    write_array_record(path, PROTEINS)
    reader = ArrayRecordReader(str(path))
    assert "group_size:1," in reader.writer_options_string()
    raw = reader.read_all()
    assert "ü→蛋白".encode() in raw[1]
    read = [json.loads(record.decode("utf-8")) for record in raw]
    assert read == [
        {name: value for name, value in asdict(protein).items() if value is not None}
        for protein in PROTEINS
    ]


def test_blocks_give_what_single_reads_give(path, monkeypatch):
    monkeypatch.setattr("eqxesm.data.array_record.BLOCK", 7)
    for number in (6, 7, 8, 21, 23):
        proteins = many(number)
        write_array_record(path, proteins)
        records = ArrayRecords(path)
        assert list(records) == [records[i] for i in range(number)] == proteins


def test_slices_and_bounds(path):
    proteins = many(20)
    write_array_record(path, proteins)
    records = ArrayRecords(path)
    for part in (slice(3, 9), slice(None, None, -2), slice(-4, None)):
        assert list(records[part]) == proteins[part]
        assert list(records[2:][part]) == proteins[2:][part]
    for index in (20, -21):
        with pytest.raises(IndexError):
            records[index]
        with pytest.raises(IndexError):
            Selection(records, np.arange(20))[index]


def test_many_threads_read_one_file(path):
    proteins = many(500)
    write_array_record(path, proteins)
    records = ArrayRecords(path)
    order = np.random.default_rng(1).permutation(500).tolist()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(records.__getitem__, order)) == [proteins[i] for i in order]


def test_grain_takes_it_with_its_threads(path):
    proteins = many(100)
    write_array_record(path, proteins)
    dataset = grain.MapDataset.source(ArrayRecords(path)).shuffle(seed=3)
    read = list(dataset.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=50)))
    assert sorted(p.id for p in read) == sorted(p.id for p in proteins)
    assert [p.id for p in read] != [p.id for p in proteins]


def test_a_copy_in_another_process(path):
    write_array_record(path, PROTEINS)
    records = ArrayRecords(path)
    assert records[0] == PROTEINS[0]
    assert list(pickle.loads(pickle.dumps(records))) == PROTEINS


def test_what_cannot_be_written_leaves_what_was_there(path):
    def failing():
        yield PROTEINS[0]
        raise ZeroDivisionError

    write_array_record(path, PROTEINS[:1])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_array_record(path, failing())
    with pytest.raises(InputError, match="id 'a' stands there twice"):
        write_array_record(path, [*PROTEINS, replace(PROTEINS[1], id="a")])
    with pytest.raises(InputError, match="no proteins to write"):
        write_array_record(path, [])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_refuses_places_to_write(tmp_path):
    with pytest.raises(InputError, match=r"p\.riegeli: name it with the ending \.arrayrecord"):
        write_array_record(tmp_path / "p.riegeli", PROTEINS)
    with pytest.raises(InputError, match=r"cannot be written \(No such file or directory\)"):
        write_array_record(tmp_path / "absent" / "p.arrayrecord", PROTEINS)
    (tmp_path / "p.arrayrecord").mkdir()
    with pytest.raises(InputError, match=r"cannot be written \(Is a directory\)"):
        write_array_record(tmp_path / "p.arrayrecord", PROTEINS)
    assert os.listdir(tmp_path) == ["p.arrayrecord"]


def test_a_full_disk(path, monkeypatch):
    partial = path.with_name("partial")
    partial.symlink_to("/dev/full")
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (os.open(os.devnull, 0), str(partial)))
    with pytest.raises(InputError, match=r"writing failed .*No space left on device.*: make room"):
        write_array_record(path, PROTEINS)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"id,sequence\n" * 9999, lambda data: data[: len(data) // 2]],
    ids=["empty", "text", "cut short"],
)
def test_refuses_files(path, damage):
    write_array_record(path, many(2000))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"{path}: not a whole ArrayRecord file") as caught:
        ArrayRecords(path)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent.arrayrecord"):
        with pytest.raises(InputError, match=f"{path}: no such file"):
            ArrayRecords(path)


def test_a_damaged_record_is_named(path):
    write_array_record(path, many(1000))
    data = bytearray(path.read_bytes())
    data[100_000:100_400] = bytes(400)
    path.write_bytes(data)
    records = ArrayRecords(path)
    assert records[999].id == "p999"
    read = []
    with pytest.raises(InputError, match=r"record \d+: damaged .*write the file again") as caught:
        read.extend(iter(records))
    assert [each.id for each in read] == [f"p{i}" for i in range(len(read))]
    assert f"record {len(read) + 1}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        b"\x0a\x03MKV",
        b"[1]",
        b"{}",
        b"[" * 100_000,
        b'{"id": "a", "sequence": "M", "label": 1}',
        b'{"id": "a", "sequence": "M", "label": 2, "source": "A"}',
        b'{"id": "a", "sequence": "M", "label": 0.5, "source": "A"}',
        b'{"id": 1, "sequence": "M", "label": 1, "source": "A"}',
        b'{"id": "a", "sequence": "M", "label": 1, "source": "A", "fold": 1}',
        b'{"id": "a", "sequence": "M", "label": 1, "source": "A", "extra": "x"}',
    ],
)
def test_refuses_records_of_others(path, record):
    good = b'{"id": "a", "sequence": "M", "label": 1, "source": "A"}'
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for each in (good, record):
        writer.write(each)
    writer.close()
    records = ArrayRecords(path)
    assert records[0] == LabelledProtein("a", "M", 1, "A")
    with pytest.raises(InputError, match="record 2: not a labelled protein"):
        records[1]
