"""ArrayRecord files: random access from many threads, and damage that is named."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
import pytest
from array_records import write_proteins, write_records

from eqxesm.data.array_record import ArrayRecords
from eqxesm.data.lazy import select
from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError

PROTEINS = [
    Protein("a", "MKV", 1, "A", "MIT", "0", "c1"),
    Protein("ü→蛋白", "mk*-\tJ\n", 0, 'B "x"'),
    Protein("c", "", 1, "", license="CC0", cluster=""),
]


def make_proteins(number: int) -> list[Protein]:
    rng = np.random.default_rng(0)
    letters = rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), (number, 300))
    return [Protein(f"p{i}", "".join(row), i % 2, "A") for i, row in enumerate(letters)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "p.arrayrecord"


def test_proteins_come_back_as_they_were_written(path):
    write_proteins(path, PROTEINS)
    records = ArrayRecords(path)
    assert list(records) == PROTEINS
    assert (len(records), records[-1], records[-3]) == (3, PROTEINS[2], PROTEINS[0])


def test_the_reader_of_all_formats_takes_it(path):
    write_proteins(path, PROTEINS)
    assert list(read_proteins(path, labelled=True)) == PROTEINS
    with pytest.raises(InputError, match=r"p\.arrayrecord: .*no column 'cv'"):
        next(read_proteins(path, Columns(fold="cv")))
    with pytest.raises(InputError, match=r"p\.arrayrecord: .*no column 'terms'"):
        next(read_proteins(path, where=[("terms", "MIT")]))


def test_iteration_in_blocks_gives_what_single_reads_give(path, monkeypatch):
    monkeypatch.setattr("eqxesm.data.array_record.BLOCK", 7)
    for number in (6, 7, 8, 21, 23):
        proteins = make_proteins(number)
        write_proteins(path, proteins)
        records = ArrayRecords(path)
        assert list(records) == [records[i] for i in range(number)] == proteins


def test_slices_and_bounds(path):
    proteins = make_proteins(20)
    write_proteins(path, proteins)
    records = ArrayRecords(path)
    for part in (slice(3, 9), slice(None, None, -2), slice(-4, None)):
        assert list(records[part]) == proteins[part]
        assert list(records[2:][part]) == proteins[2:][part]
    for index in (20, -21):
        with pytest.raises(IndexError):
            records[index]
        with pytest.raises(IndexError):
            select(records, np.arange(20))[index]


def test_a_selection_looks_its_proteins_up(path):
    proteins = make_proteins(20)
    write_proteins(path, proteins)
    chosen = select(ArrayRecords(path), np.array([7, 3, 19]))
    expected = [proteins[7], proteins[3], proteins[19]]
    assert list(chosen) == expected
    assert (len(chosen), chosen[-1], list(chosen[1:])) == (3, expected[-1], expected[1:])


def test_many_threads_read_one_file(path):
    proteins = make_proteins(500)
    write_proteins(path, proteins)
    records = ArrayRecords(path)
    order = np.random.default_rng(1).permutation(500).tolist()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(records.__getitem__, order)) == [proteins[i] for i in order]


def test_grain_reads_it_with_its_threads(path):
    proteins = make_proteins(100)
    write_proteins(path, proteins)
    dataset = grain.MapDataset.source(ArrayRecords(path)).shuffle(seed=3)
    read = list(dataset.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=50)))
    assert sorted(p.id for p in read) == sorted(p.id for p in proteins)
    assert [p.id for p in read] != [p.id for p in proteins]


def test_a_copy_can_be_sent_to_another_process(path):
    write_proteins(path, PROTEINS)
    records = ArrayRecords(path)
    assert records[0] == PROTEINS[0]
    assert list(pickle.loads(pickle.dumps(records))) == PROTEINS


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"id,sequence\n" * 9999, lambda data: data[: len(data) // 2]],
    ids=["empty", "text", "cut short"],
)
def test_refuses_damaged_files(path, damage):
    write_proteins(path, make_proteins(2000))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"{path}: not a whole ArrayRecord file") as caught:
        ArrayRecords(path)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_not_a_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent.arrayrecord"):
        with pytest.raises(InputError, match=f"{path}: file not found"):
            ArrayRecords(path)


def test_a_damaged_record_is_named(path):
    write_proteins(path, make_proteins(1000))
    data = bytearray(path.read_bytes())
    data[100_000:100_400] = bytes(400)
    path.write_bytes(data)
    records = ArrayRecords(path)
    assert records[999].id == "p999"
    read = []
    with pytest.raises(InputError, match=r"record \d+: damaged .*hash mismatch") as caught:
        read.extend(iter(records))
    assert [each.id for each in read] == [f"p{i}" for i in range(len(read))]
    assert f"record {len(read) + 1}: " in str(caught.value)
    assert "\n" not in str(caught.value)


GOOD = b'{"id": "a", "sequence": "M", "label": 1, "source": "A"}'


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
        b'{"id": "a", "sequence": "M", "label": null, "source": "A"}',
        b'{"id": "a", "sequence": "M", "label": true, "source": "A"}',
        b'{"id": 1, "sequence": "M", "label": 1, "source": "A"}',
        b'{"id": "a", "sequence": "M", "label": 1, "source": "A", "fold": 1}',
        b'{"id": "a", "sequence": "M", "label": 1, "source": "A", "extra": "x"}',
    ],
)
def test_refuses_records_that_are_not_labelled_proteins(path, record):
    write_records(path, [GOOD, record])
    records = ArrayRecords(path)
    assert records[0] == Protein("a", "M", 1, "A")
    with pytest.raises(InputError, match="record 2: not a labelled protein"):
        records[1]


def test_null_is_a_field_that_is_missing(path):
    write_records(path, [GOOD.replace(b"}", b', "fold": null, "license": null}')])
    assert list(ArrayRecords(path)) == [Protein("a", "M", 1, "A")]
