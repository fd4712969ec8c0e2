"""Configuration: frozen dataclasses to and from JSON and TOML, strictly and in one way."""

import json
import re
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, TypeAdapter, ValidationError

from eqxesm.errors import InputError
from heads.fields import checked_dataclass, describe_faults

T = TypeVar("T")

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
URL = re.compile(r"https?://[^/\s?#]+/[!-~]+", re.ASCII)


def _match(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


Repository = Annotated[str, _match(REPOSITORY, "the name of a Hub repository, owner/name")]
Commit = Annotated[str, _match(COMMIT, "a commit, 40 lowercase hexadecimal digits")]
Url = Annotated[str, _match(URL, "an http or https address of a file")]
Sha256 = Annotated[str, _match(SHA256, "a SHA-256, 64 lowercase hexadecimal digits")]


@dataclass_transform(frozen_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose fields are checked when it is made.

    Lists are taken for tuples where the field says so. All faults are raised in one `InputError`.
    """
    return checked_dataclass(cls, InputError)


def parse(kind: Any, values: Any, where: object) -> Any:
    """Build a configuration from JSON or TOML values. One `InputError` names every fault."""
    try:
        # Strict JSON mode takes lists for tuples and integers for floats, and nothing else.
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except TypeError:
        raise InputError(f"{where}: dates are not used here. Write text in quotes.") from None
    except ValidationError as error:
        raise InputError(f"{where}: {describe_faults(error, values)}") from None


def describe(config: Any) -> dict[str, Any]:
    """Write a configuration as JSON values, the inverse of `parse`."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")
