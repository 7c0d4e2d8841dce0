"""The command line, usable without ComfyUI: ``python -m rivya --help``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from . import commands, kontext, ledger_commands, scalars
from . import config as configuration
from .bucket_urls import is_bucket
from .errors import RivyaError, costs_nothing
from .saving import places, settle
from .saving.origins import Origins


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Errors print one text and give status 1."""
    _print_any_name()
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
        _tell(error)
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


def _print_any_name() -> None:
    """Print escapes for characters that the console cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _tell(error: object) -> None:
    print(places.shown_lines(error), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=commands.program_name(),
        description="FLUX.1 Kontext through Rivya, with the ledger of the ComfyUI nodes.",
    )
    parser.add_argument(
        "--home", type=Path, metavar="FOLDER", help="the state folder, as RIVYA_HOME names it"
    )
    known = parser.add_subparsers(required=True, metavar="command")
    _add_edit(known.add_parser("edit", help="edit a picture, or make one from a prompt"))
    listed = known.add_parser("orders", help="what was ordered, newest first")
    listed.add_argument("--limit", type=int, default=20)
    listed.set_defaults(run=_orders)
    collect = known.add_parser(
        "collect", help="save the pictures that were paid for and never delivered; never spends"
    )
    collect.add_argument("task_ids", nargs="*", help="only these tasks")
    collect.add_argument(
        "-o",
        "--output",
        type=_path_text,
        default=".",
        help="folder (default: this one); or file, for one task",
    )
    collect.set_defaults(run=_collect)
    known.add_parser("credits", help="what the account has now").set_defaults(run=_credits)
    forget = known.add_parser("forget", help="give up an order, so that the next run may buy it anew")
    forget.add_argument("order", help="the beginning of its order key, or its task id")
    forget.add_argument("--give-up", action="store_true", help="also one that Rivya has accepted")
    forget.set_defaults(run=_forget)
    ledger_commands.add(known.add_parser("ledger", help="make, check or copy the ledger itself"))
    return parser


def _add_edit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="image prompt",
        help="the picture to edit (left out with --batch or --text), and what to change in it",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=_path_text,
        help="file, or folder for several pictures; with --batch also a bucket",
    )
    parser.add_argument(
        "--batch",
        type=_source,
        metavar="SOURCE",
        help="edit every picture of a folder or of a bucket (s3://, gs://, az://), or every row of a table "
        "(CSV, JSON lines, Parquet)",
    )
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="with --batch: also of the folders in it, kept apart as they are",
    )
    parser.add_argument(
        "--edits-too", action="store_true", help="with --batch: also edits of pictures that lie there"
    )
    _add_batch(parser.add_argument_group("with --batch"))
    parser.add_argument("--text", action="store_true", help="make a picture from the prompt alone")
    parser.add_argument(
        "--keep-size", action="store_true", help="give the photo back at its size, with only the edit in it"
    )
    parser.add_argument("--mask", type=_path, help="white where the edit may show; means --keep-size")
    parser.add_argument(
        "--seed",
        type=_number,
        default=0,
        help="0 to 2^64-1; another seed buys another picture (default: 0)",
    )
    parser.add_argument(
        "--variations",
        type=_number,
        default=1,
        help=f"pictures for each, 1 to {kontext.MAX_VARIATIONS} (default: 1)",
    )
    parser.add_argument("--model", choices=list(kontext.MODELS), default=kontext.DEFAULT_MODEL)
    parser.add_argument(
        "--aspect-ratio", choices=[kontext.AUTO, *kontext.ASPECT_RATIOS], default=kontext.AUTO
    )
    parser.add_argument(
        "--output-format", choices=kontext.OUTPUT_FORMATS, help="default: by the ending of -o, else jpeg"
    )
    parser.set_defaults(run=_edit)


def _add_batch(group: Any) -> None:
    group.add_argument("--image-column", metavar="NAME", help="column of the pictures (default: image)")
    group.add_argument("--prompt-column", metavar="NAME", help="column of the prompts (default: prompt)")
    group.add_argument(
        "--dry-run", action="store_true", help="count, price and say what was bought before; order nothing"
    )
    group.add_argument(
        "--max-credits", type=_number, metavar="N", help="most to spend; needed above 64 new pictures"
    )
    group.add_argument(
        "--ray", type=_text, metavar="ADDRESS", help="run on a Ray cluster: auto, local or ray://HOST:PORT"
    )
    group.add_argument("--json", action="store_true", help="print JSON lines for programs")


def _number(text: str) -> int | float:
    """A type of argparse; programs that write scripts may put a whole number as 7.0."""
    return int(text) if text.strip().isdecimal() else float(text)


_number.__name__ = "number"  # argparse names the type in its error


def _path_text(text: str) -> str:
    """A path argument. Empty (an unset variable of a script) is an error, never the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return os.path.expanduser(text)


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text.strip()


