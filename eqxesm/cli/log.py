"""The library's log on the terminal."""

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager

from eqxesm.errors import printable


class _Formatter(logging.Formatter):
    """Writes a message on one line, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def show_log(name: str) -> Generator[None, None, None]:
    """Show the library's log on standard error, behind the name of a command."""
    logger, handler = logging.getLogger("eqxesm"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(f"{name}: %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
