"""The page itself: its parts, and what happens when they are used."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from eqxesm.design.plots import draw_attribution, draw_scan
from eqxesm.errors import InputError
from eqxesm.web import results, words
from eqxesm.web.inputs import MAX_BYTES
from eqxesm.web.service import MAX_MUTATIONS, Service

WAITING = 64
"""Requests that may wait. One is worked on at a time, as it takes every core."""

HERE = Path(__file__).parent

EXAMPLE = (
    ">P00698|LYSC_CHICK hen egg-white lysozyme C\n"
    "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLCNIPCSALLSSDITASVNCAKKIVSDGNGMN"
    "AWVAWRNRCKGTDVQAWIRGCRL\n"
)
SECOND = (
    ">P61823|RNAS1_BOVIN bovine pancreatic ribonuclease A\n"
    "KETAAAKFERQHMDSSTSAASSSNYCNQMMKSRNLTKDRCKPVNTFVHESLADVQAVCSQKNVACKNGQTNCYQSYSTMSITDCRETGSSKYPNCAYKTTQANKHI"
    "IVACEGNPYVPVHFDASV\n"
)

# More than the server takes is not sent: what is left is over its limit, and it says so.
CLIP = f"(...values) => values.map((each) => typeof each === 'string' ? each.slice(0, {MAX_BYTES + 1}) : each)"

PICKED = """(picked) => {
  const shown = document.createElement('p');
  shown.className = 'refusal';
  shown.setAttribute('role', 'alert');
  shown.textContent = picked.refusal;
  return [picked.text, picked.refusal ? shown.outerHTML : ''];
}"""

PICKER = """<div class="picker"><label>{label}<br>
<input type="file" data-limit="{limit}" accept=".fasta,.fa,.faa,.fas,.csv,.tsv,.txt,.gz"></label></div>"""

_log = logging.getLogger(__name__)

Handler = Callable[..., str]


def make_page(service: Service, name: str) -> gr.Blocks:
    """The page of a model, by the name that people know it by."""
    with gr.Blocks(title="eqxesm: protein solubility", analytics_enabled=False) as page:
        gr.HTML(words.show_introduction(service, name))
        if service.solubility:
            with gr.Tab("Proteins"):
                _add_proteins(service)
            with gr.Tab("One protein"):
                _add_one(service)
        else:
            _add_proteins(service)
        with gr.Accordion("What the numbers mean", open=False):
            gr.HTML(words.show_meanings(service))
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    return page


def _add_proteins(service: Service) -> None:
    text, refusal = _add_input(
        "Proteins", f"FASTA, or a table (CSV) with columns id and sequence. {words.LIMITS}", EXAMPLE + SECOND
    )
    button = gr.Button("Predict", variant="primary")
    _on_click(button, partial(_predict, service), [text], "predict", refusal)


def _add_one(service: Service) -> None:
    text, refusal = _add_input("Protein", words.ONE_LIMITS, EXAMPLE)
    with gr.Row():
        explain = gr.Button("Explain residues", variant="primary")
        scan = gr.Button("Map mutations", variant="primary")
    with gr.Group():
        mutations = gr.Slider(1, MAX_MUTATIONS, value=3, step=1, label="Mutations in a design, at most")
        with gr.Row():
            fixed = gr.Textbox(label="Fixed positions", info="Such as 1-20,57. They do not change.")
            forbidden = gr.Textbox(label="Forbidden residues", info="Such as CM. No design has one.")
        design = gr.Button("Propose designs", variant="primary")
    _on_click(explain, partial(_explain, service), [text], "explain", refusal)
    _on_click(scan, partial(_scan, service), [text], "scan", refusal)
    _on_click(design, partial(_design, service), [text, mutations, fixed, forbidden], "design", refusal)


def _add_input(label: str, info: str, example: str) -> tuple[gr.Textbox, gr.HTML]:
    """A box for a text, which may come from a file, and where a file is refused."""
    text = gr.Textbox(label=label, info=info, lines=8, max_lines=8, placeholder=">name\nMSEQUENCE...")
    with gr.Row():
        picker: Any = gr.HTML(
            html_template=PICKER.format(label=f"{label}: or choose a file", limit=MAX_BYTES),
            js_on_load=(HERE / "picker.js").read_text(encoding="utf-8"),
        )
        filled = gr.Button("Use an example", size="sm")
    refusal = gr.HTML()
    picker.picked(None, [picker], [text, refusal], js=PICKED, api_visibility="private")
    filled.click(None, None, [text, refusal], js=f"() => [{example!r}, '']", api_visibility="private")
    return text, refusal


def _on_click(button: gr.Button, handler: Handler, inputs: list[Any], name: str, refusal: gr.HTML) -> None:
    """Have a button show what comes of its inputs, below it."""
    result = gr.HTML(elem_id=f"result-{name}", min_height=60)
    button.click(
        partial(_answer, handler),
        inputs,
        [result, refusal],
        js=CLIP,
        api_name=name,
        concurrency_id="model",
        concurrency_limit=1,
    )


def _answer(handler: Handler, *values: Any) -> tuple[str, str]:
    """A result, or a refusal in one line."""
    try:
        return handler(*values), ""
    except InputError as error:
        return results.show_error(str(error)), ""
    except Exception:
        _log.exception("a request failed")
        return results.show_error("the page failed on this input. That is a fault of the program, not of yours."), ""


def _predict(service: Service, text: str) -> str:
    rows = service.predict(text)
    return results.show_download(rows, "predictions.csv") + results.show_table(rows, "Predictions")


def _explain(service: Service, text: str) -> str:
    rows = service.explain(text)
    strongest = max((row for row in rows if row["attribution"] is not None), key=lambda row: abs(row["attribution"]))
    told = (
        "The protein, each residue coloured by what it contributes to the logit of being soluble. The largest is "
        f"{strongest['attribution']:+.2f}, of {strongest['residue']}{strongest['position']}. The table has all."
    )
    return results.show_picture(draw_attribution, rows, told) + results.show_download(rows, "attribution.csv")


def _scan(service: Service, text: str) -> str:
    rows = service.scan(text)
    best = max(rows, key=lambda row: row["delta_logit"])
    told = (
        "How the logit of being soluble changes with each substitution, to first order. The largest gain is "
        f"{best['delta_logit']:+.2f}, of {best['wild_type']}{best['position']}{best['mutant']}. The table has all."
    )
    return results.show_picture(draw_scan, rows, told) + results.show_download(rows, "scan.csv")


def _design(service: Service, text: str, mutations: int | float, fixed: str, forbidden: str) -> str:
    rows = service.design(text, mutations, fixed, forbidden)
    if not rows:
        return results.show_note("No design within the constraints is predicted to be more soluble.")
    caution = results.show_note(f"Note: {words.NO_EXPERIMENT}")
    return caution + results.show_download(rows, "designs.csv") + results.show_table(rows, "Designs, the best first")
