// Load Continuation State on the page: upload, drop and paste; a list that knows what was just made; a picture at once.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { texts } from "./texts.js";

const LOAD_NODE = "LTX2ContinuumLoadState";
const SUFFIXES = [".png", ".safetensors", ".json"];
const ROUTES = "/ltx2_continuum";

export const LOAD_STYLE = `
.continuum-load { display: flex; gap: 6px; }
.continuum-load input[type=text] { flex: 1; min-width: 0; height: 26px; padding: 0 6px; font-size: 12px; border: 1px solid var(--border-color, #555); border-radius: 4px;
  background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd); }
.continuum-upload { flex: 0 0 auto; height: 26px; padding: 0 10px; font-size: 12px; line-height: 1; border-width: 1px; cursor: pointer; }`;

const isLoader = (node) => node?.comfyClass === LOAD_NODE;
const fileWidget = (node) => node.widgets?.find((one) => one.name === "file");
const isStateFile = (file) => SUFFIXES.some((suffix) => file.name.toLowerCase().endsWith(suffix));

// The page's own upload button takes pictures alone and previews every file as one: ours stands in for it.
export function ownUpload(nodeData) {
  if (nodeData.name !== LOAD_NODE) return;
  const inputs = nodeData.input?.required ?? {};
  delete inputs.upload;
  if (inputs.file?.[1]) delete inputs.file[1].image_upload;
}

function loaders(graph = app.rootGraph ?? app.graph, found = []) {
  for (const node of graph?._nodes ?? []) {
    if (isLoader(node)) found.push(node);
    if (node.subgraph) loaders(node.subgraph, found);
  }
  return found;
}

// Every loader's list anew, from the server; what is chosen stays, whether it is in the list or not.
export async function refreshStates() {
  const nodes = loaders();
  if (!nodes.length) return;
  const answer = await api.fetchApi(`${ROUTES}/states`);
  if (!answer.ok) return;
  const { files } = await answer.json();
  const widgets = nodes.map(fileWidget).filter((widget) => Array.isArray(widget?.options?.values));
  const kept = new Set(widgets.map((widget) => widget.value).filter((value) => value && !files.includes(value)));
  // both renderers hold on to the list itself, which nodes may share
  for (const widget of widgets) widget.options.values.splice(0, Infinity, ...kept, ...files);
}

function fail(name, reason) {
  app.extensionManager?.toast?.add({ severity: "error", summary: texts().failed, detail: `${name}: ${reason}`, life: 8000 });
}

// What the chosen file holds, on the card.
async function showChosen(node) {
  const file = fileWidget(node)?.value;
  if (!file || node.continuumShown === file) return;
  node.continuumShown = file;
  const answer = await api.fetchApi(`${ROUTES}/state?${new URLSearchParams({ file })}`);
  const state = await answer.json().catch(() => ({}));
  if (node.continuumShown !== file) return; // another was chosen meanwhile
  const wrong = answer.ok && !state.error ? "" : state.error ?? texts().answered(answer.status);
  if (wrong) node.continuumCard?.clear();
  else node.continuumCard?.show({ states: [state] });
  node.continuumCard?.fail(wrong);
}

function choose(node, name) {
  const widget = fileWidget(node), values = widget.options?.values;
  if (Array.isArray(values) && !values.includes(name)) values.unshift(name);
  node.continuumShown = null;
  widget.value = name;
  widget.callback?.(name);
  node.graph?.setDirtyCanvas?.(true, true);
}

async function upload(node, file) {
  const body = new FormData();
  body.append("image", file, file.name);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) return fail(file.name, answer.status === 413 ? texts().large : texts().answered(answer.status));
  const saved = await answer.json();
  choose(node, saved.subfolder ? `${saved.subfolder}/${saved.name}` : saved.name);
  refreshStates();
}

// The first file that can be a state goes up; whether there was one.
function take(node, files) {
  const file = [...(files ?? [])].find(isStateFile);
  if (file) upload(node, file);
  return Boolean(file);
}

function addRow(node) {
  const chooser = Object.assign(document.createElement("input"), { type: "file", accept: SUFFIXES.join(), hidden: true });
  chooser.addEventListener("change", () => { take(node, chooser.files); chooser.value = ""; });
  const button = Object.assign(document.createElement("button"), { className: "continuum-upload comfy-btn", textContent: texts().upload, title: texts().hint });
  button.addEventListener("click", () => chooser.click());
  const typed = Object.assign(document.createElement("input"), { type: "text", placeholder: texts().typed, title: texts().typed, spellcheck: false });
  typed.addEventListener("change", () => { if (typed.value.trim()) choose(node, typed.value.trim()); typed.value = ""; });
  const row = document.createElement("div");
  row.className = "continuum-load";
  row.append(typed, button, chooser);
  row.addEventListener("pointerenter", refreshStates);
  const widget = node.addDOMWidget("continuum_upload", "continuum_upload", row, { serialize: false, getMinHeight: () => 28, getMaxHeight: () => 28 });
  widget.serialize = false;
}

function followChoice(node) {
  const widget = fileWidget(node), prior = widget.callback;
  widget.callback = function () {
    const result = prior?.apply(this, arguments);
    showChosen(node);
    return result;
  };
  const configured = node.onConfigure;
  node.onConfigure = function () {
    configured?.apply(this, arguments);
    setTimeout(() => showChosen(this), 0);
  };
  setTimeout(() => showChosen(node), 0);
}

export function addLoader(node) {
  if (!isLoader(node) || !fileWidget(node)) return;
  addRow(node);
  followChoice(node);
  node.onDragOver = (event) => [...(event?.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
  node.onDragDrop = (event) => take(node, event?.dataTransfer?.files);
  node.pasteFiles = (files) => take(node, files);
  setTimeout(refreshStates, 0); // once it is in the graph
}

// Files from the clipboard go to the loader that is selected; everything else is the page's.
function onPaste(event) {
  const chosen = Object.values(app.canvas?.selected_nodes ?? {}).find(isLoader);
  if (!chosen || !take(chosen, event.clipboardData?.files)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

export function followStates() {
  document.addEventListener("paste", onPaste, true);
  window.addEventListener("focus", refreshStates);
  api.addEventListener("executed", ({ detail }) => { if (detail?.output?.states?.some((state) => state.file)) refreshStates(); });
}
