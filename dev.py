"""Everything for people who try this pack or work on it. Needs nothing but Python 3.10 or newer.

    python dev.py demo     edit a photograph in a real ComfyUI, against a stand-in for the service (free)
    python dev.py test     the whole check: ruff, mypy, unit tests, a real ComfyUI, a real browser
    python dev.py bench    measure speed (benchmarks/)

Environment, ComfyUI and all that is made lies in .dev/ and can be deleted at any time. -h after a command says more.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - said here in a sentence, instead of a SyntaxError later
    sys.exit("This needs Python 3.10 or newer; you have " + sys.version.split()[0] + ".")

import traceback
from pathlib import Path

# An embedded Python, as ComfyUI's portable version has, looks for no modules beside a script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from devtools import bench, checks, demo
from devtools.environment import LOGS
from devtools.report import StepFailed, say

COMMANDS = {"demo": demo.main, "test": checks.main, "bench": bench.main}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        say((__doc__ or "").strip())
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except StepFailed as failed:
        say(f"\n{failed.text()}")
    except KeyboardInterrupt:
        say("\nStopped. Run it again: what is finished is kept.")
    except Exception as error:
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / "unexpected.log"
        log.write_text(traceback.format_exc(), "utf-8")
        say(f"\nThis should not have happened: {type(error).__name__}: {error}\nPlease report it with {log}.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
