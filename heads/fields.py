"""Field types that configurations share, and the dataclass decorator that checks them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Annotated, Any, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Lt, MaxLen
from pydantic import AfterValidator, ConfigDict, Strict, ValidationError
from pydantic.dataclasses import dataclass

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = Annotated[int, Ge(1), Lt(2**31)]
# The product of three fits in 64 bits, so that what is too large is refused and not crashed on.
Width = Annotated[int, Ge(1), Lt(2**20)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
# A configuration with thousands of layers would take hours to build.
Widths = Annotated[tuple[Width, ...], Strict(False), MaxLen(64)]
# Numbers that a head makes of a protein; None for one, without an axis of its own.
Outputs = Annotated[int, Ge(1), Lt(2**12)] | None


def _check_odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("expected an odd number, so that the kernel has a centre")
    return size


OddWidth = Annotated[Width, AfterValidator(_check_odd)]

_WORDS = {
    "Input should be": "expected",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "text in quotes",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "an object": "a table of keys and values",
    "Tuple should have": "expected",
    " after validation, not ": ", got ",
    "Value error, ": "",
}
"""Pydantic's words, and plainer ones."""


def describe_faults(error: ValidationError, values: Any = None) -> str:
    """Name every fault on one line; `values` is the input that was refused."""
    faults = error.errors()
    # A tuple counts as too short by each of its wrong items, which are named themselves.
    named = {fault["loc"][:-1] for fault in faults}
    faults = [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in named]
    return "; ".join(_describe(fault, values) for fault in faults)


def _describe(fault: Mapping[str, Any], values: Any) -> str:
    key = ".".join(_path(fault["loc"], values))
    if fault["type"] in ("missing", "missing_argument"):
        return f"missing key {key!r}"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {key!r}"
    if fault["type"] == "union_tag_not_found":
        return f"missing key {f'{key}.type'.lstrip('.')!r}"
    shown = fault["input"]
    if fault["type"] == "union_tag_invalid":
        expected = fault["ctx"]["expected_tags"]
        return f"{f'{key}.type'.lstrip('.')} is {shown.get('type')!r}, expected one of {expected}"
    message = fault["msg"]
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    # A check across several fields names them itself.
    if fault["type"] == "value_error" and not isinstance(shown, str | int | float | list | tuple):
        return f"{key}: {message}" if key else message
    text = repr(shown)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{key} is {text}: {message}" if key else f"got {text}: {message}"


def _path(location: Sequence[Any], values: Any) -> Iterator[str]:
    """Drop what is no key of the input: the tags of unions."""
    for item, following in zip_longest(location, location[1:]):
        is_key = isinstance(values, Mapping) and item in values
        is_index = isinstance(values, list | tuple) and isinstance(item, int)
        # A tag may be the name of a key beside the one that it leads to.
        if is_key and following in values and not isinstance(values[item], Mapping):
            continue
        if is_key or is_index:
            values = values[item]
        elif following is not None and values is not None:
            continue
        yield str(item)


def checked_dataclass(cls: type[T], error: type[ValueError]) -> type[T]:
    """Make `cls` a frozen, strict pydantic dataclass that raises `error` with one line."""
    made: Any = dataclass(cls, frozen=True, config=STRICT)
    check = made.__init__
    names = [field.name for field in dataclasses.fields(made)]

    @functools.wraps(check)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} has {len(names)} fields, got {len(args)} values")
        # By name, since pydantic would name a fault in another one by its position.
        given = dict(zip(names, args, strict=False))
        try:
            check(self, **given, **kwargs)
        except ValidationError as refused:
            raise error(f"{cls.__name__}: {describe_faults(refused, {**given, **kwargs})}") from None

    made.__init__ = __init__
    return made


def leave_out_unset(self: Any, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Write a configuration without the fields that are not set, for `model_serializer(mode="wrap")`."""
    return without_none(serialise(self))


def without_none(values: Any) -> Any:
    """Leave out null, which TOML cannot hold."""
    if isinstance(values, dict):
        return {key: without_none(each) for key, each in values.items() if each is not None}
    if isinstance(values, list):
        return [without_none(each) for each in values]
    return values


@dataclass_transform(frozen_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose fields are checked when it is made.

    Lists are taken for tuples. All faults are raised in one `ValueError` of one line.
    """
    return checked_dataclass(cls, ValueError)
