"""A first look at labelled proteins, before any model: what goes with being soluble."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from eqxesm import tables
from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.protein import Columns
from eqxesm.evaluation.assess import quantile_bins
from eqxesm.evaluation.explore_plots import PICTURES, draw_exploration
from eqxesm.evaluation.features import composition, construct
from eqxesm.evaluation.labelled import read_labelled
from eqxesm.evaluation.report_folder import ReportType, check_report_folder, write_report

REPORT = ReportType("eqxesm explore", "explore.json", PICTURES)
BINS = 10
TAGS = ("no tag", "C-terminal tag", "N-terminal tag", "both tags")
PERCENTILES = {
    "shortest": 0, "5%": 5, "25%": 25, "median": 50, "75%": 75, "95%": 95, "longest": 100,
}  # fmt: skip


def explore_file(data: str | os.PathLike, out: str | os.PathLike, columns: Columns = Columns()) -> dict[str, Any]:
    """Count classes, lengths, constructs and residues, write the report folder `out`, return it."""
    out = check_report_folder(out, REPORT)
    proteins = read_labelled(data, columns)
    sequences, labels = proteins.sequences, proteins.labels
    lengths = np.array([len(sequence) for sequence in sequences])
    report = {
        "data": os.fspath(data),
        **proteins.describe_left_out(),
        "all": _count_soluble(labels),
        "lengths": {
            name: {key: float(np.percentile(lengths[labels == label], percent)) for key, percent in PERCENTILES.items()}
            for label, name in ((1, "soluble"), (0, "insoluble"))
        },
        "constructs": _count_constructs(sequences, labels),
        "residues": _count_residues(sequences, labels),
    }
    write_report(out, REPORT, report, lambda folder: draw_exploration(folder, lengths, labels, report))
    return report


def format_exploration(report: Mapping[str, Any]) -> str:
    """The main figures as a table for the terminal."""
    groups = [("all", report["all"]), *((row["construct"], row) for row in report["constructs"])]
    shown = {"proteins": "proteins", "soluble": "soluble", "soluble share": "soluble_share"}
    rows = [{"construct": name, **{title: row[key] for title, key in shown.items()}} for name, row in groups]
    return tables.format_table(rows)


def _count_soluble(labels: Int[np.ndarray, " _"]) -> dict[str, Any]:
    share = float(labels.mean())
    return {
        "proteins": len(labels),
        "soluble": int(labels.sum()),
        "soluble_share": share,
        "standard_error": float(np.sqrt(share * (1 - share) / len(labels))),
    }


def _count_constructs(sequences: list[str], labels: Int[np.ndarray, " _"]) -> list[dict[str, Any]]:
    met, n_tag, c_tag = construct(sequences)
    rows = []
    for first in (1, 0):
        for number, tag in enumerate(TAGS):
            chosen = labels[(met == first) & (2 * n_tag + c_tag == number)]
            if len(chosen):
                name = f"{'Met' if first else 'no Met'}, {tag}"
                rows.append({"construct": name, **_count_soluble(chosen)})
    return rows


def _count_residues(sequences: list[str], labels: Int[np.ndarray, " _"]) -> dict[str, list[dict[str, Any]]]:
    """Soluble proteins by the frequency of each residue, in bins of about equal numbers."""
    frequencies = composition(sequences)[:, : len(STANDARD_RESIDUES)].T
    return {
        residue: [
            {"frequency": float(values[chosen].mean()), **_count_soluble(labels[chosen])}
            for chosen in quantile_bins(values, BINS)
        ]
        for residue, values in sorted(zip(STANDARD_RESIDUES, frequencies, strict=True))
    }
