"""What the commands of this package share."""

import sys
from collections.abc import Callable
from typing import Any

from eqxesm.errors import InputError


def run_command(name: str, function: Callable[..., int], *arguments: Any) -> int:
    """Call a function that returns an exit status; an error becomes one line and status 2."""
    try:
        return function(*arguments)
    except InputError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def say(text: str) -> None:
    """Tell on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)