def _path(text: str) -> Path:
    return Path(_path_text(text))


def _source(text: str) -> Path | str:
    return text if is_bucket(text) else _path(text)


def _edit(arguments: argparse.Namespace) -> int:
    arguments.seed = scalars.whole("seed", arguments.seed, 0, kontext.MAX_SEED)
    arguments.variations = scalars.whole("variations", arguments.variations, 1, kontext.MAX_VARIATIONS)
    image, prompt = _image_and_prompt(arguments)
    options = {
        "seed": arguments.seed,
        "variations": arguments.variations,
        "model": arguments.model,
        "aspect_ratio": arguments.aspect_ratio,
        "output_format": _format_of(arguments),
        "keep_size": arguments.keep_size,
        "save_as": places.extension_asked(arguments.output or "") if _keeps_size(arguments) else "",
    }
    if arguments.batch is None:
        return _edit_one(arguments, image, prompt, options)
    from .batch import Batch

    _is_one_file(arguments.output, 2, batch=True)
    batch = Batch(arguments, configuration.load(), prompt, options)
    return batch.run(_extensions(arguments), keeps_size=_keeps_size(arguments))


def _edit_one(arguments: argparse.Namespace, image: Path | None, prompt: str, options: dict[str, Any]) -> int:
    """Edit one picture, or make one from text, with variations."""
    from . import client, printing

    origins = Origins(configuration.load().home)
    settled = settle.Settled()
    lines: dict[int, list[str]] = {}

    def save(number: int, result: client.Edited) -> None:
        if image is not None:
            origins.note((result.data, *result.more), image)
        lines[number] = printing.saved(result, targets[number], result.save_at(targets[number]))

    try:
        targets = _places(arguments, image, settled)
        with printing.bar(len(targets)) as moved:
            results = client.edit_all(
                prompt, [image], mask=arguments.mask, save=save, on_progress=moved, **options
            )
    finally:
        settled.undo()
    name = places.shown(image) if image is not None else "picture"
    for number, result in enumerate(results):
        for line in lines.get(number, []):
            print(line)
        if isinstance(result, RivyaError):
            _tell(f"{name}: {result}")
    return 1 if any(isinstance(result, RivyaError) for result in results) else 0


@costs_nothing()
def _places(arguments: argparse.Namespace, image: Path | None, settled: settle.Settled) -> list[places.Place]:
    """Return the output place of each variation, and make the folder."""
    output, variations = arguments.output, arguments.variations
    extensions = _extensions(arguments)
    photos = [image] if image is not None else []
    room = settle.room(extensions, photos if _keeps_size(arguments) else ())
    if _is_one_file(output, variations, batch=False):
        given = [*photos, *([arguments.mask] if arguments.mask else [])]
        return [settled.file(output, extensions, given, room)]
    folder = settled.folder(Path(output or "."), room * variations)
    stem = image.stem if image is not None else "picture"
    return [places.derived(folder, stem, f"-{arguments.seed}-{number}") for number in range(variations)]


@costs_nothing()
def _is_one_file(output: str | None, pictures: int, batch: bool) -> bool:
    """Whether ``-o`` names a file, not a folder."""
    if is_bucket(output) and not batch:
        raise places.refused("A bucket takes the pictures of edit --batch alone.")
    if not output or is_bucket(output) or os.path.isdir(output) or output.endswith(("/", os.sep)):
        return False
    if pictures == 1 and not batch:
        return True
    if places.named(output).ending:
        raise places.refused(f"There will be several pictures, and {places.shown(output)} names one file.")
    return False


