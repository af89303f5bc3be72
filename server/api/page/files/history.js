// What was detailed in this browser, pictures included. Kept by the browser; the server is not asked.

import { all, inStores } from "./database.js";
import { drafts, forgetDraft } from "./drafts.js";

const MOST_RUNS = 30;
const THUMBNAIL_PX = 240;

/** A small picture of one, or null if this browser cannot read it. */
export async function thumbnailOf(blob) {
  try {
    const bitmap = await createImageBitmap(blob);
    const scale = Math.min(1, THUMBNAIL_PX / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, bitmap.width * scale);
    canvas.height = Math.max(1, bitmap.height * scale);
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
  } catch {
    return null;
  }
}

/** Every run, the latest first: {id, at, name, fields, values, detected, picture, request,
 *  isCancelled, about, files, thumbnail}. `values` and `detected`: the form's and the picture's when
 *  it was sent, of which `fields` were made; `files` is null as long as it has not ended. */
export const runs = async () => (await all("runs")).sort((one, other) => other.at - one.at);

/** Keep a run; whether there was room for it. The oldest one makes way. */
export async function keep(run) {
  try {
    await put(run);
    for (const old of (await runs()).slice(MOST_RUNS)) await forget(old.id);
    return true;
  } catch {
    return false;
  }
}

const store = (run) => inStores(["runs"], "readwrite", (runs) => runs.put(run));

/** Put a run into the store, in the place of the oldest draft or else ended run where the browser
 *  gives no more room. No other makes way: some browsers give back the room of what is deleted only
 *  much later. */
async function put(run) {
  try {
    return await store(run);
  } catch (error) {
    if (error?.name !== "QuotaExceededError") throw error;
    const [draft] = await drafts();
    const oldest = (await runs()).findLast(({ id, files }) => files && id !== run.id);
    if (!draft && !oldest) throw error;
    await (draft ? forgetDraft(draft.id) : forget(oldest.id));
    return store(run);
  }
}

export const forget = (id) => inStores(["runs"], "readwrite", (runs) => runs.delete(id));
