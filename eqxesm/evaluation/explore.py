"""Look at labelled proteins before any model does: what goes with being soluble."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from eqxesm import tables
from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.evaluation.assessment import quantile_bins
from eqxesm.evaluation.explore_plots import PICTURES, draw
from eqxesm.evaluation.features import composition, construct
from eqxesm.evaluation.folder import Kind, check_folder, write_folder
from eqxesm.evaluation.labelled import read_labelled

KIND = Kind("eqxesm explore", "explore.json", PICTURES)
BINS = 10
TAGS = ("no tag", "C-terminal tag", "N-terminal tag", "both tags")
PERCENTILES = {
    "shortest": 0, "5%": 5, "25%": 25, "median": 50, "75%": 75, "95%": 95, "longest": 100,
}  # fmt: skip


def explore_file(
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    sequence_column: str = "sequence",
    label_column: str = "label",
    id_column: str | None = None,
) -> dict[str, Any]:
    """Count what goes with being soluble, and write the report.

    Args:
        data: labelled proteins, FASTA, CSV or TSV.
        out: the folder of the report; an earlier report there is replaced.
        sequence_column: of sequences, where the file is a table.
        label_column: of labels, 1 = soluble, 0 = insoluble.
        id_column: of ids.

    Returns:
        What `explore.json` holds: what was counted, on what, and what was left out.

    Raises:
        InputError: the file or the folder of the report will not do.
    """
    out = check_folder(out, KIND)
    proteins = read_labelled(
        data, sequence_column=sequence_column, label_column=label_column, id_column=id_column
    )
    sequences, labels = proteins.sequences, proteins.labels
    lengths = np.array([len(sequence) for sequence in sequences])
    report = {
        "data": os.fspath(data),
        **proteins.told(),
        "all": _share(labels),
        "lengths": {
            name: {
                key: float(np.percentile(lengths[labels == label], percent))
                for key, percent in PERCENTILES.items()
            }
            for label, name in ((1, "soluble"), (0, "insoluble"))
        },
        "constructs": _constructs(sequences, labels),
        "residues": _residues(sequences, labels),
    }
    write_folder(out, KIND, report, lambda folder: draw(folder, lengths, labels, report))
    return report


def format_exploration(report: Mapping[str, Any]) -> str:
    """Lay the chief figures out for the terminal.

    Args:
        report: what `explore_file` gave.

    Returns:
        Lines of text: the number and the soluble share of all proteins and of each construct.
    """
    groups = [("all", report["all"]), *((row["construct"], row) for row in report["constructs"])]
    return tables.format_text(
        [
            {
                "construct": name,
                "proteins": row["proteins"],
                "soluble": row["soluble"],
                "soluble share": row["soluble_share"],
            }
            for name, row in groups
        ]
    )


def _share(labels: Int[np.ndarray, " _"]) -> dict[str, Any]:
    share = float(labels.mean())
    return {
        "proteins": len(labels),
        "soluble": int(labels.sum()),
        "soluble_share": share,
        "standard_error": float(np.sqrt(share * (1 - share) / len(labels))),
    }


def _constructs(sequences: list[str], labels: Int[np.ndarray, " _"]) -> list[dict[str, Any]]:
    met, n_tag, c_tag = construct(sequences)
    rows = []
    for first in (1, 0):
        for number, tag in enumerate(TAGS):
            chosen = labels[(met == first) & (2 * n_tag + c_tag == number)]
            if len(chosen):
                name = f"{'Met' if first else 'no Met'}, {tag}"
                rows.append({"construct": name, **_share(chosen)})
    return rows


def _residues(
    sequences: list[str], labels: Int[np.ndarray, " _"]
) -> dict[str, list[dict[str, Any]]]:
    """Count the soluble by the frequency of each residue, in bins of like numbers."""
    frequencies = composition(sequences)[:, : len(STANDARD_RESIDUES)].T
    return {
        residue: [
            {"frequency": float(values[chosen].mean()), **_share(labels[chosen])}
            for chosen in quantile_bins(values, BINS)
        ]
        for residue, values in sorted(zip(STANDARD_RESIDUES, frequencies, strict=True))
    }
