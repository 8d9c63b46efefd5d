// Optional comfort for the page: socket colours, a card on state nodes, upload of any state file. The nodes work without it.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const COLOURS = {
  LTX2_CONTINUATION_STATE: "#c98a3a",
  LTX2_MODEL: "#8f7ad6",
  LTX2_TEXT_ENCODER: "#d6b84a",
  LTX2_TEXT_CONTEXT: "#e0a040",
  LTX2_VIDEO_VAE: "#d66a6a",
  LTX2_AUDIO_VAE: "#d66aa8",
  LTX2_UPSAMPLER: "#5aa9a0",
  LTX2_LATENT: "#d67ad0",
  LTX2_CONDITIONS: "#7ab86a",
  LTX2_PRESET: "#6a9ad6",
  LTX2_GUIDANCE: "#6ac0d6",
  LTX2_SEGMENT: "#b0b0b0",
};

// Nodes that show a card of the state they made, saved or loaded.
const CARD_NODES = new Set(["MakeState", "SaveState", "LoadState", "InspectState", "Generate", "Story", "AVLatentToState"].map((n) => `LTX2Continuum${n}`));
const UPLOAD_NODE = "LTX2ContinuumLoadState";
const UPLOAD_TYPES = ".png,.safetensors,.json";

const TEXTS = {
  en: {
    none: "no state yet", segment: (n) => `segment ${n}`, picture: (s) => `${s.width}×${s.height}, ${s.frames} frames carried`,
    sound: (seconds) => `${seconds} s of sound carried`, silent: "no sound carried",
    upload: "upload a state", hint: "PNG card, safetensors or JSON file", failed: "State not uploaded",
    large: "it is larger than this server accepts; use the folder form or a smaller overlap", answered: (status) => `the server answered ${status}`,
  },
  zh: {
    none: "尚无状态", segment: (n) => `第 ${n} 段`, picture: (s) => `${s.width}×${s.height}，携带 ${s.frames} 帧`,
    sound: (seconds) => `携带 ${seconds} 秒声音`, silent: "未携带声音",
    upload: "上传状态", hint: "PNG 卡片、safetensors 或 JSON 文件", failed: "状态上传失败",
    large: "文件超过服务器允许的大小；请使用文件夹形式或减小重叠", answered: (status) => `服务器返回 ${status}`,
  },
};
const texts = () => TEXTS[app.extensionManager?.setting?.get?.("Comfy.Locale")] ?? TEXTS.en;

// The page resets every type's colour to "" when it loads a palette: keep ours unless the palette names one.
function keepColour(map, type, colour) {
  if (!map) return;
  let value = colour;
  Object.defineProperty(map, type, { enumerable: true, configurable: true, get: () => value, set: (wanted) => { value = wanted || colour; } });
}

function addColours() {
  for (const [type, colour] of Object.entries(COLOURS)) {
    keepColour(app.canvas?.default_connection_color_byType, type, colour);
    keepColour(app.canvas?.constructor?.link_type_colors, type, colour);
  }
  const sheet = document.createElement("style");
  const rules = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`).join(" ");
  sheet.textContent = `:root { ${rules} }
.continuum-card { display: flex; gap: 8px; align-items: center; font: 12px sans-serif; color: var(--input-text, #ddd); overflow: hidden; }
.continuum-card img { height: 64px; max-width: 50%; object-fit: contain; border-radius: 4px; background: #0004; }
.continuum-card div { line-height: 1.4; white-space: pre-line; overflow: hidden; text-overflow: ellipsis; }
.continuum-upload { width: 100%; height: 26px; padding: 0; font-size: 12px; line-height: 1; border-width: 1px; cursor: pointer; }`;
  document.head.append(sheet);
}

function viewUrl(file) {
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "output" });
  return api.apiURL(`/view?${query}`);
}

// What an "executed" message says of a state, in a few lines of text.
export function cardLines(state) {
  const say = texts();
  const lines = [say.segment(state.segment_index)];
  if (state.width) lines.push(say.picture(state));
  lines.push(state.audio_seconds ? say.sound(state.audio_seconds.toFixed(2)) : say.silent);
  if (state.file) lines.push(state.file);
  return lines.join("\n");
}

function addCard(node) {
  const card = document.createElement("div");
  card.className = "continuum-card";
  const picture = document.createElement("img");
  picture.hidden = true;
  const text = document.createElement("div");
  text.textContent = texts().none;
  card.append(picture, text);
  const widget = node.addDOMWidget("continuum_card", "continuum_card", card, { serialize: false, getMinHeight: () => 72, getMaxHeight: () => 72 });
  widget.serialize = false;
  const prior = node.onExecuted;
  node.onExecuted = function (output) {
    prior?.apply(this, arguments);
    const state = output?.states?.at(-1);
    if (!state) return;
    text.textContent = cardLines(state);
    picture.hidden = !state.picture;
    if (state.picture) picture.src = viewUrl(state.picture);
  };
}

async function upload(file, widget, node) {
  const body = new FormData();
  body.append("image", file, file.name);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) {
    const limit = answer.status === 413 ? texts().large : texts().answered(answer.status);
    app.extensionManager?.toast?.add({ severity: "error", summary: texts().failed, detail: `${file.name}: ${limit}`, life: 8000 });
    return;
  }
  const saved = await answer.json();
  const name = saved.subfolder ? `${saved.subfolder}/${saved.name}` : saved.name;
  const values = widget.options?.values;
  if (Array.isArray(values) && !values.includes(name)) values.push(name);
  widget.value = name;
  widget.callback?.(name);
  node.graph?.setDirtyCanvas?.(true, true);
}

function addUpload(node) {
  const widget = node.widgets?.find((one) => one.name === "file");
  if (!widget) return;
  const chooser = document.createElement("input");
  Object.assign(chooser, { type: "file", accept: UPLOAD_TYPES, hidden: true });
  chooser.addEventListener("change", () => { if (chooser.files[0]) upload(chooser.files[0], widget, node); chooser.value = ""; });
  const button = document.createElement("button");
  button.className = "continuum-upload comfy-btn";
  button.textContent = texts().upload;
  button.title = texts().hint;
  button.addEventListener("click", () => chooser.click());
  const box = document.createElement("div");
  box.append(button, chooser);
  const own = node.addDOMWidget("continuum_upload", "continuum_upload", box, { serialize: false, getMinHeight: () => 28, getMaxHeight: () => 28 });
  own.serialize = false;
}

app.registerExtension({
  name: "ltx2-continuum",
  async setup() { addColours(); },
  // The page's own upload button takes pictures alone and previews every file as one: ours stands in for it.
  async beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== UPLOAD_NODE) return;
    const inputs = nodeData.input?.required ?? {};
    delete inputs.upload;
    if (inputs.file?.[1]) delete inputs.file[1].image_upload;
  },
  async nodeCreated(node) {
    if (node.comfyClass === UPLOAD_NODE) addUpload(node);
    if (CARD_NODES.has(node.comfyClass)) addCard(node);
  },
});
