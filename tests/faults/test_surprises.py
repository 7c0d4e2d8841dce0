"""Surprises that must not happen: what buys again and what does not, and which orders answer for each other."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sandbox
from faults.zygote import Worker
from rivya.ledger.ledger import FILE_NAME

TEXT: dict[str, Any] = {"prompt": "a quiet harbour", "seed": 3}
EDIT: dict[str, Any] = {"prompt": "make it night", "seed": 3, "picture": 1}
Start = Callable[..., Worker]


def pictures(told: list[dict[str, Any]]) -> list[list[str]]:
    assert [each.get("error") for each in told] == [None] * len(told)
    return [each["pictures"] for each in told]


def varied(order: dict[str, Any], count: int) -> list[dict[str, Any]]:
    return [{**order, "variation": number} for number in range(count)]


@pytest.fixture(params=[TEXT, EDIT], ids=["text", "edit"])
def order(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_the_same_graph_again_costs_nothing_and_asks_nothing(
    order: dict[str, Any], start: Start, replaying: Any
) -> None:
    first = start().run(order)
    asked = len(replaying.requests())
    again = start().run(order)
    assert pictures(again) == pictures(first)
    assert (first[0]["source"] != "stored", again[0]["source"]) == (True, "stored")
    assert len(replaying.requests()) == asked
    assert len(replaying.charges()) == 1


def test_variations_raised_from_two_to_four_buy_two_and_leave_the_first_two_unchanged(
    order: dict[str, Any], start: Start, replaying: Any
) -> None:
    two = pictures(start().run(*varied(order, 2)))
    four = pictures(start().run(*varied(order, 4)))
    assert four[:2] == two
    assert len({tuple(each) for each in four}) == 4
    assert len(replaying.charges()) == 4


def test_a_batch_in_another_order_buys_nothing(start: Start, replaying: Any) -> None:
    batch = [{**EDIT, "picture": number} for number in range(4)]
    forward = pictures(start().run(*batch))
    backward = pictures(start().run(*batch[::-1]))
    assert backward == forward[::-1]
    assert len(replaying.charges()) == 4


def test_another_encoding_of_the_same_pixels_buys_nothing(start: Start, replaying: Any) -> None:
    first = start().run({**EDIT, "encoding": "png"})
    again = start().run({**EDIT, "encoding": "webp"})
    assert pictures(again) == pictures(first)
    assert len(replaying.charges()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"prompt": "make it day"},
        {"params": {"watermark": "mine"}},
        {"params": {"model": "flux-kontext-max"}},
        {"params": {"output_format": "png"}},
        {"params": {"safety_tolerance": 1}},
        {"params": {"prompt_upsampling": True}},
        {"params": {"enable_translation": False}},
        {"params": {"aspect_ratio": "9:16"}},
    ],
    ids=lambda change: "-".join(map(str, change)),
)
def test_what_changes_the_picture_is_a_new_order(
    change: dict[str, Any], order: dict[str, Any], start: Start, replaying: Any
) -> None:
    worker = start()
    first, other = worker.run(order, {**order, **change})
    assert first["task_id"] != other["task_id"]
    assert len(replaying.charges()) == 2


def test_a_ratio_chosen_by_hand_that_auto_would_have_chosen_buys_nothing(
    start: Start, replaying: Any
) -> None:
    for order, ratio in ((TEXT, "16:9"), (EDIT, "4:3")):
        first = start().run(order)
        again = start().run({**order, "params": {"aspect_ratio": ratio}})
        assert pictures(again) == pictures(first)
    assert len(replaying.charges()) == 2


def test_defaults_spelled_out_and_a_request_id_buy_nothing(start: Start, replaying: Any) -> None:
    first = start().run(TEXT)
    spelled = {"model": "flux-kontext-pro", "output_format": "jpeg", "safety_tolerance": 2, "watermark": ""}
    again = start().run({**TEXT, "params": spelled, "client_request_id": "mine"})
    assert pictures(again) == pictures(first)
    assert len(replaying.charges()) == 1


def test_the_same_picture_twice_in_a_batch_is_one_order_delivered_twice(start: Start, replaying: Any) -> None:
    told = start().run(EDIT, TEXT, EDIT)
    assert told[0]["pictures"] == told[2]["pictures"]
    assert len(replaying.charges()) == 2
    assert len(replaying.requests("upload")) == 1


def test_half_of_a_batch_that_failed_is_all_that_is_paid_the_next_time(start: Start, replaying: Any) -> None:
    batch = [{**TEXT, "seed": number} for number in range(6)]
    replaying.fault("create", "status", status=402, times=3)
    first = start().run(*batch)
    assert sum("error" in each for each in first) == 3
    assert {each["error"]["charged"] for each in first if "error" in each} == {"no"}
    second = start().run(*batch)
    assert pictures(second)
    assert sum(each["source"] == "stored" for each in second) == 3
    assert len(replaying.charges()) == 6


def test_a_failed_task_that_cost_nothing_is_tried_anew_with_a_new_key(start: Start, replaying: Any) -> None:
    replaying.fault("create", "fail_task")
    (failed,) = start().run(TEXT)
    assert failed["error"]["charged"] == "no"
    (told,) = start().run(TEXT)
    assert told["pictures"]
    assert len({task["idempotency_key"] for task in replaying.tasks()}) == 2
    assert len(replaying.charges()) == 1


def test_a_failed_task_that_was_charged_is_never_ordered_again_by_itself(
    start: Start, replaying: Any
) -> None:
    replaying.fault("create", "fail_task", charged=True)
    for _ in range(3):
        (failed,) = start().run(TEXT)
        assert failed["error"]["charged"] == "yes"
        assert "seed" in failed["error"]["hint"]
    assert len(replaying.tasks()) == 1
    (told,) = start().run({**TEXT, "seed": 4})
    assert told["pictures"]


def test_a_task_with_several_pictures_delivers_and_keeps_them_all(start: Start, replaying: Any) -> None:
    replaying.fault("create", "results", count=3)
    (told,) = start().run(TEXT)
    (task,) = replaying.tasks()
    expected = [hashlib.sha256(replaying.picture(task["id"], number)).hexdigest() for number in range(3)]
    assert told["pictures"] == expected
    (again,) = start().run(TEXT)
    assert (again["pictures"], again["source"]) == (expected, "stored")


# Scope: which orders answer for each other.


@pytest.fixture
def other_service() -> Iterator[Any]:
    with sandbox.running(megapixels=0.004) as running:
        yield running


def test_orders_of_two_services_never_answer_for_each_other(
    order: dict[str, Any], start: Start, replaying: Any, other_service: Any
) -> None:
    here = start().run(order)
    there = start(other_service).run(order)
    assert here[0]["task_id"] != there[0]["task_id"]
    assert len(replaying.charges()) == len(other_service.charges()) == 1
    assert {each["source"] for each in start().run(order) + start(other_service).run(order)} == {"stored"}


def test_orders_of_two_accounts_never_answer_for_each_other(
    order: dict[str, Any], start: Start, replaying: Any
) -> None:
    replaying.set_key("rvya_sk_somebody_else", account="other")
    ours = start().run(order)
    theirs = start(key="rvya_sk_somebody_else").run(order)
    assert ours[0]["task_id"] != theirs[0]["task_id"]
    assert {charge["account"] for charge in replaying.charges()} == {"main", "other"}
    assert start(key="rvya_sk_somebody_else").collect() == []


def test_a_rotated_key_finds_what_the_old_one_paid_for(start: Start, replaying: Any) -> None:
    stored = start().run(EDIT)
    replaying.fault("create", "latency", seconds=60, times=None)
    dying = start(read_s=60.0)
    dying.tell(do="run", wanted=[TEXT])
    replaying.wait("status", count=2)
    dying.kill()
    replaying.clear_faults()
    replaying.set_key(replaying.key, state="revoked")
    replaying.set_key("rvya_sk_rotated")
    replaying.finish_tasks()
    told = start(key="rvya_sk_rotated").run(EDIT, TEXT)
    replaying.set_key(replaying.key)
    assert pictures(told[:1]) == pictures(stored)
    assert [each["source"] for each in told] == ["stored", "resumed"]
    assert len(replaying.charges()) == 2
    assert len(replaying.requests("upload")) == 1


def test_a_rotated_key_does_not_buy_what_the_old_one_may_have_bought(start: Start, replaying: Any) -> None:
    """With no task at all there is nothing by which the new key could be known as that of the same account."""
    replaying.fault("create", "cut_after", times=None)
    start().run(TEXT)
    replaying.clear_faults()
    replaying.set_key("rvya_sk_rotated")
    (told,) = start(key="rvya_sk_rotated").run(TEXT)
    assert (told["error"]["charged"], told["error"]["code"]) == ("unknown", "unknown_outcome")
    assert "earlier key" in told["error"]["hint"]
    assert len(replaying.tasks()) == 1
    (other,) = start(key="rvya_sk_rotated").run({**TEXT, "seed": 4})
    assert other["pictures"], "another order is not held up"
    (told,) = start().run(TEXT)
    assert told["pictures"]
    assert len(replaying.charges()) == 2
    (told,) = start(key="rvya_sk_rotated").run({**TEXT, "seed": 5})
    assert told["pictures"]


def test_what_was_forgotten_holds_no_other_key_up(start: Start, replaying: Any) -> None:
    replaying.fault("create", "cut_before", times=None)
    worker = start()
    (told,) = worker.run(TEXT)
    replaying.clear_faults()
    assert worker.forget(told["error"]["order_key"])
    replaying.set_key("rvya_sk_rotated")
    (told,) = start(key="rvya_sk_rotated").run(TEXT)
    assert told["pictures"]


def test_a_key_rotated_twice_still_finds_it(start: Start, replaying: Any) -> None:
    start().run(TEXT)
    for key in ("rvya_sk_second", "rvya_sk_third"):
        replaying.set_key(key)
        (told,) = start(key=key).run(TEXT)
        assert told["source"] == "stored"
    assert len(replaying.charges()) == 1


def lose_ledger(home: Path) -> None:
    for path in home.glob(f"{FILE_NAME}*"):
        path.unlink()


def test_with_the_ledger_lost_what_is_stored_is_delivered_without_a_request(
    order: dict[str, Any], start: Start, replaying: Any, tmp_path: Path
) -> None:
    first = start().run(order)
    lose_ledger(tmp_path / "state")
    asked = len(replaying.requests("create"))
    again = start().run(order)
    assert pictures(again) == pictures(first)
    assert again[0]["source"] == "stored"
    assert len(replaying.requests("create")) == asked


def test_with_ledger_and_store_lost_a_text_is_replayed_and_not_charged_again(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    first = start().run(TEXT)
    shutil.rmtree(tmp_path / "state")
    again = start().run(TEXT)
    assert pictures(again) == pictures(first)
    assert len(replaying.charges()) == 1


def test_with_ledger_and_store_lost_a_reference_is_a_safe_stop_that_says_so(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    start().run(EDIT)
    shutil.rmtree(tmp_path / "state")
    for _ in range(2):
        (told,) = start().run(EDIT)
        error = told["error"]
        assert (error["charged"], error["code"]) == ("unknown", "idempotency_conflict")
        assert error["order_key"]
        assert "another seed" in error["hint"]
        assert "forget" in error["hint"]
    assert len(replaying.charges()) == 1
    task_id = replaying.tasks()[0]["id"]
    assert start().collect(task_id)[0]["pictures"], "the log has the task id, and it brings the picture"
    assert len(replaying.charges()) == 1


def evict(home: Path) -> None:
    for path in (home / "results").glob("[!.]*"):
        path.unlink()


def test_a_picture_that_was_evicted_is_fetched_again_by_its_task(
    order: dict[str, Any], start: Start, replaying: Any, tmp_path: Path
) -> None:
    first = start().run(order)
    evict(tmp_path / "state")
    again = start().run(order)
    assert pictures(again) == pictures(first)
    assert again[0]["source"] == "resumed"
    assert len(replaying.requests("create")) == 1


def test_a_stored_picture_that_was_damaged_is_fetched_again_like_an_evicted_one(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    first = start().run(TEXT)
    (path,) = (tmp_path / "state" / "results").glob("*.jpg")
    path.write_bytes(path.read_bytes()[::-1])
    again = start().run(TEXT)
    assert pictures(again) == pictures(first)
    assert len(replaying.requests("create")) == 1


def test_an_evicted_picture_that_the_service_has_lost_is_an_error_and_never_a_purchase(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    start().run(TEXT)
    evict(tmp_path / "state")
    replaying.drop_tasks()
    (told,) = start().run(TEXT)
    assert told["error"]["code"] == "not_found"
    assert "another seed" in told["error"]["hint"]
    assert len(replaying.requests("create")) == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_result_url_that_has_expired_is_read_anew_from_the_task(
    status: int, start: Start, replaying: Any
) -> None:
    replaying.fault("result", "stall", seconds=60, at_byte=10)
    dying = start(read_s=60.0)
    dying.tell(do="run", wanted=[TEXT])
    replaying.wait("result", "worked")
    dying.kill()
    replaying.clear_faults()
    replaying.expire_results(status=status)
    (told,) = start().run(TEXT)
    assert told["pictures"]
    assert len(replaying.charges()) == 1


def test_a_result_that_is_gone_for_good_is_an_error_that_says_it_was_charged(
    start: Start, replaying: Any
) -> None:
    replaying.fault("result", "stall", seconds=60, at_byte=10)
    dying = start(read_s=60.0)
    dying.tell(do="run", wanted=[TEXT])
    replaying.wait("result", "worked")
    dying.kill()
    replaying.clear_faults()
    replaying.expire_results(status=410, gone=True)
    for _ in range(2):
        (told,) = start().run(TEXT)
        assert told["error"]["charged"] == "yes"
        assert "another seed" in told["error"]["hint"]
    assert len(replaying.requests("create")) == 1


# Uploads: once, for as long as they live.


def test_a_picture_goes_up_once_over_restarts_and_prompts(start: Start, replaying: Any) -> None:
    for number in range(3):
        start().run({**EDIT, "prompt": f"wish {number}"})
    assert len(replaying.requests("upload")) == 1
    assert replaying.requests("file") == []


def test_an_old_upload_is_confirmed_before_a_new_order_relies_on_it(start: Start, replaying: Any) -> None:
    start().run(EDIT)
    start(upload_confirm_age_s=0.0).run({**EDIT, "seed": 4})
    assert (len(replaying.requests("upload")), len(replaying.requests("file"))) == (1, 1)
    start(upload_confirm_age_s=0.0).run(EDIT)
    assert len(replaying.requests("file")) == 1, "an order that is stored asks nothing"


def test_an_upload_that_is_gone_is_made_again_before_the_body_is_frozen(start: Start, replaying: Any) -> None:
    start().run(EDIT)
    replaying.expire_uploads()
    (told,) = start(upload_confirm_age_s=0.0).run({**EDIT, "seed": 4})
    assert told["pictures"]
    assert len(replaying.requests("upload")) == 2
    assert len(replaying.requests("create")) == 2


def test_a_reference_that_the_service_rejects_is_uploaded_again_in_one_more_attempt(
    start: Start, replaying: Any
) -> None:
    start().run(EDIT)
    replaying.expire_uploads()
    (told,) = start().run({**EDIT, "seed": 4})
    assert told["pictures"]
    assert len(replaying.requests("upload")) == 2
    keys = [request["idempotency_key"] for request in replaying.requests("create")]
    assert len(set(keys)) == 3
    assert len(replaying.charges()) == 2


def test_an_order_that_may_have_been_sent_keeps_its_body_although_the_upload_is_gone(
    start: Start, replaying: Any
) -> None:
    replaying.fault("create", "cut_after", times=None)
    (told,) = start().run(EDIT)
    assert told["error"]["charged"] == "unknown"
    replaying.clear_faults()
    replaying.expire_uploads()
    (told,) = start().run(EDIT)
    assert told["pictures"]
    bodies = {request["body_sha256"] for request in replaying.requests("create")}
    assert len(bodies) == 1
    assert len(replaying.charges()) == 1


# Unknown outcomes.


def test_a_refusal_after_an_uncertain_send_does_not_prove_that_nothing_was_charged(
    start: Start, replaying: Any
) -> None:
    """The lost first send took the last credits: the 402 that follows is no proof."""
    replaying.fault("create", "cut_before", times=1)
    replaying.fault("create", "status", status=402, times=1)
    (told,) = start().run(TEXT)
    assert told["error"]["charged"] == "unknown"
    (told,) = start().run(TEXT)
    assert told["pictures"]
    assert len({request["idempotency_key"] for request in replaying.requests("create")}) == 1
    assert len(replaying.charges()) == 1


def test_a_first_refusal_proves_it_and_leaves_no_trace(start: Start, replaying: Any) -> None:
    replaying.set_credits(0)
    (told,) = start().run(TEXT)
    assert (told["error"]["charged"], told["error"]["code"]) == ("no", "insufficient_credits")
    replaying.set_credits(100)
    (told,) = start().run(TEXT)
    assert told["pictures"]


def test_a_repeat_that_is_still_in_flight_is_waited_for(start: Start, replaying: Any) -> None:
    replaying.fault("create", "stall", when="during", seconds=2.0)
    (told,) = start(conflict_wait_s=10.0).run(TEXT)
    assert told["pictures"]
    answers = [request["status"] for request in replaying.requests("create")]
    assert 409 in answers
    assert len(replaying.charges()) == 1


def test_after_its_window_an_unknown_order_is_final_until_it_is_forgotten(
    start: Start, replaying: Any
) -> None:
    replaying.fault("create", "cut_after", times=None)
    start().run(TEXT)
    asked = len(replaying.requests("create"))
    (told,) = start(repeat_window_s=0.0).run(TEXT)
    assert told["error"]["charged"] == "unknown"
    assert "too old" in told["error"]["message"]
    assert len(replaying.requests("create")) == asked


def test_no_error_and_no_log_shows_the_key(start: Start, replaying: Any, capfd: Any) -> None:
    replaying.fault("create", "status", status=500, message=f"your key is {replaying.key}", times=None)
    (told,) = start().run(TEXT)
    shown = f"{told} {capfd.readouterr()}"
    assert replaying.key not in shown
