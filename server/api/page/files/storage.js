// What this browser remembers of one server: its key and the settings that were used last.

// Several servers may live behind one host, below different paths.
const scope = `face-detailer:${new URL("../", import.meta.url).pathname}:`;

function read(name) {
  try {
    return localStorage.getItem(scope + name) ?? "";
  } catch {
    return unsaved.get(name) ?? "";
  }
}

function write(name, text) {
  try {
    if (text) localStorage.setItem(scope + name, text);
    else localStorage.removeItem(scope + name);
  } catch {
    unsaved.set(name, text);
  }
}

// Where the browser stores nothing, it is kept until the page is closed.
const unsaved = new Map();

export const databaseName = scope;

export const storedKey = () => read("key");
export const storeKey = (key) => write("key", key);

/** The settings that were used last: texts by name. */
export function storedSettings() {
  try {
    return JSON.parse(read("settings") || "{}");
  } catch {
    return {};
  }
}

export const storeSettings = (texts) => write("settings", JSON.stringify(texts));
