"""Edits of photo files at their own size: the picture to upload, and the photo file with the edit.

The photo keeps its ICC profile; the edit is converted to it. EXIF orientation is applied to the pixels and reset in
the written EXIF block.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from .errors import Charged, ImageError, RivyaError, ValidationError
from .images import decode, own
from .images.header import Header
from .images.pixels import eight_bits
from .stitching import Box, Placement, placement
from .stitching.raster import full, luma, resampled, stored
from .stitching.stitch import Stitched, check_pixels, places, stitch

Array = np.ndarray[Any, Any]

FORMATS = ("png", "jpg", "webp")
_JPEG_QUALITY = 95
_SIDES = {"jpg": 65_500, "webp": 16_383}
_ORIENTATION, _CAMERA_FIELDS = 0x0112, 0x8769
_EXIF_SIDES = {0x0100: "width", 0x0101: "height", 0xA002: "width", 0xA003: "height"}
_MOST_JPEG_EXIF = 65_533
_ROWS = 256


@dataclass(frozen=True)
class Photo:
    """A photo as in its file.

    Attributes:
        pixels: (height, width, 3 or 4), uint8 or uint16, upright.
        extension: of its file: ``png``, ``jpg`` or ``webp``; ``png`` for an array.
        profile: ICC profile of the pixels; None: sRGB.
        exif: EXIF block to write, for upright pixels; empty: none.
    """

    pixels: Array = field(repr=False)
    extension: str = "png"
    profile: bytes | None = field(default=None, repr=False)
    exif: bytes = field(default=b"", repr=False)


def read(image: object) -> Photo:
    """Read a photo from a path, the bytes of a file, or an array (height, width[, 1, 3 or 4]).

    Raises:
        ImageError: no picture, or a damaged one.
    """
    if isinstance(image, np.ndarray):
        return Photo(image[:, :, None] if image.ndim == 2 else image)
    data = own.read(image)
    header = own.inspect(data)
    profiled = bool(header.icc) and (header.channels == 3 or header.palette is not None)
    pixels = own.decode(data, header, convert_colours=not profiled).pixels
    return Photo(pixels, header.extension, header.icc if profiled else None, upright_exif(header))


def read_mask(mask: object) -> Array:
    """Read a mask from a file or an array: float32 (height, width), 1 where white."""
    pixels = read(mask).pixels
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    size = pixels.shape[1], pixels.shape[0]
    return luma(resampled(pixels, Box.of_size(*size), size, Image.Resampling.BILINEAR))


def upright_exif(header: Header) -> bytes:
    """Return a file's EXIF block with the decoded pixels' orientation and sides, without the unedited thumbnail."""
    exif = Image.Exif()
    try:
        exif.load(header.exif or b"")
        if not exif:
            return b""
        if _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        for tags in (exif, *([exif.get_ifd(_CAMERA_FIELDS)] if _CAMERA_FIELDS in exif else [])):
            for tag, side in _EXIF_SIDES.items():
                if tag in tags:
                    tags[tag] = getattr(header, side)
        return bytes(exif.tobytes())
    except Exception:  # a broken block is no reason to lose the picture
        return b""


class FullSize:
    """The photos of one full-size call.

    Args:
        images: see `read`.
        mask: see `read_mask`; None: what changed. For one photo only.
        shape: the requested aspect ratio, or ``auto``.
        save_as: ``png``, ``jpg`` or ``webp``; empty: each photo's format.

    Raises:
        ValidationError: a mask for several photos, or one that does not fit.
        ImageError: masked photo or mask is unreadable.
    """

    def __init__(self, images: list[Any], mask: object, shape: str, save_as: str = "") -> None:
        if save_as not in ("", *FORMATS):
            raise ValidationError(f"save_as is {ascii(save_as)[:40]}; it must be png, jpg or webp.")
        self._images, self._save_as = images, save_as
        self._mask: Array | None = None
        self._placement: Placement | None = None
        self._shape = shape
        self._cropped: Array | None = None
        if mask is None:
            return
        if len(images) != 1 or images[0] is None:
            raise ValidationError("A mask is for one picture.", hint="Edit the pictures one at a time.")
        self._cropped = self._crop(read_mask(mask), shape)

    def sent(self, number: int) -> Any:
        """Return the picture to upload for a photo.

        Raises:
            ValidationError: an answer could not be put back.
            ImageError: the photo is unreadable.
        """
        image = self._images[number]
        if isinstance(image, np.ndarray):
            check_pixels("image", image[:, :, None] if image.ndim == 2 else image)
        if self._cropped is not None:
            return self._cropped
        if image is not None and self._shape in placement.SIZES:
            self._refuse_other_shape(*_sides(image))
        return image

    def _refuse_other_shape(self, width: int, height: int) -> None:
        try:
            places(None, (width, height), placement.SIZES[self._shape])
        except ValidationError as error:
            raise ValidationError(
                f"The photo is {width}x{height}: an answer of the shape {self._shape} could not be put back into it.",
                hint="Leave the aspect ratio on auto, or give up the size of the photo.",
                code=error.code,
            ) from None

    def _crop(self, mask: Array, shape: str) -> Array:
        """Return the masked part in sRGB, as uploaded."""
        from .stitching.masks import fitting

        seen = as_seen(self._images[0])
        height, width = seen.shape[:2]
        shown = fitting(mask, width, height) if mask.max() > 0 else mask
        chosen, (box,) = placement.choose((width, height), [placement.bounds(shown)], shape=shape)
        size = placement.SIZES[chosen]
        self._mask, self._placement = shown, Placement(width, height, box, chosen, size, shown)
        return stored(placement.cropped(seen, box, size), np.dtype(np.uint8))

    def finished(self, number: int, answer: bytes) -> tuple[bytes, str, dict[str, Any]]:
        """Put the service's file into photo ``number``.

        Returns:
            File, extension and report. If stitching fails, the paid answer itself, and a report with ``error``.
        """
        try:
            photo = read(self._images[number])
            done = self._stitched(photo, answer)
            extension = _able(self._save_as or photo.extension, done.image)
            done.report["notes"] += _losses(done.image, extension)
            return write(done.image, photo, extension), extension, done.report
        except Exception as error:
            known = error if isinstance(error, RivyaError) else _unforeseen(error)
            paid = known.about(charged=Charged.YES)
            return answer, decode.inspect(answer).extension, {"error": paid.as_dict()}

    def _stitched(self, photo: Photo, answer: bytes) -> Stitched:
        edited = in_profile(decode.decode(answer).pixels, photo.profile)
        return stitch(
            photo.pixels,
            edited,
            placement=self._placement,
            mask=self._mask,
            layer=False,
        )


def _unforeseen(error: Exception) -> RivyaError:
    if isinstance(error, MemoryError):
        return ImageError("There is not enough memory to put the edit into the photo.", hint="")
    what = f"{type(error).__name__}: {ascii(str(error))[:120]}"
    return ImageError(f"The photo with the edit in it could not be made: {what}.", hint="")


def _sides(image: object) -> tuple[int, int]:
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    header = own.inspect(own.read(image))
    return header.width, header.height


def _able(extension: str, pixels: Array) -> str:
    """``extension``, or ``png`` where that format cannot be so long."""
    return "png" if max(pixels.shape[:2]) > _SIDES.get(extension, 2**31) else extension


def _losses(pixels: Array, extension: str) -> list[str]:
    lost = []
    if extension == "jpg" and pixels.shape[2] == 4 and pixels[..., 3].min() < full(pixels):
        lost.append("Saved without its transparency: JPEG has none.")
    if extension != "png" and pixels.dtype == np.uint16:
        lost.append("Saved with 8 of its 16 bits a channel: only PNG keeps them.")
    return lost


def as_seen(image: object) -> Array:
    """Return the pixels in sRGB, as the service sees them."""
    if isinstance(image, np.ndarray):
        return read(image).pixels
    data = own.read(image)
    return own.decode(data, own.inspect(data)).pixels


def in_profile(pixels: Array, profile: bytes | None) -> Array:
    """Convert sRGB pixels (height, width, 3 or 4) to a profile's colour space; unchanged where that fails."""
    if profile is None or pixels.dtype.kind != "u":
        return pixels
    if pixels.dtype == np.uint16:
        pixels = eight_bits(pixels)
    try:
        target = ImageCms.ImageCmsProfile(BytesIO(profile))
        colour = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
        converted = ImageCms.profileToProfile(colour, ImageCms.createProfile("sRGB"), target)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return pixels
    return np.asarray(converted)


