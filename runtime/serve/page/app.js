"use strict";
// Pictures of this visit stay in memory; nothing is kept by the browser.
const $ = (id) => document.getElementById(id);
const visit = [];
let token = "";

function headers(more) {
  return token ? { ...more, Authorization: "Bearer " + token } : more;
}

function say(text, bad) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", Boolean(bad));
}

// askForToken shows the field where the server wants one.
function askForToken() {
  $("token-field").hidden = false;
  say("This server takes requests with a token only.", true);
  $("token").focus();
}

async function loadExperts() {
  const answer = await fetch("/v1/experts", { headers: headers({}) });
  if (answer.status === 401) return askForToken();
  if (!answer.ok) return say("The list of experts could not be read.", true);
  const { model, device, experts } = await answer.json();
  $("model").textContent = model + " on " + device;
  const kinds = new Set();
  for (const e of experts) {
    $("expert").add(new Option(e.name + " (" + e.architecture + ")", String(e.index)));
    for (const d of e.degradations || []) kinds.add(d);
  }
  for (const k of [...kinds].sort()) $("kind").add(new Option(k, k));
  say("");
}

async function restore(file) {
  const query = new URLSearchParams({ report: "json" });
  for (const [id, name] of [["kind", "degradation"], ["expert", "expert"], ["format", "format"]]) {
    if ($(id).value) query.set(name, $(id).value);
  }
  if (query.has("expert")) query.delete("degradation");
  if ($("strength").value !== "100") query.set("strength", String($("strength").value / 100));
  if ($("no-guard").checked) query.set("no-guard", "true");
  const how = [query.get("degradation"), query.get("expert") && $("expert").selectedOptions[0].text, query.get("format"),
    query.has("strength") && $("strength").value + " %", query.has("no-guard") && "any brightness"].filter(Boolean).join(", ");
  const answer = await fetch("/v1/restore?" + query, { method: "POST", body: file, headers: headers({ "Content-Type": file.type || "application/octet-stream" }) });
  if (answer.status === 401) askForToken();
  const text = await answer.json().catch(() => ({ detail: "the server answered " + answer.status }));
  if (!answer.ok) throw new Error(text.detail || answer.statusText);
  const bytes = Uint8Array.from(atob(text.image), (c) => c.charCodeAt(0));
  return { file, how, result: text, restored: new Blob([bytes], { type: "image/" + text.format }) };
}

const waiting = [];
let busy = false;
let shown = null;

// restoreAll restores one picture after the other; what is dropped meanwhile comes after.
async function restoreAll(files) {
  waiting.push(...files);
  if (busy || !waiting.length) return;
  busy = true;
  $("main").setAttribute("aria-busy", "true");
  try {
    await oneByOne();
  } finally {
    busy = false;
    $("main").removeAttribute("aria-busy");
  }
}

async function oneByOne() {
  let failed = "";
  for (let done = 0; waiting.length; done++) {
    const file = waiting.shift();
    say(`Restoring ${file.name} (${done + 1} of ${done + 1 + waiting.length}) …`);
    try {
      const item = await restore(file);
      item.before = URL.createObjectURL(item.file);
      item.after = URL.createObjectURL(item.restored);
      visit.push(item);
      remember(item);
      show(item);
    } catch (err) {
      failed += `${file.name}: ${err.message}. `;
    }
  }
  say(failed || "Done.", failed);
}

function show(item) {
  const { result, file } = item;
  shown = item;
  $("result").hidden = false;
  $("result-name").textContent = file.name;
  $("before").src = item.before;
  $("after").src = item.after;
  slide(50);
  const r = result.route;
  $("route").textContent = `Restored by ${r.expert.name} (${r.expert.architecture}): ${r.words}.`;
  const odds = [...(r.degradations || [])].sort((a, b) => b.probability - a.probability).slice(0, 4);
  $("odds").replaceChildren(...odds.map((d) => {
    const li = document.createElement("li");
    const name = document.createElement("span");
    const meter = document.createElement("meter");
    const percent = document.createElement("span");
    name.textContent = d.name;
    meter.value = d.probability;
    meter.setAttribute("aria-hidden", "true");
    percent.textContent = Math.round(100 * d.probability) + " %";
    li.append(name, meter, percent);
    return li;
  }));
  $("warnings").replaceChildren(...(result.warnings || []).map((w) => {
    const li = document.createElement("li");
    li.textContent = w;
    return li;
  }));
  $("download").href = item.after;
  $("download").download = file.name.replace(/\.[^.]*$/, "") + ".restored." + result.format;
}

function remember(item) {
  $("past").hidden = false;
  const li = document.createElement("li");
  const button = document.createElement("button");
  const img = document.createElement("img");
  img.src = item.after;
  img.alt = "";
  button.type = "button";
  button.append(img, item.file.name + (item.how && ` (${item.how})`));
  button.addEventListener("click", () => { show(item); $("result-name").scrollIntoView(); });
  li.append(button);
  $("history").prepend(li);
}

function slide(percent) {
  $("slider").value = percent;
  $("compare").style.setProperty("--at", percent + "%");
}

$("strength").addEventListener("input", (e) => { $("strength-value").textContent = e.target.value + " %"; });
$("again").addEventListener("click", () => { if (shown) restoreAll([shown.file]); });
$("slider").addEventListener("input", (e) => slide(e.target.value));
$("compare").addEventListener("pointermove", (e) => {
  if (e.pointerType === "mouse" && !e.buttons) return;
  const box = $("compare").getBoundingClientRect();
  slide(Math.round(Math.min(Math.max((100 * (e.clientX - box.left)) / box.width, 0), 100)));
});
$("files").addEventListener("change", (e) => { restoreAll([...e.target.files]); e.target.value = ""; });
$("form").addEventListener("submit", (e) => e.preventDefault());
$("token").addEventListener("change", (e) => { token = e.target.value.trim(); loadExperts(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (e) => {
    e.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") restoreAll([...e.dataTransfer.files]);
  });
}
document.addEventListener("paste", (e) => { if (e.clipboardData.files.length) restoreAll([...e.clipboardData.files]); });
loadExperts();
