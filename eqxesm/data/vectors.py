"""What expression vectors put before and behind a protein, each with its source.

A bar marks where a protein may begin (or, behind it, end): at a cloning site, or where a protease or a polymerase
chain reaction cut. Names of vectors are those of their makers; "Addgene" is followed by the number of a plasmid.
"""

import numpy as np

LONGEST_END = 12
"""Most residues that `random_end` makes."""

Table = tuple[tuple[str, str, str], ...]

LEADERS: Table = (
    # Vectors of Novagen (pET System Manual, 11th edition, and the maps of each vector).
    ("pET-28", "MGSSHHHHHHSSGLVPRGS|H|MASMTGGQQMGR|GS|EF|ELRRQACGRTRAPPPPPPLRSGC", "Novagen pET manual"),
    ("pET-28b, c", "MASMTGGQQMGR|DP|NSSSVDKLAAALE|", "Novagen pET manual"),
    ("pET-14b, pET-15b", "MGSSHHHHHHSSGLVPRGS|H|MLEDP|", "Novagen pET manual"),
    ("pET-16b", "MGHHHHHHHHHHSSGHIEGR|H|MLEDP|", "Novagen pET manual"),
    ("pET-19b", "MGHHHHHHHHHHSSGHIDDDDK|H|MLEDP|", "Novagen pET manual"),
    ("pET-3, pET-11, pET-21", "MASMTGGQQMGR|GS|EF|", "Novagen pET manual"),
    ("pET-22b", "MKYLLPTAAAGLLLLAAQPAMA|MD|IGINSDP|NSSSVDKLAAALE|", "Novagen pET manual"),
    ("pET-29", "MKETAAAKFERQHMDSPDLGTLVPRGS|MADIGS|", "Novagen pET manual"),
    ("pET-30", "MHHHHHHSSGLVPRGSGMKETAAAKFERQHMDSPDLGTDDDDK|AMADIGS|EF|", "Novagen pET manual"),
    (
        "pET-32, after thioredoxin",
        "GSGSGHMHHHHHHSSGLVPRGS|GMKETAAAKFERQHMDSPDLGTDDDDK|AMADIGS|EF|",
        "Novagen pET manual",
    ),
    (
        "pET-41, pET-43, pET-44, after GST or NusA",
        "GSTSGSGHHHHHHSAGLVPRGS|TAIGMKETAAAKFERQHMDSPDLGTGGGSGDDDDK|SPM|",
        "Novagen pET manual",
    ),
    ("pET-46 Ek/LIC", "MAHHHHHHVDDDDK|", "Novagen pET manual"),
    ("pET-47", "MAHHHHHHSAALEVLFQGP|G|", "Novagen pET manual"),
    ("pET-51", "MASWSHPQFEK|GADDDDK|", "Novagen pET manual"),
    ("pET-52", "MASWSHPQFEK|GALEVLFQGP|G|", "Novagen pET manual"),
    ("pETDuet, pCDFDuet, pRSFDuet", "MGSSHHHHHHSQDP|NSSSARLQ|VD|", "Novagen Duet vectors manual"),
    ("pET SUMO, before SUMO", "MGSSHHHHHHGSGLVPRGSAS|", "Invitrogen Champion pET SUMO manual"),
    # Cleaved by HRV 3C or thrombin.
    ("pGEX-6P-1", "LEVLFQGP|LGS|PEF|PGRLERPHRD", "Cytiva GST handbook"),
    ("pGEX-6P-2", "LEVLFQGP|LGS|PGIPGS|TRAAAS|", "Cytiva GST handbook"),
    ("pGEX-6P-3", "LEVLFQGP|LGS|PNS|RVDSSGR|", "Cytiva GST handbook"),
    ("pGEX-4T-1", "SDLVPRGS|PEF|PGRLERPHRD|", "Cytiva GST handbook"),
    ("pGEX-4T-2", "SDLVPRGS|PGIPGS|TRAAAS|", "Cytiva GST handbook"),
    ("pGEX-4T-3", "SDLVPRGS|PNS|RVDSSGR|", "Cytiva GST handbook"),
    ("pGEX-2T", "SDLVPRGS|PGIHRD|", "Cytiva GST handbook"),
    ("pGEX-5X", "SDLIEGR|GIPEF|PGRLERPHRD", "Cytiva GST handbook"),
    ("pGEX-3X", "SDLIEGR|GIPGNSS|", "Cytiva GST handbook"),
    # After maltose-binding protein.
    ("pMAL-c2X", "NSSSNNNNNNNNNNLGIEGR|ISEFGS|SRVD|LQ|", "New England Biolabs pMAL manual"),
    ("pMAL-c5X", "NSSSNNNNNNNNNNLGIEGR|ISHM|SMGGRDIVDGSEF|", "New England Biolabs pMAL manual"),
    ("pMAL-c2E", "NSSSNNNNNNNNNNLGDDDDK|VPEF|GS|", "New England Biolabs pMAL manual"),
    # Vectors of Qiagen and Invitrogen.
    ("pQE-30, pQE-80L", "MRGSHHHHHHGS|AC|ELGT|PGRP|", "Qiagen QIAexpressionist"),
    ("pQE-30 UA", "MRGSHHHHHHGI|", "Qiagen QIAexpressionist"),
    ("pQE-30 Xa", "MRGSHHHHHHGSGSGSGIEGR|", "Qiagen QIAexpressionist"),
    ("pQE-31", "MRGSHHHHHHTDP|HASS|VPR|", "Qiagen QIAexpressionist"),
    ("pQE-32", "MRGSHHHHHHGIRM|RARYP|", "Qiagen QIAexpressionist"),
    ("pQE-30, in the labelled sets", "MRGSHHHHHHTDP|ALR|", "seen in DeepSol"),
    ("pTrcHis, pBAD/His", "MGGSHHHHHHGMAS|MTGGQQMGRDLYDDDDK|DRWGS|", "Invitrogen pBAD/His manual"),
    ("pRSET", "MRGSHHHHHHGMAS|MTGGQQMGRDLYDDDDK|DRWGS|ELE|", "Invitrogen pRSET manual"),
    ("pBAD-TOPO", "MGSGSGDDDDK|LAL|", "Invitrogen pBAD TOPO manual"),
    ("pET100/D-TOPO", "MRGSHHHHHHGMAS|MTGGQQMGRDLYDDDDK|DHPFT|", "Invitrogen Champion pET manual"),
    ("pET102/D-TOPO, after thioredoxin", "GSGSGDDDDK|LGIDPFT|", "Invitrogen Champion pET manual"),
    ("pET151/D-TOPO", "MHHHHHHGKPIPNPLLGLDSTENLYFQGIDPFT|", "Invitrogen Champion pET manual"),
    ("pET160/GW/D-TOPO", "MHHHHHHGAGGCCPGCCGGGENLYFQG|IDPFT|", "Invitrogen Champion pET manual"),
    ("pEXP5-NT/TOPO", "MSGSHHHHHHSSGENLYFQS|L|", "Invitrogen pEXP5 manual"),
    ("pProEX HT, pFastBac HT", "MSYYHHHHHHDYDIPTTENLYFQG|AMDP|EF|", "Invitrogen pProEX HT manual"),
    ("pProEX HTa", "MSYYHHHHHHDYDIPTTENLYFQGAMGS|", "Invitrogen pProEX HT manual"),
    # Gateway: attB1 in the usual frame, and what stands before it.
    ("pDEST17", "MSYYHHHHHHLESTSLYKKAG|T|", "Invitrogen Gateway manual"),
    ("Gateway, D-TOPO entry", "ITSLYKKAG|S|AAAPFT|", "Invitrogen Gateway manual"),
    ("Gateway, other entries", "ITSLYKKAGF|", "Invitrogen Gateway manual"),
    ("Gateway, other entries", "ITSLYKKAGL|", "Invitrogen Gateway manual"),
    # Ligation-independent cloning and structural genomics.
    ("pMCSG7", "MHHHHHHSSGVDLGTENLYFQSNA|", "Stols 2002, Protein Expr Purif 25:8"),
    ("pET28-MHL", "MHHHHHHSSGRENLYFQG|", "Addgene 26096"),
    ("p15TV-LIC", "MGSSHHHHHHSSGRENLYFQG|H|", "Addgene 26093"),
    ("pNIC28-Bsa4", "MHHHHHHSSGVDLGTENLYFQS|", "Addgene 26103"),
    ("MacroLab 2B-T", "MKSSHHHHHHENLYFQSNA|", "Addgene 29666"),
    ("SSGCID AVA0421", "MAHHHHHHMGTLEAQTQGPGS|", "Choi 2011, Acta Crystallogr F 67:998"),
    ("SSGCID BG1861", "MAHHHHHHMGT|", "Choi 2011, Acta Crystallogr F 67:998"),
    ("JCSG pSpeedET", "MGSDKIHHHHHHENLYFQG|", "Klock 2008, Proteins 71:982"),
    ("JCSG pMH4", "MGSDKIHHHHHH|", "Lesley 2002, PNAS 99:11664"),
    ("NESG", "MGHHHHHHSH|", "Acton 2011, Methods Enzymol 493:21"),
    ("RIKEN", "GSSGSSG|", "seen in PSI:Biology and PDBSol"),
    ("RIKEN, whole", "MKDHLIHNHHKHEHAHAEHLGSSGSSG|", "seen in DeepSol and PDBSol"),
    ("pOPINF", "MAHHHHHHSSGLEVLFQGP|", "Berrow 2007, Nucleic Acids Res 35:e45"),
    ("pETM-11", "MKHHHHHHPMSDYDIPTTENLYFQG|AMGS|", "EMBL pETM manual"),
    ("pHis-parallel", "MSYYHHHHHHDYDIPTTENLYFQG|AMDP|", "Sheffield 1999, Protein Expr Purif 15:34"),
    ("HRV 3C, in the labelled sets", "MGSSHHHHHHSSGLEVLFQGP|LGS|GS|H|", "seen in DeepSol"),
    ("TEV, in the labelled sets", "MGSDKIHHHHHHSSGENLYFQG|H|", "seen in DeepSol"),
    ("of no known vector", "GSAKDP|MV|", "seen in PLM_Sol"),
    ("pCold I", "MNHKVHHHHHHIEGRH|MELGTLE|", "Takara pCold manual"),
    ("pIVEX", "MSGSHHHHHHSSGIEGR|GRLIKHMT|", "Roche RTS manual"),
    # Other tags.
    ("pASK-IBA, Strep-tag II", "MASWSHPQFEK|IEGR|", "IBA Strep-tag manual"),
    ("Strep-tag II", "MWSHPQFEK|GS|", "Schmidt 2007, Nat Protoc 2:1528"),
    ("Twin-Strep-tag", "MSAWSHPQFEKGGGSGGGSGGSAWSHPQFEK|GS|GA|", "IBA Strep-tag manual"),
    ("FLAG", "MDYKDDDDK|GS|", "Hopp 1988, Bio/Technology 6:1204"),
    ("3xFLAG", "MDYKDHDGDYKDHDIDYKDDDDK|", "Sigma p3XFLAG manual"),
    ("HA", "MYPYDVPDYA|GS|", "Field 1988, Mol Cell Biol 8:2159"),
    ("Myc", "MEQKLISEEDL|GS|", "Evan 1985, Mol Cell Biol 5:3610"),
    ("AviTag", "MSGLNDIFEAQKIEWHE|GS|", "Avidity AviTag manual"),
    ("bare His tags", "MGSSHHHHHH|GS|SSG|", "seen in DeepSol"),
)
"""Residues before a protein."""

