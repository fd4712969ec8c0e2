"""Designs: within the rules and the budget, and the best there is where that is known."""

import equinox as eqx
import jax
import numpy as np
import pytest
from checkpoints import make_encoder
from sklearn.linear_model import Ridge
from training_sets import tiny

from eqxesm import InputError, SolubilityModel
from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.cleaning import Cleaned
from eqxesm.design.constraints import Constraints, Rules, find_changes, parse_positions
from eqxesm.design.optimise import Guide, design_by_chance, design_by_gradient
from eqxesm.design.search import Objective, Search, choose, split_members
from eqxesm.design.substitutions import score_substitutions
from heads import Ensemble, EnsembleConfig, MeanPoolMLPConfig

PROTEIN = "MKVLAAGWDEFFPPLMKVLAACN"
METHODS = [design_by_gradient, design_by_chance]


def ensemble(seed: int = 0) -> SolubilityModel:
    encoder = tiny().encoder
    config = EnsembleConfig(encoder.d_model, MeanPoolMLPConfig(encoder.d_model, (8,)), members=4)
    return SolubilityModel(encoder, Ensemble(config, key=jax.random.key(seed)))


def rules(**changes) -> Rules:
    return Rules(Constraints(**{"mutations": 2, **changes}), Cleaned(PROTEIN, ()), PROTEIN)


def search(model=None, budget: int = 120, **changes) -> Search:
    return Search(Objective(model or ensemble(), None), rules(**changes), budget, np.random.default_rng(0), None)


def changed(sequence: str, *places: tuple[int, str]) -> str:
    letters = list(sequence)
    for position, letter in places:
        letters[position - 1] = letter
    return "".join(letters)


@pytest.mark.parametrize(
    ("changes", "places", "kept"),
    [
        ({}, [(2, "A")], True),
        ({}, [(2, "A"), (3, "A")], True),
        ({}, [(2, "A"), (3, "A"), (4, "A")], False),
        ({}, [], False),
        ({"fixed": frozenset({2})}, [(2, "A")], False),
        ({"forbidden": "W"}, [(2, "W")], False),
        ({"forbidden": "C"}, [(2, "A")], False),
        ({"forbidden": "C"}, [(22, "A")], True),
        ({"motifs": ("N[^P][ST]",)}, [(2, "N"), (4, "S")], False),
        ({"motifs": ("N[^P][ST]",)}, [(2, "N")], True),
        ({"mutations": 9, "identity": 0.95}, [(2, "A"), (3, "A")], False),
    ],
)
def test_what_keeps_to_the_rules(changes, places, kept):
    # The wild type has W and C, which is no matter unless they are forbidden.
    if changes.get("forbidden") == "W":
        places = [*places, (8, "A")]
    assert rules(**changes).keeps(changed(PROTEIN, *places)) == kept


def test_no_design_writes_a_tag():
    protein = "MK" + "HHHHH" + "VLAAGWDEFFPPLMKVLAACNDEFF"
    made = Rules(Constraints(3), Cleaned(protein, ()), protein)
    assert not made.keeps(changed(protein, (8, "H")))
    assert made.keeps(changed(protein, (8, "K")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fixed": frozenset(range(1, 24))}, "every position is fixed"),
        ({"fixed": frozenset({99})}, "position 99 is to be fixed, but the protein has 23 residues"),
        ({"forbidden": "C", "fixed": frozenset({22})}, "C22 is forbidden and fixed"),
        ({"forbidden": "AL"}, "the protein has 7 forbidden residues, more than the 2 mutations allowed"),
        ({"forbidden": STANDARD_RESIDUES}, "every residue is forbidden"),
        ({"forbidden": "J"}, "J: no standard residue"),
        ({"motifs": ("(",)}, "no regular expression"),
        ({"mutations": 0}, "0 mutations are allowed"),
        ({"identity": 0.99}, "0 mutations are allowed"),
    ],
)
def test_rules_that_nothing_keeps_to_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        rules(**changes)


def test_positions_and_ranges():
    assert parse_positions("1-3,57 60-61") == [1, 2, 3, 57, 60, 61]
    for wrong in ("", "0", "3-1", "a", "1-", "1-9999999"):
        with pytest.raises(InputError):
            parse_positions(wrong)


