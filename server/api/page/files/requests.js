// A picture's request: sent, followed, stopped, taken up again after the page was left.

import { CallError, cancel, fileOf, tellCredits } from "./api.js";
import { announce, at, newKey } from "./dom.js";
import { follow } from "./events.js";
import { forgetPicture, haveKey, keepPicture, tellProblem } from "./finding.js";
import { forget, keep, thumbnailOf } from "./history.js";
import { detectedToKeep, itemOf } from "./items.js";
import { asText, fieldsOf, isAtWork } from "./offer.js";
import { drawPast } from "./past.js";
import { patiently } from "./patience.js";
import { inWords, shareOf } from "./progress.js";
import { NotSent, send } from "./sending.js";
import { resultName } from "./snippets.js";
import { drawProgress } from "./stage.js";
import { changed, putBack, remove, setResult, state } from "./state.js";

const GONE = 404;
const FAILED = 422;
/** Each follows its events on a connection of its own, and browsers open six to a server. */
const AT_A_TIME = 3;
/** Nobody expects that what may not have been sent so long ago is sent now. */
const STALE_MS = 10 * 60_000;

/** The request was cancelled. `message`: the server's words. */
class Cancelled extends Error {}

/** Detail pictures, some at a time. */
export async function detail(items) {
  if (!(await haveKey())) return;
  at("stage").scrollIntoView({ block: "nearest" });
  for (const item of items) if (!isAtWork(item) && !item.refusal) queue(item);
  begin();
  changed();
}

const queued = [];
let atWork = 0;

function queue(item) {
  item.isNext = true;
  queued.push(item);
}

/** Begin what is next, as far as there is room for it. */
function begin() {
  while (atWork < AT_A_TIME && queued.length) {
    const item = queued.shift();
    if (!item.isNext) continue;
    atWork += 1;
    work(item, item.left ?? recordOf(item)).finally(() => {
      atWork -= 1;
      begin();
    });
  }
}

/** What the browser keeps of a request: `request` is its id at the server, once that is known. One
 *  that may have been sent before is the same request, which is done and charged once; its `id` goes
 *  along as the idempotency key. */
function recordOf(item) {
  const fields = fieldsOf(item);
  const isSame = item.unsure && asText(item.unsure.fields) === asText(fields);
  const id = isSame ? item.unsure.id : newKey();
  const begun = { id, at: Date.now(), request: null, isCancelled: false };
  const asked = { fields, values: state.fields.values(), detected: detectedToKeep(item) };
  return { ...begun, ...asked, name: item.name, picture: item.blob, files: null };
}

/** Do the work of a request, showing how far it is, and what came of it. */
async function work(item, record) {
  const run = { record, stopping: new AbortController(), isFollowed: false, isKept: false };
  const words = record.isCancelled ? "Cancelling" : "Sending the picture";
  Object.assign(run, { words, share: null, onChange: () => drawProgress(item) });
  Object.assign(item, { run, isNext: false, left: null, problem: null, note: null });
  changed();
  try {
    const { about, files } = await settle(item, run);
    if (state.items.includes(item)) setResult(item, { about, files, fields: record.fields });
    Object.assign(item, { run: null, problem: null });
    changed();
    announce(`${item.name} is done`);
    await keep({ ...record, about, files, thumbnail: await thumbnailOf(files[0].blob) });
    if (isChosenAnew(item, record)) keepPicture(item);
    await drawPast();
  } catch (error) {
    item.run = null;
    const isCancelled = error instanceof Cancelled || error instanceof NotSent;
    const isOver = isCancelled || !record.request || [GONE, FAILED].includes(error.status);
    if (isOver) await forget(record.id).catch(() => {});
    if (isOver) keepPicture(item);
    if (isCancelled) item.note = "Cancelled. Nothing was charged.";
    else tellProblem(item, error);
  } finally {
    if (record.request) item.unsure = null;
    changed();
  }
}

/** Whether more was said of the faces since they were sent. */
const isChosenAnew = (item, { detected }) =>
  JSON.stringify(detectedToKeep(item)) !== JSON.stringify(detected);

