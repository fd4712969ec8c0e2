"""Results as HTML. Whatever comes from outside is text in it."""

import base64
import html
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqxesm.tables import format_cell, format_separated

Row = Mapping[str, Any]

MAX_NAME = 60
"""Characters of an id in the title of a picture."""

LONG = 40
"""Characters of a cell that is given more room."""

_TEMPLATE = str.maketrans({each: f"&#{ord(each)};" for each in "{}$`\\"})


def escape(text: str) -> str:
    """A text for HTML, of which the page's own templates make nothing either."""
    return html.escape(text).translate(_TEMPLATE)


def show_error(message: str) -> str:
    """A refusal, which screen readers tell at once."""
    return f'<p class="refusal" role="alert">{escape(message)}</p>'


def show_note(message: str) -> str:
    return f'<p class="note">{escape(message)}</p>'


def show_table(rows: Sequence[Row], caption: str) -> str:
    """Rows with the same columns, which scroll within their own box."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    body = "".join(f"<tr>{''.join(map(_show_cell, row.values()))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def show_download(rows: Sequence[Row], name: str) -> str:
    """A link that holds the table itself, so the server keeps no file."""
    data = base64.b64encode(format_separated(rows, list(rows[0]))).decode()
    return f'<p><a class="download" download="{name}" href="data:text/csv;base64,{data}">Download {name}</a></p>'


def show_picture(draw: Callable[[str, Sequence[Any]], None], rows: Sequence[Row], text: str) -> str:
    """A picture of rows by one of `design.plots`, with a text for those who do not see it."""
    named = [{**row, "id": _shorten(row["id"])} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(str(path), named)
        data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<div class="scroll pictures" tabindex="0" role="region" aria-label="{escape(text)}">'
        f'<img class="picture" alt="{escape(text)}" src="data:image/png;base64,{data}"></div>'
    )


def _show_cell(value: Any) -> str:
    text = format_cell(value)
    kind = "number" if isinstance(value, int | float) else "long" if len(text) > LONG else "short"
    return f'<td class="{kind}">{escape(text)}</td>'


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 3]}..."
