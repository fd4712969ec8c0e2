"""Errors of the Hub: retried a few times where that may help, and refused in one line."""

import errno
import logging

import pytest
from hub_models import ENCODER, refusal

from eqxesm import ESMC, InputError
from eqxesm.hub.download import Access, find_checkpoint
from eqxesm.hub.errors import MAX_RETRY_AFTER, RETRY_DELAYS, UnreachableError, ask, explain
from eqxesm.hub.session import TIMEOUT

NAME = "me/encoder"


class Calls:
    """A call that raises the given errors, one after the other, and then returns."""

    def __init__(self, *failures: BaseException):
        self.failures = list(failures)
        self.count = 0

    def __call__(self, *_: object, **__: object) -> str:
        self.count += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


@pytest.fixture
def http_error(published):
    """Make the error that the client raises for an answer of the Hub."""

    def make(status: int, **headers: str) -> Exception:
        published.fail("GET", "/api/models/", status=status, headers=headers)
        try:
            Access().api().model_info(NAME)
        except Exception as error:
            return error
        raise AssertionError("the client raises an error")

    return make


# Retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_call_is_tried_four_times_with_growing_delays(status, http_error, delays):
    for failures in range(len(RETRY_DELAYS) + 1):
        call = Calls(*(http_error(status) for _ in range(failures)))
        delays.clear()
        assert ask(call, NAME) == "done"
        assert delays == list(RETRY_DELAYS[:failures])
    call = Calls(*(http_error(status) for _ in range(9)))
    delays.clear()
    message = refusal(ask, call, NAME)
    assert f"{NAME}: the Hub fails (HTTP {status})" in message or (status == 429 and "rate limit" in message)
    assert (call.count, delays) == (4, [1.0, 3.0, 9.0])


def test_further_tries_use_the_other_call(http_error, delays):
    call, again = Calls(http_error(500)), Calls(http_error(500))
    assert ask(call, NAME, again=again) == "done"
    assert (call.count, again.count, delays) == (1, 2, [1.0, 3.0])


def test_what_must_not_be_repeated_is_not_retried(http_error, delays):
    call = Calls(http_error(503))
    assert "the Hub fails (HTTP 503)" in refusal(ask, call, NAME, retry=False)
    assert (call.count, delays) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 412, 413, 451])
def test_a_refusal_is_not_retried(status, http_error, delays):
    call = Calls(http_error(status))
    refusal(ask, call, NAME)
    assert (call.count, delays) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        InputError("said already"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EACCES, "Permission denied"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TypeError("a mistake in a program"),
    ],
)
def test_retries_nothing_that_would_fail_again(error, delays):
    call = Calls(error)
    refusal(ask, call, NAME)
    assert (call.count, delays) == (1, [])


@pytest.mark.parametrize(
    "error", [ConnectionResetError(errno.ECONNRESET, "reset"), OSError("Consistency check failed: 3 bytes of 7")]
)
def test_a_cut_connection_is_retried(error, delays):
    call = Calls(error)
    assert ask(call, NAME) == "done"
    assert (call.count, delays) == (2, [1.0])


def test_an_interrupt_passes_through(monkeypatch, delays):
    call = Calls(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ask(call, NAME)
    assert (call.count, delays) == (1, [])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", Calls(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        find_checkpoint(NAME)


# Rate limits


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"RateLimit": '"api";r=0;t=7'}, 7.0),
        (503, {"Retry-After": "7"}, 7.0),
        (429, {"Retry-After": "60"}, MAX_RETRY_AFTER),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, RETRY_DELAYS[0]),
        (429, {"Retry-After": "-5"}, RETRY_DELAYS[0]),
        (500, {"Retry-After": "7"}, RETRY_DELAYS[0]),
    ],
)
def test_the_hub_may_ask_for_a_delay(status, headers, expected, http_error, delays):
    call = Calls(http_error(status, **headers))
    delays.clear()
    assert ask(call, NAME) == "done"
    assert delays == [expected]


@pytest.mark.parametrize("seconds", [61, 1800, 10**12])
def test_a_long_delay_is_named_and_not_slept(seconds, published, delays):
    published.fail("GET", "/api/models/", times=99, status=429, headers={"Retry-After": str(seconds)})
    message = refusal(find_checkpoint, NAME)
    assert message == f"{NAME}: rate limit of the Hub reached. Try again in {seconds} seconds."
    assert delays == []


@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=7'}])
@pytest.mark.parametrize("path", ["/api/models/", "/resolve/"])
def test_a_download_waits_out_a_rate_limit(path, headers, published, delays):
    published.fail("GET", path, times=2, status=429, headers=headers)
    assert find_checkpoint(NAME).is_dir()
    assert delays
    assert all(7 <= delay <= 8 for delay in delays)


