// How pictures get onto the page: chosen, dropped, pasted, or the example.

import { base, call } from "./api.js";
import { at } from "./dom.js";
import { keepPicture } from "./finding.js";
import { itemOf } from "./items.js";
import { add } from "./state.js";

let isReady;
const ready = new Promise((resolve) => (isReady = resolve));

/** What came until now may be added: the server has said what it takes. */
export const showPictures = () => isReady();

/** Put pictures on the page, to stay. */
function put(items) {
  add(items);
  items.forEach(keepPicture);
}

async function addFiles(files) {
  // A list of the page's is emptied by the time.
  const all = Array.from(files);
  await ready;
  put(await Promise.all(all.map((file) => itemOf(file, file.name || "picture.png"))));
}

async function addExample() {
  await ready;
  try {
    const picture = await (await call("page/example.jpg", { key: "" })).blob();
    put([{ ...(await itemOf(picture, "example.jpg")), source: new URL("page/example.jpg", base) }]);
  } catch (error) {
    at("invitation-help").textContent = error.message;
  }
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

function startDropping() {
  let depth = 0;
  const hint = (shown) => (at("drop-hint").hidden = !shown);
  addEventListener("dragenter", (event) => {
    if (hasFiles(event)) hint((depth += 1) > 0);
  });
  addEventListener("dragleave", (event) => {
    if (hasFiles(event)) hint((depth -= 1) > 0);
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    hint((depth = 0) > 0);
    addFiles(event.dataTransfer.files);
  });
}

/** Wire every way, at once: nobody waits for a page before dropping a picture. */
export function startPictures() {
  for (const id of ["choose", "add"]) at(id).addEventListener("click", () => at("files").click());
  at("files").addEventListener("change", () => {
    addFiles(at("files").files);
    at("files").value = "";
  });
  at("example").addEventListener("click", addExample);
  startDropping();
  addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    addFiles(event.clipboardData.files);
  });
}
