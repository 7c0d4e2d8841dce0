"""The pictures are honest, visible, of the right size, and the same for the same order."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import ORDER, Client, picture, web

Start = Callable[..., Client]


def fetched(client: Client, body: dict[str, Any]) -> Image.Image:
    url = client.finished(body)["result"]["primary_url"]
    answer = web().get(url)
    assert answer.status_code == 200
    image = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == f"image/{(image.format or '').lower()}"
    image.load()
    return image


@pytest.mark.parametrize(
    "ratio, size",
    [
        ("21:9", (1568, 672)),
        ("16:9", (1392, 752)),
        ("4:3", (1184, 880)),
        ("1:1", (1024, 1024)),
        ("3:4", (880, 1184)),
        ("9:16", (752, 1392)),
    ],
)
def test_each_ratio_has_its_size(start: Start, ratio: str, size: tuple[int, int]) -> None:
    client = start(megapixels=1.0)
    assert fetched(client, {**ORDER, "params": {"aspectRatio": ratio}}).size == size


def test_the_default_is_a_wide_jpeg_and_png_is_png(start: Start) -> None:
    client = start(megapixels=1.0)
    plain = fetched(client, ORDER)
    assert (plain.format, plain.size) == ("JPEG", (1392, 752))
    assert fetched(client, {**ORDER, "params": {"outputFormat": "png"}}).format == "PNG"


def test_smaller_and_larger_pictures_are_multiples_of_16(start: Start) -> None:
    for megapixels in (0.004, 0.3, 4.0):
        client = start(megapixels=megapixels)
        width, height = fetched(client, {**ORDER, "params": {"aspectRatio": "4:3"}}).size
        assert (width % 16, height % 16) == (0, 0)
        assert width * height == pytest.approx(megapixels * 1_048_576, rel=0.25)


def test_an_edit_shows_its_reference(client: Client) -> None:
    """The bright and the dark parts of the reference stay where they are, inside frame and words."""
    size = (120, 120)
    left = Image.new("RGB", size, "black")
    left.paste("white", (0, 0, 60, 120))
    target = io.BytesIO()
    left.save(target, "PNG")
    url = client.upload(target.getvalue()).json()["url"]
    params = {
        "aspectRatio": "1:1",
        "outputFormat": "png",
        "referenceMediaItems": [{"url": url, "kind": "image"}],
    }
    edited = np.asarray(fetched(client, {**ORDER, "params": params}).convert("L"), dtype=float)
    height, width = edited.shape
    middle = edited[height // 8 : height // 2]
    assert middle[:, width // 8 : width // 2 - 4].mean() - middle[:, width // 2 + 4 : -width // 8].mean() > 80


def pixels(client: Client, prompt: str = "a", data: bytes | None = None, **params: Any) -> bytes:
    """The pixels of a new order, with a reference if there is one."""
    chosen: dict[str, Any] = {"outputFormat": "png", **params}
    if data is not None:
        chosen["referenceMediaItems"] = [{"url": client.upload(data).json()["url"], "kind": "image"}]
    return fetched(client, {**ORDER, "prompt": prompt, "params": chosen}).tobytes()


def test_every_input_shows_in_the_picture_and_nothing_else(start: Start) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"prompt": "b"},
        {"watermark": "mine"},
        {"data": picture("teal")},
        {"data": picture("red")},
        {"aspectRatio": "1:1"},
    ]
    first, second = start(), start()
    shown = [pixels(first, **variant) for variant in variants]
    assert len(set(shown)) == len(variants)
    assert shown == [pixels(second, **variant) for variant in variants]


def test_the_same_pixels_in_another_encoding_give_the_same_picture(start: Start) -> None:
    image = Image.open(io.BytesIO(picture()))
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=0)
    assert target.getvalue() != picture()
    assert pixels(start(), data=picture()) == pixels(start(), data=target.getvalue())


def test_equal_orders_get_different_takes(client: Client) -> None:
    shown = {pixels(client) for _ in range(3)}
    assert len(shown) == 3
    assert [task["take"] for task in client.handle.tasks()] == [0, 1, 2]


def test_the_desk_hands_out_the_exact_bytes(client: Client) -> None:
    task = client.finished()
    assert client.handle.picture(task["id"]) == web().get(task["result"]["primary_url"]).content


def test_a_reference_with_transparency_or_odd_modes_is_taken(client: Client) -> None:
    for mode in ("RGBA", "LA", "L", "P", "I;16"):
        target = io.BytesIO()
        Image.new(mode, (40, 30)).save(target, "PNG")
        assert pixels(client, data=target.getvalue())


@pytest.mark.parametrize("status", [403, 404, 410])
def test_result_urls_expire_and_are_renewed_by_reading_the_task(client: Client, status: int) -> None:
    task = client.finished()
    url = task["result"]["primary_url"]
    assert client.task(task["id"])["result"]["primary_url"] == url, "a URL stays as it is while it works"
    client.handle.expire_results(task["id"], status=status)
    assert web().get(url).status_code == status
    fresh = client.task(task["id"])["result"]["primary_url"]
    assert fresh != url
    assert web().get(fresh).status_code == 200
    client.handle.expire_results(task["id"], status=status, gone=True)
    assert web().get(client.task(task["id"])["result"]["primary_url"]).status_code == status


def test_result_urls_run_out_by_themselves(start: Start) -> None:
    client = start(result_lifetime=0.0, expired_status=410)
    task = client.finished()
    url = task["result"]["primary_url"]
    assert web().get(url).status_code == 410
    assert client.task(task["id"])["result"]["primary_url"] != url


def test_a_result_needs_its_signature_and_no_key(client: Client) -> None:
    url = client.finished()["result"]["primary_url"]
    assert "?" in url
    assert web().get(url.partition("?")[0]).status_code == 403
    assert web().get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert client.handle.book()["violations"] == []
    web().get(url, headers=client.key)
    assert len(client.handle.book()["violations"]) == 2


def test_a_key_outside_its_header_is_noted(client: Client) -> None:
    client.create({**ORDER, "prompt": f"my key is {client.handle.key}"})
    client.get(f"/api/v1/credits?key={client.handle.key}")
    texts = [violation["text"] for violation in client.handle.book()["violations"]]
    assert texts == ["An API key was sent outside the Authorization header."] * 2
