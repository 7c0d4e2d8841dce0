"""``python -m rivya edit``: one picture, or those of ``--batch``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import config as configuration
from .. import kontext, scalars
from ..bucket_urls import is_bucket
from ..errors import RivyaError, costs_nothing
from ..saving import places, settle
from ..saving.origins import Origins
from .arguments import as_number, as_path, as_path_text, as_source, as_text, is_one_file
from .console import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``edit``."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="image prompt",
        help="the picture to edit (left out with --batch or --text), and what to change in it",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=as_path_text,
        help="file, or folder for several pictures; with --batch also a bucket",
    )
    parser.add_argument(
        "--batch",
        type=as_source,
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
    parser.add_argument("--mask", type=as_path, help="white where the edit may show; means --keep-size")
    parser.add_argument(
        "--seed",
        type=as_number,
        default=0,
        help="0 to 2^64-1; another seed buys another picture (default: 0)",
    )
    parser.add_argument(
        "--variations",
        type=as_number,
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
        "--max-credits", type=as_number, metavar="N", help="most to spend; needed above 64 new pictures"
    )
    group.add_argument(
        "--ray",
        type=as_text,
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, local or ray://HOST:PORT",
    )
    group.add_argument("--json", action="store_true", help="print JSON lines for programs")


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

    is_one_file(arguments.output, 2, batch=True)
    batch = Batch(arguments, configuration.load(), prompt, options)
    return batch.run(_extensions(arguments), keeps_size=_keeps_size(arguments))


def _edit_one(arguments: argparse.Namespace, image: Path | None, prompt: str, options: dict[str, Any]) -> int:
    """Edit one picture, or make one from text, with variations."""
    from .. import client
    from . import printing

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
            tell(f"{name}: {result}")
    return 1 if any(isinstance(result, RivyaError) for result in results) else 0


@costs_nothing()
def _places(arguments: argparse.Namespace, image: Path | None, settled: settle.Settled) -> list[places.Place]:
    """Return the output place of each variation, and make the folder."""
    output, variations = arguments.output, arguments.variations
    extensions = _extensions(arguments)
    photos = [image] if image is not None else []
    room = settle.room(extensions, photos if _keeps_size(arguments) else ())
    if is_one_file(output, variations, batch=False):
        given = [*photos, *([arguments.mask] if arguments.mask else [])]
        return [settled.file(output, extensions, given, room)]
    folder = settled.folder(Path(output or "."), room * variations)
    stem = image.stem if image is not None else "picture"
    return [places.derived(folder, stem, f"-{arguments.seed}-{number}") for number in range(variations)]


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
