import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { ours } from "./dom.js";
import { forget, holdsOne } from "./files.js";
import { MOST_HOPS, allGraphs, nodeOf, source, widgetValue } from "./graph.js";
import { text } from "./texts.js";

// Credits of one picture. A test holds these to the model table of the library.
const CREDITS = { "flux-kontext-pro": 4, "flux-kontext-max": 8 };
const DEFAULT_MODEL = "flux-kontext-pro";
const LOOK = { fgColor: "#FFF", bgColor: "#8D6932" }; // of prices in ComfyUI

const lastRun = new WeakMap();
const running = new Map();
const labelled = new WeakSet(); // widgets whose label tells the price
let cached = {};

/** The Submit and Wait nodes that a node is or, as a subgraph, holds. */
const submits = (node) =>
  node.subgraph?.nodes.flatMap(submits) ?? (node.comfyClass === "RivyaSubmitAndWait" ? [node] : []);

/** Show on a node what a run costs, and after a run what it did cost; follow the widgets that decide it. */
export function addBadge(node) {
  const Badge = window.LGraphBadge; // a global that a later frontend may do without
  if (Badge && submits(node).length) node.badges.push(() => new Badge({ text: badgeText(node), ...LOOK }));
  for (const widget of node.subgraph ? [] : (node.widgets ?? [])) {
    const file = node.comfyClass === "LoadImage" && widget.name === "image";
    if (!file && !(ours(node.comfyClass) && ["model", "variations", "prompts"].includes(widget.name))) continue;
    const before = widget.callback;
    widget.callback = function (...values) {
      before?.apply(this, values);
      if (file) forget(widget.value);
      refresh();
    };
  }
}

/** Keep the badges true while the graph changes and runs. */
export function watchRuns() {
  let mode = appMode();
  setInterval(() => mode !== (mode = appMode()) && refresh(), 500); // of a change of mode ComfyUI tells nobody
  api.addEventListener("graphChanged", refresh);
  api.addEventListener("execution_cached", ({ detail }) => {
    cached = detail;
    for (const node of detail.nodes.map(nodeOf)) {
      const { charged = 0, reused = 0 } = lastRun.get(node) ?? {};
      if (node?.comfyClass === "RivyaSubmitAndWait") lastRun.set(node, { charged: 0, reused: charged + reused });
    }
    refresh();
  });
  api.addEventListener("executed", ({ detail }) => {
    // ComfyUI may repeat the last output of a node that it did not run again.
    if (cached.prompt_id === detail.prompt_id && cached.nodes.includes(detail.node)) return;
    const node = nodeOf(detail.display_node ?? detail.node) ?? {};
    const cost = detail.output?.rivya?.[0];
    if (cost) lastRun.set(node, cost);
    running.delete(node);
    refresh();
  });
  // ComfyUI shows the status text on the node itself, and nothing on the subgraph that holds it.
  api.addEventListener("progress_text", ({ detail }) => {
    running.set(nodeOf(detail.nodeId), detail.text.split("\n", 2).join(" "));
    refresh();
  });
  for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(end, () => running.clear() ?? refresh());
  }
}

/**
 * The canvas draws badges anew in each frame. Nodes 2.0 does so only when it hears of a change: up to frontend 1.32 of
 * the title, up to 1.53 of the badges, later of a state that was read for the badge. A label that is set and set back at
 * once is such a state, and changes nothing.
 */
function refresh() {
  for (const node of allGraphs(app.rootGraph ?? app.graph).flatMap((graph) => graph.nodes)) {
    if (!submits(node).length) continue;
    const [watched] = node.widgets ?? [];
    if (watched && !node.subgraph) {
      const { label } = watched;
      watched.label = `${label}\u200b`;
      watched.label = label;
      labelPrice(node);
    }
    for (const [property, newValue] of [["title", node.title], ["badges", node.badges]]) {
      node.graph?.trigger("node:property:changed", { type: "node:property:changed", nodeId: node.id, property, newValue });
    }
    node.setDirtyCanvas(true, false);
  }
}

const appMode = () => app.extensionManager?.workflow?.activeWorkflow?.activeMode === "app";

