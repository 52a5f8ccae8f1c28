// The page's own thread: takes the files, starts the verifier, shows what it says. No text of a
// certificate is made into markup here; the report that the verifier draws has escaped all of it,
// and the page's policy lets no script but this one run.
"use strict";

const byId = (id) => document.getElementById(id);
const WORDS = { 0: "passed", 1: "failed", 2: "none", 3: "none" };

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

// Pyodide's module as an expression of a plain script: a module could not be loaded from memory
// without letting the page load scripts from anywhere in memory.
function asScript(module) {
  const end = "export default _createPyodideModule;";
  if (!module.trimEnd().endsWith(end)) throw new Error("Pyodide is not the one that was locked");
  const inside = module.trimEnd().slice(0, -end.length).replaceAll("import.meta.url", "''");
  return `const createPyodideModule = (() => {${inside}; return _createPyodideModule})();\n`;
}

async function startWorker() {
  const files = filesOf(await unpacked(decoded("pyodide")));
  const text = (name) => new TextDecoder().decode(files.get(name));
  // Pyodide tells one kind of worker, which it refuses, by whether an empty script can be loaded.
  const before = "self.importScripts = () => { throw new TypeError('nothing is loaded') };\n";
  const python = [asScript(text("pyodide.asm.mjs")), text("pyodide.js"), "\n;"];
  const scripts = [before, ...python, byId("worker").textContent];
  const worker = new Worker(URL.createObjectURL(new Blob(scripts, { type: "text/javascript" })));
  const parts = {};
  for (const name of ["pyodide.asm.wasm", "python_stdlib.zip"]) parts[name] = files.get(name);
  const app = decoded("app");
  const lock = JSON.parse(text("pyodide-lock.json"));
  const moved = [...Object.values(parts), app].map((bytes) => bytes.buffer);
  worker.postMessage({ kind: "start", parts, lock, app }, moved);
  return worker;
}

let worker = null;
let ready = false;
let waiting = null;

function say(text) {
  byId("status").textContent = text;
}

function broken(message) {
  waiting = null;
  byId("progress").hidden = true;
  byId("go").disabled = !ready;
  showError(`error: this page cannot verify anything in this browser\n       ${message}`);
  say("");
}

const mega = (bytes) => (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 0 });

function onMessage({ data }) {
  if (data.kind === "ready") {
    ready = true;
    byId("go").disabled = false;
    say("Ready.");
    if (waiting) ask(waiting);
  } else if (data.kind === "progress") {
    byId("progress").value = data.total ? data.done / data.total : 1;
    byId("reading").textContent = `${mega(data.done)} of ${mega(data.total)} MB: ${data.path}`;
  } else if (data.kind === "appraising") {
    say("Checking…");
  } else if (data.kind === "answer") {
    show(data.answer);
  } else {
    broken(data.message);
  }
}

// What was picked or dropped for the model: from a folder picker, or by walking a dropped folder.
let model = null;

function pickedFolder(files) {
  return [...files].map((file) => ({
    path: file.webkitRelativePath.split("/").slice(1).join("/"),
    file,
  }));
}

async function droppedFolder(entry, prefix = "") {
  const found = [];
  const reader = entry.createReader();
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return found;
    for (const one of entries) {
      if (one.isDirectory) {
        found.push(...(await droppedFolder(one, `${prefix}${one.name}/`)));
      } else {
        const file = await new Promise((resolve, reject) => one.file(resolve, reject));
        found.push({ path: prefix + one.name, file });
      }
    }
  }
}

function showModel(name) {
  const bytes = model.reduce((sum, one) => sum + one.file.size, 0);
  byId("model-picked").textContent = `${name}: ${model.length} files, ${mega(bytes)} MB`;
}

async function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("over");
  for (const item of [...event.dataTransfer.items]) {
    const entry = item.webkitGetAsEntry?.();
    if (entry?.isDirectory) {
      model = await droppedFolder(entry);
      showModel(entry.name);
    } else if (entry) {
      take(item.getAsFile());
    }
  }
}

