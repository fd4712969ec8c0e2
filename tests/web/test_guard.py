"""What the page does not serve, and what it does not send."""

import re

import pytest
from pages import ask, read_download, read_refusal

from eqxesm.web.guard import MAX_BODY
from eqxesm.web.server import make_app


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/upload_progress?upload_id=1",
        "/monitoring/summary",
        "/assets/../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_file_is_served(path, client):
    answer = client.get(path)
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("path", ["upload", "component_server", "process_recording", "run/predict", "stream/1"])
def test_nothing_is_taken_but_requests_to_the_queue(path, client):
    files = {"files": ("a.fasta", b">a\nMK\n")} if path == "upload" else None
    assert client.post(f"/gradio_api/{path}", files=files, json=None if files else {}).status_code == 404


def test_a_file_of_the_server_is_no_input(client):
    """Gradio copies a file that an input names, or fetches it: inputs are texts and numbers."""
    for path in ("/etc/passwd", "http://127.0.0.1:1/", "pyproject.toml"):
        for named in ({"path": path, "meta": {"_type": "gradio.FileData"}}, [path], {"url": path}):
            with pytest.raises(AssertionError, match="expected texts and numbers"):
                ask(client, "predict", named)
    assert "not FASTA" in read_refusal(ask(client, "predict", "/etc/passwd"))
    kinds = {each["type"] for each in client.get("/config").json()["components"]}
    assert not kinds & {"file", "uploadbutton", "image", "downloadbutton"}


def test_large_requests_are_refused(client):
    for content in (b"0" * (MAX_BODY + 1), (b"0" * 2**20 for _ in range(MAX_BODY // 2**20 + 1))):
        answer = client.post("/gradio_api/queue/join", content=content)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith(f"the request has more than {MAX_BODY:,} bytes")


def test_the_page_needs_nothing_from_elsewhere(client):
    """No address of another host where a browser would fetch it: scripts, styles, fonts, pictures."""
    page, style = client.get("/").text, client.get("/theme.css").text
    fetched = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="(https?:)?//', page)
    assert fetched == []
    assert re.findall(r"(?:@import|url\()\s*[\"']?https?:", page + style) == []
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    assert client.get("/config").json()["analytics_enabled"] is False


def test_behind_a_prefix_that_a_proxy_keeps_or_takes_off(service):
    from starlette.testclient import TestClient

    with TestClient(make_app(service, "small", "/proteins")) as client:
        for base in ("http://testserver/proteins/", "http://testserver/"):
            client.base_url = base
            assert client.get("config").json()["root"] == "http://testserver/proteins"
            assert read_download(ask(client, "predict", ">a\nMKVLAAGWDEFF\n"))[0]["id"] == "a"
