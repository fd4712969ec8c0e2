"""The licence of a source is read from its card."""

import pytest

from eqxesm.checkpoint.licences import read_licence


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: mit\ntags:\n- esm\n---\n", "mit"),
        ("---\nlicense: 'apache-2.0'\n---\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: house-rules\n---\n", "other"),
        ("---\nlicense_name: cambrian-open-license-agreement\n---\n", None),
        ("---\ntags:\n- esm\n---\nlicense: mit\n", None),
        ("# ESM-C\n", None),
        (None, None),
    ],
)
def test_the_licence_of_a_source_is_that_of_its_card(text, licence, tmp_path):
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert read_licence(tmp_path) == licence
