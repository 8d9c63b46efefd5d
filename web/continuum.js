// Optional comfort for the page: socket colours, a card on state nodes, upload of any state file. The nodes work without it.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addCard, CARD_STYLE, restoreResults, takePreviews } from "./card.js";
import { texts } from "./texts.js";

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

const UPLOAD_NODE = "LTX2ContinuumLoadState";
const UPLOAD_TYPES = ".png,.safetensors,.json";

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
.continuum-upload { width: 100%; height: 26px; padding: 0; font-size: 12px; line-height: 1; border-width: 1px; cursor: pointer; }${CARD_STYLE}`;
  document.head.append(sheet);
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

takePreviews();
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
    addCard(node);
  },
  onNodeOutputsUpdated(outputs) { restoreResults(outputs); },
});
