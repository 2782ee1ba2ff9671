"""What builds no model imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "accelerate", "datasets", "tokenizers", "transformers", "numpy", "scipy", "pandas", "matplotlib")

PROBE = """
import sys
sys.argv = ["llmkit", *{arguments!r}]
from llmkit.cli import main
try:
    main()
except SystemExit as stopped:
    code = stopped.code
print([name for name in {heavy!r} if name in sys.modules], code or 0, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "--help"] for command in ("build", "train", "generate", "eval", "spec", "plugins")),
        ["plugins", "list"],
        ["plugins", "show", "attention:gqa"],
        ["spec", "check", "recipe:tiny"],
        ["spec", "show", "recipe:tiny", "--why"],
        ["spec", "diff", "recipe:tiny", "recipe:gpt2-small"],
        ["spec", "schema"],
    ],
    ids=" ".join,
)
def test_a_command_that_builds_no_model_imports_nothing_heavy(arguments):
    probe = PROBE.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[] 0", done.stderr


def test_help_imports_no_component_and_no_validator():
    probe = PROBE.format(arguments=["--help"], heavy=("pydantic", "pluggy", "yaml", "llmkit.runtime", "llmkit.core.component"))
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[] 0", done.stderr


def test_importing_llmkit_imports_nothing_heavy():
    probe = f"import sys, llmkit; llmkit.load_spec('recipe:tiny'); print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
