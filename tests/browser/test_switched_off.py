"""A reference that is switched off: the frontend takes the link out of the prompt, and nothing is bought."""

from __future__ import annotations

import pytest

from support.service import Watched

from .frontend import Frontend
from .test_templates import graph_of

pytestmark = pytest.mark.xdist_group("newest frontend")

_SWITCH_OFF = """([type, mode]) => {
  for (const graph of [app.graph, ...(app.graph.subgraphs?.values() ?? [])])
    for (const node of graph.nodes) if (node.type === type) node.mode = mode; }"""
_BOX = "(types) => { app.graph.convertToSubgraph(new Set(app.graph.nodes.filter((n) => types.includes(n.type)))); }"


@pytest.mark.parametrize(
    "mode, boxed",
    [
        (2, []),
        pytest.param(4, ["RivyaSubmitAndWait"], marks=pytest.mark.slow),
        (4, ["RivyaUploadReference", "RivyaSubmitAndWait"]),
    ],
)
def test_a_reference_that_is_muted_or_bypassed_is_an_error_and_costs_nothing(
    everywhere: Frontend, service: Watched, mode: int, boxed: list[str]
) -> None:
    everywhere.load(graph_of("Edit a photo"))
    if boxed:
        everywhere.page.evaluate(_BOX, boxed)
    everywhere.page.evaluate(_SWITCH_OFF, ["RivyaUploadReference", mode])
    assert "RivyaUploadReference" not in str(everywhere.api_form())
    everywhere.run()
    said = everywhere.error_message("reference is connected").inner_text()
    everywhere.screenshot(f"switched-off-{mode}-{len(boxed)}")
    assert "No credits were charged." in said
    assert not service.requests("create")


def test_a_subgraph_whose_reference_is_not_connected_makes_a_picture_from_text(
    everywhere: Frontend, service: Watched
) -> None:
    everywhere.load(graph_of("Edit a photo"))
    everywhere.page.evaluate(_BOX, ["RivyaSubmitAndWait"])
    everywhere.page.evaluate(
        """() => { const box = app.graph.nodes.find((n) => n.subgraph);
          box.disconnectInput(box.inputs.findIndex((input) => input.type === 'RIVYA_REFERENCE')); }"""
    )
    assert everywhere.run()["status"]["status_str"] == "success"
    assert service.charges() == [4]
    assert not service.uploads()
