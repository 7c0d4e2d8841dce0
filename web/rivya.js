import { app } from "../../scripts/app.js";
import { addBadge, watchRuns } from "./badge.js";
import { ours } from "./dom.js";
import { keyRow } from "./key.js";
import { watchNotes } from "./notes.js";
import { provideSample } from "./sample.js";
import { loadTexts } from "./texts.js";

// By these ComfyUI-Manager finds the pack for somebody who opens a shared workflow without it.
const PACK = { cnr_id: "rivya-nodes", ver: "0.1.0" };

const LEAST_WIDTH = 270;

/**
 * ComfyUI starts the control below a seed on "randomize", which would buy a new picture with every run.
 *
 * A choice that was saved wins, on load, paste and clone. It is set once more when the node joins a graph: frontend 1.49
 * hands a new node what the control of an earlier node of the same id was set to.
 */
function keepSeedFixed(node) {
  const seed = node.widgets?.find((widget) => widget.name === "seed");
  const control = seed?.linkedWidgets?.find((widget) => widget.options?.values?.includes?.("fixed"));
  if (!control) return;
  control.value = "fixed";
  let choice = "fixed";
  const { onConfigure, onAdded } = node;
  node.onConfigure = function (...values) {
    onConfigure?.apply(this, values);
    choice = control.value;
  };
  node.onAdded = function (...values) {
    onAdded?.apply(this, values);
    control.value = choice;
    node.onAdded = onAdded;
  };
}

app.registerExtension({
  name: "Rivya.Kontext",
  settings: [{
    id: "Rivya.Key",
    name: "API key",
    category: ["Rivya", "Rivya account", "API key"],
    tooltip: "Kept in a file that only you can read, on the computer that runs ComfyUI.",
    // The row talks to a route of its own: ComfyUI's settings, which every page may read, never hold a key.
    type: keyRow,
  }],
  async init() {
    await loadTexts();
    watchRuns();
    watchNotes();
  },
  beforeConfigureGraph: provideSample,
  nodeCreated(node) {
    if (ours(node.comfyClass)) {
      Object.assign(node.properties, PACK);
      // A node is as wide as its widgets need, and cuts its title off where it has none.
      node.setSize([Math.max(node.size[0], LEAST_WIDTH), node.size[1]]);
    }
    if (node.comfyClass === "RivyaSubmitAndWait") keepSeedFixed(node);
    addBadge(node);
  },
});
