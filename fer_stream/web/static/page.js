// The live page: connects the streams of the run with what is shown.
// `make` comes from the classic script /static/shared.js.

import { Cards } from "./cards.js";
import { Chart, clock } from "./chart.js";

const RETRY_MS = 1000;
const DRAW_EVERY_MS = 200;
const SILENT_AFTER_MS = 4000; // the server sends the status twice a second
const TOAST_MS = 5000;

const find = (id) => document.getElementById(id);
const cards = new Cards(find("cards"), find("nobody"));
const chart = new Chart(find("chart"), find("chart-people"), find("legend"), find("chart-heading"));
let state = "connecting";
let stream = null;
let heardMs = 0;
let retry = null;

function setState(name, text) {
  state = name;
  const shown = find("state");
  if (shown.textContent !== text) shown.textContent = text;
  shown.dataset.state = name;
  for (const id of ["still", "record", "stop"]) find(id).disabled = !["running", "silent"].includes(name);
  find("picture").classList.toggle("stale", name !== "running");
}

function setBanner(text, calm = false) {
  const banner = find("banner");
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
  banner.classList.toggle("calm", calm);
}

let toastTimer = null;
function toast(text) {
  const shown = find("toast");
  shown.textContent = text;
  shown.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (shown.hidden = true), TOAST_MS);
}

// Streams

function disconnect() {
  stream?.close();
  stream = null;
  clearTimeout(retry);
  find("picture").removeAttribute("src");
}

function connect() {
  disconnect();
  stream = new EventSource("/live");
  stream.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
  stream.addEventListener("frame", (event) => {
    const frame = JSON.parse(event.data);
    cards.show(frame);
    chart.add(frame);
  });
  stream.addEventListener("error", lose);
  fetch("/history")
    .then((answer) => answer.json())
    .then((history) => chart.load(history))
    .catch(() => {});
  const picture = find("picture");
  picture.src = `/stream.mjpg?${Date.now()}`;
}

/** Report the lost connection, and try again until the run is back. */
function lose() {
  if (state === "ended" || document.hidden) return;
  disconnect();
  setState("lost", "connection lost");
  setBanner("The connection to fer-stream is lost. Trying again …");
  retry = setTimeout(connect, RETRY_MS);
}

find("picture").addEventListener("load", () => {
  find("picture").hidden = false;
  find("no-picture").hidden = true;
});

// The run

function showNumbers(status) {
  const entries = [];
  if (status.rate && status.state === "running") entries.push(["rate", `${status.rate.toFixed(1)} frames/s`]);
  if (status.live && status.latency_ms != null) entries.push(["latency", `${Math.round(status.latency_ms)} ms`]);
  if (status.live) entries.push(["dropped", status.dropped === 1 ? "1 frame" : `${status.dropped} frames`]);
  const total = status.duration_s ? ` of ${clock(status.duration_s)}` : "";
  entries.push(["time", `${clock(status.time_s)}${total}`]);
  if (status.device) entries.push(["device", status.device]);
  find("numbers").replaceChildren(...entries.map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value))));
}

function sizeText(bytes) {
  if (bytes == null) return "";
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

let filesShown = "";
function showFiles(files, ended) {
  const key = JSON.stringify([files, ended]);
  if (key === filesShown) return;
  filesShown = key;
  find("no-files").hidden = files.length > 0;
  find("files").replaceChildren(
    ...files.map(({ name, href, bytes }) => {
      const line = make("li", "");
      if (href && !ended) {
        const link = make("a", "", name);
        link.href = href;
        link.target = "_blank";
        link.rel = "noopener";
        line.append(link);
      } else {
        line.append(make("span", "", name));
      }
      line.append(make("span", "size", href || bytes == null ? sizeText(bytes) : `${sizeText(bytes)}, being written`));
      return line;
    }),
  );
}

function showStatus(status) {
  heardMs = performance.now();
  find("source").textContent = status.source;
  document.title = `${status.source} · fer-stream`;
  cards.unsureBelow = status.unsure_below;
  chart.setLive(status.live);
  showNumbers(status);
  showFiles(status.files, status.state === "ended");
  const recording = status.recording_s != null || status.is_recording;
  find("record").setAttribute("aria-pressed", String(recording));
  find("record-text").textContent = recording ? `Recording ${clock(status.recording_s || 0)}` : "Record";
  if (status.state === "ended") {
    setState("ended", "ended");
    setBanner(
      status.files.length ? "The run has ended. Its files are listed below." : "The run has ended.",
      true,
    );
    stream?.close();
    stream = null;
  } else if (status.state === "starting") {
    setState("starting", "starting");
    setBanner("");
  } else if (!status.connected || status.message) {
    setState("silent", "no picture");
    setBanner(status.message || "The source gives no picture.");
  } else {
    setState("running", status.live ? "live" : "running");
    setBanner("");
  }
}

// Buttons

async function act(name) {
  try {
    const answer = await fetch(`/actions/${name}`, { method: "POST" });
    const { message } = await answer.json();
    toast(message);
  } catch {
    toast("fer-stream does not answer");
  }
}

find("still").addEventListener("click", () => act("still"));
find("record").addEventListener("click", () => act("record"));
find("stop").addEventListener("click", () => {
  const dialog = find("stop-dialog");
  dialog.returnValue = "";
  dialog.showModal();
});
find("stop-dialog").addEventListener("close", () => {
  if (find("stop-dialog").returnValue === "stop") act("stop");
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || find("stop-dialog").open) return;
  const button = { s: "still", r: "record" }[event.key.toLowerCase()];
  if (button && !find(button).disabled) find(button).click();
});

// Disconnect while the page is hidden.
document.addEventListener("visibilitychange", () => {
  if (state === "ended") return;
  if (document.hidden) disconnect();
  else connect();
});

setInterval(() => {
  if (document.hidden) return;
  chart.draw();
  if (stream && heardMs && performance.now() - heardMs > SILENT_AFTER_MS && state === "running") {
    setState("silent", "no answer");
  }
}, DRAW_EVERY_MS);

connect();
