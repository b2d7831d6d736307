"use strict";
const models = JSON.parse(document.getElementById("models").textContent);
const [first, second, file, drop, preview, status, answers] =
  ["first", "second", "file", "drop", "preview", "status", "answers"].map((id) => document.getElementById(id));
let image = null, turn = 0;

const chosen = () => [first, second].filter((each) => each && each.value !== "").map((each) => models[each.value]);

function make(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function address(model) {
  const name = encodeURIComponent(model.name).replaceAll("'", "%27"); // it stands between such
  return `/v2/models/${name}/versions/${model.version}/infer`;
}

async function ask(model, data) {
  const size = data.byteLength + 4, wanted = { name: model.output, parameters: { classification: 5 } };
  const given = { name: model.input, datatype: "BYTES", shape: [1], parameters: { binary_data_size: size } };
  const head = new TextEncoder().encode(JSON.stringify({ inputs: [given], outputs: [wanted] }));
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, data.byteLength, true);
  const began = performance.now();
  const response = await fetch(address(model), {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": head.length },
    body: new Blob([head, length.buffer, data]),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return [answer.outputs[0].data, performance.now() - began];
}

function rows(model, texts) {
  const list = make("ol");
  for (const text of texts) {
    const [value, index, ...label] = text.split(":");
    const row = make("li"), bar = make("i"), track = make("span", undefined, "bar");
    const share = model.shares ? `${(100 * value).toFixed(2)} %` : Number(value).toPrecision(4);
    row.append(make("span", share, "share"), make("span", label.join(":") || index), track);
    bar.style.width = model.shares ? `${100 * value}%` : "0";
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    list.append(row);
  }
  return list;
}

async function show(model, data) {
  const section = make("section");
  section.append(make("h2", `${model.name}, version ${model.version}`));
  if (!model.classes || !model.input) {
    section.append(make("p", "This model answers no classes of an image's file: ask it from a program.", "soft"));
    return section;
  }
  try {
    const [texts, ms] = await ask(model, data);
    section.append(rows(model, texts), make("p", `${ms.toFixed(1)} ms, there and back`, "soft"));
  } catch (error) {
    section.append(make("p", error.message, "bad"));
  }
  return section;
}

async function answer() {
  if (!image) return;
  const mine = ++turn;
  status.textContent = `Asking of ${image.name} …`;
  const data = await image.arrayBuffer();
  const sections = [];
  for (const model of chosen()) sections.push(await show(model, data));
  if (mine !== turn) return;
  answers.replaceChildren(...sections);
  const best = sections.filter((each) => each.querySelector("li")).map((each) => {
    const [share, label] = each.querySelector("li").children;
    return `${each.querySelector("h2").textContent}: ${label.textContent}, ${share.textContent}`;
  });
  status.textContent = best.length ? best.join("; ") : `Not answered: ${image.name}`;
}

function take(files) {
  if (!files.length) return;
  [image] = files;
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(image);
  preview.alt = `The image ${image.name}`;
  preview.hidden = false;
  answer();
}

function lines() {
  const model = chosen()[0], at = location.origin + address(model);
  document.getElementById("curl").textContent =
    `curl -H 'Inference-Header-Content-Length: 0' --data-binary @image.jpg '${at}'`;
  document.getElementById("python").textContent = [
    "import numpy, tritonclient.http as client",
    "",
    `image = client.InferInput(${JSON.stringify(model.input)}, [1], "BYTES")`,
    'image.set_data_from_numpy(numpy.array([open("image.jpg", "rb").read()], object))',
    `wanted = client.InferRequestedOutput(${JSON.stringify(model.output)}${model.classes ? ", class_count=5" : ""})`,
    `with client.InferenceServerClient(${JSON.stringify(location.host)}) as server:`,
    `    answer = server.infer(${JSON.stringify(model.name)}, [image], outputs=[wanted])`,
    `print(answer.as_numpy(${JSON.stringify(model.output)}))`,
  ].join("\n");
}

for (const each of [first, second]) {
  each?.addEventListener("change", () => { lines(); answer(); });
}
file.addEventListener("change", () => take(file.files));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData.files));
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    getSelection().selectAllChildren(text); // where copying is not allowed, it is chosen at least
    try {
      await navigator.clipboard.writeText(text.textContent);
      status.textContent = "Copied.";
    } catch {
      status.textContent = "Chosen: copy it with your keyboard.";
    }
  });
}
lines();
