// Detected faces: which of them are to be detailed, and with which prompt.

import { count, el, redraw } from "./dom.js";

const SEPARATOR = /\[\s*SEP\s*\]/gi;
const SKIP = "[SKIP]";
const IS_SKIP = /^\[\s*SKIP\s*\]$/i;
const SAME_FACE_OVERLAP = 0.5;
const REASONS = { score: "score too low", size: "too small", count: "above max faces" };

/** The texts that a prompt has for so many faces, as the server reads it; the last one serves the
 *  rest. */
export function textsOf(prompt, faces) {
  const texts = prompt.split(SEPARATOR).map((text) => text.trim());
  return Array.from({ length: faces }, (_, i) => texts[Math.min(i, texts.length - 1)]);
}

const isSkip = (text) => IS_SKIP.test(text);
const hasSeparator = (fields) =>
  [fields.prompt, fields.negative_prompt].some((text) => text?.search(SEPARATOR) >= 0);

/** The fields by which faces are found, of those of a request. By size, unless the prompt has an
 *  order of its own: then a face that exceeds the server's budget is the last one, and the others
 *  keep their texts. */
export function detectFields(fields, schemas) {
  const names = Object.keys(fields).filter((name) => name in schemas);
  const chosen = Object.fromEntries(names.map((name) => [name, fields[name]]));
  delete chosen.image_format;
  delete chosen.image_quality;
  return { ...chosen, face_order: hasSeparator(fields) ? (fields.face_order ?? "size") : "size" };
}

/** The fields of a request with what was said of each face. `faces`: in the order of `order`. */
export function withFaces(fields, faces, order) {
  const isAsInPrompt = (face) => face.skipped === face.promptSkips && face.prompt.trim() === "";
  if (!faces || faces.every(isAsInPrompt)) return fields;
  const shared = textsOf(fields.prompt, faces.length);
  const texts = faces.map((face, i) => {
    if (face.skipped) return SKIP;
    return face.prompt.replace(SEPARATOR, " ").trim() || (isSkip(shared[i]) ? "" : shared[i]);
  });
  return { ...fields, prompt: texts.join(" [SEP] "), face_order: order };
}

/** Whether a prompt leaves every face as it is, whether `faces` are found (their number) or not yet
 *  (null). */
export const leavesAll = (prompt, faces) =>
  textsOf(prompt, faces ?? prompt.split(SEPARATOR).length).every(isSkip);

const areaOf = ([x0, y0, x1, y1]) => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);

/** Intersection over union of two boxes, from 0 to 1. */
function overlapOf(one, other) {
  const from = [0, 1].map((i) => Math.max(one[i], other[i]));
  const to = [2, 3].map((i) => Math.min(one[i], other[i]));
  const shared = areaOf([...from, ...to]);
  return shared / (areaOf(one) + areaOf(other) - shared);
}

/** The one of `faces` that is the same face as the one in `box`. */
function sameFace(faces, box) {
  const near = faces.map((face) => ({ face, overlap: overlapOf(face.box, box) }));
  near.sort((one, other) => other.overlap - one.overlap);
  return near[0]?.overlap >= SAME_FACE_OVERLAP ? near[0].face : null;
}

/** Faces of a reply of the detection, with what may be said of each: as it was said `before` of the
 *  same face, unless the prompt says another thing of it now. */
export function facesOf(found, prompt, before) {
  const texts = textsOf(prompt, found.length);
  return found.map((face, i) => {
    const [promptSkips, same] = [isSkip(texts[i]), sameFace(before, face.box)];
    const skipped = same?.promptSkips === promptSkips ? same.skipped : promptSkips;
    return { ...face, promptSkips, skipped, prompt: same?.prompt ?? "" };
  });
}

/** Boxes over a picture: a button for each face, a mark for what does not count. */
export function drawBoxes(place, detected, onToggle) {
  if (!detected) return redraw(place);
  const { width, height, faces, rejected } = detected;
  const put = (element, [x0, y0, x1, y1]) => {
    element.style.left = `${(100 * x0) / width}%`;
    element.style.top = `${(100 * y0) / height}%`;
    element.style.width = `${(100 * (x1 - x0)) / width}%`;
    element.style.height = `${(100 * (y1 - y0)) / height}%`;
    return element;
  };
  // Of what hardly resembles a face there may be much; it is of interest where no face counts.
  const near = rejected.filter((face) => face.reason !== "score" || faces.length === 0);
  const marks = near.map((face) =>
    put(el("div", { className: "rejected", title: REASONS[face.reason] ?? face.reason }), face.box),
  );
  const buttons = faces.map((face, i) => {
    const label = el("span", { className: "number", "aria-hidden": "true" }, String(i + 1));
    const button = el("button", { type: "button", className: "box" }, label);
    button.setAttribute("aria-pressed", String(!face.skipped));
    button.setAttribute("aria-label", `Detail face ${i + 1}`);
    button.title = face.skipped ? "Left as it is; click to detail it" : "Click to leave it as it is";
    button.addEventListener("click", () => onToggle(i));
    return put(button, face.box);
  });
  return redraw(place, ...marks, ...buttons);
}

const THUMBNAIL_PX = 80;

/** A face cut out of its picture. */
function thumbnail(image, detected, [x0, y0, x1, y1]) {
  const canvas = el("canvas", { width: THUMBNAIL_PX, height: THUMBNAIL_PX });
  canvas.setAttribute("aria-hidden", "true");
  if (!image) return canvas;
  const scale = image.width / detected.width;
  const side = Math.max(x1 - x0, y1 - y0) * 1.3 * scale;
  const [x, y] = [((x0 + x1) / 2) * scale - side / 2, ((y0 + y1) / 2) * scale - side / 2];
  const target = [0, 0, THUMBNAIL_PX, THUMBNAIL_PX];
  canvas.getContext("2d").drawImage(image, x, y, side, side, ...target);
  return canvas;
}

/** A row for each face: whether it is detailed, and a prompt of its own. `onPrompt()`: one was
 *  written. */
export function listFaces(place, item, onToggle, onPrompt) {
  const { faces, rejected } = item.detected;
  const rows = faces.map((face, i) => {
    const box = el("input", { type: "checkbox", checked: !face.skipped });
    box.setAttribute("aria-label", `Detail face ${i + 1}`);
    box.addEventListener("change", () => onToggle(i));
    const prompt = el("input", { type: "text", value: face.prompt, disabled: face.skipped });
    prompt.placeholder = face.skipped ? "Left as it is" : "Prompt as above";
    prompt.setAttribute("aria-label", `Prompt of face ${i + 1}`);
    prompt.addEventListener("input", () => {
      face.prompt = prompt.value;
      onPrompt();
    });
    const score = el("span", { className: "score" }, `${i + 1}`);
    const cut = thumbnail(item.image ?? item.detected.preview, item.detected, face.box);
    return el("li", {}, box, el("span", { className: "cut" }, cut, score), prompt);
  });
  const left = rejected.length ? `${count(rejected.length, "detection")} not counted: ` : "";
  const reasons = new Set(rejected.map((face) => REASONS[face.reason] ?? face.reason));
  redraw(
    place,
    el("ul", { className: "faces" }, ...rows),
    el("p", { className: "help" }, left && `${left}${[...reasons].join(", ")}.`),
  );
}
