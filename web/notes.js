import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { make, ours } from "./dom.js";
import { nodeOf } from "./graph.js";
import { noteText } from "./texts.js";

const NAME = "rivya_note";
const HOST_TEXT = "$$node-text-preview"; // the widget in which ComfyUI shows the status text of a running node
const [LINE_PX, LETTER_PX, WIDE_LETTER_PX, MOST_PX] = [15, 6, 11, 240];
const WIDE_LETTERS = /[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60]/g; // of East Asia
const TOAST_MS = 20_000;
const LOOK =
  "box-sizing: border-box; padding: 4px 8px; border-radius: 6px; overflow: auto; white-space: pre-line; " +
  "overflow-wrap: anywhere; font: 11px/15px sans-serif; user-select: text; " +
  "color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); border-left: 3px solid ";
const OVERLAY_WORDS = "[data-testid=error-overlay-messages] p";
const COLOURS = { info: "#8D6932", warn: "#d8a13c", error: "#d5504f" };

// A node's note is the same element for ever: Nodes 2.0 of frontend 1.32 may go on to show that of a removed widget.
const elements = new WeakMap();
const shownToasts = [];

/**
 * Keep what a node says at its end on the node, and say the most important of it as a toast as well.
 *
 * ComfyUI shows status texts while a node runs. From frontend 1.57 on it takes them away when the job ends.
 */
export function watchNotes() {
  api.addEventListener("rivya.note", ({ detail }) => {
    const node = nodeOf(detail.node);
    const said = noteText(detail);
    if (node) showNote(node, said, detail.severity);
    if (detail.severity !== "info") toast(detail.severity, titleOf(node), said);
  });
  api.addEventListener("execution_error", ({ detail }) => {
    if (!ours(detail.node_type)) return;
    const node = nodeOf(detail.node_id);
    if (node) showNote(node, detail.exception_message, "error");
    sayError(titleOf(node), detail.exception_message);
  });
  api.addEventListener("execution_start", closeToasts);
  api.addEventListener("executing", ({ detail }) => removeWidget(nodeOf(detail?.node ?? detail), NAME));
  api.addEventListener("execution_cached", ({ detail }) => {
    // The badge tells what a run cost that took everything from memory.
    for (const node of detail.nodes.map(nodeOf)) if (node?.comfyClass === "RivyaSubmitAndWait") removeWidget(node, NAME);
  });
  api.addEventListener("progress_text", ({ detail }) => setTimeout(() => sawText(detail), 100));
  sayRefusals();
}

/** Say why ComfyUI did not take a workflow, where a node of ours refused an input: ComfyUI names the input alone. */
function sayRefusals() {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...values) {
    try {
      return await queue.apply(this, values);
    } catch (error) {
      for (const [id, { class_type: type, errors }] of Object.entries(error?.response?.node_errors ?? {})) {
        const reasons = errors.filter((each) => each.type === "custom_validation_failed").map((each) => each.details);
        // "prompt - The prompt is blank." or "The prompt is blank.": the name of the input comes with some versions.
        if (ours(type) && reasons.length) {
          closeToasts();
          sayError(titleOf(nodeOf(id)), reasons.map((reason) => reason.replace(/^\w+ - /, "")).join("\n"));
        }
      }
      throw error;
    }
  };
}

/**
 * Make Nodes 2.0 show what a node has to say.
 *
 * Frontend 1.32 stops to follow the widgets of a node once its seed control has run. It looks at them anew where it is
 * told that the node was added.
 */
function makeSeen(node, isSeen) {
  if (!window.LiteGraph.vueNodesMode) return;
  const shown = document.querySelector(`[data-node-id="${node.id}"]`);
  if (shown && !isSeen(shown)) node.graph?.onNodeAdded?.(node);
}

function sawText({ nodeId, text }) {
  const node = nodeOf(nodeId);
  const widget = node?.widgets?.find((each) => each.name === HOST_TEXT);
  if (!ours(node?.comfyClass) || widget?.value !== text) return;
  makeSeen(node, (shown) => shown.textContent.includes(text.split("\n", 1)[0]));
}

function showNote(node, text, severity) {
  removeWidget(node, HOST_TEXT);
  let widget = node.widgets?.find((each) => each.name === NAME);
  if (!widget) {
    const element = elements.get(node) ?? make("div", { className: "rivya-note", role: "status" });
    elements.set(node, element);
    const height = () => Math.min(MOST_PX, heightOf(element.textContent, node.size[0] - 44));
    const value = { getValue: () => "", setValue: () => {} };
    widget = node.addDOMWidget(NAME, NAME, element, {
      serialize: false,
      margin: 8,
      getMinHeight: height,
      getMaxHeight: height,
      ...value,
    });
    widget.serialize = false;
  }
  widget.element.textContent = text;
  widget.element.style.cssText = LOOK + COLOURS[severity];
  fit(node);
  setTimeout(() => makeSeen(node, (shown) => shown.contains(widget.element)), 100);
}

function removeWidget(node, name) {
  const widget = node?.widgets?.find((each) => each.name === name);
  if (!widget) return;
  if (name === NAME) widget.element.style.display = "none";
  node.removeWidget(widget);
}

/** Pixels that a text needs in a width, with the margin that ComfyUI leaves around a widget. */
function heightOf(text, width) {
  const lines = text.split("\n").map((line) => {
    const wide = line.match(WIDE_LETTERS)?.length ?? 0;
    return Math.max(1, Math.ceil(((line.length - wide) * LETTER_PX + wide * WIDE_LETTER_PX) / width));
  });
  return lines.reduce((sum, count) => sum + count, 0) * LINE_PX + 8 + 16;
}

function fit(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
  node.setDirtyCanvas?.(true, true);
}

/**
 * Say an error where it is read first. Later frontends show an overlay that says of every error that a node failed:
 * there it says why. Others get a toast.
 */
async function sayError(title, text) {
  for (let wait = 0; wait < 10; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 50)); // the overlay comes after the event
    const words = document.querySelector(OVERLAY_WORDS);
    if (!words) continue;
    const before = words.textContent;
    words.textContent = text;
    words.style.webkitLineClamp = "unset"; // three lines would cut off what to do
    shownToasts.push(() => { words.textContent = before; });
    return;
  }
  toast("error", title, text);
}

/** A toast for long enough to be read, or until the next run: it may cover the Run button. The note on the node stays. */
function toast(severity, summary, detail) {
  const toasts = app.extensionManager?.toast;
  const message = { severity, summary, detail, life: TOAST_MS };
  if (toasts?.dismiss) {
    // Frontend 1.58 can take back only what was said in its newer words.
    const kind = severity === "warn" ? "warning" : severity;
    const id = toasts[kind](summary, { description: detail, duration: TOAST_MS });
    shownToasts.push(() => toasts.dismiss(id));
  } else {
    toasts?.add(message);
    shownToasts.push(() => toasts?.remove(message));
  }
}

function closeToasts() {
  for (const close of shownToasts.splice(0)) close();
}

const titleOf = (node) => node?.title ?? "Rivya";
