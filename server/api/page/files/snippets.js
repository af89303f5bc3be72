// A call as code: what the page did, for people who go on by themselves.

import { base } from "./api.js";

const PATH = "v1/face-detailer";
// Of the queue alone.
const NOT_IN_V1 = new Set(["webhook_url"]);

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (text) => JSON.stringify(text);

/** The name of the file that a call writes. */
export function resultName(name, format = "jpeg", sample = null) {
  const stem = name.replace(/\.[^.]*$/, "") || "picture";
  const ending = format === "jpeg" ? "jpg" : format;
  return `${stem}-detailed${sample === null ? "" : `-${sample + 1}`}.${ending}`;
}

const sent = (fields) => Object.entries(fields).filter(([name]) => !NOT_IN_V1.has(name));

/** Where the file is to be had, if it is the page's example. */
const comment = (mark, name, source) =>
  source ? `${mark} ${name} is at ${source}\n` : "";

function curl(name, fields, source) {
  // `-F` would read a value that begins with @ or < as a file.
  const texts = sent(fields).map(([field, text]) => `--form-string ${shell(`${field}=${text}`)}`);
  const quoted = name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  const lines = [
    'curl --fail-with-body -H "x-api-key: $KEY"',
    `-F ${shell(`image=@"${quoted}"`)}`,
    ...texts,
    "--form-string base64=false",
    `-o ${shell(resultName(name, fields.image_format))}`,
    new URL(PATH, base).href,
  ];
  const first = fields.samples > 1 ? "# The first sample; the other tabs save all.\n" : "";
  const about = `${comment("#", name, source)}${first}# If curl fails, the file holds the server's words.\n`;
  return `${about}${lines.join(" \\\n    ")}\n`;
}

function python(name, fields, source) {
  const data = sent(fields).map(([field, text]) => `    ${literal(field)}: ${literal(text)},`);
  const [stem, ending] = resultName(name, fields.image_format).split(/(\.\w+)$/);
  const save =
    fields.samples > 1
      ? `for number, picture in enumerate(reply.json()["images"], start=1):
    with open(${literal(`${stem}-`)} + str(number) + ${literal(ending)}, "wb") as file:
        file.write(base64.b64decode(picture))`
      : `with open(${literal(stem + ending)}, "wb") as file:
    file.write(base64.b64decode(reply.json()["image"]))`;
  return `${comment("#", name, source)}import base64
import os

import requests

with open(${literal(name)}, "rb") as file:
    picture = file.read()
data = {
${data.join("\n")}
}
reply = requests.post(
    ${literal(new URL(PATH, base).href)},
    headers={"x-api-key": os.environ["KEY"]},
    files={"image": picture},
    data=data,
)
if not reply.ok:
    raise SystemExit(reply.json()["error"])
${save}
`;
}

function javascript(name, fields, source) {
  const appends = sent(fields).map(
    ([field, text]) => `form.append(${literal(field)}, ${literal(text)});`,
  );
  const [stem, ending] = resultName(name, fields.image_format).split(/(\.\w+)$/);
  return `${comment("//", name, source)}import { openAsBlob } from "node:fs";
import { writeFile } from "node:fs/promises";

const form = new FormData();
form.append("image", await openAsBlob(${literal(name)}));
${appends.join("\n")}
const reply = await fetch(${literal(new URL(PATH, base).href)}, {
  method: "POST",
  headers: { "x-api-key": process.env.KEY },
  body: form,
});
const body = await reply.json();
if (!reply.ok) throw new Error(body.error);
for (const [index, picture] of (body.images ?? [body.image]).entries()) {
  const number = body.images ? \`-\${index + 1}\` : "";
  await writeFile(${literal(stem)} + number + ${literal(ending)}, Buffer.from(picture, "base64"));
}
`;
}

/** The ways in which a call can be written: label and function of picture's name and fields, and of
 *  where the picture is to be had, if that is known. */
export const WAYS = { curl, Python: python, JavaScript: javascript };
