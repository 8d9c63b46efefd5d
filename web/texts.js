// What the page's own parts say, in the page's language.
import { app } from "../../scripts/app.js";

const TEXTS = {
  en: {
    none: "no state yet", segment: (n) => `segment ${n}`, picture: (s) => `${s.width}×${s.height}, ${s.frames} frames carried`,
    sound: (seconds) => `${seconds} s of sound carried`, silent: "no sound carried",
    upload: "upload a state", hint: "PNG card, safetensors or JSON file", typed: "or type a name: film/state_00001_.png [output]", failed: "State not uploaded",
    large: "it is larger than this server accepts; use the folder form or a smaller overlap", answered: (status) => `the server answered ${status}`,
  },
  zh: {
    none: "尚无状态", segment: (n) => `第 ${n} 段`, picture: (s) => `${s.width}×${s.height}，携带 ${s.frames} 帧`,
    sound: (seconds) => `携带 ${seconds} 秒声音`, silent: "未携带声音",
    upload: "上传状态", hint: "PNG 卡片、safetensors 或 JSON 文件", typed: "或输入名称：film/state_00001_.png [output]", failed: "状态上传失败",
    large: "文件超过服务器允许的大小；请使用文件夹形式或减小重叠", answered: (status) => `服务器返回 ${status}`,
  },
};

export const texts = () => TEXTS[app.extensionManager?.setting?.get?.("Comfy.Locale")] ?? TEXTS.en;
