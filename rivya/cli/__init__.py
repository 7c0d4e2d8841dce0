"""The command line, usable without ComfyUI: ``python -m rivya --help``.

Entry: `main`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import commands
from .. import config as configuration
from ..errors import RivyaError
from . import edit, ledger, orders
from .console import print_any_name, tell


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Errors print one text and give status 1."""
    print_any_name()
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if any(word.startswith("-") for word in rest) or (rest and "words" not in arguments):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        # parse_known_args takes only the words before the first option.
        arguments.words += rest
    if arguments.home is not None:
        os.environ[configuration.ENV_HOME] = str(arguments.home)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except RivyaError as error:
        tell(error)
        return 1
    except BrokenPipeError:
        # The reader has closed our output (`| head`): write nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"{error.filename or 'A file'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was paid for is in the ledger; the same command resumes it.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=commands.program_name(),
        description="FLUX.1 Kontext through Rivya, with the ledger of the ComfyUI nodes.",
    )
    parser.add_argument(
        "--home", type=Path, metavar="FOLDER", help="the state folder, as RIVYA_HOME names it"
    )
    known = parser.add_subparsers(required=True, metavar="command")
    edit.add(known.add_parser("edit", help="edit a picture, or make one from a prompt"))
    orders.add(known)
    ledger.add(known.add_parser("ledger", help="make, check or copy the ledger itself"))
    return parser