/** App mode shows a form of widgets in place of the graph, without badges: there the price stands beside a label. */
function labelPrice(node) {
  const widget = node.widgets.find((each) => each.name === "variations");
  const input = node.inputs.find((each) => each.widget?.name === "variations");
  if (!widget) return;
  const plain = input?.label ?? input?.localized_name ?? widget.name;
  if (appMode()) {
    labelled.add(widget);
    widget.label = `${plain} \u00b7 ${badgeText(node)}`;
  } else if (labelled.delete(widget)) {
    widget.label = plain;
  }
}

function badgeText(node) {
  return submits(node).map((each) => {
    void each.widgets?.[0]?.label; // read, so that Nodes 2.0 hears of it: see refresh
    const now = node.subgraph && running.get(each);
    return priceText(each) + (now ? ` \u00b7 ${now}` : runText(lastRun.get(each)));
  }).join(" + ");
}
const runText = (cost) => (cost ? ` ${text(cost.reused ? "lastRunReused" : "lastRun", cost)}` : "");

function priceText(node) {
  if (!node.graph) return "";
  const variations = Number(widgetValue(node, "variations"));
  const [lines, shown] = [prompts(node), references(node)];
  const orders = (variations || 1) * (lines || 1) * (shown || 1);
  const credits = pictureCredits(node).map((price) => price * orders).join("-");
  const unknown = [!variations && "variations", (lines === undefined || shown === undefined) && "pictures"];
  return [text("credits", { credits }), ...unknown.filter(Boolean).map((name) => text(name))].join(" \u00d7 ");
}

/** What one picture costs, or where the graph cannot tell the model, what each of them costs. */
function pictureCredits(node) {
  const from = source(node.graph, node.inputs.find((input) => input.name === "params"));
  const known = from?.node?.type === "RivyaKontextParams" && widgetValue(from.node, "model");
  const model = from === null ? DEFAULT_MODEL : known;
  return CREDITS[model] ? [CREDITS[model]] : Object.values(CREDITS);
}

/** How many prompts a node gets: the lines of a prompt list, each once, else 1; undefined where the graph cannot tell. */
function prompts(node) {
  if (node.inputs.some((input) => isListed(node.graph, input))) return undefined;
  const from = source(node.graph, node.inputs.find((input) => input.name === "prompt"))?.node;
  if (from?.type !== "RivyaPromptList") return 1;
  const listed = widgetValue(from, "prompts");
  if (listed === undefined) return undefined;
  const lines = String(listed).split(/\r\n|\r|\n/).map((line) => line.trim());
  return new Set(lines.filter((line) => line && !line.startsWith("#"))).size || 1;
}

/** Whether a list of another pack's node comes into an input: ComfyUI runs the node once for each of its items. */
function isListed(graph, input, seen = new Set()) {
  const { node: from, graph: inside, slot } = source(graph, input) ?? {};
  if (!from || seen.has(from)) return false;
  seen.add(from);
  if (from.constructor.nodeData?.output_is_list?.[slot]) return !ours(from.type); // ours are counted where they end
  return from.inputs.some((each) => isListed(inside, each, seen));
}

/** How many references a node gets; undefined where the graph cannot tell. */
function references(node, depth = 0) {
  const upload = source(node.graph, node.inputs.find((input) => input.name === "reference"));
  if (upload === null) return 0;
  return upload?.node?.type === "RivyaUploadReference" ? pictures(upload.node, "image", depth) : undefined;
}

/** How many pictures come into an input; undefined where the graph cannot tell. */
function pictures(node, name, depth) {
  const { node: from } = source(node.graph, node.inputs.find((input) => input.name === name)) ?? {};
  if (!from || depth > MOST_HOPS) return undefined;
  const into = (input) => pictures(from, input, depth + 1);
  switch (from.type) {
    case "LoadImage": return holdsOne(widgetValue(from, "image"), refresh) ? 1 : undefined;
    case "ImageBatch": return into("image1") + into("image2") || undefined;
    case "RivyaCropForEdit": return into("image");
    case "RivyaStitchEdit": return into("edited");
    case "RivyaSubmitAndWait": {
      const count = references(from, depth + 1);
      return count === undefined ? count : Math.max(1, count) * prompts(from) * widgetValue(from, "variations") || undefined;
    }
  }
}
