// Finding faces before anything is paid for, and saying what is to become of each.

import { CallError, detect } from "./api.js";
import { announce, at, count, newKey, setOff } from "./dom.js";
import { forgetDraft, keepDetected, keepDraft } from "./drafts.js";
import { detectFields, facesOf, listFaces } from "./faces.js";
import { detectedToKeep, itemOf, previewOf, setDetected } from "./items.js";
import { askForKey } from "./key.js";
import { patiently } from "./patience.js";
import { changed, putBack, state } from "./state.js";
import { storedKey } from "./storage.js";

/** Whether there is a key; it is asked for if there is none. */
export const haveKey = async () => Boolean(storedKey()) || askForKey();

/** What went wrong, where it belongs: a wrong key in its dialog, all else at the picture. */
export function tellProblem(item, error) {
  if (error.status === 401) askForKey(error.message);
  item.problem = error.message;
  // The server has read the file: it would say the same again.
  if (error.message.startsWith("Invalid image")) {
    item.refusal = error.message;
    forgetPicture(item);
  }
  if (!(error instanceof CallError)) console.warn(error);
}

/** What the faces were found by: other settings may find others. */
function detectionKey(values) {
  const hasTexts = /\[\s*(SEP|SKIP)\s*\]/i.test(`${values.prompt}${values.negative_prompt}`);
  const texts = hasTexts ? values.prompt : "";
  return JSON.stringify([detectFields(values, state.detectSchemas), texts]);
}

/** Ask which faces count, for as long as the server says that it is not ready yet, as while it
 *  starts, and the picture is on the page. */
async function ask(item, fields) {
  const attempt = () => {
    if (!state.items.includes(item)) throw new CallError("The picture was removed", 0);
    return detect(item.blob, item.name, fields);
  };
  const found = await patiently(attempt, (words) => {
    item.note = words;
    changed();
  });
  item.note = null;
  return found;
}

/** The server's own drawing. */
function drawingOf(overlay) {
  const bytes = Uint8Array.from(atob(overlay), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: "image/jpeg" });
}

/** Look which faces count, and show them. */
export async function findFaces(item) {
  if (!item || item.isFinding || item.refusal || !(await haveKey())) return;
  const values = state.fields.values();
  const fields = detectFields(values, state.detectSchemas);
  Object.assign(item, { isFinding: true, problem: null, note: null });
  changed();
  announce("Looking for faces");
  try {
    // What the browser cannot show itself, the server draws.
    const { overlay, ...found } = await ask(item, item.image ? fields : { ...fields, overlay: "true" });
    const drawing = overlay ? drawingOf(overlay) : null;
    const preview = await previewOf(drawing);
    // Only now: faces may have been clicked meanwhile.
    const faces = facesOf(found.faces, values.prompt, item.detected?.faces ?? item.facesBefore);
    const [key, order] = [detectionKey(values), fields.face_order];
    setDetected(item, { ...found, faces, order, key, drawing }, preview);
    keepPicture(item);
    at("masks").checked = false;
    at("boxes").checked = true;
    announce(faces.length ? `${count(faces.length, "face")} found` : "No face found");
  } catch (error) {
    tellProblem(item, error);
  } finally {
    item.isFinding = false;
  }
  changed();
}

/** Keep a picture that is on the page, with what is said of each of its faces, so that it need be
 *  neither chosen nor looked at again after the page was left. That of a request under way is kept
 *  with it. */
export function keepPicture(item) {
  if (item.refusal || item.run || item.left || !state.items.includes(item)) return;
  const detected = detectedToKeep(item);
  if (item.draft) {
    keepDetected(item.draft, detected);
  } else {
    item.draft = newKey();
    keepDraft({ id: item.draft, name: item.name, picture: item.blob, detected });
  }
}

/** Forget a picture: it is sent, or off the page, or cannot be. */
export function forgetPicture(item) {
  if (item.draft) forgetDraft(item.draft);
  item.draft = null;
}

/** Put the pictures on the page that were on it, and not sent, when it was left: these drafts. */
export async function bringBack(kept) {
  const items = kept.map(async ({ id, name, picture, detected }) => {
    return { ...(await itemOf(picture, name, detected)), draft: id };
  });
  putBack(await Promise.all(items));
}

/** Show the server's own drawing of boxes, crops and masks, if it is asked for. */
export async function showMasks(item) {
  if (!at("masks").checked || !item || item.overlay) return;
  const fields = { ...detectFields(state.fields.values(), state.detectSchemas), overlay: "true" };
  try {
    item.overlay = URL.createObjectURL(drawingOf((await ask(item, fields)).overlay));
  } catch (error) {
    at("masks").checked = false;
    tellProblem(item, error);
  }
  changed();
}

/** A face is to be detailed, or left as it is. */
export function toggle(index) {
  const face = state.selected.detected.faces[index];
  face.skipped = !face.skipped;
  keepPicture(state.selected);
  drawn = null;
  changed();
}

function helpOf(item) {
  if (item?.isFinding) return "Looking for faces…";
  const { detection } = state.server.prices;
  const price = detection ? `Each look costs ${count(detection, "credit")}.` : "";
  return [adviceOf(item), price || (item?.detected ? "" : "Free of charge.")].join(" ").trim();
}

function adviceOf(item) {
  if (item?.isStale) return "The settings have changed: find the faces again to choose among them.";
  if (!item?.detected) return "See which faces count before you pay.";
  if (!item.detected.faces.length) return "No face found.";
  return "Click a face off to leave it as it is, or give it a prompt of its own.";
}

let drawn = null;

/** Draw the list of the faces, unless it is drawn, and say what to do with it. */
export function drawFaces() {
  const item = state.selected;
  at("find").textContent = item?.detected ? "Find again" : "Find faces";
  at("find").disabled = !item || item.refusal !== null;
  setOff(at("find"), Boolean(item?.isFinding));
  at("faces-help").textContent = helpOf(item);
  const detected = item?.detected ?? null;
  if (drawn === detected && detected) return;
  drawn = detected;
  if (detected) listFaces(at("faces"), item, toggle, () => keepPicture(item));
  else at("faces").replaceChildren();
}

/** Faces found by settings that are no longer those of the form are not this request's. */
export function dropStaleFaces() {
  const key = detectionKey(state.fields.values());
  const stale = state.items.filter((item) => item.detected && item.detected.key !== key);
  for (const item of stale) {
    if (item.overlay) URL.revokeObjectURL(item.overlay);
    const facesBefore = item.detected.faces;
    Object.assign(item, { detected: null, facesBefore, overlay: null, isStale: true });
    if (item.draft) keepPicture(item);
  }
  if (stale.length) changed();
}