/** See a request through: its result and files. It is kept before it is sent, so that one that is
 *  on its way when the page is left is sent again, as the same, when the page is back. */
async function settle(item, run) {
  const { record } = run;
  run.isKept = await keep(record);
  if (run.isKept) forgetPicture(item);
  if (!record.request) {
    const onWords = (words) => {
      if (!record.isCancelled) tell(run, words, words.replace(/: \d+ %$/, ""));
    };
    record.request = await send(record, run.stopping.signal, onWords);
    run.isKept = await keep(record);
  }
  run.isFollowed = true;
  if (record.isCancelled) await cancelAtServer(item, run);
  const onEvent = (event, data) => {
    const share = shareOf(event, data);
    if (share !== null) run.share = Math.max(run.share ?? 0, share);
    const { words, stage } = inWords(event, data, Number(record.fields.samples ?? 1));
    if (!record.isCancelled || event === "unreachable") tell(run, words, stage);
  };
  const end = await follow(record.request, onEvent);
  const credits = end.data.metrics?.remaining_credits;
  if (credits !== undefined) tellCredits(credits);
  if (end.name === "cancelled") throw new Cancelled(end.data.error);
  if (end.name === "failed") throw new CallError(end.data.error, FAILED);
  return { about: end.data, files: await Promise.all(filesOf(end.data.images, run)) };
}

function filesOf(images, run) {
  return images.map(async ({ url, content_type: type }, index) => {
    const number = images.length > 1 ? index : null;
    const name = resultName(run.record.name, type.replace("image/", ""), number);
    const onWords = (words) => tell(run, words);
    return { blob: await patiently(() => fileOf(url), onWords, { isSure: true }), name };
  });
}

function tell(run, words, stage = words) {
  if (stage !== run.stage) announce(stage);
  Object.assign(run, { words, stage });
  run.onChange();
}

/** Where the server fails to, the request goes on, and can be cancelled again; that of a picture
 *  that is gone is, when the page is back. */
async function cancelAtServer(item, run) {
  const onWords = (words) => tell(run, words);
  try {
    await patiently(() => cancel(run.record.request), onWords, { isSure: true });
  } catch (error) {
    if (!state.items.includes(item)) throw error;
    if (item.run !== run) return;
    run.record.isCancelled = false;
    tell(run, "Not cancelled: it goes on");
    tellProblem(item, error);
    changed();
    run.isKept = await keep(run.record);
  }
}

/** Stop a picture's request, free of charge. One that may have come through to the server is
 *  followed until its id is known, by which it is cancelled. */
export async function stop(item) {
  item.isNext = false;
  const { run, left } = item;
  if (left) return work(item, { ...left, isCancelled: true });
  if (!run || run.record.isCancelled) return changed();
  run.record.isCancelled = true;
  item.problem = null;
  tell(run, "Cancelling");
  changed();
  try {
    if (run.isFollowed) return await cancelAtServer(item, run);
    // Also if the page is left before.
    await keep(run.record);
    run.stopping.abort();
  } catch (error) {
    tellProblem(item, error);
    changed();
  }
}

/** Take a picture off the page, and stop what is done for it. */
export function takeOff(item) {
  if (isAtWork(item)) stop(item);
  forgetPicture(item);
  remove(item);
}

/** Of all that was kept, the requests that were on their way when the page was left: their results
 *  still come. */
export async function resume(kept) {
  for (const record of kept.filter((run) => !run.files)) {
    const isStale = !record.request && Date.now() - record.at > STALE_MS;
    if (isStale) await forget(record.id);
    if (isStale && record.isCancelled) continue;
    const item = await itemOf(record.picture, record.name, record.detected);
    if (record.isCancelled) {
      work(item, record);
      continue;
    }
    putBack([item]);
    if (isStale) {
      item.note = "This picture may not have been sent before the page was left.";
      item.unsure = record;
      keepPicture(item);
    } else {
      item.left = record;
      queue(item);
      begin();
    }
  }
  changed();
}

/** Ask before the page is left while something is under way that the browser could not keep. */
export function startAsking() {
  addEventListener("beforeunload", (event) => {
    if (state.items.some((item) => item.run && !item.run.isKept)) event.preventDefault();
  });
}
