"""A table of proteins, and what reading a file refuses."""

import pytest

from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError

CSV = "name,sequence,label\na,MKV,1\nb,,0\n\nc, mk ,\n"


def refusal(path, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        list(read_proteins(path, *arguments, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message
