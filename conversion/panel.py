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
"""By UniProt accession."""


@dataclass(frozen=True)
class Case:
    """Some proteins that are run together.

    Attributes:
        name: what is particular about them.
        tokens: a padded batch `[batch length]`.
        sequence_id: chain of each position, -1 at padding.
    """

    name: str
    tokens: Int[np.ndarray, "batch length"]
    sequence_id: Int[np.ndarray, "batch length"]


def cases() -> list[Case]:
    """Give all that a port has to get right.

    Returns:
        Proteins of unequal lengths, every row of the vocabulary, the letters X B U Z O, two
        chains that do not see each other, and 2,048 residues.
    """
    tokenizer = Tokenizer()
    lysozyme, haemoglobin = PROTEINS["LYSOZYME"], PROTEINS["HAEMOGLOBIN"]
    rows = np.arange(VOCAB_SIZE, dtype=np.int32)
    vocabulary = np.concatenate([rows[rows != PAD], rows[:1]])[None]
    rare = "".join(
        "XBUZO"[i // 7 % 5] if i % 7 == 3 else letter for i, letter in enumerate(lysozyme)
    )
    long = "".join(PROTEINS.values())
    long = (long * (2048 // len(long) + 1))[:2048]
    batches = {
        "unequal lengths": tokenizer.encode_batch(list(PROTEINS.values())),
        "whole vocabulary": vocabulary,
        "X B U Z O": tokenizer.encode_batch([rare]),
        "two chains": tokenizer.encode_batch(
            [[haemoglobin, lysozyme], [lysozyme, PROTEINS["BPTI"]]]
        ),
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
