"""The values that orders are described by: what is asked for, where it stands, what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from ..api.polling import PollSchedule
from ..kontext import Identity
from ..ledger.holders import Holder
from ..ledger.ledger import Ledger
from ..storage.opening import agree_on_place
from ..storage.results import ResultStore, StoredResult


@dataclass(frozen=True)
class Workspace:
    """What belongs to one state folder: the ledger, the result store, and this process's holder.

    Attributes:
        home: the state folder.
    """

    holder: Holder
    ledger: Ledger
    store: ResultStore
    home: Path
    _agreed: Event = field(default_factory=Event, repr=False)

    def check_writable(self) -> None:
        """Make sure that orders and pictures can be kept, before anything is sent. Blocks.

        Raises:
            LedgerError: they cannot.
            ConfigurationError: a setting is wrong; see `check_store`.
        """
        self.check_store()
        self.ledger.check_writable()

    def check_store(self) -> None:
        """The same for pictures alone.

        Raises:
            ConfigurationError: ``results_elsewhere``: the ledger remembers another place for its pictures, so that
                others would not find these.
        """
        self.store.check_writable()
        if not self._agreed.is_set():
            agree_on_place(self.ledger, self.store)
            self._agreed.set()


@dataclass(frozen=True)
class Reference:
    """One picture that can be edited: what RIVYA_REFERENCE carries.

    It keeps the encoded bytes, so that an order can upload them again when the service no longer has the file.

    Attributes:
        identity: hash of its pixels, plus the change of geometry where one was needed: what an order is made of.
        width, height: of the picture in the graph, in pixels; decides the ratio for ``auto``.
        data: the encoded bytes, as uploaded.
        content_hash: SHA-256 (hex) of ``data``.
        name, mime: file name and MIME type, as uploaded.
        encoding: "png", "webp" or "jpeg".
        notes: what happened to the picture on its way (quality, size, alpha), for a person to read.
        url: where the service keeps it, at the time of the upload.
    """

    identity: str
    width: int
    height: int
    data: bytes = field(repr=False)
    content_hash: str
    name: str
    mime: str
    encoding: str
    notes: tuple[str, ...] = ()
    url: str = field(default="", repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in the graph."""
        return self.width, self.height


@dataclass(frozen=True)
class Order:
    """A request for one picture: what it is, and what it needs on its way.

    Attributes:
        user: who ordered it, where a server has several users; it changes nothing but who collects it.
    """

    identity: Identity
    reference: Reference | None = None
    client_request_id: str = ""
    user: str = ""

    @property
    def fingerprint(self) -> str:
        """What the order is; see `kontext.Identity.fingerprint`."""
        return self.identity.fingerprint()

    def without_bytes(self) -> Order:
        """The same order without the bytes of its picture, which an accepted order needs no more."""
        if self.reference is None:
            return self
        return replace(self, reference=replace(self.reference, data=b""))

    @property
    def mode(self) -> str:
        """ "edit" with a reference, "text" without: they take different times."""
        return "text" if self.reference is None else "edit"

    def details(self) -> dict[str, Any]:
        """What the ledger and the report tell of the order; never its prompt."""
        identity, reference = self.identity, self.reference
        return {
            "seed": identity.seed,
            "variation": identity.variation,
            "aspect_ratio": identity.params.resolved_ratio(identity.size),
            "output_format": identity.params.output_format,
            "encoding": reference.encoding if reference else None,
            "notes": list(reference.notes) if reference else [],
            **({"user": self.user} if self.user else {}),
        }


@dataclass(frozen=True)
class Progress:
    """Where an order stands: a snapshot that other threads may read at any time.

    Attributes:
        state: "waiting", "sending", "running", "downloading" or "done".
        source: "new", "resumed" or "stored", once that is known.
        task_id: once the service has accepted the order.
        credits: what the service has reserved or charged for it; None while that is not known.
        since: when this run began to follow the accepted order, seconds of the monotonic clock.
        started: when the service accepted the order, on the same clock (long ago for a resumed one).
        schedule: knows how long such an order usually takes.
        trouble: what is being waited out just now, a sentence.
    """

    state: str = "waiting"
    source: str | None = None
    task_id: str | None = None
    credits: int | None = None
    since: float | None = None
    started: float | None = None
    schedule: PollSchedule | None = None
    trouble: str | None = None

    def changed(self, **changes: Any) -> Progress:
        """The same with some fields changed."""
        return replace(self, **changes)

    @property
    def suffix(self) -> str:
        """What a log line adds to the state."""
        parts = [self.source or "", f"task {self.task_id}" if self.task_id else ""]
        text = ", ".join(part for part in parts if part)
        return f" ({text})" if text else ""

    def fraction(self, now: float) -> float:
        """How far the order is at ``now`` (monotonic seconds): 0 before acceptance, 1 when done, never falling."""
        if self.state == "done":
            return 1.0
        if self.started is None or self.schedule is None:
            return 0.0
        return self.schedule.progress(now - self.started)


@dataclass(frozen=True)
class Finished:
    """An order whose pictures lie in the result store.

    Attributes:
        state: the state folder that it lies in.
        row_id: its row in the ledger; None where the ledger was lost.
        source: "new", "resumed" or "stored".
    """

    state: Workspace
    scope: str
    fingerprint: str
    row_id: int | None
    result: StoredResult
    source: str

    @property
    def about(self) -> dict[str, Any]:
        """task_id, credits, seconds, model, aspect_ratio, encoding, notes, request_id of the order."""
        return self.result.about
