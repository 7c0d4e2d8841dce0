"""Writes the pictures of a dataset as the service made them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from ray.data.datasource import RowBasedFileDatasink

from .. import config as configuration
from .. import objects
from ..bucket_urls import is_bucket
from ..images.formats import OWN


def write_originals(ds: Any, target: str | os.PathLike[str]) -> None:
    """Write the pictures of `edit_dataset`, each under its ``rivya_name``.

    Failed rows are skipped; existing files of the same name are replaced.

    Args:
        ds: from `edit_dataset`; may be filtered or have more columns.
        target: a folder that all nodes reach, or a URL for pyarrow, such as ``s3://bucket/folder``.
    """
    ds.write_datasink(_Originals(os.fspath(target)))


class _Originals(RowBasedFileDatasink):
    def write_block(self, block: Any, block_index: int, ctx: Any) -> None:
        """Ray's own names change from run to run, which would duplicate the pictures."""
        for row in block.iter_rows(public_row_format=False):
            if not row["rivya_error"]:
                self._write(f"{row['rivya_name']}.{row['rivya_extension']}", _bytes_of(row))

    def _write(self, name: str, data: bytes) -> None:
        path = posixpath.join(self.path, name)
        # Makes files appear whole; objects of a bucket do anyway.
        in_folder = urlsplit(self.unresolved_path).scheme in ("", "file", "local")
        written = f"{path}.{token_hex(4)}.part" if in_folder else path
        with self.open_output_stream(written) as file:
            file.write(data)
        if in_folder:
            self.filesystem.move(written, path)


def _bytes_of(row: Mapping[str, Any]) -> bytes:
    if "rivya_image" in row:
        return bytes(row["rivya_image"])
    path = str(row["rivya_path"])
    data = (
        objects.fetched(path, OWN.bytes, configuration.ENV_RESULTS)
        if is_bucket(path)
        else Path(path).read_bytes()
    )
    if data is None:
        raise FileNotFoundError(path)
    return data
