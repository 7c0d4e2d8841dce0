"""Values that describe orders: request, progress, result."""

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
    """One state folder's ledger and result store, and this process's holder.

    Attributes:
        home: the state folder.
    """

    holder: Holder
    ledger: Ledger
    store: ResultStore
    home: Path
    _agreed: Event = field(default_factory=Event, repr=False)

    def check_writable(self) -> None:
        """Check that orders and pictures can be kept, before anything is sent. Blocks.

        Raises:
            LedgerError: they cannot.
            ConfigurationError: see `check_store`.
        """
        self.check_store()
        self.ledger.check_writable()

    def check_store(self) -> None:
        """Check the result store alone.

        Raises:
            ConfigurationError: ``results_elsewhere``: the ledger names another result store, so that its other users
                would not find these pictures.
        """
        self.store.check_writable()
        if not self._agreed.is_set():
            agree_on_place(self.ledger, self.store)
            self._agreed.set()


@dataclass(frozen=True)
class Reference:
    """A picture to edit, as RIVYA_REFERENCE carries it.

    It keeps the encoded bytes, to upload them again if the service has lost the file.

    Attributes:
        identity: hash of the pixels, plus the change of geometry if any; enters the fingerprint.
        width, height: of the picture in the graph, pixels; decide the ratio of ``auto``.
        data: the encoded bytes.
        content_hash: SHA-256 (hex) of ``data``.
        name, mime: of the uploaded file.
        encoding: "png", "webp" or "jpeg".
        notes: changes made in encoding (quality, size, alpha), for users.
        url: at the service, when uploaded.
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
        return self.width, self.height


@dataclass(frozen=True)
class Order:
    """A request for one picture.

    Attributes:
        user: who ordered, on a server with several users; decides only who collects it.
    """

    identity: Identity
    reference: Reference | None = None
    client_request_id: str = ""
    user: str = ""

    @property
    def fingerprint(self) -> str:
        """See `kontext.Identity.fingerprint`."""
        return self.identity.fingerprint()

    def without_bytes(self) -> Order:
        """The order without the bytes of its picture; an accepted order needs none."""
        if self.reference is None:
            return self
        return replace(self, reference=replace(self.reference, data=b""))

    @property
    def mode(self) -> str:
        """ "edit" with a reference, "text" without: their durations differ."""
        return "text" if self.reference is None else "edit"

    def details(self) -> dict[str, Any]:
        """The description for ledger and report; never the prompt."""
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
    """A snapshot of an order's progress; any thread may read it.

    Attributes:
        state: "waiting", "sending", "running", "downloading" or "done".
        source: "new", "resumed" or "stored", once known.
        task_id: once accepted.
        credits: reserved or charged; None while unknown.
        since: when this run began to follow the accepted order, monotonic seconds.
        started: when the service accepted it, on the same clock (long ago if resumed).
        schedule: knows the usual duration.
        trouble: the error being retried, a sentence.
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
        return replace(self, **changes)

    @property
    def suffix(self) -> str:
        """What a log line adds to the state."""
        parts = [self.source or "", f"task {self.task_id}" if self.task_id else ""]
        text = ", ".join(part for part in parts if part)
        return f" ({text})" if text else ""

    def fraction(self, now: float) -> float:
        """The share done at ``now`` (monotonic seconds): 0 before acceptance, 1 when done, never falling."""
        if self.state == "done":
            return 1.0
        if self.started is None or self.schedule is None:
            return 0.0
        return self.schedule.progress(now - self.started)


@dataclass(frozen=True)
class Finished:
    """An order whose pictures are stored.

    Attributes:
        row_id: None if the ledger was lost.
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
        """task_id, credits, seconds, model, aspect_ratio, encoding, notes, request_id."""
        return self.result.about
