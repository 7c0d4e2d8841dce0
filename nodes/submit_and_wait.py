"""Rivya Submit and Wait: orders pictures and waits for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..rivya import kontext, scalars
from ..rivya.errors import costs_nothing
from . import failures, host, limits, links, users, waiting
from .notes import said
from .v3 import ParamsType, ReferenceType, advanced, io, schema

if TYPE_CHECKING:
    from ..rivya.config import Config
    from ..rivya.kontext import KontextParams
    from ..rivya.orders.order import Order, Reference

ON_FAILURE = ["raise", "skip"]


class RivyaSubmitAndWait(io.ComfyNode):
    """B references x V variations are B*V orders; each is paid at most once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RivyaSubmitAndWait",
            display_name="Rivya Submit and Wait",
            description="Edits the reference as the prompt says, or makes a picture from the prompt alone. Costs 4 "
            "credits a picture (flux-kontext-max: 8). The same inputs and seed give the same picture again for none.",
            not_idempotent=True,
            hidden=[io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
            inputs=_inputs(),
            outputs=outputs(),
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None) -> bool | str:
        """Refuse a blank prompt when the graph is queued; `execute` checks one that comes over a link."""
        if prompt is not None and not str(prompt).strip():
            return "The prompt is blank. Write what to change in the picture."
        return True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """Changes after a run that skipped a failure, so that the next run orders what failed."""
        return failures.count(failures.key(inputs))

    @classmethod
    async def execute(
        cls,
        prompt: str,
        seed: int,
        variations: int,
        params: KontextParams | None = None,
        reference: tuple[Reference, ...] | None = None,
        on_failure: str = "raise",
        timeout_s: int = 900,
        client_request_id: str = "",
    ) -> io.NodeOutput:
        links.refuse_missing(cls.hidden, {"reference": reference, "params": params})
        orders = plan(prompt, seed, variations, params, reference, on_failure, timeout_s, client_request_id)
        orders = [replace(order, user=users.current() or "") for order in orders]
        prices = {order.fingerprint: order.identity.params.credits for order in orders}
        running = host.executing()[0], host.shown_node()
        limits.refuse_beyond_memory(len(orders))
        await limits.count_orders(*running, len(prices), sum(prices.values()), _most_orders)
        pictures, price = limits.counted(*running)
        host.say(f"{pictures} picture{'s' if pictures != 1 else ''} · at most {price} credits")
        run = failures.key(host.prompt_inputs(cls.hidden.dynprompt, host.executing()[1]))
        timeout_s = kontext.validate_timeout(timeout_s)
        return await _run(orders, timeout_s, run if on_failure == "skip" else None)


@costs_nothing()
def plan(
    prompt: str,
    seed: int,
    variations: int,
    params: KontextParams | None,
    reference: tuple[Reference, ...] | None,
    on_failure: str,
    timeout_s: int,
    client_request_id: str,
) -> list[Order]:
    """The orders of one run, reference-major. Checks every value before anything is sent.

    Raises:
        ValidationError: names the value that cannot be ordered.
    """
    from ..rivya.errors import ValidationError
    from ..rivya.kontext import KontextParams
    from ..rivya.plan import Wanted

    chosen = params if params is not None else KontextParams()
    if not isinstance(chosen, KontextParams):
        raise ValidationError("params does not come from Rivya Kontext Params.")
    if reference is not None and not _are_references(reference):
        raise ValidationError("reference does not come from Rivya Upload Reference.")
    wanted = Wanted(None, prompt, chosen, seed, variations, client_request_id).checked()
    kontext.validate_timeout(timeout_s)
    scalars.choice("on_failure", on_failure, ON_FAILURE)
    return wanted.orders(reference)


async def _run(orders: list[Order], timeout_s: int, skip: str | None) -> io.NodeOutput:
    """Order, wait and deliver. ``skip``: the `failures.key` of a run that goes on after failures, else None."""
    from ..rivya.engine import engine
    from ..rivya.plan import prices
    from .outputs import ExpectedRow, finish

    config: Config = await waiting.result(engine.shared().codec(host.load_config))
    config.require_key()
    if config.max_credits_per_run is not None:
        bought = await waiting.result(engine.shared().would_buy(config, orders))
        limits.reserve_credits(host.executing()[0], config.max_credits_per_run, prices(bought))
    seed, variations = orders[-1].identity.seed, orders[-1].identity.variation + 1
    rows = [
        ExpectedRow(
            reference=index // variations if order.reference is not None else None,
            variation=order.identity.variation,
            fingerprint=order.fingerprint,
            known={"model": order.identity.params.model, "size": order.identity.size, **order.details()},
        )
        for index, order in enumerate(orders)
    ]
    unique = {order.fingerprint: order for order in orders}
    return await finish(
        config,
        rows,
        engine.shared().order(config, list(unique.values())),
        timeout_s,
        remedy=lambda count: said("runAgain", count=count, seed=seed),
        most=sum(prices(orders).values()),
        skip_failed=skip is not None,
        left_out=lambda: failures.remember(skip) if skip else None,
    )


async def _most_orders() -> int:
    from ..rivya.engine import engine

    config: Config = await waiting.result(engine.shared().codec(host.load_config))
    return config.max_orders_per_node


def outputs() -> list[io.Output]:
    return [
        io.Image.Output(
            display_name="images",
            is_output_list=True,
            tooltip="One batch; several only where the pictures have different sizes.",
        ),
        io.Mask.Output(
            display_name="masks", is_output_list=True, tooltip="1 where a picture is transparent."
        ),
        io.String.Output(display_name="task_ids", tooltip="The Rivya tasks, one a line."),
        io.String.Output(display_name="report", tooltip="What each picture cost and where it is, as JSON."),
    ]


def _inputs() -> list[io.Input]:
    return [
        io.String.Input("prompt", multiline=True, tooltip="What to change in the picture, or what to show."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=kontext.MAX_SEED,
            control_after_generate=True,
            tooltip="Names the picture; it is not sent. The same seed gives the same picture for no credits, "
            "another seed buys another.",
        ),
        io.Int.Input(
            "variations",
            default=1,
            min=1,
            max=kontext.MAX_VARIATIONS,
            tooltip="Pictures for each reference. Raising it from 2 to 4 buys two more.",
        ),
        ParamsType.Input(
            "params", optional=True, tooltip="From Rivya Kontext Params; without it, all defaults."
        ),
        ReferenceType.Input(
            "reference", optional=True, tooltip="From Rivya Upload Reference; without it, text to image."
        ),
        advanced(
            io.Combo.Input(
                "on_failure",
                options=ON_FAILURE,
                default="raise",
                optional=True,
                tooltip="skip: go on with the pictures that succeeded; the others are ordered again at the next run.",
            )
        ),
        advanced(
            io.Int.Input(
                "timeout_s",
                default=900,
                min=kontext.MIN_TIMEOUT_S,
                max=kontext.MAX_TIMEOUT_S,
                optional=True,
                tooltip="Seconds to wait for each picture; running again resumes and costs nothing more.",
            )
        ),
        advanced(
            io.String.Input(
                "client_request_id",
                default="",
                optional=True,
                tooltip="Your own trace id, up to 128 characters; shown by Rivya, part of no identity.",
            )
        ),
    ]


def _are_references(value: object) -> bool:
    """A prompt in API form may hold any constant here; the frontend only draws links."""
    from ..rivya.orders.order import Reference

    return isinstance(value, tuple) and bool(value) and all(isinstance(each, Reference) for each in value)
