"""Licences of weights as cards state them; https://huggingface.co/docs/hub/repositories-licenses."""

import re
from pathlib import Path

from eqxesm.checkpoint.record import CARD
from eqxesm.files import checked_path, read_text

OTHER_LICENCES = {
    name: f"https://www.evolutionaryscale.ai/policies/{name}"
    for name in ("cambrian-open-license-agreement", "cambrian-non-commercial-license-agreement")
}
"""Licences that the Hub has no identifier for, and where their text is: EvolutionaryScale's, for 300M and for 600M."""


def read_licence(folder: Path) -> str | None:
    """The licence that the card of a folder states: the Hub's identifier, or the name of another one that is known."""
    if not (folder / CARD).is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", read_text(checked_path(folder, CARD)), re.DOTALL)
    fields = dict(re.findall(r"^(license|license_name): *['\"]?([\w.-]+)", front[1], re.MULTILINE)) if front else {}
    stated = fields.get("license")
    name = fields.get("license_name", "").lower()
    return name if stated == "other" and name in OTHER_LICENCES else stated


def licence_fields(licence: str | None) -> dict[str, str]:
    """The metadata of a card that state a licence."""
    if not licence:
        return {}
    if licence in OTHER_LICENCES:
        return {"license": "other", "license_name": licence, "license_link": OTHER_LICENCES[licence]}
    return {"license": licence}
