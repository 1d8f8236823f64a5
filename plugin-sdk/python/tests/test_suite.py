"""The suite of all languages, natively: the fake host agrees with the agent."""

import sys
from pathlib import Path

import pytest

from wasaba_plugin.testing import cases

SUITE = Path(__file__).parents[3] / "tests" / "sdk"

for folder in ("everything", "naughty"):
    sys.path.insert(0, str(SUITE / "python" / folder))

import everything_plugin  # noqa: E402
import naughty_plugin  # noqa: E402


@pytest.mark.parametrize("case", cases(SUITE / "cases.toml"), ids=str)
def test_everything(case):
    case.run(everything_plugin.plugin)


@pytest.mark.parametrize(
    "case",
    [*cases(SUITE / "naughty.toml"), *cases(SUITE / "large.toml"), *cases(SUITE / "python" / "naughty.toml")],
    ids=str,
)
def test_naughty(case):
    case.run(naughty_plugin.plugin)
