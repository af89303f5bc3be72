// What is known of a file before it is sent: whether it can be shown, and whether it will be taken.

import { state } from "./state.js";

const ascii = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

/** Kinds of pictures that the server reads, by their first bytes. */
const KINDS = [
  ["JPEG", (b) => b[0] === 0xff && b[1] === 0xd8],
  ["PNG", (b) => ascii(b, 1, 4) === "PNG"],
  ["GIF", (b) => ascii(b, 0, 3) === "GIF"],
  ["BMP", (b) => ascii(b, 0, 2) === "BM"],
  ["WebP", (b) => ascii(b, 8, 12) === "WEBP"],
  ["AVIF", (b) => /^ftypavi/.test(ascii(b, 4, 12))],
  ["HEIC", (b) => /^ftyp(he|mif1|msf1|miaf)/.test(ascii(b, 4, 12))],
  ["TIFF", (b) => /^(II[*+]\0|MM\0[*+])/.test(ascii(b, 0, 4))],
  ["JPEG 2000", (b) => ascii(b, 4, 6) === "jP" || (b[0] === 0xff && b[1] === 0x4f)],
];

async function kindOf(blob) {
  const bytes = new Uint8Array(await blob.slice(0, 16).arrayBuffer());
  return KINDS.find(([, isOne]) => isOne(bytes))?.[0] ?? null;
}

/** A size in a sentence, as the server writes it. */
const mebibytes = (bytes) => (bytes >= 2 ** 20 ? `${+(bytes / 2 ** 20).toPrecision(6)} MiB` : `${bytes} bytes`);

const NO_PICTURE =
  "Invalid image: the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, GIF or BMP picture";

/** Why the server will not take a picture, in its own words; null as far as can be told. */
function refusalOf(blob, image, kind) {
  const limits = state.server;
  if (blob.size === 0) return "Invalid image: the file is empty";
  if (blob.size >= limits.max_body_bytes) {
    return `Invalid image: the request is larger than ${mebibytes(limits.max_body_bytes)}`;
  }
  if (kind === null) return NO_PICTURE;
  if (!image) return null;
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const has = `Invalid image: the picture has ${width} × ${height} pixels, at most`;
  if (width * height > limits.max_image_pixels) {
    return `${has} ${limits.max_image_pixels} pixels are allowed`;
  }
  if (Math.max(width, height) > limits.max_side_px) {
    return `${has} ${limits.max_side_px} pixels a side are allowed`;
  }
  return null;
}

/** A file as it is now, since it may be changed or deleted before it is sent; null if it cannot be
 *  read. What the server would not take for its size is never sent. */
async function copyOf(file) {
  if (file.size >= state.server.max_body_bytes) return file;
  const { type } = file;
  return file.arrayBuffer().then(
    (bytes) => new Blob([bytes], { type }),
    () => null,
  );
}

const UNREADABLE = "The file cannot be read: it may have been moved, changed or deleted. Choose it again.";

let last = 0;

/** A picture that can be put on the page, with the faces that are kept of it. */
export async function itemOf(file, name, detected = null) {
  const copy = await copyOf(file);
  const blob = copy ?? new Blob();
  const url = URL.createObjectURL(blob);
  const [image, kind] = await Promise.all([imageOf(url), kindOf(blob)]);
  const item = {
    ...{ id: (last += 1), name, blob, url, image, kind },
    ...{ refusal: copy ? refusalOf(blob, image, kind) : UNREADABLE, problem: null, note: null },
    ...{ detected: null, facesBefore: [], isFinding: false, isStale: false, overlay: null, draft: null },
    ...{ run: null, isNext: false, left: null, wasLeft: false, unsure: null, result: null, sample: 0 },
  };
  if (detected) setDetected(item, detected, await previewOf(detected.drawing));
  return item;
}

/** The image at a URL; null if this browser cannot show it. */
async function imageOf(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(
    () => image,
    () => null,
  );
}

/** The server's own drawing, if there is one, as an image. */
export const previewOf = async (drawing) =>
  drawing && imageOf(URL.createObjectURL(drawing));

/** Put the faces that were found in the place of those before. `preview` is of the server's own
 *  drawing, of what the browser cannot show itself; else null. */
export function setDetected(item, detected, preview) {
  if (item.overlay) URL.revokeObjectURL(item.overlay);
  Object.assign(item, { detected: { ...detected, preview }, overlay: preview?.src ?? null });
  Object.assign(item, { isStale: false, facesBefore: [] });
}

/** A picture's faces as they can be kept, as they are now; null if none are known. */
export function detectedToKeep({ detected }) {
  if (!detected) return null;
  const { preview: _, ...rest } = detected;
  return structuredClone(rest);
}

/** Those that every browser shows, unless they are broken. */
const SHOWN = new Set(["JPEG", "PNG", "GIF", "BMP", "WebP", "AVIF"]);

/** Why a picture is not to be seen; null if it is. */
export function whyNotShown({ image, kind, refusal }) {
  if (image) return null;
  if (refusal) return "There is no picture to show.";
  if (SHOWN.has(kind)) return `This ${kind} file seems to be broken. The server may still read it.`;
  return `This browser cannot show ${kind} files, but the server reads them. “Find faces” shows what it sees.`;
}
