"""Labelled sets of the Hugging Face Hub, such as proteinea/solubility, or folders of the same."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eqxesm.data.records import Record, parse_label
from eqxesm.errors import InputError


def read_hub_set(
    path: str,
    file: str,
    revision: str | None = None,
    *,
    sequence_column: str = "sequences",
    label_column: str = "labels",
    id_column: str | None = None,
    extra_columns: Sequence[str] = (),
) -> list[Record]:
    """Read a CSV file of a data set through Hugging Face datasets, in its order.

    Every field is taken as text: a protein `NA` is one. What `datasets` keeps of it goes into its
    own cache, under `HF_HOME`, never beside the file.

    Args:
        path: a folder of this machine, or a data set of the Hub such as `proteinea/solubility`.
        file: the CSV file in it, such as `solubility_training.csv`.
        revision: commit of the Hub's data set, all 40 digits; None for a folder.
        sequence_column: its column of sequences.
        label_column: its column of labels, 0, 1 or nothing.
        id_column: its column of ids; by default the row's number is the id.
        extra_columns: columns that come along as they are.

    Returns:
        The records, at least one.

    Raises:
        InputError: the Hub does not give the file at this revision, the file is no CSV, or it
            lacks a column, an id or a label.
    """
    name = f"{path}@{revision}: {file}" if revision else str(Path(path, file))
    if revision is None and not os.path.isfile(name):
        raise InputError(f"{name}: no such file: check the name")
    wanted = (sequence_column, label_column, id_column, *extra_columns)
    columns = list(dict.fromkeys(column for column in wanted if column is not None))
    rows = _load(name, path, file, revision, columns)
    records = []
    for row in range(len(rows[sequence_column])):
        fields = {column: rows[column][row] for column in columns}
        record_id = str(row + 1) if id_column is None else fields[id_column]
        if not record_id.strip():
            raise InputError(f"{name}: row {row + 1}: no id in column {id_column!r}: write one")
        label = parse_label(f"{name}: row {row + 1}", label_column, fields[label_column])
        extra = {column: fields[column].strip() for column in extra_columns}
        records.append(Record(record_id, fields[sequence_column], label, extra))
    return records


def _load(
    name: str, path: str, file: str, revision: str | None, columns: list[str]
) -> dict[str, list[str]]:
    # Imported late: it takes a second.
    from datasets import Features, Value, load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        with _quiet():
            table = load_dataset(
                path,
                data_files={"train": file},
                revision=revision,
                split="train",
                # Text, whatever it looks like, and no words that stand for a missing value.
                features=Features({column: Value("string") for column in columns}),
                usecols=columns,
                na_filter=False,
                # The repository's own list of splits has more of them than this one file.
                verification_mode="no_checks",
            )
    except Exception as error:
        is_read = revision is None or isinstance(error, DatasetGenerationError)
        problem = _problem(error.__cause__ or error, is_read)
        raise InputError(f"{name}: {problem}") from error
    # It takes a folder of that name in the working directory as well, and, where the Hub is out of
    # reach, another commit that it cached. Its cache has a folder of the commit's name.
    if revision and not all(revision in Path(each["filename"]).parts for each in table.cache_files):
        raise InputError(
            f"{name}: something else was found, in a folder of that name in the working directory "
            f"or in the cache: {_REMEDY}"
        )
    return {column: table[column][:] for column in columns}


_REMEDY = (
    "check the network, the name and the revision, or download the file elsewhere and give its "
    "folder as the path"
)


def _problem(error: BaseException, is_read: bool) -> str:
    # pandas names the columns, behind a colon.
    if "Usecols do not match columns" in str(error):
        missing = str(error).rpartition(": ")[2]
        return f"no columns {missing}: name those of its header"
    said = " ".join(str(error).split())[:150]
    if is_read:
        return f"not read as CSV ({said}): give a header row, and rows of text in UTF-8"
    return f"the Hub did not give it ({type(error).__name__}: {said}): {_REMEDY}"


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep progress bars off, and log lines that the error repeats."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils import logging

    shown, verbosity = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            enable_progress_bars()
