"""What the page says of itself: limits, and what each number means."""

from eqxesm.description import describe_model
from eqxesm.design.designs import NO_EXPERIMENT
from eqxesm.domain import UNLIKE
from eqxesm.errors import printable
from eqxesm.predict import WEAK
from eqxesm.protein_model import DEFAULT
from eqxesm.web.inputs import MAX_BYTES, MAX_ONE, MAX_PROTEINS, MAX_RESIDUES
from eqxesm.web.results import escape
from eqxesm.web.service import Service

LIMITS = (
    f"At most {MAX_PROTEINS:,} proteins, {MAX_RESIDUES:,} residues in each and {MAX_BYTES:,} bytes in all. "
    "Larger files: eqxesm predict, on your own machine."
)

ONE_LIMITS = f"FASTA with one record, or the sequence alone; at most {MAX_ONE:,} residues."


def show_introduction(service: Service, name: str) -> str:
    """What the page is for, by which model, and how far to trust it."""
    task = "The probability that a protein is soluble when it is expressed in <i>E. coli</i>, from its sequence."
    if service.solubility is None:
        task = "What a model that was trained on an assay predicts of a protein, from its sequence."
    weak = f" {WEAK[0].upper()}{WEAK[1:]}" if name == DEFAULT else ""
    return (
        f"<h1>eqxesm</h1><p>{task} Model: <b>{escape(printable(name))}</b>.</p>"
        f'<p class="warning"><b>A prediction is no experiment.</b>{escape(weak)}</p>'
    )


def show_meanings(service: Service) -> str:
    """What each number means, by heading."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{text}</dd>' for name, text in _meanings(service).items())}</dl>"


def _meanings(service: Service) -> dict[str, str]:
    told = describe_model(service.model)
    if service.solubility is None:
        predicted = {name: escape(text) for name, text in told.items() if name.startswith("predicts ")}
        return {**predicted, "note": _NOTE, **_cautions(told)}
    interval = escape(told.get("interval", "This model has none, so the columns are empty."))
    domain = "This model has no limit to tell it by, so no note says it."
    if "domain" in told:
        domain = f"A note: {escape(told['domain'])} Trust such a prediction less."
    meanings = {
        "probability": "Between 0 and 1, calibrated: of proteins with 0.7, about 7 in 10 were soluble among held-out "
        "proteins like those the model was trained on. Your host, temperature and construct may differ.",
        "soluble": f"Yes, if the probability is at least {service.solubility.calibration.threshold:.2f}.",
        "interval_low, interval_high": f"{interval} Another laboratory may differ more.",
        UNLIKE: domain,
        "note": _NOTE,
        "attribution": "What each residue contributes to the logit of being soluble, by integrated gradients: above 0, "
        "it speaks for being soluble; below, against. All add up to the difference to a protein whose residues are an "
        "even mixture. It tells what the model reads, not what happens in the cell.",
        "first-order scan": "How the logit would change if one residue were replaced, estimated for all substitutions "
        "from one gradient. It is rough: compute those that you mean to use with eqxesm scan.",
        "designs": "Variants with few mutations that are predicted to be more soluble. left_out_after is the "
        "probability by members of the model that took no part in the search: a gain that they do not see is one of "
        "the search alone.",
        "naturalness": _naturalness(service),
    }
    return {**meanings, **_cautions(told)}


_NOTE = "What was changed in the sequence before it was read, what is unusual about it, or why it was not predicted."


def _naturalness(service: Service) -> str:
    if service.has_language_model:
        return (
            "llr and naturalness_change: the change of the log-likelihood by a language model, in nats. Above 0, the "
            "variant looks more like proteins in nature; far below, it may not fold."
        )
    return (
        "How much a variant looks like proteins in nature, by a language model. This model has none, so the page does "
        "not tell it, and a design may not fold. eqxesm scan and eqxesm design take one with --language-model."
    )


def _cautions(told: dict[str, str]) -> dict[str, str]:
    limits = f"{escape(told['limits'])}. {escape(LIMITS)}"
    return {"what to trust": escape(f"{NO_EXPERIMENT[0].upper()}{NO_EXPERIMENT[1:]}"), "limits": limits}