def write(pixels: Array, photo: Photo, extension: str) -> bytes:
    """Return a picture file with a photo's profile and EXIF block.

    PNG (up to 16 bits) and WebP are lossless; JPEG: quality 95, full colour resolution, 8 bits, no transparency.

    Args:
        pixels: (height, width, 3 or 4), uint8, uint16 or float32.
        extension: ``png``, ``jpg`` or ``webp``.
    """
    if pixels.dtype == np.float32:
        pixels = stored(pixels, np.dtype(np.uint16 if extension == "png" else np.uint8))
    if pixels.dtype == np.uint16 and extension == "png":
        return _png_of_16_bits(pixels, photo)
    if pixels.dtype == np.uint16:
        pixels = eight_bits(pixels)
    if extension == "jpg":
        pixels = pixels[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    fits = extension != "jpg" or len(photo.exif) <= _MOST_JPEG_EXIF
    about: dict[str, Any] = {"exif": photo.exif} if photo.exif and fits else {}
    if photo.profile:
        about["icc_profile"] = photo.profile
    file = BytesIO()
    if extension == "jpg":
        picture.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0, **about)
    elif extension == "webp":
        picture.save(file, "WEBP", lossless=True, exact=True, quality=0, method=0, **about)
    else:
        picture.save(file, "PNG", compress_level=6, **about)
    return file.getvalue()


def _png_of_16_bits(pixels: Array, photo: Photo) -> bytes:
    """Pillow cannot write 16-bit colour."""
    height, width, channels = pixels.shape
    step = 2 * channels
    packer, packed = zlib.compressobj(6), []
    for top in range(0, height, _ROWS):
        rows = pixels[top : top + _ROWS].astype(">u2").view(np.uint8).reshape(-1, width * step)
        lines = np.empty((len(rows), width * step + 1), np.uint8)
        lines[:, 0] = 1  # each byte less the one a pixel before it
        lines[:, 1 : step + 1] = rows[:, :step]
        lines[:, step + 1 :] = rows[:, step:] - rows[:, :-step]
        packed.append(packer.compress(lines.tobytes()))
    packed.append(packer.flush())
    kind = {3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if photo.profile:
        parts.append((b"iCCP", b"icc\0\0" + zlib.compress(photo.profile)))
    if photo.exif:
        parts.append((b"eXIf", photo.exif.removeprefix(b"Exif\0\0")))
    parts += [(b"IDAT", b"".join(packed)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
