"""References: uploaded once for as long as the service keeps them, and again by themselves when it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from library.client import PATIENCE_S, SOON_S, Client
from rivya.errors import Charged, ServiceUnavailableError, ValidationError
from rivya.images.encode import pixel_hash
from rivya.ledger.ledger import OrderState
from support.quick import picture

pytestmark = pytest.mark.heavy


def age(client: Client, seconds: float) -> None:
    """Let all uploads be that old."""
    connection = client.ledger._database._opened()
    connection.execute(
        "UPDATE uploads SET created_at = created_at - ?, confirmed_at = confirmed_at - ?", (seconds,) * 2
    )


def test_an_upload_says_what_it_is_and_for_which_model(client: Client, service: Any) -> None:
    reference = client.reference()
    (upload,) = service.book()["uploads"]
    assert (upload["kind"], upload["mime_type"], upload["model"]) == (
        "image",
        "image/png",
        "flux-kontext-pro",
    )
    assert upload["name"] == reference.name
    assert upload["sha256"] == reference.content_hash
    assert upload["url"] == reference.url
    assert reference.identity == pixel_hash(picture(1))


def test_the_same_pixels_go_up_once_also_at_the_same_time_and_after_a_restart(
    make: Callable[..., Client], service: Any
) -> None:
    client = make()
    jobs = [client.engine.reference(client.config, lambda: picture(1)) for _ in range(5)]
    assert len({job.result(PATIENCE_S).url for job in jobs}) == 1
    again = make()
    assert again.reference().url == jobs[0].result().url
    assert len(service.requests("upload")) == 1
    assert service.requests("file") == []


def test_another_encoding_is_another_upload_and_the_same_order(client: Client, service: Any) -> None:
    as_png, as_jpeg = client.reference(encoding="png"), client.reference(encoding="jpeg")
    assert as_png.content_hash != as_jpeg.content_hash
    client.run(client.order(reference=as_png))
    assert client.run(client.order(reference=as_jpeg))[0].source == "stored"
    assert len(service.requests("upload")) == 2
    assert len(service.tasks()) == 1


def test_other_pixels_are_another_order(client: Client, service: Any) -> None:
    client.run(client.order(reference=client.reference(1)), client.order(reference=client.reference(2)))
    assert len(service.tasks()) == 2


def test_an_order_names_its_reference_as_the_service_wants_it(client: Client, service: Any) -> None:
    reference = client.reference()
    client.run(client.order(reference=reference))
    (task,) = service.tasks()
    assert task["params"]["referenceMediaItems"] == [
        {"url": reference.url, "kind": "image", "name": reference.name, "mimeType": "image/png"}
    ]
    assert task["params"]["aspectRatio"] == "4:3", "the allowed ratio nearest to 24 x 16"


@pytest.mark.parametrize("spelling", ["duration_token", "durationToken"])
def test_a_duration_token_comes_back_in_the_order_whatever_its_spelling(
    client: Client, service: Any, spelling: str
) -> None:
    service.fault("upload", "duration_token", spelling=spelling)
    client.run(client.order(reference=client.reference()))
    (item,) = service.tasks()[0]["params"]["referenceMediaItems"]
    assert item["durationToken"] == service.book()["uploads"][0]["token"]


def test_a_young_upload_is_relied_on_and_an_old_one_confirmed_just_before_the_order(
    client: Client, service: Any
) -> None:
    reference = client.reference()
    client.run(client.order(reference=reference))
    assert service.requests("file") == []
    age(client, 1000.0)
    client.run(client.order(reference=reference, seed=1))
    assert [request["endpoint"] for request in service.requests()[-4:-2]] == ["file", "create"]
    client.run(client.order(reference=reference, seed=2))
    assert len(service.requests("file")) == 1, "it was confirmed a moment ago"
    assert len(service.requests("upload")) == 1


def test_an_old_upload_that_is_gone_is_made_again_before_the_order(client: Client, service: Any) -> None:
    reference = client.reference()
    age(client, 1000.0)
    service.expire_uploads()
    client.run(client.order(reference=reference))
    assert len(service.requests("upload")) == 2
    assert len(service.requests("create")) == 1
    assert [row.attempt for row in client.rows()] == [1]


def test_a_reference_that_the_service_rejects_is_uploaded_again_for_one_more_attempt(
    client: Client, service: Any
) -> None:
    reference = client.reference()
    service.expire_uploads()
    (finished,) = client.run(client.order(reference=reference))
    assert finished.source == "new"
    first, second = service.requests("create")
    assert first["idempotency_key"] != second["idempotency_key"]
    assert [(row.attempt, row.state, row.charged) for row in client.rows()] == [
        (1, OrderState.FAILED, "no"),
        (2, OrderState.STORED, "yes"),
    ]
    assert len(service.charges()) == 1


def test_there_is_only_one_more_attempt(client: Client, service: Any) -> None:
    reference = client.reference()
    refusal = {"status": 400, "code": "validation_failed", "message": "params.referenceMediaItems is no good"}
    service.fault("create", "status", times=None, **refusal)
    error = client.failure(client.order(reference=reference))
    assert isinstance(error, ValidationError)
    assert error.charged is Charged.NO
    assert len(service.requests("create")) == 2
    assert len(service.requests("upload")) == 2
    assert [(row.attempt, row.state) for row in client.rows()] == [(1, OrderState.FAILED)]
    service.clear_faults()
    assert client.run(client.order(reference=reference))[0].source == "new"


def test_a_refusal_that_is_not_about_the_reference_uploads_nothing(client: Client, service: Any) -> None:
    reference = client.reference()
    service.fault(
        "create", "status", status=400, code="validation_failed", message="The prompt is not allowed."
    )
    assert client.failure(client.order(reference=reference)).charged is Charged.NO
    assert len(service.requests("upload")) == 1
    assert client.rows() == []


def test_a_refusal_stays_proof_though_the_upload_cannot_be_asked_about(client: Client, service: Any) -> None:
    reference = client.reference()
    service.fault(
        "create", "status", status=400, code="validation_failed", message="The prompt is not allowed."
    )
    service.fault("file", "status", status=500, times=None)
    error = client.failure(client.order(reference=reference))
    assert isinstance(error, ValidationError)
    assert error.charged is Charged.NO
    assert client.rows() == []


def test_an_order_that_was_sent_keeps_its_body_though_its_upload_is_gone(
    client: Client, service: Any
) -> None:
    reference = client.reference()
    service.fault("create", "cut_after", times=None)
    assert client.failure(client.order(reference=reference)).charged is Charged.UNKNOWN
    service.clear_faults()
    service.expire_uploads()
    assert client.run(client.order(reference=reference))[0].source == "resumed"
    assert len(service.requests("upload")) == 1
    assert len({each["body_sha256"] for each in service.requests("create")}) == 1


def test_a_stored_or_running_order_asks_nothing_about_its_reference(client: Client, service: Any) -> None:
    reference = client.reference()
    client.run(client.order(reference=reference))
    age(client, 1000.0)
    service.expire_uploads()
    before = len(service.requests())
    client.run(client.order(reference=reference))
    assert len(service.requests()) == before


def test_an_upload_that_fails_says_that_nothing_was_charged(client: Client, service: Any) -> None:
    service.fault("upload", "status", status=500, times=None)
    with pytest.raises(ServiceUnavailableError) as caught:
        client.reference()
    assert caught.value.charged is Charged.NO


def test_an_upload_is_repeated_after_trouble(client: Client, service: Any) -> None:
    service.fault("upload", "cut_after")
    service.fault("upload", "status", status=429)
    assert client.reference().url == service.book()["uploads"][-1]["url"]
    assert len(service.requests("upload")) == 3


def test_at_most_four_uploads_are_under_way_at_once(client: Client, service: Any) -> None:
    service.fault("upload", "stall", when="before", seconds=20, times=None)
    jobs = [client.engine.reference(client.config, lambda n=n: picture(n)) for n in range(8)]
    service.wait("upload", stage="received", count=4)
    client.loop_call(lambda: None)
    assert len(service.requests("upload")) == 4
    service.clear_faults()
    assert len({job.result(PATIENCE_S).url for job in jobs}) == 8


def test_a_cancelled_upload_ends_at_once_and_holds_up_nobody_else(client: Client, service: Any) -> None:
    service.fault("upload", "stall", when="before", seconds=20)
    job = client.engine.reference(client.config, lambda: picture(1))
    service.wait("upload", stage="received")
    job.cancel()
    assert job.done.exception(SOON_S) is not None
    assert client.reference(1).url


def test_pixels_that_cannot_be_had_are_told_to_whoever_waits(client: Client) -> None:
    def broken() -> Any:
        raise ValueError("no pixels today")

    job = client.engine.reference(client.config, broken)
    assert "no pixels today" in str(job.done.exception(PATIENCE_S))


def test_pixels_are_read_and_encoded_outside_of_the_engine_s_loop(client: Client) -> None:
    threads = []

    def load() -> Any:
        threads.append(threading.current_thread().name)
        return picture(1)

    client.engine.reference(client.config, load).result(PATIENCE_S)
    assert threads
    assert all("rivya-engine" not in name for name in threads)


def test_a_key_that_may_not_look_at_files_orders_all_the_same(client: Client, service: Any) -> None:
    reference = client.reference()
    age(client, 1000.0)
    service.fault("file", "status", status=403, code="api_scope_denied", times=None)
    assert client.run(client.order(reference=reference))[0].source == "new"
