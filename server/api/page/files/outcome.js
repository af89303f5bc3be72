// What came of a request, in words.

import { at, count, el } from "./dom.js";
import { inLabels } from "./fields.js";

const LEFT_OUT = {
  size: "too small",
  count: "above max faces",
  budget: "beyond the server’s budget of steps",
  skipped: "skipped",
};

let drawn = null;

/** Say what came of a picture's request, unless it is said. */
export function drawOutcome(item) {
  at("outcome").hidden = !item.result || Boolean(item.run);
  if (!item.result || item.result === drawn) return;
  drawn = item.result;
  const { profile_note: note, prompt_unread: unread } = item.result.about;
  const lines = [factsOf(item.result.about)];
  if (!item.image) lines.push(`No “before”: this browser cannot show ${item.kind ?? "such"} files.`);
  if (note) lines.push(inLabels(note));
  const rows = lines.map((line) => el("span", {}, line));
  if (unread?.length) rows.push(unreadRow(unread));
  at("outcome-words").replaceChildren(...rows);
}

/** What the identity gate did, where the server has one. */
function gated(identity = []) {
  const times = (outcome) => identity.filter((judged) => judged.outcome === outcome).length;
  const [weaker, left] = [times("weaker"), times("left")];
  return [
    weaker ? `${weaker} repainted more weakly, to stay the same person` : "",
    left ? `${left} left as it was: repainted, it was no longer the same person` : "",
  ];
}

function factsOf({ faces, identity, metrics, seed, images }) {
  const left = Object.entries(faces.left_out).map(([why, n]) => `${n} ${LEFT_OUT[why] ?? why}`);
  const facts = [
    faces.found ? `${faces.detailed} of ${count(faces.found, "face")} detailed` : "No face found",
    ...left,
    faces.unchanged ? `${faces.unchanged} unchanged: the model returned nothing usable` : "",
    ...gated(identity),
    `${images[0].width} × ${images[0].height}`,
    `seed ${seed}`,
    `${metrics.total_time.toFixed(1)} s`,
    count(metrics.cost, "credit"),
  ];
  return facts.filter(Boolean).join(" · ");
}

/** The end of a prompt may be long, and is known to who wrote it. */
function unreadRow(texts) {
  const summary = el("summary", {}, "The prompt is too long: the model did not read its end");
  return el("details", {}, summary, ...texts.map((text) => el("p", {}, `… ${text}`)));
}
