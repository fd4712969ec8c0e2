"""What the card of the default model tells."""

from collections.abc import Sequence
from typing import Any

from figures import STRIPPED
from pool import COPIES, SHARE_OF_ENDS, SOURCES, Proteins

from eqxesm import ESMC, SolubilityModel
from eqxesm.config import describe
from eqxesm.data.cleaning import Cleaning
from eqxesm.description import format_fields
from eqxesm.encoders.properties import SCALES
from eqxesm.evaluation import fit_baselines
from eqxesm.forms import COVERED, GROUP
from eqxesm.training import TrainConfig
from eqxesm.training.report import describe_hardware, describe_versions

CITATIONS = [
    "DeepSol: Khurana et al. (2018), DeepSol: a deep learning framework for sequence-based protein "
    "solubility prediction, Bioinformatics 34(15), 2605-2613",
    "PLM_Sol: Zhang et al. (2024), PLM_Sol: predicting protein solubility by benchmarking multiple "
    "protein language models with the updated Escherichia coli protein solubility dataset, Briefings "
    "in Bioinformatics 25(5)",
    "ProtSolM: Tan et al. (2024), ProtSolM: protein solubility prediction with multi-modal features, IEEE BIBM",
    "GraphSol: Chen et al. (2021), Structure-aware protein solubility prediction from sequence through graph "
    "convolutional network and predicted contact map, Journal of Cheminformatics 13, 7",
    "eSOL: Niwa et al. (2009), Bimodal protein solubility distribution revealed by an aggregation analysis of the "
    "entire ensemble of Escherichia coli proteins, PNAS 106(11), 4201-4206",
    "UniProt: The UniProt Consortium (2023), UniProt: the Universal Protein Knowledgebase in 2023, Nucleic Acids "
    "Research 51(D1), D523-D531. Its sequences are under CC BY 4.0",
]

LIMITS = [
    "Its encoder is small, and the labels contradict each other: use it to sort many candidates, not to decide about "
    "one.",
    "The labels say whether a construct was soluble when laboratories expressed it in E. coli, or in eSOL's case when "
    "it was made in a cell-free extract. Other hosts, temperatures, fusion partners and buffers are not in the data.",
    "The sources disagree: of identical sequences in DeepSol and PLM_Sol, 18 of 45 have the same label.",
    "Trained on whole chains; a domain cut out of a longer chain is another construct.",
]


def make_record(
    data: Proteins,
    pretrained: ESMC,
    model: SolubilityModel,
    calibrated: Any,
    config: TrainConfig,
    tables: Sequence[dict[str, Any]],
    sets: Sequence[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Write down what was done and measured."""
    parts = model.head.config.parts
    members = sum(part.head.members for part in parts)
    published = [Cleaning().clean(sequence).sequence for sequence in data.sequences]
    auroc = {each["name"]: each["rows"][0]["metrics"]["auroc"]["value"] for each in sets}
    shown = ", ".join(f"{value:.3f} on {name}" for name, value in auroc.items())
    facts = pretrained.about.record.facts if pretrained.about.record else {}
    return {
        "name": "default",
        "summary": f"{members} small heads on composition, on properties of residues along the protein, and on features "
        "of a small language model built like ESM-C, which was pretrained here. It ships with eqxesm so that there is "
        f"something to predict with offline. AUROC, with {STRIPPED}: {shown}.",
        "training": {
            "data": [describe_source(data, name, *SOURCES[name]) for name in SOURCES],
            "hygiene": "Taken out of these sets beforehand: every sequence with an alignment of at least 30% identity "
            "over at least half of either sequence to the DeepSol, PLM_Sol or eSOL test (MMseqs2, as published and once "
            "more with tags stripped), exact duplicates, sequences whose labels conflict, and a row that is DNA. One "
            "fold in ten of whole 30%-identity clusters was held out to stop by. Every protein was in training with "
            f"{COPIES} copies of it, which had random vector residues at {SHARE_OF_ENDS:.0%} of their ends.",
            "datasets": ["proteinea/solubility"],
            "citations": CITATIONS,
            "calibrated_on": f"predictions for folds that were held out in turn, in which {data.labels.mean():.0%} are "
            f"soluble. The interval of a prediction was to hold the share of soluble proteins in {COVERED:.0%} of groups "
            f"of {GROUP} proteins of one source with similar probabilities. In folds that it was not fitted on it held "
            f"{calibrated.covered:.0%}, and in sources that the model had not seen {calibrated.covered_by_source:.0%}",
            "recipe": {
                "Command": "`python model_cards/default/make.py --data DATA --encoder RUN/model`",
                "Encoder": facts.get("summary", "not recorded"),
                "Features": f"the letter of each residue, {len(SCALES)} properties of it, and the first "
                f"{model.encoder.config.encoder.layers} blocks of the encoder",
                **{
                    f"Heads on features {part.start} to {part.stop - 1}": f"{part.head.members} of: "
                    f"{format_fields(part.head.member)}"
                    for part in parts[:2]
                },
                "Heads on composition": f"{parts[2].head.members} of: {format_fields(parts[2].head.member)}",
                "Optimiser": f"AdamW, peak learning rate {config.learning_rate}, weight decay {config.weight_decay}, at "
                f"most {config.epochs} epochs, stopped after {config.patience} without a better held-out loss; encoder "
                "frozen",
                "Seed": config.seed,
                "Hardware": describe_hardware(),
                "Duration": f"{seconds / 60:.0f} minutes for all of this, pretraining aside",
                "Versions": describe_versions(),
            },
        },
        "evaluation": {
            "intervals": "Head and training were chosen by cross-validation on the training proteins, whose table is "
            "therefore a little too good. The test sets decided nothing. In parentheses bootstrap 95% intervals over "
            "proteins (1,000 resamples).",
            "tables": list(tables),
            "sets": list(sets),
        },
        "limits": LIMITS,
        "baselines": describe(fit_baselines(published, data.labels)),
    }


def describe_source(data: Proteins, name: str, source: str, terms: str) -> dict[str, Any]:
    own = data.labels[data.sources == name]
    return {"name": name, "source": source, "license": terms, "proteins": len(own), "soluble": int(own.sum())}
