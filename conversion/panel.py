"""The proteins that a port is checked on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from eqxesm.alphabet import PAD, VOCAB_SIZE, Tokenizer

PROTEINS: dict[str, str] = {
    "BPTI": (
        "RPDFCLEPPYTGPCKARIIRYFYNAKAGLCQTFVYGGCRAKRNNFKSAEDCMRTCGGA"
    ),  # bovine pancreatic trypsin inhibitor, P00974, mature
    "LYSOZYME": (
        "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLCNIPCSALL"
        "SSDITASVNCAKKIVSDGNGMNAWVAWRNRCKGTDVQAWIRGCRL"
    ),  # hen egg-white lysozyme, P00698, mature
    "HAEMOGLOBIN": (
        "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSAL"
        "SDLHAHKLRVDPVNFKLLSHCLLVTLAAHLPAEFTPAVHASLDKFLASVSTVLTSKYR"
    ),  # human haemoglobin alpha, P69905
    "GFP": (
        "MSKGEELFTGVVPILVELDGDVNGHKFSVSGEGEGDATYGKLTLKFICTTGKLPVPWPTLVTTFSYGVQCFSRYPDHMKQHDFF"
        "KSAMPEGYVQERTIFFKDDGNYKTRAEVKFEGDTLVNRIELKGIDFKEDGNILGHKLEYNYNSHNVYIMADKQKNGIKVNFKIR"
        "HNIEDGSVQLADHYQQNTPIGDGPVLLPDNHYLSTQSALSKDPNEKRDHMVLLEFVTAAGITHGMDELYK"
    ),  # Aequorea victoria green fluorescent protein, P42212
    "P53": (
        "MEEPQSDPSVEPPLSQETFSDLWKLLPENNVLSPLPSQAMDDLMLSPDDIEQWFTEDPGPDEAPRMPEAAPPVAPAPAAPTPAA"
        "PAPAPSWPLSSSVPSQKTYQGSYGFRLGFLHSGTAKSVTCTYSPALNKMFCQLAKTCPVQLWVDSTPPPGTRVRAMAIYKQSQH"
        "MTEVVRRCPHHERCSDSDGLAPPQHLIRVEGNLRVEYLDDRNTFRHSVVVPYEPPEVGSDCTTIHYNYMCNSSCMGGMNRRPIL"
        "TIITLEDSSGNLLGRNSFEVRVCACPGRDRRTEEENLRKKGEPHHELPPGSTKRALPNNTSSSPQPKKKPLDGEYFTLQIRGRE"
        "RFEMFRELNEALELKDAQAGKEPGGSRAHSSHLKSKKGQSTSRHKKLMFKTEGPDSD"
    ),  # human p53, P04637
}
"""By name. The comments give UniProt accessions."""


@dataclass(frozen=True)
class Case:
    """Proteins that are run together, padded, with the chain of each position."""

    name: str
    tokens: Int[np.ndarray, "batch length"]
    sequence_id: Int[np.ndarray, "batch length"]


def make_cases() -> list[Case]:
    """Everything that a port has to get right."""
    tokenizer = Tokenizer()
    lysozyme, haemoglobin = PROTEINS["LYSOZYME"], PROTEINS["HAEMOGLOBIN"]
    rows = np.arange(VOCAB_SIZE, dtype=np.int32)
    vocabulary = np.concatenate([rows[rows != PAD], rows[:1]])[None]
    rare = "".join("XBUZO"[i // 7 % 5] if i % 7 == 3 else letter for i, letter in enumerate(lysozyme))
    long = "".join(PROTEINS.values())
    long = (long * (2048 // len(long) + 1))[:2048]
    batches = {
        "unequal lengths": tokenizer.encode_batch(list(PROTEINS.values())),
        "whole vocabulary": vocabulary,
        "X B U Z O": tokenizer.encode_batch([rare]),
        "two chains": tokenizer.encode_batch([[haemoglobin, lysozyme], [lysozyme, PROTEINS["BPTI"]]]),
        "2,048 residues": tokenizer.encode_batch([long]),
    }
    return [
        Case(
            name,
            tokens,
            tokenizer.sequence_id(tokens)
            if name == "two chains"
            else np.where(tokens == PAD, np.int32(-1), np.int32(0)),
        )
        for name, tokens in batches.items()
    ]
