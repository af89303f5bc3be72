// Elements, made without HTML: what others wrote only ever becomes text.

/** An element. `props`: properties, or attributes where the name has a dash or is `role`. */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined) continue;
    if (name.includes("-") || ["role", "for", "list"].includes(name)) {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The page's element of this id. */
export const at = (id) => document.getElementById(id);

/** Put children in the place of those before. The focus stays on the one of the same label; where
 *  that is gone, on what now stands in its place. */
export function redraw(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const index = focusable(place).indexOf(focused);
  const label = focused?.ariaLabel;
  place.replaceChildren(...children);
  if (!focused || place.contains(focused)) return;
  const now = focusable(place);
  const same = label && now.find((element) => element.ariaLabel === label);
  (same || now[Math.min(index, now.length - 1)])?.focus({ preventScroll: true });
}

const focusable = (place) => [...place.querySelectorAll("button, input, summary")];

/** A control that does nothing for now keeps the focus, unlike one that is disabled. */
export function setOff(control, isOff) {
  control.setAttribute("aria-disabled", String(isOff));
}

export const isOff = (control) => control.getAttribute("aria-disabled") === "true";

/** Do what may take away the focused control; then the focus goes to the first of `places` that
 *  is there. */
export function keepFocus(work, places) {
  const focused = document.activeElement;
  work();
  const isThere = (element) => element.isConnected && element.checkVisibility() && !element.disabled;
  if (focused === document.body || isThere(focused)) return;
  if (document.activeElement !== document.body && isThere(document.activeElement)) return;
  places.find(isThere)?.focus({ preventScroll: true });
}

/** A help text: what stands between backticks becomes code. */
export function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

/** `1 face`, `2 faces`, `1,000 credits`. */
export const count = (number, noun) => `${inFigures(number)} ${noun}${number === 1 ? "" : "s"}`;

/** `1,000.25` */
export const inFigures = (number) => number.toLocaleString("en", { maximumFractionDigits: 4 });

/** Let time pass, or the moment come in which `signal` is aborted. */
export function pause(seconds, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", resolve, { once: true });
  });
}

/** A key that nothing else has. Over plain HTTP there is no randomUUID. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Tell screen readers, without moving the focus. */
export function announce(text) {
  at("announcer").textContent = text;
}

/** Put a text on the clipboard; whether that worked. Over plain HTTP only the old way does. */
export async function copy(text, source) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // No permission: the old way needs none.
    }
  }
  getSelection().selectAllChildren(source);
  return document.execCommand("copy");
}

/** Have the browser save a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
