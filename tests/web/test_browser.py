"""The page in a real browser, from what is pasted to what is downloaded."""

import csv
import gzip
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PROTEIN = "MKVLAAGWDEFFPPLMKVLAAG"
HOSTILE = "<img/src=x/onerror=window.hacked=1>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, which asks no other host for anything."""
    page = browser.new_page()
    expect.set_options(timeout=60_000)
    page.set_default_timeout(60_000)
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(address)
    expect(page.get_by_role("button", name="Predict")).to_be_visible(timeout=60_000)
    yield page
    page.close()
    assert hosts == {address.split("/")[2]}


def test_from_paste_to_download(page, tmp_path):
    page.get_by_label("Proteins", exact=False).first.fill(f">{HOSTILE}\n{PROTEIN}\n>bad\nMK1\n")
    page.get_by_role("button", name="Predict").click()
    table = page.locator("#result-predict table")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("tbody td").first).to_have_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    with page.expect_download() as download:
        page.get_by_role("link", name="Download predictions.csv").click()
    download.value.save_as(tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [HOSTILE, "bad"]
    assert rows[1]["note"].startswith("not predicted")


def test_files_are_read_in_the_browser(page, tmp_path):
    picker, box = page.get_by_label("Proteins: or choose a file"), page.locator("textarea").first
    refusal = page.locator(".refusal")
    large = tmp_path / "large.fasta"
    with open(large, "wb") as file:
        file.truncate(100 * 2**20)
    bomb = tmp_path / "bomb.fasta.gz"
    bomb.write_bytes(gzip.compress(b"A" * 10**7))
    for path, words in ((large, "more than 500,000 bytes"), (bomb, "more than 500,000 bytes")):
        picker.set_input_files(path)
        expect(refusal).to_contain_text(words)
        expect(refusal).to_have_count(1)
    zipped = tmp_path / "proteins.csv.gz"
    zipped.write_bytes(gzip.compress(f"id,sequence\nä,{PROTEIN}\n".encode()))
    picker.set_input_files(zipped)
    expect(box).to_have_value(f"id,sequence\nä,{PROTEIN}\n")
    expect(refusal).to_have_count(0)
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("no sequences here\n")
    picker.set_input_files(nothing)
    expect(box).to_have_value("no sequences here\n")
    page.get_by_role("button", name="Predict").click()
    expect(refusal).to_contain_text("not FASTA")


def test_text_that_is_too_large_is_refused(page):
    box = page.locator("textarea").first
    box.evaluate(
        """box => {
          const clipboardData = new DataTransfer();
          clipboardData.setData('text', 'A'.repeat(2e7));
          box.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator(".refusal")).to_contain_text("the text has more than 500,000 bytes")


def test_one_protein_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("tab", name="One protein").click()
    page.get_by_label("Protein", exact=False).locator("visible=true").first.fill(f">{HOSTILE}\n{PROTEIN}\n")
    for button, result in (("Explain residues", "explain"), ("Map mutations", "scan"), ("Propose designs", "design")):
        page.get_by_role("button", name=button).click()
        expect(page.locator(f"#result-{result} .download")).to_be_visible(timeout=120_000)
    assert page.locator("img.picture").evaluate_all("all => all.map(each => each.naturalWidth > 0)") == [True, True]
    assert all(page.locator("img.picture").evaluate_all("all => all.map(each => each.alt.length > 40)"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("window.hacked") is None


def test_everything_is_named_and_reached_by_keyboard(page):
    fields = page.locator("input:visible, textarea:visible, button:visible")
    assert fields.count() >= 4
    for number in range(fields.count()):
        field = fields.nth(number)
        assert field.evaluate("each => (each.labels && each.labels.length) || each.innerText || each.ariaLabel"), field
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.type || ''"))
    for name in ("Proteins", "textarea", "file", "Use an example", "Predict"):
        assert name in reached, reached
    page.get_by_role("button", name="Use an example").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("textarea").first).to_have_value(re.compile("LYSC_CHICK"))
    page.get_by_role("button", name="Predict").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#result-predict tbody tr")).to_have_count(2)
