"""The command line: every verb is one public function of the rooms, or two in a row.

The modules beside this one hold the verbs room by room and import nothing heavy before a verb runs, so that
``kleiber --help`` answers at once. One file for all of them (as the first design had it) would pass 450 lines.
"""

from __future__ import annotations

import os
import sys

from cyclopts import App

from kleiber.cli import corpus, doctor, download, downstream, evaluate, fit, model, panel, study, tokens, train
from kleiber.errors import KleiberError, Stopped, refusal

__all__ = ["app", "main"]

app = App(
    name="kleiber",
    help="A laboratory for the scaling laws of genomic language models.",
    version_flags=["--version"],
    help_format="markdown",
)

for _verb in (
    study.new,
    study.plan,
    study.run,
    study.sweep,
    study.status,
    study.report,
    download.download,
    panel.app,
    corpus.app,
    tokens.app,
    train.train,
    evaluate.evaluate,
    downstream.score,
    downstream.probe,
    model.app,
    fit.fit,
    doctor.doctor,
):
    app.command(_verb)
app.register_install_completion_command(help="Complete verbs and options in this shell from now on.")


def main() -> None:
    """Run the command line.

    What a user can mend is printed without a traceback and exits 2; ``--debug`` shows all.
    """
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        app(arguments)
    except BrokenPipeError:  # `kleiber … | head` is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        told = error if isinstance(error, KleiberError) else refusal(error)
        if debug or told is None:
            raise
        print(f"{type(told).__name__}: {told}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL if isinstance(told, Stopped) else 2)
