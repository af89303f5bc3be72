// Sending a picture into the queue: with the share that is sent, and stopped only where that is sure
// to leave nothing behind that costs.

import { base, CallError, form, take, UNREACHABLE } from "./api.js";
import { isAway, patiently } from "./patience.js";
import { storedKey } from "./storage.js";

/** The user stopped a request before the server had it. */
export class NotSent extends Error {}

/** How far an upload must be from its end to be stopped: what the browser says of it is late, and
 *  one that came through is cancelled by its id instead. */
const SURELY_UNSENT_S = 3;

/** Queue a request; its id at the server. `record`: {id, name, picture, fields}; `id` makes it one
 *  request however often it is sent. `signal` stops it as long as it is sure that the server does
 *  not have it; then NotSent is thrown. `onWords(words)`: what it is at. */
export async function send({ id: key, name, picture, fields }, signal, onWords) {
  // An attempt ended without an answer: the server may have the request.
  let isUnsure = false;
  const attempt = async () => {
    if (signal.aborted && !isUnsure) throw new NotSent();
    onWords("Sending the picture");
    const onShare = (share) => onWords(`Sending the picture: ${Math.round(100 * share)} %`);
    const stopping = isUnsure ? new AbortController().signal : signal;
    try {
      const body = form(picture, name, fields);
      return (await post("v2/face-detailer", body, key, stopping, onShare)).request_id;
    } catch (error) {
      isUnsure ||= isAway(error);
      throw error;
    }
  };
  return patiently(attempt, onWords, { signal, isSure: true });
}

/** By XMLHttpRequest: fetch does not tell how much of a body is sent. */
function post(path, body, idempotencyKey, signal, onShare) {
  return new Promise((resolve, reject) => {
    const [request, key, began] = [new XMLHttpRequest(), storedKey(), performance.now()];
    let left = 0;
    const stop = () => {
      const leftS = (left * (performance.now() - began)) / 1000;
      if (signal.aborted && leftS > SURELY_UNSENT_S) request.abort();
    };
    const looking = setInterval(stop, 500);
    request.open("POST", new URL(path, base));
    request.setRequestHeader("Idempotency-Key", idempotencyKey);
    if (key) request.setRequestHeader("x-api-key", key);
    request.upload.onprogress = ({ loaded, total }) => {
      left = (total - loaded) / loaded;
      onShare(loaded / total);
    };
    request.onloadend = () => clearInterval(looking);
    request.onabort = () => reject(new NotSent());
    request.onerror = () => reject(new CallError(UNREACHABLE, 0));
    request.onload = () => {
      try {
        const { status, responseText: text } = request;
        take({ key, status, header: (name) => request.getResponseHeader(name), text });
        resolve(JSON.parse(text));
      } catch (error) {
        reject(error);
      }
    };
    request.send(body);
  });
}
