// Runs the verifier, away from the page's own thread. It is put behind Pyodide's two scripts, which
// define `loadPyodide` and `createPyodideModule`. The first message brings the bytes of Python and of
// the verifier; each later one asks a question.
"use strict";

const BLOCK = 4 << 20;
// The verifier reads no more of any file but a model's (16 MiB of a certificate); one byte more
// shows it that there is more.
const MOST = (16 << 20) + 1;
const PARTS = "https://parts.invalid/";

// Pyodide asks for its parts by `fetch`. There is no network here (the page's policy forbids all of
// it): the parts are handed out from memory, and nothing else is.
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

async function start({ parts, lock, app }) {
  serveFrom(parts);
  const python = await loadPyodide({
    indexURL: PARTS,
    createPyodideModule,
    lockFileContents: { ...lock, packages: {} },
    packageBaseUrl: PARTS,
    stdout: () => {},
    stderr: (line) => console.error(line),
  });
  python.unpackArchive(app, "zip", { extractDir: "/app" });
  python.runPython(
    "import sys; sys.path.insert(0, '/app')\n" +
      "from browser.crypto.install import install; install()\n" +
      "import browser.page.bridge",
  );
  return python;
}

// A file that was moved or changed since it was picked cannot be read to its end: then the blocks
// end early, which the bridge sees. All are read into the same memory: new memory for each would
// pile up until the browser looks for garbage. (Where that cannot be, the browser does as it likes.)
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

// A picked file that was changed since, or is gone.
class Unreadable extends Error {}

// Where a picked file lies in Python's file system.
async function put(bridge, path, file) {
  const bytes = await file.slice(0, MOST).arrayBuffer().catch(() => {
    throw new Unreadable(file.name);
  });
  const data = python.toPy(new Uint8Array(bytes));
  bridge.put(path, data);
  data.destroy();
  return path;
}

async function measure(bridge, files, tell) {
  const model = bridge.Model();
  const total = files.reduce((sum, one) => sum + one.file.size, 0);
  let done = 0;
  for (const { path, file } of files) {
    if (!model.begin(path, file.size)) continue;
    for await (const block of blocksOf(file)) {
      const data = python.toPy(block);
      model.block(data);
      data.destroy();
      done += block.length;
      tell({ kind: "progress", done, total, path });
    }
    model.end();
  }
  return model;
}

async function answer(question, tell) {
  const bridge = python.pyimport("browser.page.bridge");
  const asked = { ...question.texts };
  const picked = question.files;
  python.runPython("import shutil; shutil.rmtree('/in', ignore_errors=True)");
  for (const name of ["certificate", "root", "lockfile", "imageLock", "collateral"]) {
    if (picked[name]) asked[name] = await put(bridge, `/in/${name}/${picked[name].name}`, picked[name]);
  }
  if (picked.policy.length) {
    for (const file of picked.policy) {
      const path = await put(bridge, `/in/policy/${file.name}`, file);
      if (file.name.endsWith(".toml")) asked.policy = path;
    }
  }
  if (picked.lineage.length) {
    asked.lineage = [];
    for (const [number, file] of picked.lineage.entries()) {
      asked.lineage.push(await put(bridge, `/in/lineage/${number}.json`, file));
    }
  }
  // Of JavaScript's two, only this one is Python's None.
  const model = picked.model === null ? undefined : await measure(bridge, picked.model, tell);
  tell({ kind: "appraising" });
  const text = bridge.answer(JSON.stringify(asked), model);
  model?.destroy();
  bridge.destroy();
  return JSON.parse(text);
}

let python = null;

self.onmessage = async ({ data }) => {
  const tell = (message) => self.postMessage(message);
  try {
    if (data.kind === "start") {
      python = await start(data);
      tell({ kind: "ready" });
    } else {
      tell({ kind: "answer", number: data.number, answer: await answer(data, tell) });
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) return tell({ kind: "broken", message: String(error) });
    const words = `error: cannot read ${error.message}\nhint: choose it again: it was changed, or is gone`;
    tell({ kind: "answer", number: data.number, answer: { exitCode: 2, error: words } });
  }
};
