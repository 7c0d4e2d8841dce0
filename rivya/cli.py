"""The command line, for people whose ComfyUI is down or who never start one: ``python -m rivya --help``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import commands, kontext, scalars
from . import config as configuration
from .errors import RivyaError, costs_nothing
from .saving import places, settle

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors end it with one readable text and status 1."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if any(word.startswith("-") for word in rest) or (rest and "words" not in arguments):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        # argparse takes what stands before the first option for all the words there are.
        arguments.words += rest
    if arguments.home is not None:
        os.environ[configuration.ENV_HOME] = str(arguments.home)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except RivyaError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has had enough (`| head`); nothing more may be written, at the end either.
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
    _add_edit(known.add_parser("edit", help="edit a picture, or make one from a prompt"))
    listed = known.add_parser("orders", help="what was ordered, newest first")
    listed.add_argument("--limit", type=int, default=20)
    listed.set_defaults(run=_orders)
    collect = known.add_parser(
        "collect", help="save the pictures that were paid for and never delivered; never spends"
    )
    collect.add_argument("task_ids", nargs="*", help="only these tasks")
    collect.add_argument(
        "-o", "--output", default=".", help="folder (default: this one); or file, for one task"
    )
    collect.set_defaults(run=_collect)
    known.add_parser("credits", help="what the account has now").set_defaults(run=_credits)
    forget = known.add_parser("forget", help="give up an order, so that the next run may buy it anew")
    forget.add_argument("order", help="the beginning of its order key, or its task id")
    forget.add_argument("--give-up", action="store_true", help="also one that Rivya has accepted")
    forget.set_defaults(run=_forget)
    return parser


def _add_edit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="image prompt",
        help="the picture to edit (left out with --batch or --text), and what to change in it",
    )
    parser.add_argument("-o", "--output", help="file, or folder for several pictures")
    parser.add_argument("--batch", type=Path, metavar="FOLDER", help="edit every picture of this folder")
    parser.add_argument("--text", action="store_true", help="make a picture from the prompt alone")
    parser.add_argument(
        "--keep-size", action="store_true", help="give the photo back at its size, with only the edit in it"
    )
    parser.add_argument("--mask", type=Path, help="white where the edit may show; means --keep-size")
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


def _number(text: str) -> int | float:
    """A type of argparse; programs that write scripts may put a whole number as 7.0."""
    return int(text) if text.strip().isdecimal() else float(text)


_number.__name__ = "number"  # argparse names the type in its error


def _edit(arguments: argparse.Namespace) -> int:
    from . import client

    arguments.seed = scalars.whole("seed", arguments.seed, 0, kontext.MAX_SEED)
    arguments.variations = scalars.whole("variations", arguments.variations, 1, kontext.MAX_VARIATIONS)
    sources, prompt = _sources(arguments)
    kontext.validate_prompt(prompt)
    settled = settle.Settled()
    images = [None] if arguments.text else sources
    lines: dict[int, list[str]] = {}

    def save(number: int, result: Any) -> None:
        lines[number] = _saved(result, targets[number])

    try:
        targets = _places(arguments, sources, settled)
        with _Bar(len(targets)) as moved:
            results = client.edit_all(
                prompt,
                images,
                seed=arguments.seed,
                variations=arguments.variations,
                model=arguments.model,
                aspect_ratio=arguments.aspect_ratio,
                output_format=_format_of(arguments),
                keep_size=arguments.keep_size,
                mask=arguments.mask,
                save_as=places.extension_asked(arguments.output or "") if _keeps_size(arguments) else "",
                save=save,
                on_progress=moved,
            )
    finally:
        settled.undo()
    names = [places.shown(source) for source in sources] or ["picture"]
    failed = 0
    for number, result in enumerate(results):
        for line in lines.get(number, []):
            print(line)
        if isinstance(result, RivyaError):
            failed += 1
            print(f"{names[number // arguments.variations]}: {result}", file=sys.stderr)
    return 1 if failed else 0


@costs_nothing()
def _places(
    arguments: argparse.Namespace, sources: list[Path], settled: settle.Settled
) -> list[places.Place]:
    """Where each picture goes, picture-major; the folders are there."""
    output, variations = arguments.output, arguments.variations
    extensions = _extensions(arguments)
    room = settle.room(extensions, sources if _keeps_size(arguments) else ())
    stems = [source.stem for source in sources] or ["picture"]
    if _is_one_file(output, len(stems) * variations, arguments.batch is not None):
        given = [*sources, *([arguments.mask] if arguments.mask else [])]
        return [settled.file(output, extensions, given, room)]
    folder = settled.folder(Path(output or "."), room * len(stems) * variations)
    return [
        places.derived(folder, stem, f"-{arguments.seed}-{number}")
        for stem in stems
        for number in range(variations)
    ]


@costs_nothing()
def _is_one_file(output: str | None, pictures: int, batch: bool) -> bool:
    """Whether ``-o`` names a file, not a folder."""
    if not output or os.path.isdir(output) or output.endswith(("/", os.sep)):
        return False
    if pictures == 1 and not batch:
        return True
    if places.named(output).ending:
        raise places.refused(f"There will be several pictures, and {places.shown(output)} names one file.")
    return False


def _extensions(arguments: argparse.Namespace) -> tuple[str, ...]:
    """What the pictures will be, as far as that is known before: ``png``, ``jpg`` or ``webp``."""
    if _keeps_size(arguments):
        named = places.extension_asked(arguments.output or "")
        return (named,) if named else ()
    return ("png",) if _format_of(arguments) == "png" else ("jpg",)


def _keeps_size(arguments: argparse.Namespace) -> bool:
    return arguments.keep_size or arguments.mask is not None


def _saved(result: Any, place: places.Place) -> list[str]:
    """Save a picture; the lines that say where, what it cost and what was done."""
    first, *more = result.save_at(place)
    lines = [f"{places.shown(first)}  {_cost(result)}", *(places.shown(path) for path in more)]
    if note := places.corrected(place, first):
        lines.append(f"  {note}")
    return lines + _stitch_lines(result)


def _stitch_lines(result: Any) -> list[str]:
    """What was done to keep the size of the photo, or why it was not kept."""
    report = result.about.get("stitch")
    if report is None:
        return []
    if "error" in report:
        return [f"  Saved as it came, since it could not be put back: {report['error']['message']}"]
    aligned = "aligned" if report["aligned"] else "not aligned"
    line = f"  {report['width']}x{report['height']}, {aligned}, {report['share']:.1%} of the picture replaced"
    return [line, *(f"  {note}" for note in report["notes"])]


def _sources(arguments: argparse.Namespace) -> tuple[list[Path], str]:
    """The pictures to edit, none for text to image, and the prompt."""
    *images, prompt = arguments.words or [""]
    if [len(images), arguments.batch is not None, arguments.text] not in (
        [1, False, False],
        [0, True, False],
        [0, False, True],
    ):
        raise RivyaError(
            "Give one picture and a prompt, or --batch FOLDER and a prompt, or --text and a prompt.",
            code="usage",
            charged=None,
        )
    if arguments.text:
        return [], prompt
    if arguments.batch is None:
        return [Path(images[0])], prompt
    found = sorted(p for p in arguments.batch.iterdir() if p.suffix.lower() in PICTURES)
    if not found:
        raise RivyaError(
            f"{arguments.batch} holds no picture ({', '.join(PICTURES)}).", code="usage", charged=None
        )
    return found, prompt


@costs_nothing()
def _format_of(arguments: argparse.Namespace) -> str:
    """The format to ask for: what the ending of the output file says, else the service's default.

    What goes back into a photo is asked for without losses.
    """
    if arguments.output_format:
        return str(arguments.output_format)
    if _keeps_size(arguments):
        return "png"
    return "png" if places.extension_asked(arguments.output or "") == "png" else "jpeg"


def _cost(result: Any) -> str:
    credits = result.credits if result.source == "new" else 0
    return f"({result.source}, {credits} credits, task {result.task_id})"


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
    from . import client

    settled = settle.Settled()
    one: places.Place | None = None
    lines: list[str] = []

    def save(result: client.Edited) -> None:
        name = result.task_id or "picture"
        lines.extend(_saved(result, one or places.derived(Path(arguments.output), name)))

    try:
        if _is_one_file(arguments.output, 1 if len(arguments.task_ids) == 1 else 2, batch=False):
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
        print(failure, file=sys.stderr)
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


class _Bar:
    """A progress bar where tqdm is installed (it comes with ComfyUI), else nothing."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        try:
            from tqdm import tqdm
        except ImportError:
            return lambda ended, total: None
        self._bar = tqdm(total=self._total, unit="picture", file=sys.stderr)
        return self._moved

    def _moved(self, ended: int, total: int) -> None:
        self._bar.update(ended - self._bar.n)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


if __name__ == "__main__":
    sys.exit(main())
