"""What tests of the web page ask of it."""

import base64
import csv
import io
import json
import re
import uuid
from typing import Any


def ask(client, name: str, *values: Any) -> str:
    """The HTML that the page shows after a click, by the requests that a browser makes."""
    config = client.get("config").json()
    (function,) = (each["id"] for each in config["dependencies"] if each["api_name"] == name)
    session = uuid.uuid4().hex
    asked = json.dumps({"data": values, "fn_index": function, "session_hash": session, "event_data": None})
    headers = {"content-type": "application/json"}
    joined = client.post("gradio_api/queue/join", content=asked, headers=headers)
    assert joined.status_code == 200, joined.text
    lines = client.get("gradio_api/queue/data", params={"session_hash": session}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    (done,) = (each for each in events if each["msg"] == "process_completed")
    assert done["success"], done
    return done["output"]["data"][0]


def read_download(page: str) -> list[dict[str, str]]:
    """The table that a page offers for download."""
    data = re.search(r'href="data:text/csv;base64,([^"]*)"', page)
    assert data is not None, page
    return list(csv.DictReader(io.StringIO(base64.b64decode(data[1]).decode())))


def read_refusal(page: str) -> str:
    """The one line of a page that refuses."""
    found = re.fullmatch(r'<p class="refusal" role="alert">([^<\n]*)</p>', page)
    assert found is not None, page
    return found[1]
