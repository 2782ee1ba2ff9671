"""The command line. Each command is a door: parse, call one function, print. A file a command."""

from __future__ import annotations

import typer

from llmkit.cli.ablate import ablate_study
from llmkit.cli.build import build_model
from llmkit.cli.compare import compare_runs
from llmkit.cli.data import app as data
from llmkit.cli.evaluate import evaluate_run
from llmkit.cli.export import export_model
from llmkit.cli.generate import generate_text
from llmkit.cli.import_ import import_model
from llmkit.cli.ledger import show_step
from llmkit.cli.output import run_app
from llmkit.cli.plugins import app as plugins
from llmkit.cli.spec import app as spec
from llmkit.cli.tokenizer import app as tokenizer
from llmkit.cli.train import train_spec
from llmkit.cli.verdict import judge_numbers
from llmkit.cli.verify_resume import verify_resume

app = typer.Typer(
    name="llmkit", no_args_is_help=True, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
app.command("ablate")(ablate_study)
app.command("build")(build_model)
app.command("compare")(compare_runs)
app.command("eval")(evaluate_run)
app.command("export")(export_model)
app.command("generate")(generate_text)
app.command("import")(import_model)
app.command("ledger")(show_step)
app.command("train")(train_spec)
app.command("verdict")(judge_numbers)
app.command("verify-resume")(verify_resume)
app.add_typer(data, name="data")
app.add_typer(plugins, name="plugins")
app.add_typer(spec, name="spec")
app.add_typer(tokenizer, name="tokenizer")


def main() -> None:
    """The program `llmkit`, and `python -m llmkit`."""
    run_app(app)
