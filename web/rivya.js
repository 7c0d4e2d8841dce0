import { app } from "../../scripts/app.js";
import { addBadge, watchRuns } from "./badge.js";
import { keyRow } from "./key.js";
import { loadTexts } from "./texts.js";

// By these ComfyUI-Manager finds the pack for somebody who opens a shared workflow without it.
const PACK = { cnr_id: "rivya-nodes", ver: "0.1.0" };

/**
 * ComfyUI starts the control below a seed on "randomize", which would buy a new picture with every run.
 * This runs while the node is built, before a saved workflow sets its own values, so those stay as they are.
 */
function keepSeedFixed(node) {
  const seed = node.widgets?.find((widget) => widget.name === "seed");
  const control = seed?.linkedWidgets?.find((widget) => widget.options?.values?.includes?.("fixed"));
  if (control) control.value = "fixed";
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
  },
  nodeCreated(node) {
    if (/^Rivya[A-Z]/.test(node.comfyClass)) Object.assign(node.properties, PACK);
    if (node.comfyClass === "RivyaSubmitAndWait") keepSeedFixed(node);
    addBadge(node);
  },
});
