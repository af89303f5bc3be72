// The pictures on the page, and which of them is looked at.

/** `items`: {id, name, blob, url, image, kind, refusal, detected, facesBefore, isFinding, isStale,
 *  overlay, draft, run, isNext, left, wasLeft, unsure, result, problem, note, sample}. `image` is null
 *  if this browser cannot show the file; `kind` is known by its first bytes, or null; `refusal` says
 *  why the server does not take it; `facesBefore` are those that were found with other settings;
 *  `draft` is the id under which its faces are kept; `left` is a request that is taken up again when
 *  it is its turn, `unsure` one of which it is not known whether it was sent; `wasLeft` is whether it
 *  was on the page before; `problem` and `note` say what went wrong, and what did not but should be
 *  known. */
export const state = { items: [], selected: null, fields: null, server: null };

let listener = () => {};

/** `draw()` is called after every change. */
export function onChange(draw) {
  listener = draw;
}

export const changed = () => listener();

/** Put pictures on the page and look at the first of them. */
export function add(items) {
  if (!items.length) return;
  state.items.push(...items);
  select(items[0]);
}

/** Put pictures on the page that were on it when it was left. Whoever looks at one that came since
 *  goes on looking at that. */
export function putBack(items) {
  const isFree = !state.selected || state.selected.wasLeft;
  for (const item of items) item.wasLeft = true;
  if (isFree) return add(items);
  state.items.push(...items);
  changed();
}

export function select(item) {
  state.selected = item;
  changed();
}

/** Take a picture off the page. */
export function remove(item) {
  const index = state.items.indexOf(item);
  state.items.splice(index, 1);
  release(item);
  if (state.selected === item) state.selected = state.items[Math.min(index, state.items.length - 1)] ?? null;
  changed();
}

/** What came of a request, in the place of what came before. */
export function setResult(item, { about, files, fields }) {
  for (const file of item.result?.files ?? []) URL.revokeObjectURL(file.url);
  const withUrls = files.map((file) => ({ ...file, url: URL.createObjectURL(file.blob) }));
  item.result = { about, fields, files: withUrls };
  item.sample = 0;
}

function release(item) {
  for (const file of item.result?.files ?? []) URL.revokeObjectURL(file.url);
  if (item.overlay) URL.revokeObjectURL(item.overlay);
  URL.revokeObjectURL(item.url);
}
