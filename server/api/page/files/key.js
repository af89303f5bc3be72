// The API key: asked for, checked, kept in this browser, and the credits of its account.

import { creditsOf, watchCredits } from "./api.js";
import { at, count, setOff } from "./dom.js";
import { storeKey, storedKey } from "./storage.js";

let waiting = [];

function show(words) {
  const error = at("key-error");
  error.textContent = words;
  at("key").setAttribute("aria-invalid", String(words !== ""));
}

function refresh() {
  at("key-button").textContent = storedKey() ? "API key" : "Set API key";
  at("key-button").classList.toggle("wanted", !storedKey());
  at("key-forget").hidden = !storedKey();
}

/** Ask for the key, with an error's words if there was one; whether there is one afterwards. */
export function askForKey(words = "", key = storedKey()) {
  show(words);
  at("key").value = key;
  refresh();
  if (!at("key-dialog").open) at("key-dialog").showModal();
  at("key").select();
  return new Promise((resolve) => waiting.push(resolve));
}

async function check(event) {
  event.preventDefault();
  const key = at("key").value.trim();
  show(key ? "" : "Type or paste a key first.");
  if (key) await save(key).catch((error) => show(error.message));
  if (at("key-dialog").open) at("key").focus();
}

/** Keep a key that is good, else throw a CallError. */
async function save(key) {
  setOff(at("key-save"), true);
  try {
    await creditsOf(key);
    storeKey(key);
    refresh();
    at("key-dialog").close("saved");
  } finally {
    setOff(at("key-save"), false);
  }
}

function forget() {
  storeKey("");
  at("credits").hidden = true;
  at("key-dialog").close();
}

/** Why the server refuses a key, in its words; nothing of one that it takes or could not check. */
const faultOf = (key) =>
  creditsOf(key).then(
    () => "",
    (error) => (error.status === 401 ? error.message : ""),
  );

/** See whether the key that is kept is good, and take the one of an address that ends in `/#key=…`,
 *  which stays in the browser. A kept key that is good is not replaced unasked. */
async function begin() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key")?.trim();
  if (key !== undefined) history.replaceState(null, "", location.pathname + location.search);
  const kept = storedKey();
  const fault = kept && (await faultOf(kept));
  if (!key || key === kept) {
    if (fault) askForKey(fault);
  } else if (kept && !fault) {
    askForKey("The address brought another key. Save it to use it from now on.", key);
  } else {
    await save(key).catch((error) => askForKey(error.message, key));
  }
}

/** Wire the dialog, and begin with the key that is kept or comes with the address. */
export function startKey() {
  at("key-button").addEventListener("click", () => askForKey());
  at("key-form").addEventListener("submit", check);
  at("key-forget").addEventListener("click", forget);
  at("key-cancel").addEventListener("click", () => at("key-dialog").close());
  at("key-dialog").addEventListener("close", () => {
    refresh();
    const saved = at("key-dialog").returnValue === "saved";
    at("key-dialog").returnValue = "";
    for (const resolve of waiting) resolve(saved);
    waiting = [];
  });
  watchCredits((credits) => {
    at("credits-left").textContent = count(Number(credits), "credit");
    at("credits").hidden = false;
  });
  refresh();
  begin();
  addEventListener("hashchange", begin);
}
