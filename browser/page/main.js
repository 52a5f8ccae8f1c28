// The page's main thread: takes files, starts the verifier, shows its answer. No text of a certificate
// becomes markup here: the verifier's report has escaped all of it, and the page's policy allows only
// this script. The result under the form always belongs to what is in the form: choosing, typing or
// linking anything else removes it.
"use strict";

const byId = (id) => document.getElementById(id);
const TITLE = document.title;

function decoded(id) {
  const text = atob(byId(id).textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  byId(id).remove();
  return bytes;
}

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The files of a tar archive (POSIX ustar, as npm packs it), by name below its one folder.
function filesOf(tar) {
  const text = (start, size) =>
    new TextDecoder().decode(tar.subarray(start, start + size)).replace(/\0.*$/s, "");
  const files = new Map();
  for (let at = 0; at + 512 <= tar.length && tar[at]; ) {
    const size = parseInt(text(at + 124, 12), 8) || 0;
    const name = text(at, 100).replace(/^[^/]*\//, "");
    files.set(name, tar.slice(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

// Turn Pyodide's module into an expression in a plain script, since loading a module from memory
// would require a policy that allows any script in memory.
function asScript(module) {
  const end = "export default _createPyodideModule;";
  if (!module.trimEnd().endsWith(end)) throw new Error("Pyodide is not the one that was locked");
  const inside = module.trimEnd().slice(0, -end.length).replaceAll("import.meta.url", "''");
  return `const createPyodideModule = (() => {${inside}; return _createPyodideModule})();\n`;
}

// The parts of every worker. As blobs, the browser stores their bytes only once.
let script = "";
let parts = null;

async function unpack() {
  const files = filesOf(await unpacked(decoded("pyodide")));
  const text = (name) => new TextDecoder().decode(files.get(name));
  // Pyodide refuses one kind of worker, which it recognises by whether an empty script can be loaded.
  const before = "self.importScripts = () => { throw new TypeError('nothing is loaded') };\n";
  const python = [asScript(text("pyodide.asm.mjs")), text("pyodide.js"), "\n;"];
  const scripts = [before, ...python, byId("worker").textContent];
  script = URL.createObjectURL(new Blob(scripts, { type: "text/javascript" }));
  const names = ["pyodide.asm.wasm", "python_stdlib.zip"];
  parts = {
    parts: Object.fromEntries(names.map((name) => [name, new Blob([files.get(name)])])),
    lock: JSON.parse(text("pyodide-lock.json")),
    app: new Blob([decoded("app")]),
  };
}

// Start a worker that verifies; or, with a port, one that hashes for the worker at the other end.
function startWorker(port = null) {
  const started = new Worker(script);
  started.onerror = (event) => broken(event.message);
  started.postMessage({ kind: "start", ...parts, port }, port ? [port] : []);
  return started;
}

// From this size on, several files are hashed in parallel: a helper takes seconds to start.
let helped = 1e9;
const helpers = [];

function startHelpers(files) {
  const bytes = files.reduce((sum, one) => sum + one.file.size, 0);
  const most = bytes < helped ? 0 : Math.min(navigator.hardwareConcurrency || 1, 4, files.length) - 1;
  while (helpers.length < most) {
    const { port1, port2 } = new MessageChannel();
    const helper = startWorker(port1);
    helper.onmessage = ({ data }) => data.kind === "broken" && broken(data.message);
    helpers.push(helper);
    worker.postMessage({ kind: "helper", port: port2 }, [port2]);
  }
}

let worker = null;
let ready = false;
// After an error that is not about the files, nothing is verified until the page is opened again.
let failed = false;
// While the model is listed or hashed, nothing else can be chosen.
let busy = false;
// The number of the current result; answers with an older number are ignored.
let number = 0;

// Show a status. A screen reader reads out each change, so the same words are not set again.
function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function setBusy(is) {
  busy = is;
  for (const control of byId("form").elements) control.disabled = is;
  byId("go").disabled = is || !ready;
}

// Remove a result, which belongs to other files than those in the form now.
function forget() {
  number++;
  byId("result").replaceChildren();
  document.title = TITLE;
  delete document.body.dataset.exit;
  say(failed ? "Open this page anew." : ready ? "Ready." : "Python starts…");
}

function broken(message) {
  failed = true;
  ready = false;
  setBusy(false);
  byId("progress").hidden = true;
  byId("reading").textContent = "";
  showError(`error: this page cannot verify anything in this browser\n       ${message}`);
  say("");
}

const mega = (bytes) => (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 0 });

function onMessage({ data }) {
  if (failed) return;
  if (data.kind === "ready") {
    ready = true;
    byId("go").disabled = busy;
    say("Ready.");
  } else if (data.kind === "progress") {
    say("Hashing the model…");
    byId("progress").hidden = false;
    byId("progress").value = data.total ? data.done / data.total : 1;
    byId("reading").textContent = `${mega(data.done)} of ${mega(data.total)} MB: ${data.path}`;
  } else if (data.kind === "appraising") {
    say("Checking…");
  } else if (data.kind === "answer") {
    setBusy(false);
    byId("progress").hidden = true;
    byId("reading").textContent = "";
    if (data.number === number) show(data.answer);
    else say("Ready.");
  } else {
    broken(data.message);
  }
}

// The model's files, from a folder picker or from walking a dropped folder.
let model = null;
let modelName = "";

// Return the files of a folder picker. In their paths, a backslash in a name has become a slash.
// Such a file gets its bare name as its path, which the verifier refuses.
function pickedFolder(files) {
  return [...files].map((file) => {
    const parts = file.webkitRelativePath.split("/").slice(1);
    return { path: parts.at(-1) === file.name ? parts.join("/") : file.name, file };
  });
}

// In a page opened from disk, Chromium lists a dropped folder only through its newer API; Firefox and
// Safari have only the older one.
async function* filesIn(handle, prefix = "") {
  for await (const one of handle.values()) {
    if (one.kind === "directory") yield* filesIn(one, `${prefix}${one.name}/`);
    else yield { path: prefix + one.name, file: await one.getFile() };
  }
}

async function* filesBelow(entry, prefix = "") {
  const reader = entry.createReader();
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return;
    for (const one of entries) {
      if (one.isDirectory) {
        yield* filesBelow(one, `${prefix}${one.name}/`);
      } else {
        const file = await new Promise((resolve, reject) => one.file(resolve, reject));
        yield { path: prefix + one.name, file };
      }
    }
  }
}

async function droppedFolder({ entry, handle }) {
  const opened = await handle;
  const files = [];
  for await (const file of opened ? filesIn(opened) : filesBelow(entry)) files.push(file);
  return files;
}

function setModel(name, files) {
  const bytes = (files ?? []).reduce((sum, one) => sum + one.file.size, 0);
  showModel(files ? `${name}: ${files.length} files, ${mega(bytes)} MB` : "", files);
}

function showModel(text, files) {
  model = files;
  modelName = text;
  byId("model-picked").textContent = text;
}

// The evidence: the files used from a folder that was picked or dropped.
let evidence = [];
let evidenceName = "";

function setEvidence(name, files) {
  evidence = evidenceIn(files);
  evidenceName = name;
  const runs = new Set(evidence.map(({ path }) => path.split("/")[0])).size;
  byId("evidence-picked").textContent = name && `${name}: ${runs} ${runs === 1 ? "run" : "runs"}`;
}

// The files used from a folder of evidence: RUN/certificate.json, RUN/results.json, and the results of
// audits before a training, RUN/audit-NAME.json.
function evidenceIn(files) {
  const names = /^(certificate|results|audit-[a-z0-9-]+)\.json$/;
  return files.filter(({ path }) => {
    const parts = path.split("/");
    return parts.length === 2 && names.test(parts[1]);
  });
}

// Tell a dropped folder of evidence from a model's: there is RUN/certificate.json in it, and no file
// beside the folders, except for hidden ones. A model without a file of its own is none.
function isEvidence(files) {
  return files.some(({ path }) => /^[^/]+\/certificate\.json$/.test(path)) &&
    files.every(({ path }) => path.includes("/") || path.startsWith("."));
}

async function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("over");
  if (busy) return;
  // All at once: after the first await, the dropped items are no longer accessible.
  const folders = [];
  const files = [];
  for (const item of event.dataTransfer.items) {
    const entry = item.webkitGetAsEntry?.();
    if (entry?.isDirectory) folders.push({ entry, handle: item.getAsFileSystemHandle?.() });
    else if (item.kind === "file") files.push(item.getAsFile());
  }
  if (!folders.length && !files.length) return;
  forget();
  const error = take(files);
  if (error) return showError(error);
  if (folders.length) await walk(folders);
}

// List dropped folders: a model's, and one of evidence. Until all are completely listed, there is no
// model, since one of them may be the model's.
async function walk(folders) {
  const [oldModel, oldName] = [model, modelName];
  setModel("", null);
  setBusy(true);
  const listed = [];
  try {
    for (const folder of folders) {
      const files = await droppedFolder(folder).catch((error) => {
        throw new Error(`cannot read the folder ${folder.entry.name}: ${error.message}`);
      });
      listed.push({ name: folder.entry.name, files });
    }
    const [models, others] = [false, true].map((is) =>
      listed.filter(({ files }) => isEvidence(files) === is));
    if (models.length > 1) throw new Error("a model is one folder, but more than one was dropped");
    if (others.length > 1) throw new Error("evidence is one folder, but more than one was dropped");
    for (const { name, files } of models) {
      byId("model").value = "";
      setModel(name, files);
    }
    for (const { name, files } of others) {
      byId("evidence").value = "";
      setEvidence(name, files);
    }
    if (!models.length) showModel(oldName, oldModel);
  } catch (error) {
    byId("model").value = "";
    showError(`error: ${error.message}`);
  } finally {
    setBusy(false);
  }
}

// The name of a dropped file decides where it goes.
function placeOf(name) {
  return name.endsWith(".pem") ? "root"
    : name.startsWith("image") && name.endsWith(".lock.toml") ? "imageLock"
    : name.endsWith(".lock.toml") ? "lockfile"
    : name.endsWith(".toml") ? "policyFiles"
    : name.startsWith("collateral") ? "collateral"
    : name.startsWith("gpu-collateral") ? "gpuCollateral"
    : "certificate";
}

// Put dropped files into the form; return an error if one control would get two.
function take(files) {
  const lists = new Map();
  for (const file of files) {
    const place = placeOf(file.name);
    if (lists.has(place)) {
      const names = `${lists.get(place).files[0].name} and ${file.name}`;
      return `error: it is not clear what ${names} are: choose each where it belongs`;
    }
    lists.set(place, new DataTransfer());
    lists.get(place).items.add(file);
  }
  for (const [place, list] of lists) byId(place).files = list.files;
  if (lists.has("policyFiles")) byId("policy").value = "file";
  return "";
}

function question() {
  const text = (id) => byId(id).value.trim() || null;
  const files = (id) => [...byId(id).files];
  const own = byId("policy").value === "file";
  return {
    kind: "ask",
    number,
    texts: {
      certificate: null, root: null, imageLock: null, collateral: null, gpuCollateral: null,
      lineage: null, evidence: null,
      lockfile: text("lockfileDigest"), nonce: text("nonce"), at: text("at"),
      policy: own ? "" : byId("policy").value, expected: expected(),
    },
    files: {
      certificate: files("certificate")[0] ?? null,
      root: files("root")[0] ?? null,
      lockfile: files("lockfile")[0] ?? null,
      imageLock: files("imageLock")[0] ?? null,
      collateral: files("collateral")[0] ?? null,
      gpuCollateral: files("gpuCollateral")[0] ?? null,
      policy: own ? files("policyFiles") : [],
      lineage: files("lineage"),
      evidence,
      model,
    },
  };
}

// Return what is missing or contradictory; undefined if the verifier can start.
function mistake({ texts, files }) {
  // Without one, the verifier looks for the model's certificate in the evidence.
  if (!files.certificate && !(files.evidence.length && files.model)) {
    return "error: no certificate was chosen";
  }
  const policies = files.policy.filter((file) => file.name.endsWith(".toml")).length;
  if (texts.policy === "" && policies !== 1) {
    return `error: ${policies || "no"} policy files (.toml) were chosen, wanted: one, and what it names`;
  }
  if (evidenceName && !files.evidence.length) {
    return "error: the folder of evidence has no certificate at RUN/certificate.json";
  }
  if (files.lockfile && texts.lockfile) {
    return "error: a lockfile and the digest of one: say which you expect";
  }
  return "";
}

// The certificate's digest in the link to this page, after the `#`.
function expected() {
  const named = location.hash.slice(1);
  try {
    return decodeURIComponent(named) || null;
  } catch {
    return named;
  }
}

function showExpected() {
  byId("expected").hidden = !expected();
  byId("expected-digest").textContent = expected() ?? "";
}

// What the answer is about, in words.
let subject = "";

function onSubmit(event) {
  event.preventDefault();
  forget();
  const asked = question();
  const error = mistake(asked);
  if (error) return showError(error);
  const chosen = asked.files.certificate?.name ?? `a certificate in ${evidenceName}`;
  subject = `${chosen}, ${model ? `and ${modelName}` : "without a model"}`;
  setBusy(true);
  byId("progress").value = 0;
  say("Checking…");
  if (model) startHelpers(model);
  worker.postMessage(asked);
}

function element(name, text, style = "") {
  const node = document.createElement(name);
  node.textContent = text;
  node.className = style;
  return node;
}

// Move the view and the screen reader to the start of the result.
function lookAtResult() {
  byId("result").focus({ preventScroll: true });
  byId("result").scrollIntoView({ block: "start" });
}

function showError(text) {
  const box = element("section", "", "verdict none");
  box.setAttribute("aria-label", "Error");
  box.append(element("h2", "No verdict"), element("pre", text));
  byId("result").replaceChildren(box);
  lookAtResult();
}

// What the folder of evidence shows, in the words of `aicert verify --evidence`, below its heading.
function shownEvidence(text) {
  const section = element("section", "", "evidence");
  section.setAttribute("aria-label", "Evidence");
  const lines = text.split("\n").slice(1).join("\n");
  section.append(element("h2", "Evidence"), element("pre", lines || "It shows nothing about this."));
  return section;
}

function show(answer) {
  document.body.dataset.exit = answer.exitCode;
  if (answer.error) {
    say("No verdict.");
    return showError(answer.error);
  }
  const parsed = new DOMParser().parseFromString(answer.report, "text/html");
  const plain = document.createElement("details");
  plain.append(element("summary", "The same as text"), element("pre", answer.text));
  const beside = answer.evidence === null ? [] : [shownEvidence(answer.evidence)];
  byId("result").replaceChildren(...parsed.body.childNodes, ...beside, plain);
  const verdict = byId("result").firstElementChild;
  if (answer.unseen) verdict.after(element("p", `Not checked here: ${answer.unseen}.`, "notice"));
  verdict.after(element("p", `About ${subject}. Certificate ${answer.certificate}`, "subject"));
  const name = new DOMParser().parseFromString(answer.title, "text/html").body.textContent;
  document.title = name;
  say(`${name}.`);
  lookAtResult();
}

byId("form").addEventListener("submit", onSubmit);
byId("form").addEventListener("input", forget, true);
byId("form").addEventListener("change", forget, true);
byId("model").addEventListener("change", ({ target: { files } }) => {
  setModel("", null);
  if (!files.length) return;
  const name = files[0].webkitRelativePath.split("/")[0];
  if (name) setModel(name, pickedFolder(files));
  else showError("error: this browser cannot choose a folder");
});
byId("evidence").addEventListener("change", ({ target: { files } }) => {
  const name = files.length ? files[0].webkitRelativePath.split("/")[0] : "";
  setEvidence(name, pickedFolder(files));
});
byId("policyFiles").addEventListener("change", () => (byId("policy").value = "file"));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", onDrop);
window.addEventListener("hashchange", () => {
  forget();
  showExpected();
});
showExpected();
// Firefox would restore controls that were disabled when the user left the page.
setBusy(false);
unpack().then(
  () => {
    worker = startWorker();
    worker.onmessage = onMessage;
  },
  (error) => broken(String(error)),
);
