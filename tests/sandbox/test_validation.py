"""What is not documented is refused, in the documented shape, and costs nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .conftest import ORDER, Client, picture


def params(**values: Any) -> dict[str, Any]:
    return {**ORDER, "params": values}


def item(**values: Any) -> dict[str, Any]:
    return params(referenceMediaItems=[values])


def refused(answer: httpx.Response, status: int = 400, code: str = "validation_failed") -> str:
    """Check the documented error shape; returns the message."""
    body = answer.json()
    assert (answer.status_code, body["error"]["code"]) == (status, code), body
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "requestId"}
    assert body["error"]["requestId"].startswith("req_")
    return str(body["error"]["message"])


WRONG_ORDERS: dict[str, Any] = {
    "not JSON": b'{"model": ',
    "not UTF-8": b'{"model": "\xff"}',
    "a list": [ORDER],
    "a key twice": b'{"model": "flux-kontext-pro", "prompt": "a", "prompt": "b"}',
    "NaN": b'{"model": "flux-kontext-pro", "prompt": "a", "params": {"safetyTolerance": NaN}}',
    "more than a megabyte": {**ORDER, "prompt": "a" * 1_000_001},
    "an unknown key": {**ORDER, "seed": 1},
    "a top-level files field": {**ORDER, "files": []},
    "no model": {"prompt": "a"},
    "an unknown model": {**ORDER, "model": "flux-kontext-ultra"},
    "a model that is no text": {**ORDER, "model": ["flux-kontext-pro"]},
    "no prompt": {"model": "flux-kontext-pro"},
    "a blank prompt": {**ORDER, "prompt": " \n"},
    "a prompt that is no text": {**ORDER, "prompt": 5},
    "params that are no object": {**ORDER, "params": []},
    "params that are null": {**ORDER, "params": None},
    "an empty client_request_id": {**ORDER, "client_request_id": ""},
    "a client_request_id of 129": {**ORDER, "client_request_id": "a" * 129},
    "a client_request_id of null": {**ORDER, "client_request_id": None},
    "an unknown parameter": params(seed=1),
    "a parameter in the other style": params(aspect_ratio="1:1"),
    "an unknown ratio": params(aspectRatio="2:3"),
    "the ratio auto": params(aspectRatio="auto"),
    "an unknown format": params(outputFormat="jpg"),
    "a true boolean": params(enableTranslation=True),
    "a false boolean": params(promptUpsampling=False),
    "a capital True": params(promptUpsampling="True"),
    "a tolerance of 7": params(safetyTolerance=7),
    "a tolerance of -1": params(safetyTolerance=-1),
    "a tolerance of 2.5": params(safetyTolerance=2.5),
    "a tolerance as text": params(safetyTolerance="2"),
    "a tolerance as boolean": params(safetyTolerance=True),
    "an empty watermark": params(watermark=""),
    "a blank watermark": params(watermark="  "),
    "a watermark of null": params(watermark=None),
    "references that are no list": params(
        referenceMediaItems={"url": "https://a.example/b", "kind": "image"}
    ),
    "an empty list of references": params(referenceMediaItems=[]),
    "two references": params(referenceMediaItems=[{"url": "https://a.example/b", "kind": "image"}] * 2),
    "a reference that is a text": params(referenceMediaItems=["https://a.example/b"]),
    "a reference without url": item(kind="image"),
    "a reference without kind": item(url="https://a.example/b"),
    "a reference of another kind": item(url="https://a.example/b", kind="video"),
    "a reference in snake case": item(url="https://a.example/b", kind="image", mime_type="image/png"),
    "a reference from elsewhere": item(url="https://a.example/b", kind="image"),
    "a reference that is no URL": item(url="reference.png", kind="image"),
    "a duration token of a number": item(url="https://a.example/b", kind="image", durationToken=5),
}


@pytest.mark.parametrize("body", WRONG_ORDERS.values(), ids=WRONG_ORDERS.keys())
def test_an_order_that_is_not_as_documented_is_refused(client: Client, body: Any) -> None:
    refused(client.create(body, key="some-key"))
    assert client.handle.tasks() == []
    assert client.create(key="some-key").status_code == 201, "the refusal used up the idempotency key"


def test_every_documented_option_is_taken(client: Client) -> None:
    options = {
        "aspectRatio": ("21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
        "outputFormat": ("jpeg", "png"),
        "enableTranslation": ("true", "false"),
        "promptUpsampling": ("false", "true"),
        "safetyTolerance": (0, 1, 2, 3, 4, 5, 6),
        "watermark": ("mine",),
    }
    for name, values in options.items():
        for value in values:
            assert client.create(params(**{name: value})).status_code == 201, (name, value)
    whole = {**client.edit(safetyTolerance=0), "client_request_id": "a" * 128}
    assert client.create(whole).status_code == 201


@pytest.mark.parametrize(
    "fields, data, mime_type",
    [
        ({"kind": None}, None, "image/png"),
        ({"kind": "picture"}, None, "image/png"),
        ({"kind": "video"}, None, "image/png"),
        ({"model": "flux-kontext-ultra"}, None, "image/png"),
        ({"client_request_id": "a" * 129}, None, "image/png"),
        ({"client_request_id": ""}, None, "image/png"),
        ({"name": "reference.png"}, None, "image/png"),
        ({}, b"", "image/png"),
        ({}, b"not a picture", "image/png"),
        ({}, picture(form="JPEG"), "image/png"),
        ({}, picture(form="GIF"), "image/gif"),
        ({}, None, "application/octet-stream"),
        ({}, picture() + bytes(10_000_001), "image/png"),
    ],
)
def test_an_upload_that_is_not_as_documented_is_refused(
    client: Client, fields: dict[str, Any], data: bytes | None, mime_type: str
) -> None:
    refused(client.upload(data, mime_type, **fields))
    assert client.handle.book()["uploads"] == []


def test_ten_million_bytes_are_taken(client: Client) -> None:
    data = picture()
    assert client.upload(data + bytes(10_000_000 - len(data))).status_code == 201


@pytest.mark.parametrize(
    "form, mime_type", [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_the_three_image_types_are_taken(client: Client, form: str, mime_type: str) -> None:
    answer = client.upload(picture(form=form), mime_type)
    assert answer.status_code == 201
    assert answer.json()["mime_type"] == mime_type


@pytest.mark.parametrize(
    "files",
    [
        [("kind", (None, "image"))],
        [("file", (None, "no file name")), ("kind", (None, "image"))],
        [("file", ("a.png", picture(), "image/png")), ("kind", ("kind.txt", b"image", "text/plain"))],
        [("file", ("a.png", picture(), "image/png")), ("kind", (None, "image")), ("kind", (None, "image"))],
        [("file", ("a.png", picture(), "image/png"))] * 2 + [("kind", (None, "image"))],
        [("file", ("a.png", picture())), ("kind", (None, "image")), ("extra", (None, "1"))],
    ],
    ids=["no file", "file as text", "kind as file", "kind twice", "two files", "unknown part"],
)
def test_an_upload_with_wrong_parts_is_refused(client: Client, files: list[Any]) -> None:
    refused(client.http.post("/api/v1/files", headers=client.key, files=files))


def test_an_upload_that_is_no_multipart_is_refused(client: Client) -> None:
    refused(client.http.post("/api/v1/files", headers=client.key, json={"kind": "image"}))
    broken = {**client.key, "Content-Type": "multipart/form-data; boundary=x"}
    refused(client.http.post("/api/v1/files", headers=broken, content=b"no boundary here"))


def test_an_order_must_be_declared_as_json(client: Client) -> None:
    body = json.dumps(ORDER).encode()
    refused(client.http.post("/api/v1/generations", headers=client.key, content=body))
    refused(client.create(body, **{"Content-Type": "text/plain"}))
    assert client.create(body, **{"Content-Type": "application/json; charset=utf-8"}).status_code == 201


@pytest.mark.parametrize("path", ["/api/v1/credits", "/api/v1/models"])
def test_an_unknown_query_is_refused(client: Client, path: str) -> None:
    refused(client.get(f"{path}?verbose=1"))


def test_places_and_methods_that_do_not_exist_get_the_error_shape(client: Client) -> None:
    refused(client.get("/api/v2/models"), 404, "not_found")
    refused(client.http.delete("/api/v1/generations/task_1", headers=client.key), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "header, code",
    [
        (None, "api_key_missing"),
        ("rvya_sk_sandbox", "api_key_missing"),
        ("Basic rvya_sk_sandbox", "api_key_missing"),
        ("Bearer", "api_key_missing"),
        ("bearer rvya_sk_sandbox", "api_key_missing"),
        ("Bearer rvya_sk_other", "api_key_invalid"),
    ],
)
def test_a_wrong_key_is_refused_everywhere(client: Client, header: str | None, code: str) -> None:
    client.key = {} if header is None else {"Authorization": header}
    for answer in (
        client.get("/api/v1/credits"),
        client.get("/api/v1/files/file_1"),
        client.get("/api/v1/generations/task_1"),
        client.create(),
        client.upload(),
    ):
        refused(answer, 401, code)
    assert client.get("/api/v1/models").status_code == 200


def test_keys_can_be_revoked_expired_and_lack_a_scope(client: Client) -> None:
    client.handle.set_key(client.handle.key, state="revoked")
    refused(client.get("/api/v1/credits"), 401, "api_key_revoked")
    client.handle.set_key(client.handle.key, state="expired")
    refused(client.get("/api/v1/credits"), 401, "api_key_expired")
    client.handle.set_key(client.handle.key, scopes=["credits:read"])
    assert client.get("/api/v1/credits").status_code == 200
    refused(client.create(), 403, "api_scope_denied")
