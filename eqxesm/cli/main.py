"""The `eqxesm` command, and how commands end: exit status, errors in one line, Ctrl-C."""

# Little is imported here: the rest is imported below, where Ctrl-C is caught.
import _thread
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

from eqxesm.errors import InputError, one_line

INTERRUPTED = 130
"""Exit status after Ctrl-C, by the custom of shells."""


def start() -> None:
    """Run the command of this process, and end it with the exit status."""
    sys.unraisablehook = _repeat_interrupt
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    status = main()
    if status == INTERRUPTED:
        # A second Ctrl-C must not disturb the end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not within an import: compiled modules crash, or make another error of it."""
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _interrupt_soon()
            return
        frame = frame.f_back
    if isinstance(sys.exception(), KeyboardInterrupt):
        # One is on its way, and what it leaves is being cleaned up.
        return
    # Compiled modules may drop it: then it comes again.
    _interrupt_soon(1)
    raise KeyboardInterrupt


def _interrupt_soon(seconds: float = 0.01) -> None:
    timer = threading.Timer(seconds, _thread.interrupt_main)
    timer.daemon = True
    timer.start()


def _repeat_interrupt(unraisable: "sys.UnraisableHookArgs") -> None:
    """Interrupt again, a little later, where Python dropped it: within a finaliser or the like."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _interrupt_soon()
    else:
        sys.__unraisablehook__(unraisable)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. The exit status is 0, 2 after an error, or 130 after Ctrl-C."""

    def run() -> int:
        from eqxesm.cli.parser import run

        return run(arguments)

    return run_command("eqxesm", run)


def run_command(name: str, call: Callable[[], int]) -> int:
    """Call a function that returns an exit status; an error becomes one line and status 2."""
    try:
        _open_streams()
        try:
            from eqxesm.cli.log import show_log

            with show_log(name):
                return call()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, `head` for example, has enough.
        _discard_output()
        return 0
    except KeyboardInterrupt as interrupt:
        print(f"{name}: interrupted, {str(interrupt) or 'nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        message = _explain(error)
        if message is None:
            raise
        print(f"{name}: error: {message}", file=sys.stderr)
        return 2


def _explain(error: Exception) -> str | None:
    """One line for an error that people can do something about; None for a fault of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.filename is None:
        _discard_output()
        return f"the output cannot be written ({error.strerror or one_line(error)})"
    frames = traceback.extract_tb(error.__traceback__)
    # JAX looks for its devices when the first is needed, and fails by whatever exception.
    if any(frame.filename.endswith("xla_bridge.py") for frame in frames):
        platforms = os.environ.get("JAX_PLATFORMS", "not set")
        return f"JAX finds no device (JAX_PLATFORMS: {platforms}). Unset it, or install JAX for that device."
    return None


def _open_streams() -> None:
    """Give closed streams something to read and write, and write any character to the others."""
    # The next file that is opened would otherwise take the place of a closed stream.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin = sys.stdin or os.fdopen(0, "r")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    # One that is opened for reading refuses what is printed to it.
    sys.stdout = sys.stdout or os.fdopen(1, "r")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.writable():
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Send what is still buffered to nowhere, so that Python does not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
