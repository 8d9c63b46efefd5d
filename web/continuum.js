// Optional comfort for the page: socket colours, what nodes made, states from files. The nodes work without it.
import { app } from "../../scripts/app.js";
import { addCard, CARD_STYLE, followFailures, restoreResults, takePreviews } from "./card.js";
import { addLoader, followStates, LOAD_STYLE, ownUpload } from "./load_state.js";
import { addStoryboard, BOARD_STYLE, followStories } from "./storyboard.js";

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
  sheet.textContent = `:root { ${rules} }${CARD_STYLE}${LOAD_STYLE}${BOARD_STYLE}`;
  document.head.append(sheet);
}

takePreviews();
app.registerExtension({
  name: "ltx2-continuum",
  async setup() {
    addColours();
    followStates();
    followStories();
    followFailures();
  },
  async beforeRegisterNodeDef(nodeType, nodeData) { ownUpload(nodeData); },
  async nodeCreated(node) {
    addLoader(node);
    addStoryboard(node);
    addCard(node);
  },
  onNodeOutputsUpdated(outputs) { restoreResults(outputs); },
});
