// The browser's database of one server: what is kept with pictures, and is too large for its storage
// of texts.

import { databaseName } from "./storage.js";

const KEYS = { runs: "id", drafts: "id", faces: "id" };

let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(databaseName, 2);
    request.onupgradeneeded = () => {
      const database = request.result;
      for (const [store, keyPath] of Object.entries(KEYS)) {
        if (!database.objectStoreNames.contains(store)) database.createObjectStore(store, { keyPath });
      }
    };
    request.onsuccess = () => {
      // A later version of the page in another tab does not wait for this one.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
    // Nor does this one wait for an earlier version: it does without.
    request.onblocked = () => reject(new Error("The database is in use"));
  });
  return opening;
}

/** Do work in one transaction; the result of the request that `work(...stores)` returns. */
export async function inStores(names, mode, work) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(names, mode);
    const request = work(...names.map((name) => transaction.objectStore(name)));
    transaction.oncomplete = () => resolve(request.result);
    // After every error; only then is it known.
    transaction.onabort = () => reject(transaction.error);
    // At once: the page may be left in the next moment.
    transaction.commit();
  });
}

/** Everything in a store; nothing where there is no database, as in some private windows. */
export const all = (name) =>
  inStores([name], "readonly", (store) => store.getAll()).catch(() => []);
