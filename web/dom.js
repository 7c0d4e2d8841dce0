/** Small things that the other scripts share. */

export const make = (tag, values) => Object.assign(document.createElement(tag), values);

/** Whether a node type is one of this pack's. */
export const ours = (type) => /^Rivya[A-Z]/.test(type ?? "");