@pytest.mark.parametrize("method", METHODS)
def test_designs_keep_to_rules_and_budget(method):
    found = search(forbidden="C", fixed=frozenset(range(1, 8)), budget=100)
    method(found)
    assert 50 < len(found.known) <= 100
    assert found.budget >= -3
    assert all(found.rules.keeps(sequence) for sequence in found.known)
    assert all("C" not in sequence and sequence[:7] == PROTEIN[:7] for sequence in found.known)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_best_single_substitution_is_found(method):
    """With one mutation and a budget for all, that is the best of the exact scan."""
    model = tiny()
    found = search(model, budget=300, mutations=1, fixed=frozenset(range(1, 16)))
    method(found)
    table = score_substitutions(model, model.tokenize(model.clean(PROTEIN)))
    best = max(found.known.values(), key=lambda each: each.value)
    assert best.value - found.before.value == pytest.approx(table[16:].max(), abs=1e-5)


def test_the_guide_is_a_ridge_regression_on_substitutions():
    """As scikit-learn fits it, with a column for each place beside what is known of the substitution."""
    found = search(budget=60)
    rng = np.random.default_rng(0)
    designs = [
        changed(PROTEIN, *((int(n) + 1, "ACDE"[k % 4]) for k, n in enumerate(rng.choice(23, 2)))) for _ in range(30)
    ]
    known = found.score([each for each in designs if each != PROTEIN])
    guide = Guide(found)
    guide.learn(known)
    columns = np.concatenate([guide._describe(), np.eye(20 * len(PROTEIN))], axis=1)
    rows = np.stack([
        sum(columns[20 * n + STANDARD_RESIDUES.index(each.sequence[n])] for n in find_changes(PROTEIN, each.sequence))
        for each in found.known.values()
    ])  # fmt: skip
    gains = np.array([each.kept - found.before.kept for each in found.known.values()])
    ridge = Ridge(alpha=1, fit_intercept=False).fit(rows, gains / gains.std())
    expected = (columns @ ridge.coef_ * gains.std()).reshape(-1, 20)
    np.testing.assert_allclose(guide.promise[..., 0], expected, atol=1e-6 * np.abs(expected).max())
    pair = changed(PROTEIN, (3, "W"), (9, "Y"))
    both = expected[2, STANDARD_RESIDUES.index("W")] + expected[8, STANDARD_RESIDUES.index("Y")]
    assert guide.expect(pair) == pytest.approx(both, rel=1e-4)


def test_scores_are_those_of_the_members():
    model = ensemble()
    found = search(model)
    (design,) = found.score([changed(PROTEIN, (2, "A"))])
    logits = model.member_logits(model.tokenize(model.clean(design.sequence)))
    assert design.left_out == pytest.approx(float(logits[3]), abs=1e-5)
    assert design.kept == pytest.approx(float(logits[:3].mean()), abs=1e-5)
    assert design.whole == pytest.approx(float(model(model.tokenize(model.clean(design.sequence)))), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_members_that_are_left_out_have_no_say(method):
    first = ensemble()
    head = jax.tree.map(lambda leaf: leaf.at[3].set(7 - leaf[3]) if eqx.is_array(leaf) else leaf, first.head)
    other = first.replace(head=head)
    one, two = search(first), search(other)
    method(one)
    method(two)
    assert list(one.known) == list(two.known)
    assert [each.left_out for each in one.known.values()] != [each.left_out for each in two.known.values()]


@pytest.mark.parametrize(("count", "kept", "out"), [(1, [0], [0]), (2, [0], [1]), (4, [0, 1, 2], [3])])
def test_one_member_of_four_is_left_out(count, kept, out):
    found = split_members(count)
    assert [each.tolist() for each in found] == [kept, out]


def test_proposals_differ():
    found = search(mutations=6, budget=200)
    design_by_gradient(found)
    chosen = choose(found, 5)
    assert len(chosen) == 5
    assert [each.value for each in chosen] == sorted((each.value for each in chosen), reverse=True)
    for number, one in enumerate(chosen):
        assert all(len(find_changes(one.sequence, other.sequence)) >= 2 for other in chosen[:number])


def test_less_natural_designs_count_as_worse():
    objective = Objective(tiny(), None)
    with pytest.raises(InputError, match="naturalness needs a language model"):
        Search(objective, rules(), 10, np.random.default_rng(0), 0.0)
    natural = Search(
        Objective(tiny(), make_encoder(layers=1, d_model=32, d_ffn=48)), rules(), 60, np.random.default_rng(0), 0.0
    )
    design_by_gradient(natural)
    for each in natural.known.values():
        assert each.value == pytest.approx(each.kept + min(0.0, each.likelihood), abs=1e-6)
