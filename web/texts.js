// What the page's own parts say, in the page's language.
import { app } from "../../scripts/app.js";

const TEXTS = {
  en: {
    none: { State: "no state yet", Generate: "the segment plays here once it is made", Story: "the film plays here once it is made", JoinSegments: "how the seams join is told here" }, segment: (n) => `segment ${n}`, picture: (s) => `${s.width}×${s.height}, ${s.frames} frames carried`,
    sound: (seconds) => `${seconds} s of sound carried`, silent: "no sound carried",
    upload: "upload a state", hint: "PNG card, safetensors or JSON file", typed: "or type a name: film/state_00001_.png [output]", failed: "State not uploaded",
    large: "it is larger than this server accepts; use the folder form or a smaller overlap", answered: (status) => `the server answered ${status}`,
    whole: (count, seconds) => `${count} segment${count === 1 ? "" : "s"}, ${seconds.toFixed(2)} s`, play: "play this part of the film", prompt: "what is seen and heard",
    states: { waiting: "waiting", running: "running…", stopped: "stopped", made: "made", kept: "kept", changed: "to remake" }, seam: "how it joins the segment before", images: { none: "add a picture", file: "a picture in the input folder; empty: none", frame: "the frame that it stands at, or last", strength: "how firmly it is kept, 0 to 1" },
    fields: { seconds: "seconds", seed: "seed", strength: "strength", take: "take", cut: "cut" },
    earlier: "move earlier", later: "move later", add: "add a segment behind this one", remove: "remove this segment", new_prompt: "What comes next.",
    redo: "redo", redo_hint: "make this segment again with its seed", new_take: "new take", new_take_hint: "make this segment with a fresh seed",
    redo_note: (n) => `Segment ${n} is made again with its seed; the ones behind it stay if it comes out the same. Press again to run.`,
    take_note: (n, later) => later ? `Segment ${n} gets a fresh seed, and ${later === 1 ? `segment ${n + 1}, which goes on from it, is` : `segments ${n + 1} to ${n + later}, which go on from it, are`} made anew. Press again to run.`
      : `Segment ${n} gets a fresh seed; all others stay. Press again to run.`,
    bridge: "fit", bridge_hint: "make this segment with a fresh seed to fit the ones on both sides, which stay",
    bridge_note: (n, later) => `Segment ${n} gets a fresh seed and leads into segment ${n + 1}; ${later === 1 ? "that stays" : `segments ${n + 1} to ${n + later} stay`} as made. Press again to run.`,
  },
  zh: {
    none: { State: "尚无状态", Generate: "片段生成后在此播放", Story: "影片生成后在此播放", JoinSegments: "接缝情况将显示在此" }, segment: (n) => `第 ${n} 段`, picture: (s) => `${s.width}×${s.height}，携带 ${s.frames} 帧`,
    sound: (seconds) => `携带 ${seconds} 秒声音`, silent: "未携带声音",
    upload: "上传状态", hint: "PNG 卡片、safetensors 或 JSON 文件", typed: "或输入名称：film/state_00001_.png [output]", failed: "状态上传失败",
    large: "文件超过服务器允许的大小；请使用文件夹形式或减小重叠", answered: (status) => `服务器返回 ${status}`,
    whole: (count, seconds) => `${count} 段，${seconds.toFixed(2)} 秒`, play: "播放影片的这一部分", prompt: "画面与声音",
    states: { waiting: "等待", running: "生成中…", stopped: "已停止", made: "已生成", kept: "已保留", changed: "待重新生成" }, seam: "与前一段的接缝", images: { none: "添加图片", file: "输入文件夹中的图片；留空则移除", frame: "图片所在的帧，或 last", strength: "保留的强度，0 到 1" },
    fields: { seconds: "秒", seed: "种子", strength: "强度", take: "版本", cut: "切换" },
    earlier: "前移", later: "后移", add: "在其后添加一段", remove: "删除此段", new_prompt: "接下来的内容。",
    redo: "重做", redo_hint: "用相同种子重新生成此段", new_take: "新版本", new_take_hint: "用新种子生成此段",
    redo_note: (n) => `第 ${n} 段将用其种子重新生成；若结果相同，后面的段保持不变。再按一次以运行。`,
    take_note: (n, later) => later ? `第 ${n} 段使用新种子，其后续接的 ${later} 段将重新生成。再按一次以运行。` : `第 ${n} 段使用新种子，其余保持不变。再按一次以运行。`,
    bridge: "衔接", bridge_hint: "用新种子重新生成此段，使其与前后两段衔接，前后段保持不变",
    bridge_note: (n, later) => `第 ${n} 段使用新种子并衔接到第 ${n + 1} 段，其后 ${later} 段保持不变。再按一次以运行。`,
  },
};

export const texts = () => TEXTS[app.extensionManager?.setting?.get?.("Comfy.Locale")] ?? TEXTS.en;
