// Pictures that are not sent yet: kept with what was said of each face, until they are sent or taken
// off the page.

import { all, inStores } from "./database.js";

const MOST_DRAFTS = 30;

let latest = 0;

/** Every draft, the earliest first: {id, at, name, picture, detected}; `detected` is null if its
 *  faces were not looked for. */
export async function drafts() {
  const [pictures, faces] = await Promise.all([all("drafts"), all("faces")]);
  const found = new Map(faces.map(({ id, detected }) => [id, detected]));
  const whole = pictures.filter(({ id }) => found.has(id));
  return whole
    .map((draft) => ({ ...draft, detected: found.get(draft.id) }))
    .sort((one, other) => one.at - other.at);
}

/** Keep a draft, in the place of the oldest beyond the bound. Nothing else makes way for it. */
export async function keepDraft({ detected, ...rest }) {
  // Those that come together keep their order.
  latest = Math.max(latest + 1, Date.now());
  const picture = { ...rest, at: latest };
  try {
    await inStores(["drafts", "faces"], "readwrite", (drafts, faces) => {
      faces.put({ id: picture.id, detected });
      return drafts.put(picture);
    });
    const surplus = (await drafts()).slice(0, -MOST_DRAFTS);
    for (const { id } of surplus) await forgetDraft(id);
    await forgetOrphans();
  } catch {
    // No room, or no database: it is on the page for as long as that is open.
  }
}

/** Another tab may have said something of a picture that had made way in the meantime. */
async function forgetOrphans() {
  // In this order: what is added in between has its picture.
  const faces = await all("faces");
  const pictures = new Set((await all("drafts")).map(({ id }) => id));
  for (const { id } of faces) if (!pictures.has(id)) await forgetDraft(id);
}

/** Keep what is said of a draft's faces now; its picture, which may be large, is not written again. */
export const keepDetected = (id, detected) =>
  inStores(["faces"], "readwrite", (faces) => faces.put({ id, detected })).catch(() => {});

export const forgetDraft = (id) =>
  inStores(["drafts", "faces"], "readwrite", (drafts, faces) => {
    faces.delete(id);
    return drafts.delete(id);
  }).catch(() => {});
