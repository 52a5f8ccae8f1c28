// Runs the verifier outside the page's main thread. It follows Pyodide's two scripts, which define
// `loadPyodide` and `createPyodideModule`. The first message brings Python and the verifier; each later
// one asks a question. For a large model the page also starts helpers: workers with the same script
// that only hash files for the verifier, over a port.
"use strict";

const BLOCK = 4 << 20;
// Update the progress after this many bytes: updates cost time as well.
const STEP = 32 << 20;
// The verifier reads no more than this of any file outside the model (16 MiB of a certificate); one
// extra byte shows it that there is more.
const MOST = (16 << 20) + 1;
// The controls that take one file each.
const CONTROLS = ["certificate", "root", "lockfile", "imageLock", "collateral", "gpuCollateral"];
const PARTS = "https://parts.invalid/";
let python = null;
// The Python modules: `browser/page/hashing.py`, and in the verifier also `browser/page/bridge.py`.
let hashing = null;
let bridge = null;

// Replace `fetch`, with which Pyodide gets its parts. The page's policy forbids all network access,
// so this returns the parts from memory, and nothing else.
function serveFrom(parts) {
  self.fetch = async (url) => {
    const name = String(url).slice(PARTS.length);
    if (!String(url).startsWith(PARTS) || !(name in parts)) {
      throw new Error(`not a part of this page: ${name}`);
    }
    const type = name.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
    return new Response(parts[name], { headers: { "content-type": type } });
  };
}

async function start({ parts, lock, app, port }) {
  serveFrom(parts);
  python = await loadPyodide({
    indexURL: PARTS,
    createPyodideModule,
    lockFileContents: { ...lock, packages: {} },
    packageBaseUrl: PARTS,
    stdout: () => {},
    stderr: (line) => console.error(line),
  });
  python.unpackArchive(await app.arrayBuffer(), "zip", { extractDir: "/app" });
  python.runPython("import sys; sys.path.insert(0, '/app')");
  hashing = python.pyimport("browser.page.hashing");
  if (port) return help(port);
  python.runPython("from browser.crypto.install import install; install()");
  bridge = python.pyimport("browser.page.bridge");
}

// Yield the blocks of a file. A file that was moved or changed since it was picked cannot be read
// to its end: then the blocks end early, which Python notices. All blocks are read into the same
// memory, since new memory for each would pile up until the browser collects garbage. (If a browser
// does not support that, it allocates memory as it likes.)
async function* blocksOf(file) {
  const stream = file.stream();
  let reader;
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    reader = stream.getReader();
  }
  let memory = new ArrayBuffer(BLOCK);
  for (;;) {
    const read = await reader.read(new Uint8Array(memory)).catch(() => ({ done: true }));
    if (read.done) return;
    yield read.value;
    memory = read.value.buffer;
  }
}

// Measure one file of the model; `count` is called with the bytes read.
async function measured({ path, file }, count) {
  const measuring = hashing.File(path, file.size);
  let uncounted = 0;
  for await (const block of blocksOf(file)) {
    const data = python.toPy(block);
    measuring.block(data);
    data.destroy();
    uncounted += block.length;
    if (uncounted < STEP) continue;
    count(uncounted, path);
    uncounted = 0;
  }
  count(uncounted, path);
  const text = measuring.end();
  measuring.destroy();
  return text;
}

// Measure the files that arrive over the port. An error ends the helper, and then nothing is verified.
function help(port) {
  port.onmessage = async ({ data }) => {
    try {
      const text = await measured(data, (bytes) => port.postMessage({ bytes }));
      port.postMessage({ text });
    } catch (error) {
      port.postMessage({ error: String(error) });
    }
  };
}

const ports = [];

// Do the same as `measured`, with the helper at the other end of the port.
function measuredThere(port) {
  return (one, count) =>
    new Promise((resolve, reject) => {
      port.onmessage = ({ data }) => {
        if ("text" in data) resolve(data.text);
        else if ("error" in data) reject(new Error(data.error));
        else count(data.bytes, one.path);
      };
      port.postMessage(one);
    });
}

// A chosen file has changed since it was chosen, or is gone.
class Unreadable extends Error {}

// Copy a chosen file into Python's file system, and return its path there.
async function put(path, file) {
  const bytes = await file.slice(0, MOST).arrayBuffer().catch(() => {
    throw new Unreadable(file.name);
  });
  const data = python.toPy(new Uint8Array(bytes));
  bridge.put(path, data);
  data.destroy();
  return path;
}

// Measure the files of a model: each goes to the next free worker, large ones first.
async function measure(files, tell) {
  const model = bridge.Model();
  const left = files.filter(({ path }) => model.begin(path));
  left.sort((one, other) => other.file.size - one.file.size);
  const total = left.reduce((sum, one) => sum + one.file.size, 0);
  let done = 0;
  let shown = 0;
  const count = (bytes, path) => {
    done += bytes;
    if (done - shown < STEP && done < total) return;
    shown = done;
    tell({ kind: "progress", done, total, path });
  };
  const work = async (how) => {
    for (let one = left.shift(); one; one = left.shift()) model.take(one.path, await how(one, count));
  };
  await Promise.all([measured, ...ports.map(measuredThere)].map(work));
  return model;
}

async function answer(question, tell) {
  const asked = { ...question.texts };
  const picked = question.files;
  // Errors contain these paths, so they consist of the control and the file's own name.
  python.runPython(
    "import os, shutil; os.chdir('/'); shutil.rmtree('/in', ignore_errors=True);" +
      "os.mkdir('/in'); os.chdir('/in')",
  );
  for (const name of CONTROLS) {
    if (picked[name]) asked[name] = await put(`${name}/${picked[name].name}`, picked[name]);
  }
  if (picked.policy.length) {
    for (const file of picked.policy) {
      const path = await put(`policy/${file.name}`, file);
      if (file.name.endsWith(".toml")) asked.policy = path;
    }
  }
  if (picked.lineage.length) {
    asked.lineage = [];
    for (const [number, file] of picked.lineage.entries()) {
      asked.lineage.push(await put(`lineage/${number}/${file.name}`, file));
    }
  }
  for (const { path, file } of picked.evidence) {
    await put(`evidence/${path}`, file);
    asked.evidence = "evidence";
  }
  const text = JSON.stringify(asked);
  const unread = picked.model === null ? bridge.answer(text, undefined) : bridge.answer_unread(text);
  // Of JavaScript's two empty values, only `undefined` stands for Python's None.
  if (unread !== undefined) return JSON.parse(unread);
  const model = await measure(picked.model, tell);
  tell({ kind: "appraising" });
  const read = bridge.answer(text, model);
  model.destroy();
  return JSON.parse(read);
}

self.onmessage = async ({ data }) => {
  const tell = (message) => self.postMessage(message);
  try {
    if (data.kind === "start") {
      await start(data);
      tell({ kind: "ready" });
    } else if (data.kind === "helper") {
      ports.push(data.port);
    } else {
      tell({ kind: "answer", number: data.number, answer: await answer(data, tell) });
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) return tell({ kind: "broken", message: String(error) });
    const words = `error: cannot read ${error.message}\nhint: choose it again: it has changed or is gone`;
    tell({ kind: "answer", number: data.number, answer: { exitCode: 2, error: words } });
  }
};
