// The card below a node's inputs: what the node is making, what it made, and what there is to say of it.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { texts } from "./texts.js";

const PREFIX = "LTX2Continuum";
// Nodes that have a card from the start; the others get one when there is something to tell.
const CARD_NODES = new Set(["MakeState", "SaveState", "LoadState", "InspectState", "Generate", "Story", "JoinSegments", "AVLatentToState", "ImagesToState"].map((n) => PREFIX + n));
// Nodes whose film plays on the card, in place of the page's own previews below the inputs.
const PLAYERS = new Set(["Generate", "Story", "SaveState"].map((n) => PREFIX + n));
const [LINE, TALLEST_TEXT, PICTURE, TALLEST_FILM, MARGIN] = [17, 12, 72, 320, 8]; // px, lines, px, px, px

// The widgets of nodes that begin with a prompt and a negative one, which gets two lines; the rest of the room is the prompt's.
const PROMPTED = `.lg-node-widgets:is(${["Generate", "ExtendVideo", "Retake", "Dub", "GenerateSound", "EncodePrompt"].map((n) => `:has([node-type=${PREFIX}${n}])`)})`;

export const CARD_STYLE = `
.continuum-card { display: flex; flex-direction: column; gap: 6px; font: 12px/${LINE}px sans-serif; color: var(--input-text, #ddd); overflow: hidden; }
.continuum-film { flex: 1 1 0; min-height: 0; display: flex; justify-content: center; background: var(--continuum-dark); border-radius: 4px; overflow: hidden; }
.continuum-film video, .continuum-film img { width: 100%; height: 100%; object-fit: contain; }
.continuum-told { flex: 0 0 auto; display: flex; gap: 8px; align-items: flex-start; overflow: hidden; }
.continuum-told img { height: ${PICTURE - 8}px; max-width: 40%; object-fit: contain; border-radius: 4px; background: var(--continuum-faint); }
.continuum-told div { flex: 1; max-height: 100%; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; }
.continuum-wrong { flex: 0 0 auto; color: var(--error-text, #e66); overflow-wrap: anywhere; user-select: text; }
.continuum-card [hidden] { display: none; }
[data-node-id]:has(.continuum-card) textarea { min-height: 84px; }
[data-node-id]:has(.continuum-Story) textarea { min-height: 176px; }
${PROMPTED} { grid-template-rows: minmax(84px, auto) min-content !important; grid-auto-rows: min-content; }
${PROMPTED} > :nth-child(2) textarea { min-height: 52px; height: 52px; }`;

export function viewUrl(file) {
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "output" });
  return api.apiURL(`/view?${query}`);
}

// What an "executed" message says of a state, in a few lines of text.
export function cardLines(state) {
  const say = texts();
  const lines = [say.segment(state.segment_index + 1)];
  if (state.width) lines.push(say.picture(state));
  lines.push(state.audio_seconds ? say.sound(state.audio_seconds.toFixed(2)) : say.silent);
  if (state.file) lines.push(state.file);
  return lines;
}

// Everything that a result has to tell: its newest state, then notes and reports.
export function resultLines(output) {
  const state = output.states?.at(-1);
  const told = [...(state ? cardLines(state) : []), ...(state?.notes ?? []), ...(output.text ?? []).flatMap((text) => String(text).split("\n"))];
  return [...new Set(told.filter(Boolean))];
}

export class Card {
  constructor(node) {
    this.node = node;
    this.height = PICTURE;
    this.aspect = 0; // of the film, height by width; 0: there is none
    this.build();
    const height = () => this.height;
    this.widget = node.addDOMWidget("continuum_card", "continuum_card", this.root, { serialize: false, getMinHeight: height, getMaxHeight: height });
    this.widget.serialize = false;
  }

  build() {
    const make = (tag, className, ...inside) => {
      const element = document.createElement(tag);
      element.className = className;
      element.append(...inside);
      return element;
    };
    this.video = Object.assign(document.createElement("video"), { controls: true, loop: true, playsInline: true, preload: "metadata", hidden: true });
    this.live = Object.assign(document.createElement("img"), { hidden: true });
    this.film = make("div", "continuum-film", this.video, this.live);
    this.film.hidden = true;
    this.picture = Object.assign(document.createElement("img"), { hidden: true });
    this.text = document.createElement("div");
    this.text.textContent = texts().none[this.node.comfyClass.slice(PREFIX.length)] ?? texts().none.State;
    this.wrong = Object.assign(make("div", "continuum-wrong"), { hidden: true });
    this.told = make("div", "continuum-told", this.picture, this.text);
    this.root = make("div", `continuum-card continuum-${this.node.comfyClass.slice(PREFIX.length)}`, this.film, this.wrong, this.told);
    this.video.addEventListener("loadedmetadata", () => this.shape(this.video.videoWidth, this.video.videoHeight));
    this.live.addEventListener("load", () => this.shape(this.live.naturalWidth, this.live.naturalHeight));
  }

