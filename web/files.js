import { api } from "../../scripts/api.js";

// Load Image gives every picture of an animation or of a file with pages, and of a JPEG the first alone.

const WINDOW = 65536; // bytes that are read at once: the beginning of a file tells, behind its metadata
const LIKELY_ONE = /\.(png|jpe?g|jfif|bmp)$/i; // until the file was looked at

const known = new Map(); // whether a file holds one picture, by its name in the widget

/** Whether a file holds one picture and no more; `changed` is called where looking at it shows otherwise. */
export function holdsOne(name, changed) {
  const [, path, type = "input"] = String(name ?? "").match(/^(.*?)(?: \[(input|output|temp)\])?$/s);
  if (path && !known.has(name)) {
    known.set(name, LIKELY_ONE.test(path));
    look(path, type).catch(() => false).then((one) => known.get(name) !== one && (known.set(name, one), changed()));
  }
  return known.get(name) ?? false;
}

/** Look at the file anew the next time: another one may have its name now. */
export const forget = (name) => known.delete(name);

async function look(path, type) {
  const folders = path.split(/[\\/]/);
  const filename = folders.pop();
  const query = new URLSearchParams({ filename, type, subfolder: folders.join("/"), rand: Math.random() });
  return isOne(async (from) => {
    const answer = await api.fetchApi(`/view?${query}`, { headers: { Range: `bytes=${from}-${from + WINDOW - 1}` } });
    const bytes = answer.ok ? await answer.arrayBuffer() : new ArrayBuffer(0);
    return new DataView(answer.status === 206 ? bytes : bytes.slice(from, from + WINDOW));
  });
}

/** Whether a file is certainly a single picture; `read` gives what stands from a place on. */
async function isOne(read) {
  let [view, start] = [await read(0), 0];
  const word = (at) => String.fromCharCode(...[0, 1, 2, 3].map((byte) => view.getUint8(at - start + byte)));
  if (view.byteLength < 21) return false;
  if (/^(\xff\xd8|BM)/.test(word(0))) return true; // JPEG, BMP
  if (word(0) === "RIFF" && word(8) === "WEBP") return word(12) !== "VP8X" || !(view.getUint8(20) & 2);
  if (word(0) !== "\x89PNG") return false;
  for (let at = 8, chunks = 0; chunks < 1000; at += 12 + view.getUint32(at - start), chunks++) {
    if (at + 8 > start + view.byteLength) [view, start] = [await read(at), at];
    if (view.byteLength < 8) return false;
    if (["IDAT", "acTL"].includes(word(at + 4))) return word(at + 4) === "IDAT"; // pixels, or how they move
  }
  return false;
}
