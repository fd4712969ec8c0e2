"""The exception for input that cannot be used."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

MAX_CHARACTERS = 2000


class InputError(ValueError):
    """Input that cannot be used: a file, a sequence, a checkpoint, a setting.

    The message is one printable line: what, why, what to do. The command line prints it and exits
    with status 2. Every function of the library raises it for bad input, which is why docstrings do
    not repeat it.
    """

    def __init__(self, message: str):
        # Names of files, tensors and proteins come from outside and may hold control characters.
        shown = printable(message)
        half = MAX_CHARACTERS // 2
        long = len(shown) > MAX_CHARACTERS
        super().__init__(f"{shown[:half]} ... {shown[-half:]}" if long else shown)

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook too: IPython asks for this."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def at(place: object) -> Generator[None, None, None]:
    """Say where it was that an input was refused."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def printable(text: str) -> str:
    """A text on one line, with other control characters replaced."""
    return "".join(each if each.isprintable() else "\ufffd" for each in " ".join(text.splitlines()))


def one_line(error: BaseException, length: int = 200) -> str:
    """Another library's message on one line of at most `length` characters."""
    return " ".join(str(error).split())[:length]


def pluralise(number: int, thing: str) -> str:
    """Write a count: `1 protein`, `2,000 proteins`."""
    return f"{number:,} {thing}" + "s" * (number != 1)


def missing_extra(package: str, extra: str) -> InputError:
    """The error for a package that an extra of eqxesm installs."""
    return InputError(f'{package} is not installed. Run: {sys.executable} -m pip install "eqxesm[{extra}]"')