  // What denoising sees, until there is a film.
  preview(blob) {
    if (this.live.src) URL.revokeObjectURL(this.live.src);
    this.live.src = URL.createObjectURL(blob);
    this.video.pause();
    this.turn("live");
  }

  show(output) {
    const lines = resultLines(output), state = output.states?.at(-1);
    if (lines.length) this.text.textContent = lines.join("\n");
    const picture = state?.thumbnail ?? (state?.picture ? viewUrl(state.picture) : null);
    // a loader shows what is in its file before it runs and after
    if (picture || this.node.comfyClass !== `${PREFIX}LoadState` || !state) this.picture.hidden = !picture;
    if (picture) this.picture.src = picture;
    const film = PLAYERS.has(this.node.comfyClass) ? output.images?.findLast((file) => file.filename.endsWith(".mp4")) : null;
    if (film) this.play(film);
    else this.fit();
  }

  // Why there is no result, in the words of the one who refused it; empty: nothing is wrong.
  fail(sentence) {
    this.wrong.textContent = sentence;
    this.wrong.hidden = !sentence;
    this.fit();
  }

  // Nothing is known of it.
  clear() {
    this.text.textContent = "";
    this.picture.hidden = true;
  }

  play(film) {
    const url = viewUrl(film);
    if (this.played !== url) this.video.src = url;
    this.played = url;
    this.turn("video");
  }

  // A film that was made before, as when the page is loaded again; what this page saw made goes before it.
  offer(film) {
    if (this.played || !this.live.hidden) return;
    this.text.textContent = [film.subfolder, film.filename].filter(Boolean).join("/");
    this.play(film);
  }

  // What denoising saw goes when nothing comes of it: the film before is back.
  stop() {
    if (this.live.hidden) return;
    if (this.played) return this.turn("video");
    this.live.hidden = this.film.hidden = true;
    this.fit();
  }

  // A part of the film, in seconds; it stops at its end.
  playPart(start, end) {
    if (!this.played) return;
    this.turn("video");
    this.video.currentTime = start;
    this.video.ontimeupdate = () => {
      if (this.video.currentTime < end && this.video.currentTime >= start - 0.5) return;
      this.video.ontimeupdate = null;
      this.video.pause();
    };
    this.video.play().catch(() => {}); // the page may want a click first
  }

  turn(which) {
    this.film.hidden = false;
    this.video.hidden = which !== "video";
    this.live.hidden = which !== "live";
    this.fit();
  }

  shape(width, height) {
    this.aspect = width ? height / width : 0;
    this.fit();
  }

  // As high as what is on it; the node grows with it, so that prompts keep their room.
  fit() {
    const width = Math.max(this.node.size[0] - 40, 120);
    const lines = (text, width) => text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / (width / 6.5))), 0);
    const told = Math.max(Math.min(lines(this.text.textContent, width - (this.picture.hidden ? 0 : PICTURE)), TALLEST_TEXT) * LINE, this.picture.hidden ? 0 : PICTURE - 8);
    const wrong = this.wrong.hidden ? 0 : lines(this.wrong.textContent, width) * LINE + 6;
    const film = this.film.hidden ? 0 : Math.min(TALLEST_FILM, Math.round(width * (this.aspect || 9 / 16)));
    const before = this.height;
    this.height = Math.max(told + wrong + (film ? film + 6 : 0), 2 * LINE) + 2 * MARGIN;
    this.told.style.height = `${told}px`;
    this.root.style.minHeight = `${this.height - 2 * MARGIN}px`;
    if (this.height !== before) grow(this.node);
  }
}

// No smaller than what is in it.
export function grow(node) {
  const needed = node.computeSize();
  if (node.size[1] < needed[1]) node.setSize([Math.max(node.size[0], needed[0]), needed[1]]);
  node.graph?.setDirtyCanvas?.(true, true);
}

const drawing = new Set(); // cards that show what denoising sees

