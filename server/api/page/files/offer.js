// What can be sent as the form is now, and what that costs.

import { at, count, inFigures, setOff } from "./dom.js";
import { leavesAll, withFaces } from "./faces.js";
import { state } from "./state.js";

/** The fields of a picture's request as the form and its faces are now. */
export const fieldsOf = (item) =>
  withFaces(state.fields.values(), item.detected?.faces, item.detected?.order);

export const asText = (fields) => JSON.stringify(Object.entries(fields).sort());

/** Whether a picture's result is of the request that would be sent now. */
const isDone = (item) =>
  item.result !== null && asText(item.result.fields) === asText(fieldsOf(item));

export const isAtWork = (item) => Boolean(item.run) || item.isNext;

/** Why a request would change no face of a picture; null if it may change some. */
function whyNoFace(item) {
  const { prompt, denoise } = fieldsOf(item);
  if (denoise.trim() !== "" && Number(denoise) === 0) return "Denoise is 0";
  const faces = item.detected?.faces.length ?? null;
  if (faces === 0) return "No face was found";
  return leavesAll(prompt, faces) ? "Every face is left as it is" : null;
}

const isEnlarged = () => state.fields.text("upscale") !== "1";

/** Whether there is anything to pay for: the server takes the picture, and something of it would
 *  change. */
const isWorthwhile = (item) => !item.refusal && (isEnlarged() || !whyNoFace(item));

/** Pictures that are not done with these settings, nor at work, nor hopeless. */
export const isDue = (item) => !isAtWork(item) && isWorthwhile(item) && !isDone(item);

/** What it costs at least to detail so many pictures, in credits. */
function priceOf(pictures) {
  const { call, sample } = state.server.prices;
  return pictures * (call + sample * (Number(state.fields.text("samples")) || 1));
}

/** Whether faces, size or steps cost something too, which only the server's answer says. */
const dependsOnWork = () => {
  const { face, megapixel, step } = state.server.prices;
  return face + megapixel + step > 0;
};

/** Have the style sheet know how high the buttons are, which cover what is below them on narrow
 *  screens. */
export function startActions() {
  const [actions, root] = [at("go").parentElement, document.documentElement];
  const tell = () => root.style.setProperty("--actions-height", `${actions.offsetHeight}px`);
  new ResizeObserver(tell).observe(actions);
}

/** Draw the buttons, and what they cost. While faces are looked for, nothing is sent: which of them
 *  are to be detailed is not known yet. */
export function drawActions() {
  const { items, selected: item } = state;
  document.body.classList.toggle("with-picture", Boolean(item));
  at("go").disabled = !item || !isWorthwhile(item);
  setOff(at("go"), Boolean(item && (isAtWork(item) || item.isFinding)));
  at("go").textContent = item && isDone(item) ? "Detail again" : "Detail faces";
  const due = items.filter(isDue);
  const isBatch = items.filter(isAtWork).length > 1;
  at("go-all").hidden = items.length < 2;
  at("go-all").dataset.does = isBatch ? "cancel" : "detail";
  setOff(at("go-all"), !isBatch && (!due.length || due.some(({ isFinding }) => isFinding)));
  at("go-all").textContent = isBatch ? "Cancel all" : allWords(due.length);
  at("copy-call").hidden = !item || Boolean(item.result);
  const words = item ? [changeWords(item), priceWords(item, due.length)] : [];
  at("price").textContent = words.filter(Boolean).join(" ");
  at("price").hidden = !at("price").textContent;
}

function allWords(due) {
  if (due === state.items.length) return `Detail all ${due}`;
  if (due) return `Detail ${due} more`;
  return state.items.some(isDone) ? "All detailed" : "Nothing to detail";
}

/** What would not be changed of a picture. */
function changeWords(item) {
  const why = item.refusal ? null : whyNoFace(item);
  if (!why) return "";
  return `${why}: ${isEnlarged() ? "the picture would only be enlarged" : "nothing would be changed"}.`;
}

function priceWords(item, due) {
  const atLeast = dependsOnWork() ? "at least " : "";
  const [one, rest] = [priceOf(1), priceOf(due)];
  if (!one && !atLeast) return "Free of charge.";
  const price = `${atLeast}${count(one, "credit")}`;
  if (state.items.length < 2) return isWorthwhile(item) ? `Costs ${price}.` : "";
  const many = due === state.items.length ? `all ${due}` : `${due} more`;
  if (!isWorthwhile(item)) return due ? `${atLeast}${count(rest, "credit")} for ${many}.` : "";
  const words = `${price} for this picture`;
  return due ? `${words}, ${inFigures(rest)} for ${many}.` : `${words}.`;
}
