// The Story node's segments as a row that can be edited. All it changes is the script's text, which the server takes
// apart by the engine's own reader, so that comments and everything else in it stay.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { grow } from "./card.js";
import { texts } from "./texts.js";

const STORY_NODE = "LTX2ContinuumStory";
const ROUTES = "/ltx2_continuum";
const [HEIGHT, WIDTH, POLL] = [352, 560, 2000]; // px, px, ms
const NUMBERS = { seconds: { step: 0.5, min: 0.1 }, seed: { step: 1, min: 0 }, strength: { step: 0.05, min: 0, max: 1 }, take: { step: 1, min: 1 } };

// Shades of the text's colour, so that they suit light and dark palettes
export const BOARD_STYLE = `
.continuum-board, .continuum-card { --continuum-faint: color-mix(in srgb, var(--input-text, #ddd) 9%, transparent); --continuum-dark: color-mix(in srgb, var(--input-text, #ddd) 16%, transparent); }
.continuum-board ::placeholder { color: inherit; opacity: 0.55; }
.continuum-board input[type=number] { appearance: textfield; }
.continuum-board ::-webkit-inner-spin-button { display: none; }
.continuum-board { display: flex; flex-direction: column; gap: 4px; font: 11px/15px sans-serif; color: var(--input-text, #ddd); overflow: hidden; min-height: ${HEIGHT - 16}px; }
.continuum-row { flex: 1; min-height: 0; display: flex; gap: 6px; overflow-x: auto; overflow-y: hidden; }
.continuum-segment { flex: 1 0 166px; max-width: 320px; box-sizing: border-box; display: flex; flex-direction: column; gap: 3px; padding: 4px; border: 1px solid var(--border-color, #555); border-radius: 4px; background: var(--comfy-input-bg, #222); overflow: hidden; }
.continuum-segment.running { border-color: #4a9; }
.continuum-segment.changed .look img { opacity: 0.35; }
.continuum-board.stale .continuum-row { opacity: 0.45; }
.continuum-segment .head { display: flex; justify-content: space-between; font-weight: bold; }
.continuum-segment .look { position: relative; flex: 0 0 74px; background: var(--continuum-dark); border-radius: 3px; overflow: hidden; cursor: pointer; }
.continuum-segment .look img { width: 100%; height: 100%; object-fit: contain; }
[data-node-id] .continuum-segment textarea, .continuum-segment textarea { flex: 1; min-height: 52px; resize: none; }
.continuum-segment textarea, .continuum-segment input { font: inherit; color: inherit; background: var(--continuum-faint); border: 1px solid var(--border-color, #555); border-radius: 3px; padding: 1px 3px; }
.continuum-segment .fields { display: grid; grid-template-columns: auto 1fr auto 1fr; gap: 2px 4px; align-items: center; }
.continuum-segment .fields input { min-width: 0; width: 100%; box-sizing: border-box; }
.continuum-segment .images { flex: 0 0 auto; max-height: 64px; overflow: auto; display: flex; flex-direction: column; gap: 2px; }
.continuum-segment .images div { display: grid; grid-template-columns: 1fr 38px 42px; gap: 2px; }
.continuum-segment .images input { min-width: 0; width: 100%; box-sizing: border-box; }
.continuum-segment .seam { flex: 0 0 auto; max-height: 30px; overflow: auto; opacity: 0.75; }
.continuum-segment .buttons { display: flex; gap: 2px; }
.continuum-segment button, .continuum-board > .say button { flex: 1; padding: 1px 3px; font: inherit; color: inherit; background: var(--continuum-faint); border: 1px solid var(--border-color, #555); border-radius: 3px; cursor: pointer; white-space: nowrap; }
.continuum-segment button.armed { background: #2a7; border-color: #2a7; color: #fff; }
.continuum-segment button:disabled { opacity: 0.4; cursor: default; }
.continuum-board > .say { flex: 0 0 auto; min-height: 15px; max-height: 45px; overflow: auto; }
.continuum-board > .say.wrong { color: var(--error-text, #e66); }`;

