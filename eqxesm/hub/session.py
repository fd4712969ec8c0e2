"""The HTTP session of the Hub client, which checks what a Hub answers before the client acts on it."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from eqxesm.config import COMMIT
from eqxesm.errors import InputError

TIMEOUT = 60.0
"""Seconds without data after which a connection counts as cut."""

MAX_RETRY_AFTER = 60.0
"""Longest delay in seconds that is waited because the Hub asks for it."""

_ETAG = re.compile(r"[\w-]{1,200}", re.ASCII)


@contextmanager
def checked_session(where: str) -> Generator[None, None, None]:
    """Check every answer in the block, and give the client a timeout: without one it waits forever."""
    from huggingface_hub.utils import get_session

    def check(response: Any, *_: Any, **__: Any) -> None:
        check_answer(where, response.status_code, response.headers)

    session: Any = get_session()
    if hasattr(session, "event_hooks"):
        hooks, timeout = session.event_hooks, session.timeout
        session.event_hooks = {**hooks, "response": [*hooks["response"], check]}
        session.timeout = TIMEOUT
        try:
            yield
        finally:
            session.event_hooks, session.timeout = hooks, timeout
    else:
        # Before 1.0 the client has a session per thread, which takes no timeout.
        session.hooks["response"].append(check)
        try:
            yield
        finally:
            session.hooks["response"].remove(check)


def check_answer(where: str, status: int, headers: Mapping[str, str]) -> None:
    """Refuse what would lead the client outside its cache, or have it wait for long."""
    commit = headers.get("x-repo-commit")
    if commit is not None:
        # The client makes names of folders and files of these.
        etags = (headers.get(name, "") for name in ("etag", "x-linked-etag"))
        plain = (etag.removeprefix("W/").strip('"') for etag in etags if etag)
        if not COMMIT.fullmatch(commit) or not all(map(_ETAG.fullmatch, plain)):
            raise foreign_answer(where, commit)
    delay = retry_after(headers)
    if status >= 400 and delay is not None and delay > MAX_RETRY_AFTER:
        reason = "rate limit of the Hub reached" if status == 429 else f"the Hub fails (HTTP {status})"
        raise InputError(f"{where}: {reason}. Try again in {delay:.0f} seconds.")


def foreign_answer(where: str, commit: str) -> InputError:
    """The error for an answer that no Hub gives."""
    return InputError(f"{where}: the answer is not that of a Hub (commit {commit[:60]!r}). Check HF_ENDPOINT.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the Hub asks to wait."""
    named = {name.lower(): value.strip() for name, value in headers.items()}
    if re.fullmatch(r"[0-9]+", named.get("retry-after", "")):
        return float(named["retry-after"])
    limit = re.search(r";\s*t=([0-9]+)", named.get("ratelimit", ""))
    return float(limit[1]) if limit else None
