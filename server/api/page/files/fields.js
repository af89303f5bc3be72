// The form's fields, made from the server's OpenAPI document: whatever it takes, the page offers.

import { el, withCode } from "./dom.js";
import { storeSettings, storedSettings } from "./storage.js";

/** Those that people change most, in this order. */
const FIRST = ["prompt", "denoise", "upscale", "samples"];
/** The page's own business: it brings the picture and fetches the files. */
const NOT_SHOWN = new Set(["image", "base64"]);
const LONG_TEXTS = new Set(["prompt", "negative_prompt"]);
const MOST_SEGMENTS = 4;
const FINEST_SLIDER = 100;

/** The schemas of a call's form in the document, by field. */
export function schemasOf(document, path) {
  const content = document.paths[path].post.requestBody.content;
  const name = content["multipart/form-data"].schema.$ref.split("/").pop();
  return document.components.schemas[name].properties;
}

const labelOf = (name) => {
  const words = name.replaceAll("_", " ").replace(/ (px|url)$/, (unit) =>
    unit === " px" ? " in pixels" : " URL",
  );
  return words[0].toUpperCase() + words.slice(1);
};

/** A text of the server's in which fields have the names that they have on the page. */
export const inLabels = (text) =>
  text.replace(/\b[a-z]+(?:_[a-z]+)+\b/g, (name) => labelOf(name).toLowerCase());

const isNumber = (schema) => schema.type === "integer" || schema.type === "number";
const isText = (schema) => schema.type === "string" && !schema.enum;
const defaultOf = (schema) => String(schema.default ?? schema.examples?.[0] ?? "");
const isRequired = (schema) => schema.examples !== undefined;

/** The texts of a field's range and default, for people. */
function rangeOf(schema) {
  const parts = [];
  if (isNumber(schema) && !schema.enum && schema.maximum !== undefined) {
    parts.push(`${schema.minimum}–${schema.maximum}`);
  }
  if (schema.default !== undefined && schema.type !== "boolean") {
    parts.push(`default ${schema.default}`);
  }
  return parts.length ? ` (${parts.join(", ")})` : "";
}

/** The form's fields in two places, and the texts in them. */
export class Fields {
  #schemas;
  #controls = new Map();

  /** `first` and `more`: the elements that take the frequent fields and the others. */
  constructor(schemas, first, more) {
    this.#schemas = schemas;
    const names = Object.keys(schemas).filter((name) => !NOT_SHOWN.has(name));
    for (const name of FIRST.filter((name) => names.includes(name))) this.#add(name, first);
    for (const name of names.filter((name) => !FIRST.includes(name))) this.#add(name, more);
    this.write(storedSettings());
  }

  /** What a request has to say: required fields, and others that are not at their default. */
  values() {
    const values = {};
    for (const [name, control] of this.#controls) {
      const text = control.read();
      const schema = this.#schemas[name];
      // A text may be empty on purpose; an empty number or choice is the server's own.
      const says = isText(schema) || text.trim() !== "";
      if (isRequired(schema) || (says && text !== defaultOf(schema))) values[name] = text;
    }
    return values;
  }

  /** What is in a field. */
  text(name) {
    return this.#controls.get(name).read();
  }

  /** Put texts in; fields that have none get their defaults. */
  write(texts) {
    for (const [name, control] of this.#controls) {
      control.write(texts[name] ?? defaultOf(this.#schemas[name]));
    }
  }

  /** Keep what is in the form for the next visit: every text that is not as it was at first. */
  store() {
    const texts = [...this.#controls].map(([name, control]) => [name, control.read()]);
    const changed = texts.filter(([name, text]) => text !== defaultOf(this.#schemas[name]));
    storeSettings(Object.fromEntries(changed));
  }

  #add(name, place) {
    const schema = this.#schemas[name];
    const control = controlOf(name, schema);
    this.#controls.set(name, control);
    place.append(control.element);
  }
}

function controlOf(name, schema) {
  const helpId = `help-${name}`;
  const help = el("p", { className: "help", id: helpId }, ...withCode(schema.description));
  help.append(rangeOf(schema));
  if (schema.type === "boolean") return switchOf(name, help);
  const choices = choicesOf(schema);
  if (choices) return segmentsOf(name, choices, help);
  return inputOf(name, schema, help);
}

function choicesOf(schema) {
  if (schema.enum) return schema.enum.map(String);
  const many = schema.maximum - schema.minimum + 1;
  if (schema.type !== "integer" || !(many <= MOST_SEGMENTS)) return null;
  return Array.from({ length: many }, (_, index) => String(schema.minimum + index));
}

function switchOf(name, help) {
  const input = el("input", { type: "checkbox", id: `field-${name}`, name });
  input.setAttribute("aria-describedby", help.id);
  const label = el("label", { className: "switch" }, input, labelOf(name));
  return {
    element: el("div", { className: "field" }, label, help),
    read: () => String(input.checked),
    write: (text) => (input.checked = text === "true"),
  };
}

function segmentsOf(name, choices, help) {
  const inputs = choices.map((value) => el("input", { type: "radio", name, value }));
  const labels = inputs.map((input) => el("label", {}, input, el("span", {}, input.value)));
  const group = el("fieldset", { className: "field", id: `field-${name}` });
  group.setAttribute("aria-describedby", help.id);
  group.append(
    el("legend", {}, labelOf(name)),
    el("div", { className: "segments" }, ...labels),
    help,
  );
  return {
    element: group,
    read: () => inputs.find((input) => input.checked)?.value ?? "",
    write: (text) => inputs.forEach((input) => (input.checked = input.value === text)),
  };
}

function inputOf(name, schema, help) {
  const id = `field-${name}`;
  const isLong = LONG_TEXTS.has(name);
  const props = { id, name, autocomplete: "off", "aria-describedby": help.id };
  const bounded = isNumber(schema) && schema.maximum !== undefined;
  const step = schema.type === "integer" ? "1" : "any";
  const input = isLong
    ? el("textarea", { ...props, rows: 2 })
    : el("input", {
        ...props,
        type: bounded ? "number" : "text",
        ...(bounded ? { min: schema.minimum, max: schema.maximum, step } : {}),
        placeholder: isNumber(schema) ? "the server’s own" : "",
      });
  const head = el("div", { className: "head" }, el("label", { for: id }, labelOf(name)));
  const field = el("div", { className: "field" }, head);
  const hasSlider = bounded && schema.maximum <= FINEST_SLIDER && defaultOf(schema) !== "";
  const slider = hasSlider && sliderOf(schema, input);
  if (slider) {
    head.append(input);
    field.append(slider);
  } else {
    field.append(input);
  }
  field.append(help);
  return {
    element: field,
    read: () => input.value,
    write: (text) => {
      input.value = text;
      if (slider) slider.value = text === "" ? slider.min : text;
    },
  };
}

function sliderOf(schema, input) {
  const slider = el("input", {
    type: "range",
    min: schema.minimum,
    max: schema.maximum,
    step: schema.type === "integer" ? 1 : schema.maximum > 1 ? 0.1 : 0.01,
    "aria-label": `${labelOf(input.name)}, slider`,
  });
  slider.addEventListener("input", () => (input.value = slider.value));
  input.addEventListener("input", () => (slider.value = input.value));
  return slider;
}