const make = (tag, given = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), given);
  element.append(...inside.filter(Boolean));
  return element;
};
// A picture of a script with its settings, which may be a name alone.
const asImage = (value) => (value && typeof value === "object" ? value : { file: value });
const asWritten = ({ file, ...settings }) => (Object.keys(settings).length ? { file, ...settings } : file);
// The first place where no picture stands: the start, unless the segment goes on from another, the end, the middle.
function freePlace(images, segment, goesOn) {
  const taken = new Set(images.map((one) => String(one.frame ?? 0))), middle = Math.floor(segment.frames / 2);
  const places = [...(goesOn ? [] : [0]), "last", ...Array.from({ length: middle }, (_, i) => middle - i)];
  const frame = places.find((one) => !taken.has(String(one)));
  return frame ? { frame } : {};
}
const widgetOf = (node, name) => node.widgets?.find((one) => one.name === name);
const setWidget = (node, name, value) => {
  const widget = widgetOf(node, name);
  widget.value = value;
  widget.callback?.(value);
};

async function ask(body) {
  const answer = await api.fetchApi(`${ROUTES}/storyboard`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return answer.ok ? answer.json() : { error: texts().answered(answer.status) };
}

export class Storyboard {
  constructor(node) {
    this.node = node;
    this.pictures = new Map(); // state file → its picture
    this.armed = null; // the button that was pressed once and says what a second press does
    this.row = make("div", { className: "continuum-row" });
    this.row.dataset.captureWheel = "true"; // so that Nodes 2.0 leaves the wheel to it while something in it has the focus
    this.say = make("div", { className: "say" });
    this.root = make("div", { className: "continuum-board" }, this.row, this.say);
    this.row.addEventListener("wheel", (event) => this.scroll(event), { passive: false });
    const height = () => HEIGHT;
    this.widget = node.addDOMWidget("continuum_storyboard", "continuum_storyboard", this.root, { serialize: false, getMinHeight: height, getMaxHeight: height });
    this.widget.serialize = false;
    this.follow("script");
    this.follow("folder");
  }

  // Typed changes are seen a moment after the last key.
  follow(name) {
    const widget = widgetOf(this.node, name), prior = widget.callback;
    const later = () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.refresh(), 400); };
    widget.callback = function () {
      later();
      return prior?.apply(this, arguments);
    };
    widget.element?.addEventListener("input", later);
  }

  async refresh(edit = null) {
    const script = widgetOf(this.node, "script").value, folder = widgetOf(this.node, "folder").value;
    const asked = (this.asked = {});
    const board = await ask({ script, folder, edit });
    if (this.asked !== asked || script !== widgetOf(this.node, "script").value) return; // overtaken
    if (board.error) {
      this.tell(board.error, true);
      if (!edit) this.root.classList.add("stale"); // the text holds other segments than the row
      if (edit && this.board) this.render(); // as the text has it
      return;
    }
    this.board = board;
    this.root.classList.remove("stale");
    if (edit) setWidget(this.node, "script", board.script);
    const typing = this.row.contains(document.activeElement) && !edit;
    if (typing) this.renderStates();
    else this.render();
    this.tell(texts().whole(board.segments.length, board.seconds));
    if (board.film) this.node.continuumCard?.offer(board.film);
  }

  // A row that is wider than the node is scrolled by the wheel, where no longer text below the pointer is.
  scroll(event) {
    const { row } = this, before = row.scrollLeft;
    if (event.ctrlKey || event.target.scrollHeight > event.target.clientHeight + 2 && event.target.tagName === "TEXTAREA") return;
    row.scrollLeft += event.deltaX || event.deltaY;
    if (row.scrollLeft !== before) event.preventDefault(), event.stopPropagation();
  }

  says(sentence) { return this.say.textContent === sentence; }

  tell(text, wrong = false) {
    this.say.textContent = text;
    this.say.classList.toggle("wrong", wrong);
  }

  render() {
    this.disarm();
    this.cards = this.board.segments.map((segment, index) => this.card(segment, index));
    this.row.replaceChildren(...this.cards);
    this.renderStates();
  }

  // What changes while a story runs.
  renderStates() {
    if (this.cards?.length !== this.board.segments.length) return;
    this.board.segments.forEach((segment, index) => {
      const card = this.cards[index];
      card.classList.toggle("running", segment.state === "running");
      card.classList.toggle("changed", segment.state === "changed");
      card.querySelector(".state").textContent = texts().states[segment.state] ?? segment.state;
      card.querySelector(".seam").textContent = segment.seam ?? "";
      card.querySelector(".seam").title = segment.seam ? `${texts().seam}: ${segment.seam}` : texts().seam;
      this.showPicture(card.querySelector("img"), segment.file);
    });
  }

  async showPicture(image, file) {
    if (image.dataset.file === (file ?? "")) return;
    image.dataset.file = file ?? "";
    if (file && !this.pictures.has(file)) {
      const answer = await api.fetchApi(`${ROUTES}/state?${new URLSearchParams({ file })}`);
      this.pictures.set(file, (await answer.json()).thumbnail ?? null);
    }
    if (image.dataset.file !== (file ?? "")) return; // another meanwhile
    const picture = file ? this.pictures.get(file) : null;
    image.hidden = !picture;
    if (picture) image.src = picture;
  }

  card(segment, index) {
    const say = texts(), values = segment.values;
    const head = make("div", { className: "head" }, make("span", { textContent: `${index + 1}${segment.cut && index ? ` ✂` : ""}` }), make("span", { className: "state" }));
    const look = make("div", { className: "look", title: say.play }, make("img", { hidden: true }));
    look.addEventListener("click", () => this.node.continuumCard?.playPart(segment.start, segment.end));
    const prompt = make("textarea", { value: segment.prompt, spellcheck: false, title: say.prompt });
    prompt.addEventListener("change", () => this.set(index, { prompt: prompt.value }));
    const fields = make("div", { className: "fields" });
    for (const name of Object.keys(NUMBERS)) fields.append(...this.number(index, name, segment, values));
    const cut = make("input", { type: "checkbox", checked: segment.cut, title: say.fields.cut });
    cut.addEventListener("change", () => this.set(index, { cut: cut.checked || null }));
    fields.append(make("label", { textContent: say.fields.cut }), cut);
    const card = make("div", { className: "continuum-segment" }, head, look, prompt, fields, this.images(segment, index), make("div", { className: "seam" }), this.buttons(segment, index));
    card.dataset.segment = index + 1;
    return card;
  }

  // One row a picture, and an empty one for another: its file, the frame that it stands at, and how firmly it is kept. A file that is emptied is removed.
  images(segment, index) {
    const say = texts().images, all = [segment.values.image ?? []].flat().map(asImage);
    const keep = (at, one) => {
      const left = Object.assign([...all], { [at]: one }).filter((image) => image.file).map(asWritten);
      this.set(index, { image: left.length > 1 ? left : left[0] ?? null });
    };
    const field = (one, at, name, given) => {
      const input = make("input", { className: `image-${name}`, value: one[name] ?? "", title: say[name], disabled: !one.file && name !== "file", ...given });
      input.addEventListener("change", () => {
        const text = input.value.trim(), { [name]: before, ...others } = one;
        const fresh = name === "file" && !before ? freePlace(all, segment, index > 0 && !segment.cut) : {};
        keep(at, text ? { ...one, [name]: name !== "file" && !isNaN(text) ? Number(text) : text, ...fresh } : others);
      });
      return input;
    };
    const rows = [...all, {}].map((one, at) => make("div", {}, field(one, at, "file", { placeholder: say.none }), field(one, at, "frame", { placeholder: "0" }),
      field(one, at, "strength", { type: "number", step: 0.05, min: 0, max: 1, placeholder: "1" })));
    return make("div", { className: "images" }, ...rows);
  }

  number(index, name, segment, values) {
    const say = texts(), shown = { seconds: segment.seconds, seed: segment.seed, strength: index && !segment.cut ? segment.strength ?? "" : "", take: 1 }[name];
    const field = make("input", { type: "number", className: name, ...NUMBERS[name], value: values[name] ?? "", placeholder: shown ?? "", title: say.fields[name] });
    field.addEventListener("change", () => this.set(index, { [name]: field.value === "" ? null : Number(field.value) }));
    return [make("label", { textContent: say.fields[name] }), field];
  }

  buttons(segment, index) {
    const say = texts(), last = this.board.segments.length - 1;
    const button = (className, textContent, title, act) => {
      const one = make("button", { className, textContent, title });
      one.addEventListener("click", () => act(one));
      return one;
    };
    const left = button("left", "◀", say.earlier, () => this.refresh({ op: "move", index, to: index - 1 }));
    const right = button("right", "▶", say.later, () => this.refresh({ op: "move", index, to: index + 1 }));
    [left.disabled, right.disabled] = [index === 0, index === last];
    const add = button("add", "+", say.add, () => this.refresh({ op: "add", index: index + 1, values: { prompt: say.new_prompt } }));
    const remove = button("remove", "✕", say.remove, () => this.refresh({ op: "remove", index }));
    remove.disabled = last === 0;
    const redo = button("redo", say.redo, say.redo_hint, (one) => this.again(one, segment, index, `${index + 1}`, say.redo_note));
    const take = button("new-take", say.new_take, say.new_take_hint, (one) => this.again(one, segment, index, `${index + 1}:new`, say.take_note));
    const fit = button("bridge", say.bridge, say.bridge_hint, (one) => this.again(one, segment, index, `${index + 1}:new`, say.bridge_note, true));
    redo.disabled = take.disabled = !segment.file;
    fit.disabled = !segment.file || !segment.later;
    return make("div", {}, make("div", { className: "buttons" }, redo, take, fit), make("div", { className: "buttons" }, left, right, add, remove));
  }

  disarm() {
    this.armed?.classList.remove("armed");
    this.armed = null;
  }

  set(index, values) { return this.refresh({ op: "set", index, values }); }

  // Says what else it makes anew, and does it when it is pressed again.
  async again(button, segment, index, wish, note, bridge = false) {
    if (this.armed !== button) {
      this.disarm();
      this.armed = button;
      button.classList.add("armed");
      this.tell(note(index + 1, segment.later));
      return;
    }
    this.disarm();
    const wished = Object.entries({ redo: wish, bridge }).map(([name, value]) => [name, value, widgetOf(this.node, name).value]);
    for (const [name, value] of wished) setWidget(this.node, name, value);
    try {
      await app.queuePrompt(0, 1);
    } finally {
      for (const [name, , before] of wished) setWidget(this.node, name, before); // it was for this run
    }
  }
}

const boards = new Set();

export function addStoryboard(node) {
  if (node.comfyClass !== STORY_NODE || !widgetOf(node, "script")) return;
  const board = new Storyboard(node), removed = node.onRemoved, configured = node.onConfigure;
  boards.add(board);
  node.continuumBoard = board;
  node.onRemoved = function () {
    boards.delete(board);
    return removed?.apply(this, arguments);
  };
  node.onConfigure = function () {
    configured?.apply(this, arguments);
    setTimeout(() => board.refresh(), 0);
  };
  if (node.size[0] < WIDTH) node.setSize([WIDTH, node.size[1]]);
  setTimeout(() => { grow(node); board.refresh(); }, 0);
}

// While something runs, how far it is; once more when it ends.
export function followStories() {
  let timer = null;
  const refresh = () => boards.forEach((board) => board.refresh());
  const stop = () => { clearInterval(timer); timer = null; refresh(); };
  api.addEventListener("execution_start", () => { if (boards.size && !timer) timer = setInterval(refresh, POLL); });
  for (const end of ["execution_success", "execution_error", "execution_interrupted"]) api.addEventListener(end, () => { if (timer || boards.size) stop(); });
}
