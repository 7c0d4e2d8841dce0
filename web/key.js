import { api } from "../../scripts/api.js";
import { make } from "./dom.js";
import { text } from "./texts.js";

// The colours of ComfyUI's theme, by the names that it has in every version; nothing of a component library.
const STYLE = `
  .rivya-key { width: 26rem; max-width: 100%; font-size: 0.875rem; line-height: 1.25rem; color: var(--input-text); }
  .rivya-key [role=status] { white-space: pre-line; overflow-wrap: anywhere; }
  .rivya-key form { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 0.5rem 0 0; }
  .rivya-key input, .rivya-key button {
    box-sizing: border-box; height: 2rem; padding: 0 0.75rem; border-radius: 0.5rem; font: inherit; color: inherit;
    border: 1px solid var(--border-color); background: var(--comfy-input-bg);
  }
  .rivya-key input { flex: 1; min-width: 8rem; }
  .rivya-key input::placeholder { color: var(--descrip-text); opacity: 1; }
  .rivya-key button { cursor: pointer; }
  .rivya-key button:hover { background: var(--border-color); }
  .rivya-key form[inert] { opacity: 0.5; }
  .rivya-key :focus-visible { outline: 2px solid var(--p-primary-color, #3b82f6); outline-offset: 1px; }
`;

/** The row under Settings > Rivya: is there a key, set one, check it, remove it. It can never show one. */
export function keyRow() {
  const status = make("div", { role: "status" });
  const field = make("input", { type: "password", autocomplete: "off", placeholder: "rvya_sk_..." });
  field.ariaLabel = text("keyName");
  const line = make("form", { onsubmit: (event) => event.preventDefault() });
  const show = async () => {
    const key = await ask("POST", "/rivya/key/status");
    status.textContent = text(key.configured ? `key_${key.source}` : "key_none", key);
    if (key.problem) status.textContent += `\n${key.problem}`; // a package that is not installed
  };
  const works = {
    save: async () => {
      const key = field.value;
      field.value = "";
      await ask("POST", "/rivya/key", { key });
      await show();
    },
    check: async () => {
      status.textContent = text("checking");
      const { credits } = await ask("POST", "/rivya/key/check");
      await show();
      status.textContent += `\n${text("works", { credits })}`;
    },
    remove: () => ask("DELETE", "/rivya/key").then(show),
  };
  const act = async (work) => {
    line.inert = true;
    await work().catch((error) => {
      status.textContent = error.message;
      if (error.cause === "elsewhere") line.style.display = "none";
    });
    line.inert = false;
  };
  line.append(field);
  for (const [name, work] of Object.entries(works)) {
    line.append(make("button", { type: "button", textContent: text(name), onclick: () => act(work) }));
  }
  field.onkeydown = (event) => {
    event.stopPropagation(); // no shortcuts of ComfyUI while somebody types a key
    if (event.key === "Enter") act(works.save);
  };
  act(show);
  const row = make("div", { className: "rivya-key" });
  row.append(make("style", { textContent: STYLE }), status, line);
  return row;
}

async function ask(method, route, content = {}) {
  const headers = { "Content-Type": "application/json" };
  const response = await api.fetchApi(route, { method, headers, body: JSON.stringify(content), cache: "no-store" });
  // Where ComfyUI can be reached from other computers it has no such route.
  if ([404, 405].includes(response.status)) throw new Error(text("key_elsewhere"), { cause: "elsewhere" });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error?.message ?? text("refused", { status: response.status }));
  return answer;
}
