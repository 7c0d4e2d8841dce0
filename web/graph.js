import { app } from "../../scripts/app.js";

/** What feeds an input, as far as the graph tells: past reroutes, bypassed nodes and the borders of subgraphs. */

export const MOST_HOPS = 50; // a loop in a damaged workflow must not hang the page
const FROM_OUTSIDE = -10; // the node that stands for a subgraph's own inputs
const [MUTED, BYPASSED] = [2, 4];

/** The graph on the outside and every subgraph definition in it. */
export function allGraphs(graph) {
  const root = graph.rootGraph ?? graph;
  return [root, ...(root.subgraphs?.values() ?? [])];
}

/** The node of an execution id such as "12:5": node 5 in the subgraph that node 12 shows. */
export function nodeOf(id) {
  let [graph, node] = [app.rootGraph ?? app.graph];
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

/** The only node that shows this subgraph, or undefined where there are several, with inputs of their own. */
function onlyInstance(subgraph) {
  const found = allGraphs(subgraph).flatMap((graph) => graph.nodes.filter((node) => node.subgraph === subgraph));
  return found.length === 1 ? found[0] : undefined;
}

/**
 * Follow the link into `input` of a node in `graph`: `{node, graph, slot}` it comes from, or the `{value}` of a subgraph's
 * widget; null: nothing is connected; undefined: the graph cannot tell.
 */
export function source(graph, input) {
  const entered = [];
  for (let hop = 0; hop < MOST_HOPS; hop++) {
    const link = input?.link == null ? null : graph.getLink(input.link);
    if (!link) return null;
    if (Number(link.origin_id) === FROM_OUTSIDE) {
      const outer = entered.pop() ?? onlyInstance(graph);
      if (!outer) return undefined;
      [input, graph] = [outer.inputs[link.origin_slot], outer.graph];
      if (input?.link == null && input?.widget) {
        return { value: outer.widgets?.find((widget) => widget.name === input.widget.name)?.value };
      }
      continue;
    }
    const node = graph.getNodeById(link.origin_id);
    if (!node || node.mode === MUTED) return undefined;
    if (node.mode === BYPASSED) {
      input = node.inputs?.find((other) => other.type === link.type);
    } else if (node.subgraph) {
      input = { link: node.subgraph.outputs[link.origin_slot]?.linkIds?.[0] };
      entered.push(node);
      graph = node.subgraph;
    } else if (node.type === "Reroute") {
      input = node.inputs[0];
    } else {
      return { node, graph, slot: link.origin_slot };
    }
  }
}

/** The value of a widget, or of what is connected in its place; undefined where the graph cannot tell. */
export function widgetValue(node, name) {
  const input = node.inputs?.find((other) => other.widget?.name === name);
  if (input?.link == null) return node.widgets?.find((widget) => widget.name === name)?.value;
  const from = source(node.graph, input);
  return /^Primitive/.test(from?.node?.type) ? from.node.widgets?.[0]?.value : from?.value;
}
