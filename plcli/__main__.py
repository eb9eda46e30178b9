"""The entry point of plcli: dispatches the command and maps its outcome to an exit code.

Heavy packages are only imported once the command is known.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence

from plcli import __version__
from plcli.cli.arguments import COMMANDS, STEPS
from plcli.errors import PlcliError, Terminated, UsageError, did_you_mean

INTERRUPTED, TERMINATED = 130, 143
RESUME_HINT = (
    "A fit resumes from its last checkpoint: run the same command again, with --run FOLDER."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code.

    The code is 0 on success, 1 for an exception in the user's own code, 2-5 for a user error, 130
    for Ctrl-C and 143 for SIGTERM. Bugs are raised.
    """
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except PlcliError as error:
        print(f"plcli: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except Terminated as end:
        name = "" if end.number == signal.SIGINT else f" by {signal.Signals(end.number).name}"
        if _is_a_rank_of_a_fit():
            return 0  # otherwise Lightning kills rank 0, whose exit code is that of the command
        print(f"plcli: stopped{name}.", end.said or RESUME_HINT, file=sys.stderr)
        return INTERRUPTED if end.number == signal.SIGINT else TERMINATED
    except SystemExit as end:  # Lightning raises it when Ctrl-C is pressed in a fit
        if isinstance(end.__context__, KeyboardInterrupt):
            return _interrupted()
        raise
    except BrokenPipeError:  # the reader of our output has exited, for example `head`
        sys.stderr.close()
        return 0
    except Exception as error:  # it may be of the user's own code, which may raise any
        from plcli.cli import user_errors

        told = user_errors.report(error)
        if told is None:
            raise
        print(told.text, file=sys.stderr)
        return told.exit_code


def _is_a_rank_of_a_fit() -> bool:
    """Whether a fit on several devices started this process as one of its ranks."""
    names = os.environ.keys()
    return {"PLCLI_RUN", "LOCAL_RANK"} <= names and "TORCHELASTIC_RUN_ID" not in names


def _interrupted() -> int:
    print("plcli: stopped.", RESUME_HINT, file=sys.stderr)
    return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        from rich.console import Console

        from plcli.cli import help_pages

        help_pages.overview(Console())
        return 0 if arguments else UsageError.exit_code
    if arguments[0] in ("-V", "--version"):
        print(f"plcli {__version__}")
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        raise UsageError(
            f"unknown command '{command}'.{did_you_mean(command, COMMANDS)} "
            "`plcli --help` lists the commands."
        )
    if command not in STEPS:
        module = importlib.import_module(f"plcli.commands.{command}")
        return int(module.run(arguments[1:]))
    from plcli.cli import dispatch

    return dispatch.run(command, arguments[1:])


def entry() -> None:
    """Run as a console script: for a bug, print the traceback and exit with 70."""
    try:
        code = main()
    except Exception:  # any other exception is a bug and has its own exit code
        import traceback

        traceback.print_exc()
        print("plcli: this is a bug in plcli; see the traceback above.", file=sys.stderr)
        code = 70
    sys.exit(code)


if __name__ == "__main__":
    entry()
