"""Labelled sets of the Hugging Face Hub, such as proteinea/solubility, or folders of the same."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from eqxesm.errors import InputError, missing_extra, one_line

_HINT = "Check the network, the name and the revision, or download the file and name its folder."


def read_hub_rows(
    path: str, file: str, revision: str | None, columns: list[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read the rows of a CSV file of a data set, or of a folder (no revision), in order."""
    name = f"{path}@{revision}: {file}" if revision else str(Path(path, file))
    if revision is None and not os.path.isfile(name):
        raise InputError(f"{name}: file not found")
    table = _load(name, path, file, revision, columns)
    for row in range(len(table[columns[0]])):
        yield f"{name}, row {row + 1}", {column: table[column][row] for column in columns}


def _load(name: str, path: str, file: str, revision: str | None, columns: list[str]) -> dict[str, list[str]]:
    # Imported late: it takes a second, and is an extra.
    try:
        from datasets import Features, Value, load_dataset
        from datasets.exceptions import DatasetGenerationError
    except ImportError as error:
        raise missing_extra("datasets", "train") from error

    try:
        with _quiet():
            table = load_dataset(
                path,
                data_files={"train": file},
                revision=revision,
                split="train",
                # Everything is text, and no word stands for a missing value.
                features=Features({column: Value("string") for column in columns}),
                usecols=columns,
                na_filter=False,
                # The repository lists more splits than this file.
                verification_mode="no_checks",
            )
    except Exception as error:
        is_read = revision is None or isinstance(error, DatasetGenerationError)
        raise InputError(f"{name}: {_explain(error.__cause__ or error, is_read)}") from error
    # `datasets` would also take a folder of that name in the working directory and, offline, another
    # commit from its cache, whose folders carry the commit's name.
    if revision and not all(revision in Path(each["filename"]).parts for each in table.cache_files):
        raise InputError(f"{name}: another version was found, in a folder or the cache. {_HINT}")
    return {column: table[column][:] for column in columns}


def _explain(error: BaseException, is_read: bool) -> str:
    # pandas names the columns after a colon.
    if "Usecols do not match columns" in str(error):
        return f"no column {str(error).rpartition(': ')[2]}"
    if is_read:
        return f"not readable as CSV with a header row ({one_line(error, 150)})"
    return f"the Hub did not give it ({type(error).__name__}: {one_line(error, 150)}). {_HINT}"


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Hide progress bars, and log lines that the error repeats."""
    import datasets

    shown, verbosity = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()
