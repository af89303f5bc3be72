// The queue's events in words, and how much of the work is done.

import { count } from "./dom.js";

const PASSES = { outline: "Outline pass", detail: "Detail pass" };

/** What an event says, for people. `stage`: the same without what changes every moment. */
export function inWords(name, data, samples) {
  switch (name) {
    case "queued":
      return alike(data.place ? `Waiting in the queue: ${data.place} ahead` : "Next in the queue");
    case "processing":
      return alike("Preparing");
    case "detecting":
      return alike("Looking for faces");
    case "found":
      return alike(data.faces ? `${count(data.faces, "face")} found` : "No face to detail");
    case "step": {
      const stage = PASSES[data.pass] ?? data.pass;
      const sample = samples > 1 ? `sample ${data.sample}, ` : "";
      const place = `face ${data.face} of ${data.faces}, step ${data.step} of ${data.steps}`;
      return { words: `${stage}: ${sample}${place}`, stage };
    }
    case "upscaling":
      return alike("Enlarging");
    case "done":
      return alike("Fetching the result");
    case "cancelled":
      return alike("Cancelled");
    case "unreachable":
      return alike(`${data.words}. Trying again…`);
    default:
      return alike(name);
  }
}

const alike = (words) => ({ words, stage: words });

/** The share of the work that is done, 0–1; null where an event does not say. A face that the
 *  identity gate has repainted once more makes it less. */
export const shareOf = (name, data) => (name === "done" ? 1 : (data.share ?? null));
