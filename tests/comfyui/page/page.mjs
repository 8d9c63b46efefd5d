/* The pack on the real page, headless.  node page.mjs JS BROWSER: one browser for all visits, each a line of JSON on
   stdin that is answered by a line on stdout. JS: a folder with playwright-core; BROWSER: Chromium's program.

   A visit: {url, vue: bool, language?, shots?: folder to keep screenshots in, thumbnails?: bool, workflows: [{name, path, queue?: {type: {widget: value}}, continued?: bool}], uploads?: [paths], search?: [words], board?: {script, folder}, boardWidth?: pixels}
   continued: the bridge's nodes are put into the stock graph, as a person would; "start" has its API form with what loads bypassed.
   Every workflow is opened on its own; the answer has its unknown nodes and its API form. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";

const [, , js, program] = process.argv;
const { chromium } = createRequire(join(js, "x.js"))("playwright-core");
// a fresh profile asks for files that are not there yet, nothing outside this machine may be reached, and the page is early with itself
const USUAL = /graph accessed before initialization|net::ERR_|\/user\.css|userdata|Content Security Policy|Failed to load resource: the server responded with a status of 404|status of 400 \(Bad Request\) @ \S+\/prompt|PromptExecutionError/; // the last two: a run that is refused, which its report tells

const profile = mkdtempSync(join(tmpdir(), "continuum_page_"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: program, headless: true,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"] });
try {
  for await (const line of createInterface({ input: process.stdin }))
    process.stdout.write(JSON.stringify(await visit(JSON.parse(line))) + "\n");
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}

async function visit(plan) {
  const report = { consoleErrors: [], pageErrors: [], outside: [], workflows: {} };
  const page = await context.newPage();
  try {
    await listen(page, plan, report);
    await open(page, plan, report);
    for (const one of plan.workflows) report.workflows[one.name] = await workflow(page, plan, one);
    if (plan.uploads) report.uploads = await upload(page, plan);
    if (plan.story) report.story = await storyboard(page, plan);
    if (plan.board) await pictureOfBoard(page, plan);
  } catch (error) {
    report.failure = String(error.stack ?? error);
  } finally {
    await page.close();
  }
  return report;
}

async function listen(page, plan, report) {
  await page.route((u) => !u.href.startsWith(plan.url) && !/^(data|blob):/.test(u.protocol), (route) => {
    report.outside.push(route.request().url());
    return route.abort();
  });
  page.on("console", (m) => {
    const text = `${m.text()} @ ${m.location().url}`;
    if (m.type() === "error" && !USUAL.test(text)) report.consoleErrors.push(text.slice(0, 500));
  });
  page.on("pageerror", (e) => report.pageErrors.push(String(e.stack ?? e).slice(0, 500)));
}

// as for somebody who comes for the first time, but for what the browser keeps of the page's own files
async function open(page, plan, report) {
  const settings = { "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": Boolean(plan.vue),
    "LiteGraph.Canvas.MinFontSizeForLOD": 0, // widgets are there however far away the view is
    "Comfy.Locale": plan.language ?? "en", "Comfy.Workflow.ShowMissingModelsWarning": false };
  for (const [key, value] of Object.entries(settings)) {
    const answer = await fetch(`${plan.url}/api/settings/${encodeURIComponent(key)}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
    if (!answer.ok) throw new Error(`setting ${key}: ${answer.status}`);
  }
  const session = await context.newCDPSession(page);
  await session.send("Storage.clearDataForOrigin", { origin: plan.url,
    storageTypes: "cookies,local_storage,indexeddb,service_workers,cache_storage" });
  await page.setViewportSize(plan.thumbnails ? { width: 3200, height: 1800 } : { width: 1760, height: 990 });
  await page.goto(plan.url, { waitUntil: "domcontentloaded", timeout: 90000 });
  await page.waitForFunction(() => window.LiteGraph && Object.keys(window.LiteGraph.registered_node_types).some((n) => n.startsWith("LTX2Continuum"))
    && window.app?.extensionManager && window.app.canvas?.graph, null, { timeout: 90000, polling: 500 });
  await page.waitForTimeout(1500);
  report.frontend = await page.evaluate(() => window.__COMFYUI_FRONTEND_VERSION__ ?? null);
  report.colours = await page.evaluate(() => ({
    canvas: window.app.canvas.default_connection_color_byType?.LTX2_CONTINUATION_STATE ?? null,
    links: window.app.canvas.constructor.link_type_colors?.LTX2_CONTINUATION_STATE ?? null,
    style: getComputedStyle(document.documentElement).getPropertyValue("--color-datatype-LTX2_CONTINUATION_STATE").trim(),
  }));
  report.search = Object.fromEntries(await page.evaluate((words) => {
    const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
    const service = $pinia._s.get("nodeDef").nodeSearchService; // what a double click on the canvas asks
    return words.map((word) => [word, service.searchNode(word).map((n) => n.name)]);
  }, plan.search ?? []));
  report.title = await page.evaluate(() => window.LiteGraph.registered_node_types.LTX2ContinuumGenerate.title);
}

async function workflow(page, plan, one) {
  const graph = JSON.parse(readFileSync(one.path, "utf8"));
  await page.evaluate((g) => window.app.loadGraphData(g, true, true), graph);
  await page.waitForTimeout(600);
  // dialogs about models that this machine lacks
  for (let i = 0; i < 2 && await page.locator(".p-dialog-mask, [role=dialog]").count(); i++) {
    await page.keyboard.press("Escape");
    await page.waitForTimeout(250);
  }
  const added = one.continued ? await page.evaluate(addContinuation) : [];
  const found = await page.evaluate(async () => ({
    unknown: window.app.graph._nodes.filter((n) => !window.LiteGraph.registered_node_types[n.type]).map((n) => n.type),
    nodes: window.app.graph._nodes.length,
    api: (await window.app.graphToPrompt()).output,
  }));
  await show(page, plan, one.name, plan.thumbnails ? 12 : null);
  found.places = await page.evaluate(places, plan.vue);
  if (one.continued) found.added = added, found.start = await page.evaluate(bypassed);
  if (one.queue) {
    found.run = await page.evaluate(run, one.queue);
    await page.waitForTimeout(1200);
    found.cards = await page.evaluate(() => [...document.querySelectorAll(".continuum-card")].map((card) => ({
      text: card.innerText, picture: card.querySelector(".continuum-told img")?.naturalWidth ?? 0, film: card.querySelector("video")?.videoWidth ?? 0,
      clipped: [card, ...card.querySelectorAll("div")].some((box) => box.clientHeight && getComputedStyle(box).overflowY === "hidden" && box.scrollHeight > box.clientHeight + 2) })));
    await show(page, plan, `${one.name}-done`);
    found.done = await page.evaluate(places, plan.vue);
  }
  return found;
}

// where nodes and frames are, [left, top, width, height], and how high texts, in the graph's pixels; with Nodes 2.0 as the page draws them
function places(vue) {
  const { canvas, graph } = window.app, { scale, offset } = canvas.ds, area = canvas.canvas.getBoundingClientRect();
  const nodes = graph._nodes.map((n) => {
    const drawn = vue && document.querySelector(`[data-node-id="${n.id}"]`)?.getBoundingClientRect();
    const box = drawn ? [(drawn.x - area.x) / scale - offset[0], (drawn.y - area.y) / scale - offset[1], drawn.width / scale, drawn.height / scale]
      : [...(n.boundingRect ?? n.getBounding())];
    return { title: n.title, box };
  });
  const texts = [...document.querySelectorAll("textarea")].map((t) => ({ text: t.value, height: t.getBoundingClientRect().height / scale }));
  return { nodes, texts: texts.filter((t) => t.height), frames: graph._groups.map((g) => ({ title: g.title, box: [...(g._bounding ?? g.boundingRect)] })) };
}

async function upload(page, plan) {
  const found = [];
  await page.evaluate(() => {
    window.app.graph.clear();
    const node = window.LiteGraph.createNode("LTX2ContinuumLoadState");
    node.pos = [100, 100];
    window.app.graph.add(node);
  });
  await page.waitForTimeout(800);
  for (const path of plan.uploads) {
    await page.locator(".continuum-upload ~ input[type=file]").setInputFiles(path);
    await page.waitForFunction((name) => window.app.graph._nodes[0].widgets.find((w) => w.name === "file").value?.endsWith(name),
      basename(path), { timeout: 10000, polling: 50 }).catch(() => {}); // what is there instead is in the answer
    found.push(await page.evaluate(async () => ({
      value: window.app.graph._nodes[0].widgets.find((w) => w.name === "file").value,
      api: Object.values((await window.app.graphToPrompt()).output)[0].inputs,
      saved: window.app.graph._nodes[0].serialize().widgets_values,
    })));
  }
  if (plan.dropped) {
    await page.evaluate(drop, { bytes: [...readFileSync(plan.dropped)], name: basename(plan.dropped), onNode: true });
    await page.waitForTimeout(1200);
    found.push(await page.evaluate(() => {
      const [node] = window.app.graph._nodes, file = node.widgets.find((w) => w.name === "file"), card = document.querySelector(".continuum-LoadState");
      return { value: file.value, listed: file.options.values.slice(0, 20), text: card.innerText, picture: card.querySelector(".continuum-told img").naturalWidth, nodes: window.app.graph._nodes.length };
    }));
    await show(page, plan, "load_state");
    await page.evaluate(drop, { bytes: [...readFileSync(plan.dropped)], name: basename(plan.dropped), onNode: false });
    await page.waitForTimeout(1500);
    found.push({ nodes: await page.evaluate(() => window.app.graph._nodes.length) });
  }
  return found;
}

// a file let go over the first node's title, or over the empty canvas
async function drop({ bytes, name, onNode }) {
  const { canvas, graph } = window.app, rect = canvas.canvas.getBoundingClientRect(), [x, y] = graph._nodes[0].pos;
  canvas.ds.scale = 1;
  canvas.ds.offset[0] = canvas.ds.offset[1] = 0;
  canvas.setDirty(true, true);
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
  const at = onNode ? [x + 60, y + 15] : [x + 700, y + 500];
  const place = { clientX: rect.x + at[0], clientY: rect.y + at[1] };
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.elementFromPoint(place.clientX, place.clientY).dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer, ...place }));
    await new Promise((done) => setTimeout(done, 100));
  }
}

// the Story node's row of segments, worked with as a person would: by clicks and keys
async function storyboard(page, plan) {
  await page.evaluate(storyGraph, plan.story);
  await page.waitForTimeout(1000);
  await show(page, plan, "storyboard");
  const steps = [], card = (n) => page.locator(`.continuum-segment[data-segment="${n}"]`);
  const look = async () => page.evaluate(() => {
    const [node] = window.app.graph._nodes.filter((n) => n.type === "LTX2ContinuumStory"), value = (name) => node.widgets.find((w) => w.name === name).value;
    return { script: value("script"), redo: value("redo"), says: document.querySelector(".continuum-board .say").innerText,
      states: [...document.querySelectorAll(".continuum-segment .state")].map((one) => one.innerText), film: document.querySelector(".continuum-Story video").videoWidth,
      failure: document.querySelector(".continuum-Story .continuum-wrong").innerText,
      pictures: [...document.querySelectorAll(".continuum-segment img")].map((one) => one.naturalWidth), seam: document.querySelector(".continuum-segment[data-segment='2'] .seam")?.innerText };
  });
  const after = async (name, act) => { await act(); await page.waitForTimeout(700); steps.push({ name, ...await look() }); };
  const type = (n, field, text) => async () => { await card(n).locator(field).fill(text); await card(n).locator(field).press("Tab"); };
  const ran = () => page.evaluate(() => new Promise((done) => {
    const api = window.app.api ?? window.comfyAPI.api.api;
    api.addEventListener("execution_success", () => setTimeout(done, 1500), { once: true });
    api.addEventListener("execution_error", (e) => done(e.detail.exception_message), { once: true });
  }));
  await after("prompt", type(1, "textarea", "A green ball rests by day."));
  await after("seconds", type(2, ".seconds", "2"));
  await after("add", () => card(2).locator(".add").click());
  await after("cut", () => card(3).locator("input[type=checkbox]").click());
  await after("move", () => card(3).locator(".left").click());
  await after("remove", () => card(2).locator(".remove").click());
  await after("image", type(2, ".image-file", "first.png"));
  await after("image strength", type(2, "div:nth-child(1) > .image-strength", "0.5"));
  await after("second image", type(2, "div:nth-child(2) > .image-file", "last.png"));
  await after("image taken", type(2, "div:nth-child(2) > .image-frame", "last"));
  await after("image frame", type(2, "div:nth-child(2) > .image-frame", "20"));
  await show(page, plan, "storyboard-images");
  await after("one image less", type(2, "div:nth-child(1) > .image-file", ""));
  await after("no image", type(2, "div:nth-child(1) > .image-file", ""));
  await after("wrong", type(2, ".seed", "-5"));
  await after("shorter", type(2, ".seconds", "1"));
  await after("made", async () => { const done = ran(); await page.evaluate(() => window.app.queuePrompt(0, 1)); await done; });
  await show(page, plan, "storyboard-done");
  await after("asked", () => card(2).locator(".new-take").click());
  await after("taken", async () => { const done = ran(); await card(2).locator(".new-take").click(); await done; });
  await after("fits", () => card(1).locator(".bridge").click());
  await after("played", () => card(2).locator(".look").click());
  // what is refused when it is asked to run, and when the node begins, stands on the node until something runs again
  const given = (name, value) => page.evaluate(([name, value]) => {
    const widget = window.app.graph._nodes.find((n) => n.type === "LTX2ContinuumStory").widgets.find((w) => w.name === name), before = widget.value;
    widget.value = value;
    widget.callback?.(value);
    return before;
  }, [name, value]);
  const script = await given("script", "preset: ltx9\nsegments: [A ball.]"), folder = await given("folder", "../elsewhere");
  await after("refused", () => page.evaluate(() => window.app.queuePrompt(0, 1)));
  await given("folder", folder);
  await after("failed", async () => { const done = ran(); await page.evaluate(() => window.app.queuePrompt(0, 1)); await done; });
  await given("script", script);
  await after("mended", async () => { const done = ran(); await page.evaluate(() => window.app.queuePrompt(0, 1)); await done; });
  return steps;
}

// the Story node alone, so wide that its segments stand in a row, when its film is made
async function pictureOfBoard(page, plan) {
  await page.evaluate(storyGraph, plan.board);
  await page.waitForTimeout(1000);
  await page.evaluate(() => new Promise((done) => {
    const api = window.app.api ?? window.comfyAPI.api.api;
    for (const event of ["execution_success", "execution_error"]) api.addEventListener(event, () => setTimeout(done, 2500), { once: true });
    window.app.queuePrompt(0, 1);
  }));
  await page.evaluate((width) => {
    for (const node of [...window.app.graph._nodes]) {
      if (node.type === "LTX2ContinuumStory") node.setSize([width, node.size[1]]);
      else window.app.graph.remove(node);
    }
  }, plan.boardWidth);
  await page.waitForTimeout(800);
  await show(page, plan, "board", 12);
}

// models, and a story that they make
function storyGraph(given) {
  const { app, LiteGraph } = window;
  app.graph.clear();
  const [load, gemma, story] = ["LoadCheckpoint", "LoadTextEncoder", "Story"].map((name, i) => {
    const node = LiteGraph.createNode(`LTX2Continuum${name}`);
    node.pos = [330 * i, 0];
    app.graph.add(node);
    return node;
  });
  const set = (node, values) => Object.entries(values).forEach(([name, value]) => { const widget = node.widgets.find((w) => w.name === name); widget.value = value; widget.callback?.(value); });
  const join = (from, output, to, input) => from.connect(from.outputs.findIndex((o) => o.name === output), to, to.inputs.findIndex((i) => i.name === input));
  set(load, { checkpoint: "mini" }), set(gemma, { text_encoder: "mini" }), set(story, given);
  join(load, "model", gemma, "model"), join(gemma, "text_encoder", story, "text_encoder");
  for (const name of ["model", "video_vae", "audio_vae"]) join(load, name, story, name);
}

// the whole graph drawn; where screenshots are kept, one of it, cut at a margin around the nodes if one is given
async function show(page, plan, name, margin = null) {
  await page.evaluate(async () => {
    const { canvas, graph } = window.app;
    const boxes = [...graph._nodes, ...graph._groups].map((n) => n.boundingRect ?? n.getBounding?.() ?? n._bounding);
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
    const right = Math.max(...boxes.map((b) => b[0] + b[2])), bottom = Math.max(...boxes.map((b) => b[1] + b[3]));
    canvas.ds.fitToBounds?.([left - 30, top - 30, right - left + 60, bottom - top + 60]);
    canvas.setDirty(true, true);
    for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
  });
  if (!plan.shots) return;
  await page.waitForTimeout(700);
  const clip = margin === null ? null : await page.evaluate((margin) => {
    const { canvas, graph } = window.app, { scale, offset } = canvas.ds, rect = canvas.canvas.getBoundingClientRect();
    const boxes = [...graph._nodes, ...graph._groups].map((n) => n.boundingRect ?? n.getBounding?.() ?? n._bounding);
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
    const right = Math.max(...boxes.map((b) => b[0] + b[2])), bottom = Math.max(...boxes.map((b) => b[1] + b[3]));
    return { x: rect.x + (left + offset[0]) * scale - margin, y: rect.y + (top + offset[1]) * scale - margin,
      width: (right - left) * scale + 2 * margin, height: (bottom - top) * scale + 2 * margin };
  }, margin);
  await page.screenshot({ path: join(plan.shots, `${name}.png`), ...(clip && { clip }) });
}

// set widgets by node type, queue, wait for the end
function run(changes) {
  const { app } = window;
  for (const node of app.graph._nodes) {
    for (const [name, value] of Object.entries(changes[node.type] ?? {})) {
      const widget = node.widgets.find((w) => w.name === name);
      widget.value = value;
      widget.callback?.(value);
    }
  }
  return new Promise((done) => {
    const api = app.api ?? window.comfyAPI.api.api;
    api.addEventListener("execution_success", () => setTimeout(() => done({ status: "success" }), 300));
    api.addEventListener("execution_error", (e) => done({ status: "error", node: e.detail.node_type, message: e.detail.exception_message }));
    setTimeout(() => done({ status: "timeout" }), 200000);
    app.queuePrompt(0, 1).then(() => {
      if (Object.keys(app.lastNodeErrors ?? {}).length) done({ status: "refused", errors: app.lastNodeErrors });
    });
  });
}

async function bypassed() {
  const graphs = [window.app.graph, ...window.app.graph.subgraphs.values()];
  for (const node of graphs.flatMap((graph) => graph._nodes).filter((n) => /LoadState|StateToAVLatent/.test(n.type))) node.mode = 4;
  return (await window.app.graphToPrompt()).output;
}

// what a person does to go on in a stock graph, before each of its samplers: returns the types of the nodes that were added
function addContinuation() {
  const samplers = /^(SamplerCustomAdvanced|KSampler)$/;
  const graph = [...window.app.graph.subgraphs.values()].find((g) => g._nodes.some((n) => samplers.test(n.type))) ?? window.app.graph;
  const types = [];
  const all = (type) => graph._nodes.filter((n) => n.type === type);
  const add = (name, pos) => {
    const node = window.LiteGraph.createNode(`LTX2Continuum${name}`);
    node.pos = pos;
    graph.add(node);
    types.push(name);
    return node;
  };
  const slot = (slots, name) => {
    const at = slots.findIndex((s) => s.name === name);
    if (at < 0) throw new Error(`no slot ${name} among ${slots.map((s) => s.name)}`);
    return at;
  };
  const input = (node, name) => slot(node.inputs, name);
  const source = (node, name) => {
    const link = graph.getLink?.(node.inputs[input(node, name)].link) ?? graph.links[node.inputs[input(node, name)].link];
    return [graph.getNodeById(link.origin_id), link.origin_slot];
  };
  const connect = ([from, at], node, name) => from.connect(at, node, input(node, name));
  const output = (node, name) => [node, slot(node.outputs, name)];

  const load = add("LoadState", [-900, 0]);
  const upsampler = all("LTXVLatentUpsampler")[0] ?? all("VAEDecodeTiled")[0];
  for (const sampler of graph._nodes.filter((n) => samplers.test(n.type))) {
    const node = add("StateToAVLatent", [sampler.pos[0] - 400, sampler.pos[1]]);
    const guider = sampler.type === "KSampler" ? sampler : source(sampler, "guider")[0];
    connect(output(load, "state"), node, "state");
    connect(source(upsampler, "vae"), node, "vae");
    connect(source(sampler, "latent_image"), node, "latent");
    connect(source(guider, "model"), node, "model");
    connect(output(node, "latent"), sampler, "latent_image");
    connect(output(node, "model"), guider, "model");
  }
  const video = all("CreateVideo")[0], [decoder] = source(video, "audio");
  const after = add("AVLatentToState", [video.pos[0] - 400, video.pos[1]]), [apart] = source(decoder, "samples");
  connect(source(apart, "av_latent"), after, "latent");
  connect(source(video, "images"), after, "images");
  connect(source(video, "audio"), after, "audio");
  connect(output(load, "state"), after, "state");
  after.widgets.find((w) => w.name === "filename_prefix").value = "stock/state";
  connect(output(after, "new_images"), video, "images");
  connect(output(after, "new_audio"), video, "audio");
  return types;
}
