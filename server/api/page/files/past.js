// The list of what was detailed in this browser.

import { at, count, el, keepFocus, redraw } from "./dom.js";
import { forget, keep, runs } from "./history.js";
import { itemOf } from "./items.js";
import { add, setResult, state } from "./state.js";

let urls = [];
/** What was taken off the list last, to be put back. */
let dropped = [];

/** Requests that are still under way are kept beside them, but are not of the past. */
const ended = async () => (await runs()).filter((run) => run.files);

/** Draw the list anew. */
export async function drawPast() {
  const past = await ended();
  const before = urls;
  urls = [];
  const draw = () => {
    at("history").hidden = past.length === 0 && dropped.length === 0;
    at("forget-all").hidden = past.length === 0;
    at("undo-row").hidden = dropped.length === 0;
    redraw(at("history-list"), ...past.map(rowOf));
  };
  keepFocus(draw, ["undo", "forget-all", "choose", "add"].map(at));
  // Not while pictures that are shown may still be loading from them.
  for (const url of before) URL.revokeObjectURL(url);
}

function rowOf(run) {
  const url = URL.createObjectURL(run.thumbnail ?? run.files[0].blob);
  urls.push(url);
  const time = new Date(run.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  const picture = el("img", { src: url, alt: "", loading: "lazy" });
  const name = el("span", { className: "name" }, run.name);
  const when = el("span", { className: "help" }, time);
  const show = el("button", { type: "button", className: "past" }, picture, name, when);
  show.addEventListener("click", () => open(run));
  const drop = el("button", { type: "button", className: "remove" }, "×");
  drop.setAttribute("aria-label", `Forget ${run.name} of ${time}`);
  drop.addEventListener("click", () => dropThese([run], `${run.name} was forgotten.`));
  return el("li", {}, show, drop);
}

async function dropThese(past, words) {
  for (const { id } of past) await forget(id);
  dropped = past;
  at("undo-words").textContent = words;
  await drawPast();
}

async function undo() {
  for (const run of dropped) await keep(run);
  dropped = [];
  await drawPast();
}

/** Put a run back on the page, and its settings into the form. */
async function open(run) {
  const item = await itemOf(run.picture, run.name, run.detected);
  setResult(item, run);
  state.fields.write(run.values ?? run.fields);
  state.fields.store();
  add([item]);
  at("stage").scrollIntoView({ block: "nearest" });
}

/** Wire the list, and draw it. */
export async function startPast() {
  at("forget-all").addEventListener("click", async () => {
    const past = await ended();
    await dropThese(past, `${count(past.length, "result")} forgotten.`);
  });
  at("undo").addEventListener("click", undo);
  await drawPast();
}
