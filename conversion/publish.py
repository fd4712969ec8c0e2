"""Publishing a port, with its parity with the torch original on the card."""

from pathlib import Path

from eqxesm.checkpoint.record import without_folders
from eqxesm.encoders import ESMC
from eqxesm.encoders.published.reader import PublishedCheckpoint
from eqxesm.errors import InputError, missing_extra
from eqxesm.hub.upload import upload


def add_parity(folder: Path, source: PublishedCheckpoint, reports: Path | None = None) -> float:
    """Compare a port with its torch original, and write the figures into its folder and card.

    The report goes to the folder `reports`, if that is given. Returns the largest relative L2 distance.
    """
    try:
        from conversion.check import check_port
        from conversion.report import draw_report, save_report
    except ImportError as error:
        missing = missing_extra(error.name or "torch", "convert")
        raise InputError(f"{missing}. Or port without --parity, and publish with --no-parity.") from error
    report = check_port(folder, source)
    if reports is not None:
        save_report(report, reports)
    kept = ("original", "dtype", "device", "tolerance", "weights", "date")
    largest = max(rung["relative_l2"] for case in report["cases"] for rung in case["rungs"].values())
    facts = {
        "summary": f"A port of {without_folders(source.name)}, tensor by tensor.",
        "parity": [{**{key: report[key] for key in kept}, "distance": largest, "versions": report["versions"]}],
    }
    ESMC.from_folder(folder).save_pretrained(folder, facts, {"parity.png": draw_report(report)})
    return largest


def publish(folder: Path, repository: str, source: str, private: bool) -> str:
    """Upload a port. After an error it is still whole, and the message says how to push it."""
    try:
        message = f"Port of {without_folders(source)} to eqxesm"
        return upload(folder, repository, private=private, commit_message=message)
    except InputError as error:
        raise InputError(f"{error} The port is whole. Push it with: eqxesm push {folder} {repository}") from error
