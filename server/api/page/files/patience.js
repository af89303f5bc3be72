// Asking again: where the server says that it is not ready, and where it cannot be reached.

import { pause } from "./dom.js";

const NOT_NOW = new Set([429, 503]);
/** A proxy's, where the server behind it is away. */
const AWAY = new Set([0, 502, 504]);
const LONGEST_PAUSE_S = 5;

/** Whether an error says that nobody answered. */
export const isAway = (error) => AWAY.has(error.status);

/** How long to wait before the attempt after so many failures, in seconds. */
export const pauseAfter = (failures) => Math.min(failures / 2, LONGEST_PAUSE_S);

/** What `ask()` comes to, asked again while the server says when (`Retry-After`) and, if `isSure`,
 *  while nobody answers, for as long as that takes. `onWords(words)`: why it takes longer.
 *  `signal`: once it is aborted, `ask` is called at once, and should know what to do. */
export async function patiently(ask, onWords, { signal, isSure = false } = {}) {
  for (let failures = 1; ; failures += 1) {
    try {
      return await ask();
    } catch (error) {
      const isEarly = NOT_NOW.has(error.status) && error.retryAfterS > 0;
      if (!isEarly && !(isSure && isAway(error))) throw error;
      onWords(`${error.message}. Trying again…`);
      await pause(isEarly ? error.retryAfterS : pauseAfter(failures), signal);
    }
  }
}
