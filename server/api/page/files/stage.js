// The picture that is looked at: before and after, its faces, how far it is, what came of it.

import { at, el, redraw, setOff } from "./dom.js";
import { drawBoxes } from "./faces.js";
import { whyNotShown } from "./items.js";
import { drawOutcome } from "./outcome.js";
import { changed, select, state } from "./state.js";
import { Viewer } from "./viewer.js";

let viewer;
let drawn = "";
let layered = null;

/** Wire the view's tools. */
export function startStage() {
  viewer = new Viewer(at("viewer"), (zoom) => {
    at("zoom-fit").textContent = zoom > 1 ? `${Math.round(100 * zoom)} %` : "Fit";
    at("zoom-out").disabled = zoom <= 1;
  });
  at("zoom-in").addEventListener("click", viewer.zoomIn);
  at("zoom-out").addEventListener("click", viewer.zoomOut);
  at("zoom-fit").addEventListener("click", () => viewer.reset());
  for (const id of ["grid", "boxes", "masks"]) at(id).addEventListener("change", changed);
}

/** Draw everything about the picture that is looked at. `onToggle(i)`: face i was clicked;
 *  `onRemove(item)`: a picture is to go. */
export function drawStage(onToggle, onRemove) {
  const item = state.selected;
  at("empty").hidden = item !== null;
  at("work").hidden = item === null;
  if (!item) return;
  const size = sizeOf(item);
  at("title").textContent = size ? `${item.name}, ${size.width} × ${size.height}` : item.name;
  drawPictures(item);
  drawLayers(item, onToggle);
  drawProgress(item);
  const problem = item.problem ?? item.refusal;
  at("problem").hidden = !problem;
  if (at("problem").textContent !== problem) at("problem").textContent = problem ?? "";
  at("note").hidden = !item.note || Boolean(problem);
  if (at("note").textContent !== item.note) at("note").textContent = item.note ?? "";
  drawOutcome(item);
  drawStrip(onRemove);
}

/** A picture's size, as far as the browser or the server has said it. */
function sizeOf({ image, detected }) {
  if (image) return { width: image.naturalWidth, height: image.naturalHeight };
  return detected ? { width: detected.width, height: detected.height } : null;
}

function drawPictures(item) {
  const { files = [], about } = item.result ?? {};
  const many = files.length > 1;
  at("sample-tabs").hidden = !many || at("grid").checked;
  at("grid-chip").hidden = files.length === 0;
  redraw(at("sample-tabs"), ...(many ? files.map((_, i) => sampleTab(item, i)) : []));
  const isGrid = at("grid").checked && files.length > 0;
  const before = beforeOf(item);
  const afters = files.map(({ url }, i) => ({
    url,
    alt: `${item.name}, detailed`,
    label: many ? `Sample ${i + 1}` : "After",
  }));
  const shown = [before, ...(isGrid ? afters : afters.slice(item.sample, item.sample + 1))];
  const pictures = shown.filter((picture) => picture);
  at("not-shown").hidden = pictures.length > 0;
  at("not-shown").textContent = whyNotShown(item) ?? "";
  const key = JSON.stringify([item.id, isGrid, pictures.map(({ url }) => url)]);
  if (key === drawn) return;
  drawn = key;
  const size = about?.images[0] ?? sizeOf(item) ?? { width: 4, height: 3 };
  viewer.show(pictures, { ...size, mode: isGrid ? "grid" : "slider" });
}

/** What is shown of the picture itself: the server's drawing of it, where the browser cannot. */
function beforeOf(item) {
  if (item.image) return { url: item.url, alt: item.name, label: item.result ? "Before" : "" };
  const preview = item.result ? null : item.detected?.preview;
  return preview && { url: preview.src, alt: item.name, label: "As the server sees it" };
}

function sampleTab(item, index) {
  const tab = el("button", { type: "button" }, String(index + 1));
  tab.setAttribute("aria-pressed", String(item.sample === index));
  tab.setAttribute("aria-label", `Sample ${index + 1}`);
  tab.addEventListener("click", () => {
    item.sample = index;
    changed();
  });
  return tab;
}

function drawLayers(item, onToggle) {
  if (item !== layered) at("masks").checked = false;
  layered = item;
  const masks = at("masks").checked && item.overlay;
  const canShow = Boolean(item.detected) && !(at("grid").checked && item.result);
  at("boxes-chip").hidden = !canShow;
  at("masks-chip").hidden = !canShow || !item.image;
  viewer.overlay.hidden = !masks;
  if (masks && viewer.overlay.src !== item.overlay) viewer.overlay.src = item.overlay;
  const shown = at("boxes").checked && !masks;
  drawBoxes(viewer.boxes, shown ? item.detected : null, onToggle);
}

export function drawProgress(item) {
  if (item !== state.selected) return;
  at("progress").hidden = !item.run && !item.isNext;
  if (at("progress").hidden) return;
  const waiting = { words: "Waiting for its turn" };
  const { words, share = null, record } = item.run ?? waiting;
  at("progress-words").textContent = words;
  setOff(at("cancel"), Boolean(record?.isCancelled));
  const bar = at("progress-bar");
  bar.classList.toggle("unknown", share === null);
  bar.firstElementChild.style.width = `${100 * (share ?? 0)}%`;
  bar.setAttribute("aria-valuetext", words);
  if (share === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
}

function stateOf(item) {
  if (item.run) return "at work";
  if (item.isNext) return "waiting";
  if (item.problem || item.refusal) return "failed";
  return item.result ? "done" : "";
}

/** A picture's own small picture, or what kind of file it is. */
function smallPicture(item) {
  const url = item.result?.files[0].url ?? (item.image ? item.url : item.detected?.preview?.src);
  if (url) return el("img", { src: url, alt: "" });
  return el("span", { className: "kind", "aria-hidden": "true" }, item.kind ?? "?");
}

function drawStrip(onRemove) {
  const rows = state.items.map((item) => {
    const name = [item.name, stateOf(item)].filter(Boolean).join(", ");
    const show = el("button", { type: "button", title: item.name, "aria-label": name });
    show.append(smallPicture(item));
    show.dataset.state = stateOf(item);
    if (item === state.selected) show.setAttribute("aria-current", "true");
    show.addEventListener("click", () => select(item));
    const drop = el("button", { type: "button", className: "remove" }, "×");
    drop.setAttribute("aria-label", `Remove ${item.name}`);
    drop.addEventListener("click", () => onRemove(item));
    return el("li", {}, show, drop);
  });
  redraw(at("pictures"), ...rows);
}
