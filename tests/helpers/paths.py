"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RECIPES = ROOT / "eqxesm" / "recipes"
FIXTURES = ROOT / "tests" / "fixtures"

SHARED = ROOT.parent / "shared" / "data"
"""The labelled sets, which are no part of the repository."""
