import { api } from "../../scripts/api.js";
import { make } from "./dom.js";
import { text } from "./texts.js";

/** The row under Settings > Rivya: is there a key, set one, check it, remove it. It can never show one. */
export function keyRow() {
  const status = make("div", { role: "status", style: "white-space: pre-line; overflow-wrap: anywhere" });
  const field = make("input", { type: "password", className: "p-inputtext p-component", autocomplete: "off" });
  Object.assign(field, { style: "flex: 1; min-width: 8rem", placeholder: "rvya_sk_...", ariaLabel: text("keyName") });
  const line = make("div", { style: "display: flex; flex-wrap: wrap; gap: 0.5rem; margin-top: 0.5rem" });
  const show = async () => {
    const key = await ask("POST", "/rivya/key/status");
    status.textContent = text(key.configured ? `key_${key.source}` : "key_none", key);
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
    const className = "p-button p-component p-button-sm p-button-secondary";
    line.append(make("button", { type: "button", className, textContent: text(name), onclick: () => act(work) }));
  }
  field.onkeydown = (event) => {
    event.stopPropagation(); // no shortcuts of ComfyUI while somebody types a key
    if (event.key === "Enter") act(works.save);
  };
  act(show);
  const row = make("div", { className: "rivya-key", style: "width: 26rem; max-width: 100%" });
  row.append(status, line);
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