S_TAG = "KETAAAKFERQHMDS"
"""Where it stands alone, it is the start of ribonuclease A, which it was taken from."""

TRAILERS: Table = (
    ("pET, NotI and XhoI", "|NSSSVD|K|L|AAA|LEHHHHHH", "Novagen pET manual"),
    ("pET-28a, BamHI", "|GSEFELRRQACGRTRAPPPPPPLRSGC", "Novagen pET manual"),
    ("pET, thrombin", "|LVPRGSLEHHHHHH", "Novagen pET manual"),
    ("pQE-60, pQE-70", "|GS|RSHHHHHH", "Qiagen QIAexpressionist"),
    ("pBAD/Myc-His", "|KGNSADIQHSGGRSSL|GPEQKLISEEDLNSAVDHHHHHH", "Invitrogen pBAD/Myc-His manual"),
    ("V5 and His", "|KGNSKLEGKPIPNPLLGLDSTRTGHHHHHH", "Invitrogen V5-His vectors manual"),
    ("pBAD-TOPO", "|KGELEGKPIPNPLLGLDSTRTGHHHHHH", "Invitrogen pBAD TOPO manual"),
    ("Gateway attB2, pET-DEST42", "|KGGRADPAFLYKVVDINSKLGKPIPNPLLGLDSTRTGHHHHHH", "Invitrogen Gateway manual"),
    ("Gateway attB2", "|NPAFLYKVVDINS", "Invitrogen Gateway manual"),
    ("Gateway attB2", "|DPAFLYKVVIS", "Invitrogen Gateway manual"),
    ("pNIC-CTHF", "|AENLYFQSHHHHHHDYKDDDDK", "Addgene 26105"),
    ("TEV and His", "|ENLYFQGHHHHHH", "seen in DeepSol"),
    ("NYSGRC pSGX3", "|EGHHHHHH", "seen in PSI:Biology"),
    ("pSGX4", "|EG|GSHHHHHH", "seen in PSI:Biology"),
    ("HRV 3C and His", "|LEVLFQGPHHHHHH", "seen in DeepSol"),
    ("RIKEN", "|SGPSSG", "seen in PSI:Biology and PDBSol"),
    ("glycine, serine and His", "|GGSSHHHHHH", "seen in DeepSol"),
    ("pASK-IBA, Strep-tag II", "|GSAWSHPQFEK", "IBA Strep-tag manual"),
    ("Twin-Strep-tag", "|SAWSHPQFEKGGGSGGGSGGSAWSHPQFEK", "IBA Strep-tag manual"),
    ("FLAG", "|GSDYKDDDDK", "Hopp 1988, Bio/Technology 6:1204"),
    ("HA", "|YPYDVPDYA", "Field 1988, Mol Cell Biol 8:2159"),
    ("Myc", "|EQKLISEEDL", "Evan 1985, Mol Cell Biol 5:3610"),
    ("AviTag", "|GSGLNDIFEAQKIEWHE", "Avidity AviTag manual"),
    ("sortase", "|LPETGGHHHHHH", "Mao 2004, J Am Chem Soc 126:2670"),
)
"""Residues behind a protein."""


def random_end(rng: np.random.Generator, before: bool) -> str:
    """Residues as a vector might have before a protein, or behind it: for models that shall not care.

    A piece of a vector, the letters of one in another order, or a linker of glycine and serine.
    """
    table = LEADERS if before else TRAILERS
    vector = table[rng.integers(len(table))][1].replace("|", "")
    size = int(rng.integers(1, LONGEST_END + 1))
    kind = rng.integers(3)
    if kind == 0:
        start = rng.integers(max(1, len(vector) - size + 1))
        return vector[start : start + size]
    letters = list(vector if kind == 1 else "GGGSSA")
    return "".join(rng.choice(letters, size))
