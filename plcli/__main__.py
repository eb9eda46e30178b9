"""The entry point of plcli: dispatches the command and maps its outcome to an exit code.

Heavy packages are only imported once the command is known.
"""

# nothing is imported before the search path is right

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # `python -m` puts the current folder first, where a file could replace a module of Python
    del sys.path[0]

import contextlib
import importlib
import os
import signal
from collections.abc import Sequence

from plcli import __version__
from plcli.cli import streams
from plcli.cli.arguments import COMMANDS, STEPS, check_text
from plcli.config import own_modules
from plcli.errors import MachineError, PlcliError, Terminated, UsageError, did_you_mean, printable
from plcli.training.signals import signals

INTERRUPTED, TERMINATED = 130, 143
RESUME_HINT = (
    "A fit resumes from its last checkpoint: run the same command again, with --run FOLDER."
)

own_modules.find_in_a_started_process()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code.

    The code is 0 on success, 1 for an exception in the user's own code, 2-5 for a user error, 130
    for Ctrl-C and 143 for SIGTERM. Bugs are raised.
    """
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except PlcliError as error:
        _say(f"plcli: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except Terminated as end:
        name = "" if end.number == signal.SIGINT else f" by {signal.Signals(end.number).name}"
        if _is_a_rank_of_a_fit():
            return 0  # otherwise Lightning kills rank 0, whose exit code is that of the command
        _say(f"plcli: stopped{name}. {end.said or _hint(arguments)}")
        return INTERRUPTED if end.number == signal.SIGINT else TERMINATED
    except SystemExit as end:  # Lightning raises it when Ctrl-C is pressed in a fit
        if isinstance(end.__context__, KeyboardInterrupt):
            return _interrupted(arguments)
        return _ended_by_the_user(end)
    except BrokenPipeError:  # the reader of our output has exited, for example `head`
        sys.stderr.close()
        return 0
    except Exception as error:  # it may be of the user's own code, which may raise any
        from plcli.cli import user_errors

        if signals.received and user_errors.is_lost_worker(error):  # the signal ended it, too
            name = signal.Signals(signals.received).name
            _say(f"plcli: stopped by {name}, with a process that loads data. {_hint(arguments)}")
            return INTERRUPTED if signals.received == signal.SIGINT else TERMINATED
        told = user_errors.report(error)
        if told is None:
            raise
        _say(told.text)
        return told.exit_code
    finally:
        signals.is_over()


def _say(text: str) -> None:
    """Print a message on standard error; where that has gone, the exit code says it alone."""
    from plcli.config import secrets

    with contextlib.suppress(OSError, ValueError):
        print(secrets.hide_message(text), file=sys.stderr)


def _ended_by_the_user(end: SystemExit) -> int:
    """Return the exit code of a command that a SystemExit ends.

    One of the user's own code is no finished run, whatever code it has.
    """
    from plcli.cli import user_errors

    told = user_errors.report_exit(end)
    if told is None:
        raise end
    _say(told.text)
    return told.exit_code


def _is_a_rank_of_a_fit() -> bool:
    """Whether a fit on several devices started this process as one of its ranks."""
    names = os.environ.keys()
    return {"PLCLI_RUN", "LOCAL_RANK"} <= names and "TORCHELASTIC_RUN_ID" not in names


def _interrupted(arguments: Sequence[str] | None) -> int:
    _say(f"plcli: stopped. {_hint(arguments)}")
    return INTERRUPTED


def _hint(arguments: Sequence[str] | None) -> str:
    """Return what to do after a command was stopped; only a fit can be resumed."""
    command = next(iter(sys.argv[1:] if arguments is None else arguments), "fit")
    return RESUME_HINT if command == "fit" else "Nothing was written; run the same command again."


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
            f"unknown command '{printable(command)}'.{did_you_mean(command, COMMANDS)} "
            "`plcli --help` lists the commands."
        )
    check_text(arguments)
    try:
        os.getcwd()
    except OSError:
        raise MachineError(
            "the current folder does not exist any more. Change to another one (cd) and run the "
            "command again."
        ) from None
    if command not in STEPS:
        module = importlib.import_module(f"plcli.commands.{command}")
        return int(module.run(arguments[1:]))
    from plcli.cli import dispatch

    return dispatch.run(command, arguments[1:])


def entry() -> None:
    """Run as a console script: for a bug, print the traceback and exit with 70."""
    streams.open_closed()
    try:
        code = main()
    except Exception:  # any other exception is a bug and has its own exit code
        import traceback

        traceback.print_exc()
        print("plcli: this is a bug in plcli; see the traceback above.", file=sys.stderr)
        code = 70
    if code in (INTERRUPTED, TERMINATED):
        signals.end_within_grace(code)  # even if a library waits for its threads
    sys.exit(code)


if __name__ == "__main__":
    entry()
