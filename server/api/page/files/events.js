// Server-sent events by fetch: the browser's own EventSource cannot send the key.

import { CallError, eventsOf, UNREACHABLE } from "./api.js";
import { pause } from "./dom.js";
import { isAway, pauseAfter } from "./patience.js";

const FINAL = new Set(["done", "failed", "cancelled"]);

/** The events in a stream of bytes: id, name, and data as text. */
export async function* read(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: "", name: "message", data: [] };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { ...event, data: event.data.join("\n") };
          event = { id: event.id, name: "message", data: [] };
        } else {
          const [, field, text] = line.match(/^([^:]*):? ?(.*)$/s);
          if (field === "data") event.data.push(text);
          if (field === "event") event.name = text;
          if (field === "id") event.id = text;
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Data of an event. A seed has up to 63 bits, more than a number holds here: it stays text. */
const parsed = (text) => JSON.parse(text.replace(/("seed": ?)(-?\d+)/, '$1"$2"'));

/** Hand every event of a request to `onEvent(name, data)`, over broken connections too, for as long
 *  as it takes; the last one's name and data. What is no event of the server's is `unreachable`. */
export async function follow(id, onEvent) {
  let seen = "";
  let latest = null;
  for (let failures = 0; ; ) {
    try {
      const reply = await eventsOf(id, seen);
      if (failures && latest) onEvent(latest.name, latest.data);
      for await (const event of read(reply.body)) {
        failures = 0;
        seen = event.id;
        latest = { name: event.name, data: parsed(event.data) };
        onEvent(latest.name, latest.data);
        if (FINAL.has(latest.name)) return latest;
      }
    } catch (error) {
      const isBroken = error instanceof TypeError || isAway(error) || error.status >= 500;
      if (!isBroken) throw error;
      onEvent("unreachable", { words: error instanceof CallError ? error.message : UNREACHABLE });
    }
    failures += 1;
    await pause(pauseAfter(failures));
  }
}
