// The page: what its buttons do.

import { description } from "./api.js";
import { showCode, startCopying } from "./copying.js";
import { at, download, isOff, keepFocus } from "./dom.js";
import { drafts } from "./drafts.js";
import { Fields, schemasOf } from "./fields.js";
import { bringBack, drawFaces, dropStaleFaces, findFaces, showMasks, toggle } from "./finding.js";
import { runs } from "./history.js";
import { startKey } from "./key.js";
import { drawActions, fieldsOf, isDue, startActions } from "./offer.js";
import { startPast } from "./past.js";
import { showPictures, startPictures } from "./pictures.js";
import * as requests from "./requests.js";
import { onChange, state } from "./state.js";
import { drawStage, startStage } from "./stage.js";

function draw() {
  dropStaleFaces();
  const around = ["go", "choose"].map(at);
  keepFocus(() => {
    drawStage(toggle, requests.takeOff);
    drawFaces();
    drawActions();
  }, around);
}

function bind() {
  at("settings").noValidate = true;
  at("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isOff(at("go")) && state.selected) requests.detail([state.selected]);
  });
  at("settings").addEventListener("input", settingsChanged);
  at("go-all").addEventListener("click", (event) => {
    // The button changes at once: a double click must not take back what it began.
    if (isOff(at("go-all")) || event.detail > 1) return;
    if (at("go-all").dataset.does === "cancel") state.items.forEach(requests.stop);
    else requests.detail(state.items.filter(isDue));
  });
  at("find").addEventListener("click", () => findFaces(state.selected));
  at("masks").addEventListener("change", () => showMasks(state.selected));
  at("cancel").addEventListener("click", () => {
    if (state.selected && !isOff(at("cancel"))) requests.stop(state.selected);
  });
  at("defaults").addEventListener("click", () => {
    state.fields.write({});
    settingsChanged();
  });
  bindResult();
}

function settingsChanged() {
  state.fields.store();
  dropStaleFaces();
  drawActions();
}

function bindResult() {
  at("download").addEventListener("click", () => {
    const { files } = state.selected.result;
    const chosen = at("grid").checked ? files : [files[state.selected.sample]];
    for (const { blob, name } of chosen) download(blob, name);
  });
  at("copy-done").addEventListener("click", () => {
    showCode(state.selected, state.selected.result.fields);
  });
  at("copy-call").addEventListener("click", () => {
    showCode(state.selected, fieldsOf(state.selected));
  });
}

async function start() {
  startPictures();
  const document = await description();
  state.server = document["x-server"];
  state.detectSchemas = schemasOf(document, "/v1/face-detailer/detect");
  state.fields = new Fields(schemasOf(document, "/v2/face-detailer"), at("first"), at("more"));
  at("first").firstElementChild.after(at("faces-section"));
  startStage();
  startCopying();
  startActions();
  onChange(draw);
  bind();
  draw();
  startKey();
  // Asked for before anything is put on the page: that is kept too, and would come twice.
  const left = Promise.all([drafts(), runs()]);
  showPictures();
  requests.startAsking();
  await startPast();
  const [pictures, sent] = await left;
  await bringBack(pictures);
  await requests.resume(sent);
}

start().catch((error) => {
  at("empty").replaceChildren(error.message);
});