// A dropped file goes where its name says that it belongs.
function take(file) {
  const place = file.name.endsWith(".pem") ? "root"
    : file.name.startsWith("image") && file.name.endsWith(".lock.toml") ? "imageLock"
    : file.name.endsWith(".lock.toml") ? "lockfile"
    : file.name.endsWith(".toml") ? "policyFiles"
    : "certificate";
  const list = new DataTransfer();
  list.items.add(file);
  byId(place).files = list.files;
  if (place === "policyFiles") byId("policy").value = "file";
}

function question() {
  const text = (id) => byId(id).value.trim() || null;
  const files = (id) => [...byId(id).files];
  const own = byId("policy").value === "file";
  return {
    kind: "ask",
    texts: {
      certificate: null, root: null, imageLock: null, lineage: null,
      lockfile: text("lockfileDigest"), nonce: text("nonce"), at: text("at"),
      policy: own ? "" : byId("policy").value, expected: expected(),
    },
    files: {
      certificate: files("certificate")[0] ?? null,
      root: files("root")[0] ?? null,
      lockfile: files("lockfile")[0] ?? null,
      imageLock: files("imageLock")[0] ?? null,
      policy: own ? files("policyFiles") : [],
      lineage: files("lineage"),
      model,
    },
  };
}

// The digest of the certificate that a link to this page named, behind the `#`.
function expected() {
  const named = decodeURIComponent(location.hash.slice(1));
  return named === "" ? null : named;
}

function ask(asked) {
  waiting = null;
  byId("go").disabled = true;
  byId("progress").hidden = !asked.files.model;
  byId("progress").value = 0;
  byId("reading").textContent = "";
  say(asked.files.model ? "Hashing the model…" : "Checking…");
  worker.postMessage(asked);
}

function onSubmit(event) {
  event.preventDefault();
  const asked = question();
  if (!asked.files.certificate) return showError("error: no certificate was chosen");
  if (byId("policy").value === "file" && !asked.files.policy.length) {
    return showError("error: no policy file was chosen");
  }
  byId("result").replaceChildren();
  if (ready) ask(asked);
  else {
    waiting = asked;
    say("Python starts…");
  }
}

function element(name, text, style = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = style;
  return made;
}

// Eyes and a screen reader go to the beginning of what was said.
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

function show(answer) {
  byId("progress").hidden = true;
  byId("reading").textContent = "";
  byId("go").disabled = false;
  document.body.dataset.exit = answer.exitCode;
  if (answer.error) {
    say("No verdict.");
    return showError(answer.error);
  }
  const parsed = new DOMParser().parseFromString(answer.report, "text/html");
  const plain = document.createElement("details");
  plain.append(element("summary", "The same as text"), element("pre", answer.text));
  byId("result").replaceChildren(...parsed.body.childNodes, plain);
  if (answer.unseen) {
    byId("result").firstElementChild.after(element("p", `Not checked here: ${answer.unseen}.`, "notice"));
  }
  const name = new DOMParser().parseFromString(answer.title, "text/html").body.textContent;
  document.title = name;
  say(`${name}.`);
  lookAtResult();
}

byId("form").addEventListener("submit", onSubmit);
byId("model").addEventListener("change", ({ target }) => {
  model = target.files.length ? pickedFolder(target.files) : null;
  if (model) showModel(target.files[0].webkitRelativePath.split("/")[0]);
  else byId("model-picked").textContent = "";
});
byId("policyFiles").addEventListener("change", () => (byId("policy").value = "file"));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", onDrop);
if (expected()) {
  byId("expected").hidden = false;
  byId("expected-digest").textContent = expected();
}
startWorker().then(
  (made) => {
    worker = made;
    worker.onmessage = onMessage;
    worker.onerror = (event) => broken(event.message);
  },
  (error) => broken(String(error)),
);