# Server errors during a download


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_download_waits_out_a_server_error(status, published, delays):
    published.fail("GET", "/api/models/", times=3, status=status)
    assert find_checkpoint(NAME).is_dir()
    assert delays[: len(RETRY_DELAYS)] == list(RETRY_DELAYS)


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/models/"), ("HEAD", "/resolve/"), ("GET", "/resolve/")])
def test_a_server_that_always_fails_is_given_up(method, path, published, delays):
    published.fail(method, path, times=9999, status=503)
    assert "the Hub fails (HTTP 503). Try later." in refusal(find_checkpoint, NAME)
    # The client retries on its own account besides.
    assert [delay for delay in delays if delay in RETRY_DELAYS and delay > 2] == list(RETRY_DELAYS[1:])
    assert len(published.requests) < 100
    published.faults.clear()
    assert ESMC.from_pretrained(NAME).config == ENCODER.config


# Messages


@pytest.mark.parametrize(
    ("status", "part"),
    [
        (400, "refused by the Hub (HTTP 400: "),
        (401, "the Hub does not know this login"),
        (402, "your login lacks the rights"),
        (403, "your login lacks the rights"),
        (412, "somebody changed the repository in the meantime"),
        (413, "refused by the Hub (HTTP 413: "),
        (429, "rate limit of the Hub reached. Try again later."),
        (451, "refused by the Hub (HTTP 451: "),
        (500, "the Hub fails (HTTP 500). Try later."),
    ],
)
def test_every_status_is_explained(status, part, http_error):
    message = str(explain(http_error(status), NAME))
    assert message.startswith(f"{NAME}: ")
    assert part in message
    assert "token-" not in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "part"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "disk quota reached"),
        (errno.EFBIG, "file too large for this disk"),
        (errno.EACCES, "no permission to write to the cache"),
        (errno.EPERM, "no permission to write to the cache"),
        (errno.EROFS, "no permission to write to the cache"),
    ],
)
def test_every_error_of_the_disk_is_explained(number, part):
    try:
        try:
            raise OSError(number, "said by the system")
        except OSError as error:
            raise RuntimeError("the client wraps it") from error
    except RuntimeError as error:
        found = explain(error, NAME)
    assert f"{NAME}: {part}" in str(found)
    assert "HF_HOME" in str(found)
    assert not isinstance(found, UnreachableError)


def test_a_refusal_is_given_during_a_download(published):
    for status in (400, 413, 451):
        published.fail("GET", "/api/models/", status=status)
        assert f"refused by the Hub (HTTP {status}" in refusal(find_checkpoint, NAME)


def test_a_gated_repository_names_its_terms(published):
    published.fail("GET", "/api/models/", status=403, headers={"X-Error-Code": "GatedRepo"})
    assert "gated. Accept its terms on its page, and log in" in refusal(find_checkpoint, NAME)


def test_a_mistake_in_a_program_is_not_taken_for_a_missing_network(published, monkeypatch, caplog):
    """The cache, which may hold an older commit, must not take its place without a word."""
    find_checkpoint(NAME)
    published.requests.clear()
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", Calls(TypeError("a mistake")))
    assert refusal(find_checkpoint, NAME) == f"{NAME}: failed (TypeError: a mistake)"
    assert "cached" not in caplog.text


def test_a_chain_of_errors_without_an_end_is_followed_only_so_far():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "failed (ValueError: " in str(explain(first, NAME))


def test_a_long_message_of_the_client_is_shortened():
    message = str(explain(ConnectionResetError("x\ny" * 10_000), NAME))
    assert len(message) < 400
    assert len(message.splitlines()) == 1


# The client


def test_a_hub_that_never_answers_is_given_up(hub, monkeypatch):
    from huggingface_hub.utils import get_session

    if not hasattr(get_session(), "timeout"):
        pytest.skip("the older client takes no timeout")
    monkeypatch.setattr("eqxesm.hub.session.TIMEOUT", 0.2)
    monkeypatch.setattr("eqxesm.hub.errors.RETRY_DELAYS", (0.0,))
    hub.fail("POST", "/api/repos/create", times=9, stall=1.0)
    assert "the Hub cannot be reached" in refusal(ENCODER.push_to_hub, NAME)
    assert hub.requests.count(("POST", "/api/repos/create")) == 2


@pytest.mark.usefixtures("hub")
def test_the_timeout_holds_for_the_call_alone():
    from huggingface_hub.utils import get_session

    if not hasattr(get_session(), "timeout"):
        pytest.skip("the older client takes no timeout")
    before = get_session().timeout
    assert ask(lambda: get_session().timeout.read, NAME) == TIMEOUT
    assert get_session().timeout == before


@pytest.mark.usefixtures("hub")
def test_the_log_of_the_client_is_silent_but_for_its_waiting():
    import huggingface_hub  # noqa: F401

    logger, shown = logging.getLogger("huggingface_hub"), []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    logger.addHandler(handler)
    try:
        ask(lambda: (logger.warning("Something went wrong"), logger.warning("Rate limited. Waiting 7s")), NAME)
        assert shown == ["Rate limited. Waiting 7s"]
        logger.warning("Something went wrong")
        assert shown[1:] == ["Something went wrong"]
    finally:
        logger.removeHandler(handler)