def _extensions(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The pictures' extension, if known: ``png``, ``jpg`` or ``webp``."""
    if _keeps_size(arguments):
        named = places.extension_asked(arguments.output or "")
        return (named,) if named else ()
    return ("png",) if _format_of(arguments) == "png" else ("jpg",)


def _keeps_size(arguments: argparse.Namespace) -> bool:
    return arguments.keep_size or arguments.mask is not None


def _image_and_prompt(arguments: argparse.Namespace) -> tuple[Path | None, str]:
    """Return picture (None for text to image and batches) and prompt (a table may replace it)."""
    words = list(arguments.words)
    if arguments.batch is not None:
        if len(words) > 1 or arguments.mask is not None:
            raise _usage("Give --batch a folder or a table, and one prompt. A mask is for one picture.")
        return None, words[0] if words else ""
    only = [name for name in _OF_A_BATCH if getattr(arguments, name)]
    if only:
        raise _usage(f"--{only[0].replace('_', '-')} goes with --batch.")
    if len(words) != (1 if arguments.text else 2):
        raise _usage("Give one picture and a prompt, or --batch FOLDER and a prompt, or --text and a prompt.")
    if not arguments.text and is_bucket(words[0]):
        raise _usage("A picture in a bucket goes with --batch.")
    kontext.validate_prompt(words[-1])
    return (None if arguments.text else Path(words[0]).expanduser()), words[-1]


_OF_A_BATCH = (
    "recursive",
    "edits_too",
    "image_column",
    "prompt_column",
    "dry_run",
    "max_credits",
    "ray",
    "json",
)


def _usage(message: str) -> RivyaError:
    return RivyaError(message, code="usage", charged=None)


@costs_nothing()
def _format_of(arguments: argparse.Namespace) -> str:
    """The format to request: by the output file's extension, else the service's default.

    Lossless for pictures that go back into a photo.
    """
    if arguments.output_format:
        return str(arguments.output_format)
    if _keeps_size(arguments):
        return "png"
    return "png" if places.extension_asked(arguments.output or "") == "png" else "jpeg"


@costs_nothing()
def _orders(arguments: argparse.Namespace) -> int:
    from .engine import engine

    rows = engine.shared().ledger(configuration.load()).orders(arguments.limit)
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_at))
        delivered = "delivered" if row.delivered_at else row.state.value
        cost = row.final_credits if row.final_credits is not None else row.reserved_credits or 0
        print(
            f"{when}  {row.key[:12]:12}  {delivered:10} {cost:3} credits  {row.model:17} {row.task_id or '-'}"
        )
    if not rows:
        print("No orders yet.")
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    from . import client, printing

    settled = settle.Settled()
    one: places.Place | None = None
    lines: list[str] = []

    origins = Origins(configuration.load().home)

    def save(result: client.Edited) -> None:
        if result.about.get("encoding"):
            origins.note((result.data, *result.more), None)
        name = result.task_id or "picture"
        place = one or places.derived(Path(arguments.output), name)
        lines.extend(printing.saved(result, place, result.save_at(place)))

    try:
        if _is_one_file(arguments.output, 1 if len(set(arguments.task_ids)) == 1 else 2, batch=False):
            one = settled.file(arguments.output, (), (), settle.room(()))
        else:
            settled.folder(Path(arguments.output), settle.room(()))
        results = client.collect(arguments.task_ids, save=save)
    finally:
        settled.undo()
    for line in lines:
        print(line)
    failures = [result for result in results if isinstance(result, RivyaError)]
    for failure in failures:
        _tell(failure)
    if not results:
        print("Nothing to collect: every picture that was paid for has been delivered.")
    return 1 if failures else 0


def _credits(arguments: argparse.Namespace) -> int:
    from . import client

    print(f"{client.credits()} credits")
    return 0


@costs_nothing()
def _forget(arguments: argparse.Namespace) -> int:
    from .engine import engine
    from .ledger.ledger import OrderState

    settings = configuration.load()
    ledger = engine.shared().ledger(settings)
    named = arguments.order
    found = [
        r
        for r in ledger.orders(10_000)
        if r.task_id == named or (len(named) >= 8 and r.key.startswith(named))
    ]
    if len(found) != 1:
        print(f"{len(found)} orders match; give more of the order key, or the task id.", file=sys.stderr)
        return 1
    if found[0].state is OrderState.STORED:
        print(
            "This order is finished: its picture is kept, and the same graph brings it again for no credits."
        )
        return 0
    if found[0].task_id and found[0].state is not OrderState.FAILED and not arguments.give_up:
        collect = commands.own("collect", found[0].task_id, home=settings.home)
        give_up = commands.own("forget", "--give-up", named, home=settings.home)
        print(
            f"Rivya has accepted this order: {collect} brings its picture for no more credits. "
            f"{give_up} gives it up all the same.",
            file=sys.stderr,
        )
        return 1
    if not ledger.forget(found[0].id):
        print("Another program is at work on this order; try again when it has ended.", file=sys.stderr)
        return 1
    print("Forgotten. The next run of its graph orders the picture anew and may be charged again.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
