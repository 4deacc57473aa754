"""The command line: thin, one command for one public function. Heavy rooms are imported inside the commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from limner import __version__, check
from limner.cli.comparing import study, task
from limner.cli.converting import convert
from limner.cli.decoding import decode
from limner.cli.judging import check_paths, evaluate, report
from limner.cli.learning import adapt, atlas, train
from limner.cli.objects import tune
from limner.cli.segmenting import demo, segment
from limner.cli.terminal import INTERRUPTED, MISUSED, fail
from limner.cli.viewing import view

#: Threads of torch, numba and numpy take turns: those that wait must not keep the cores from those that work, or an
#: atlas takes two and a half times as long to build. What the user has set stays.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "OPENBLAS_NUM_THREADS": "1"}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, atlas, train, adapt, tune, segment, decode, task, study, evaluate, report, view, convert):
    app.command()(command)
app.command("check")(check_paths)


def main() -> None:
    """Run the command line and leave with its exit code; mistakes of input end with a message, not a traceback."""
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    try:
        # Before anything repeats what was given: an address may hold a secret.
        for word in sys.argv[1:]:
            check.local(word)
        code = app(standalone_mode=False)
    except check.InputError as error:
        fail(str(error), MISUSED)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # typer's own complaints about arguments: it words them itself.
        if not hasattr(error, "show"):
            raise
        error.show()
        sys.exit(MISUSED)
    if code == INTERRUPTED:
        fail("interrupted; what was finished is kept", INTERRUPTED)
    sys.exit(code)


def _version(wanted: bool) -> None:
    """Print the version and leave, if wanted."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Outline anatomy in biomedical images when there are few labels, or none."""