export const isOurs = (node) => Boolean(node?.comfyClass?.startsWith(PREFIX));

// The least height of prompts, which the canvas asks for by a property of the element.
function roomForTexts(node) {
  for (const widget of node.widgets ?? []) {
    if (widget.type !== "customtext") continue;
    const height = { script: 160, prompt: 96 }[widget.name] ?? 54;
    widget.element?.style.setProperty("--comfy-widget-min-height", height);
    if (widget.name === "negative_prompt") widget.element?.style.setProperty("--comfy-widget-max-height", 90);
  }
}

function showResult(node, output) {
  if (!output) return;
  if (!node.continuumCard && !resultLines(output).length) return;
  node.continuumCard ??= new Card(node);
  node.continuumCard.show(output);
  // the film plays on the card, once
  if (PLAYERS.has(node.comfyClass)) node.images = output.images;
}

export function addCard(node) {
  if (!isOurs(node)) return;
  roomForTexts(node);
  if (PLAYERS.has(node.comfyClass)) node.hideOutputImages = true;
  if (CARD_NODES.has(node.comfyClass)) {
    node.continuumCard = new Card(node);
    node.continuumCard.fit();
  }
  const prior = node.onExecuted;
  node.onExecuted = function (output) {
    prior?.apply(this, arguments);
    showResult(this, output);
  };
}

// A node by the path that the server names it by: through subgraphs, such as 12:5.
export function nodeAt(path) {
  let graph = app.rootGraph ?? app.graph, node = null;
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(Number(id)) ?? graph?.getNodeById(id);
    graph = node?.subgraph;
  }
  return node;
}

const failed = new Set(); // cards that tell what is wrong

function tellFailure(path, sentence) {
  const node = nodeAt(path);
  if (!isOurs(node) || !sentence) return;
  if (node.continuumBoard?.says(sentence)) return;
  node.continuumCard ??= new Card(node);
  node.continuumCard.fail(sentence);
  failed.add(node.continuumCard);
}

// What the server refused when it was asked to run, [path of the node, sentence] each; it says it once for each input that was looked at.
const refusals = () => Object.entries(app.lastNodeErrors ?? {}).map(([path, { errors }]) => {
  const said = (errors ?? []).map(({ type, message, details, extra_info }) => type === "custom_validation_failed" && extra_info?.input_name
    ? (details ?? "").replace(`${extra_info.input_name} - `, "") : [message, details].filter(Boolean).join(": "));
  return [path, [...new Set(said)].join("\n")];
});

// Errors stand on the node that they are of, until something is run again.
export function followFailures() {
  const clear = () => { failed.forEach((card) => card.fail("")); failed.clear(); };
  api.addEventListener("execution_start", clear);
  for (const end of ["execution_success", "execution_error", "execution_interrupted"]) api.addEventListener(end, () => { drawing.forEach((card) => card.stop()); drawing.clear(); });
  api.addEventListener("execution_error", ({ detail }) => tellFailure(detail.node_id, detail.exception_message?.trim()));
  let timer = null;
  api.addEventListener("promptQueued", () => clearInterval(timer));
  api.addEventListener("promptQueueing", () => { // nothing tells that it was refused
    const before = app.lastNodeErrors, since = Date.now();
    clear(); // now, since a run may have failed before the page has its answer
    clearInterval(timer);
    timer = setInterval(() => {
      if (app.lastNodeErrors !== before || Date.now() - since > 10000) clearInterval(timer);
      if (app.lastNodeErrors !== before) refusals().forEach((one) => tellFailure(...one));
    }, 200);
  });
}

// Asked before the page itself, so that a picture of a film on its way does not stand in the film's place.
export function takePreviews() {
  api.addEventListener("b_preview_with_metadata", (event) => {
    const node = nodeAt(event.detail?.displayNodeId ?? event.detail?.nodeId ?? "");
    if (!node?.continuumCard || !PLAYERS.has(node.comfyClass)) return;
    node.continuumCard.preview(event.detail.blob);
    drawing.add(node.continuumCard);
    event.stopImmediatePropagation();
  });
}

// Results that the page remembers, as when a workflow is turned to again.
export function restoreResults(outputs) {
  for (const node of (app.graph?._nodes ?? []).filter(isOurs)) {
    const graph = node.graph, key = graph?.isRootGraph === false ? `${graph.id}:${node.id}` : String(node.id);
    showResult(node, outputs?.[key]);
  }
}
