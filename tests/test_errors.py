"""Messages are one printable line of bounded length."""

import sys

import pytest

from eqxesm.errors import InputError, missing_extra, one_line, pluralise


def test_nothing_odd_reaches_the_terminal():
    error = InputError("a\x1b[31mname\nof\u202ea file")
    assert str(error).isprintable()
    assert str(error) == "a\ufffd[31mname of\ufffda file"
    assert len(str(InputError("x" * 10**6))) < 2100


def test_both_ends_of_a_long_message_are_shown():
    message = str(InputError("begin " + "x" * 10**4 + " end"))
    assert message.startswith("begin x")
    assert message.endswith("x end")


def test_an_error_of_another_library_is_put_on_one_line():
    assert one_line(ValueError("a\n   b\t\tc")) == "a b c"
    assert one_line(ValueError("x" * 300)) == "x" * 200
    assert one_line(ValueError("abc"), 2) == "ab"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 proteins"), (1, "1 protein"), (2, "2 proteins"), (2000, "2,000 proteins")]
)
def test_counts_agree_with_their_noun(number, text):
    assert pluralise(number, "protein") == text


def test_a_missing_package_names_the_extra():
    message = str(missing_extra("pyarrow", "parquet"))
    assert message == f'pyarrow is not installed. Run: {sys.executable} -m pip install "eqxesm[parquet]"'
