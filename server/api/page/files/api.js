// The server's calls. The key goes along in its header, and nowhere else.

import { storedKey } from "./storage.js";

/** Where the server is, with the path prefix it has here. */
export const base = new URL("../", import.meta.url);

/** An answer other than success. `message`: the server's own words. `status`: 0 if there is none.
 *  `retryAfterS`: when it may be worth to ask again; 0 if the server does not say. */
export class CallError extends Error {
  constructor(message, status, retryAfterS = 0) {
    super(message);
    Object.assign(this, { status, retryAfterS });
  }
}

const watchers = [];

/** `watcher(credits)` is told the account's credits as text, whenever a reply names them. */
export function watchCredits(watcher) {
  watchers.push(watcher);
}

export function tellCredits(credits) {
  for (const watcher of watchers) watcher(String(credits));
}

export const UNREACHABLE = "The server cannot be reached";

/** What a reply says: tells its credits, and throws a CallError unless it is a success. */
export function take({ key, status, header, text }) {
  const credits = header("x-remaining-credits");
  if (key && status !== 401 && credits !== null) tellCredits(credits);
  if (status >= 200 && status < 300) return;
  const words = wordsOf(text) || `The server answered with status ${status}`;
  throw new CallError(words, status, Number(header("retry-after") ?? 0));
}

function wordsOf(text) {
  try {
    return JSON.parse(text).error ?? "";
  } catch {
    return "";
  }
}

/** Send a request; its reply if it succeeded, else a CallError is thrown. */
export async function call(path, { key = storedKey(), headers = {}, ...options } = {}) {
  let reply;
  try {
    reply = await fetch(new URL(path, base), {
      ...options,
      headers: { ...headers, ...(key ? { "x-api-key": key } : {}) },
      redirect: "error",
      credentials: "same-origin",
    });
  } catch {
    throw new CallError(UNREACHABLE, 0);
  }
  const { status, headers: replied } = reply;
  const text = reply.ok ? "" : await reply.text().catch(() => "");
  take({ key, status, header: (name) => replied.get(name), text });
  return reply;
}

/** Whether a key is valid: its account's credits, else a CallError. */
export async function creditsOf(key) {
  return (await (await call("v1/get-user-credits", { key })).json()).credits;
}

/** The server's description of itself. */
export const description = async () => (await call("openapi.json", { key: "" })).json();

/** A request's body. */
export function form(picture, name, fields) {
  const body = new FormData();
  for (const [field, value] of Object.entries(fields)) body.append(field, value);
  body.append("image", picture, name);
  return body;
}

/** Which faces count, and what else was found. */
export async function detect(picture, name, fields) {
  const options = { method: "POST", body: form(picture, name, fields) };
  return (await call("v1/face-detailer/detect", options)).json();
}

const requestPath = (id) => `v2/requests/${encodeURIComponent(id)}`;

/** A request's events from the one after `seen` on, as a reply that streams. */
export function eventsOf(id, seen) {
  const headers = seen ? { "Last-Event-ID": seen } : {};
  return call(`${requestPath(id)}/events`, { headers });
}

/** Stop a request, free of charge. */
export const cancel = (id) => call(`${requestPath(id)}/cancel`, { method: "POST" });

/** A result's file. Its URL may begin with an address of the server that is not this page's. */
export async function fileOf(url) {
  const path = new URL(url).pathname.match(/v2\/results\/.*$/)[0];
  const reply = await call(path, { key: "" });
  return reply.blob().catch(() => {
    throw new CallError(UNREACHABLE, 0);
  });
}
