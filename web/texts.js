import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const language = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
let translations = {};

/** Read what ComfyUI serves from locales/; the texts of this script are in the "rivya" part of main.json. */
export async function loadTexts() {
  const response = await api.fetchApi("/i18n");
  if (response.ok) translations = await response.json();
  await keepTranslations();
}

/** One text in the language of the interface (else English), with `{name}` replaced by `values.name`. */
export function text(name, values = {}) {
  return filled(translations[language()]?.rivya?.[name] ?? translations.en?.rivya?.[name] ?? name, values);
}

/** A note of the server in the language of the interface; lines that have no translation stay in English. */
export const noteText = ({ lines }) => lines.map(({ text: english, key, values }) => {
  const found = translations[language()]?.rivyaNotes?.[key];
  return found ? filled(found, values) : english;
}).join("\n");

const filled = (template, values) => template.replace(/\{(\w+)\}/g, (all, key) => values[key] ?? all);

/**
 * Frontend 1.32 reads the translations of packs first and its own after them, which replaces the first: nodes would
 * stay English in every other language. Where ours are missing, give them back once its own are there.
 */
async function keepTranslations() {
  const vue = document.querySelector("#vue-app")?.__vue_app__;
  const i18n = vue?._context?.provides?.[vue.__VUE_I18N_SYMBOL__]?.global;
  const packs = translations[language()];
  if (!i18n?.mergeLocaleMessage || !packs || language() === "en") return;
  for (let wait = 0; wait < 60 && !i18n.getLocaleMessage(language()).g; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  if (!i18n.te("nodeDefs.RivyaSubmitAndWait.display_name", language())) i18n.mergeLocaleMessage(language(), packs);
}
