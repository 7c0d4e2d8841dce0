import { app } from "../../scripts/app.js";
import { addBadges, watchRuns } from "./badge.js";
import { keyRow } from "./key.js";
import { loadTexts } from "./texts.js";

const SUBMIT = "RivyaSubmitAndWait";
const PARAMS = "RivyaKontextParams";

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
  settings: [
    {
      id: "Rivya.Key",
      name: "API key",
      category: ["Rivya", "Rivya account", "API key"],
      tooltip: "Kept in a file that only you can read, on the computer that runs ComfyUI. It is never sent back.",
      type: keyRow,
      // The row talks to its own route: ComfyUI's settings, which anyone may read, never hold a key.
      defaultValue: null,
    },
  ],
  async init() {
    await loadTexts();
    watchRuns();
  },
  nodeCreated(node) {
    if (node.comfyClass === SUBMIT) keepSeedFixed(node);
    if (node.comfyClass === SUBMIT || node.comfyClass === PARAMS) addBadges(node, node.comfyClass === SUBMIT);
  },
});
