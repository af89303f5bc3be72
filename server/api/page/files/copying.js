// The dialog that shows a call as code.

import { at, copy, el, redraw } from "./dom.js";
import { WAYS } from "./snippets.js";

let chosen = Object.keys(WAYS)[0];

/** Show the call that details this picture with these fields. */
export function showCode({ name, source }, fields) {
  const draw = () => {
    at("code").textContent = WAYS[chosen](name, fields, source);
    at("copy").textContent = "Copy";
    const buttons = Object.keys(WAYS).map((way) => {
      const button = el("button", { type: "button", "aria-label": way }, way);
      button.setAttribute("aria-pressed", String(way === chosen));
      button.addEventListener("click", () => {
        chosen = way;
        draw();
      });
      return button;
    });
    redraw(at("ways"), ...buttons);
  };
  draw();
  at("copy-dialog").showModal();
}

/** Wire the dialog. */
export function startCopying() {
  at("copy-close").addEventListener("click", () => at("copy-dialog").close());
  at("copy").addEventListener("click", async () => {
    const worked = await copy(at("code").textContent, at("code"));
    at("copy").textContent = worked ? "Copied" : "Select the text to copy it";
  });
}
