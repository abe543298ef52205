"use strict";
// What the parts of the report share: its content, small helpers, and the moment that is looked at.
// The parts are scripts in one page, in this order: base, people, timeline, episodes, words.

const report = JSON.parse(document.getElementById("content").textContent);
const { labels, people, video: saved } = report;
const expressions = labels.slice(0, 7);
const [firstS, lastS] = report.span_s;
const find = (id) => document.getElementById(id);

const unsureBelow = report.provenance.unsure_below;

const SEEK_SLACK_S = 0.002;

function clock(seconds, digits = 1) {
  const scale = 10 ** digits;
  const total = Math.round(Math.abs(seconds) * scale) / scale;
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  const rest = (total % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  const text = hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  return seconds < 0 && total ? `−${text}` : text;
}

function lengthText(seconds) {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return `${clock(seconds, 0)} ${seconds < 3599.5 ? "min" : "h"}`;
}

const total = (person) => Object.values(person.seconds).reduce((sum, value) => sum + value, 0);
const personName = (id) => `Person ${id}`;

function mark(label) {
  const element = make("span", `mark fill-${label}`);
  element.setAttribute("aria-hidden", "true");
  return element;
}

function picture(thumbnail, description) {
  if (!thumbnail) return make("span", "blank");
  const image = make("img");
  image.src = thumbnail.src;
  image.alt = description;
  return image;
}

// The moment that is looked at, shared by video, curves and table.

const video = find("video");
let nowS = firstS;
const watchers = [];

function setNow(seconds) {
  nowS = seconds;
  for (const watcher of watchers) watcher(seconds);
}

/** Go to a moment of the source: the video shows it, and the playhead stands there. */
function seek(seconds) {
  const moment = Math.min(Math.max(seconds, firstS), lastS);
  // A frame lasts from its time on: a rounding error must not show the one before.
  if (saved) video.currentTime = Math.max(0, moment - saved.starts_s + SEEK_SLACK_S);
  setNow(moment);
}

function setUpVideo() {
  if (!saved) return;
  find("player").hidden = false;
  document.querySelector(".bench").classList.add("with-video");
  video.setAttribute("aria-label", `annotated video ${saved.name}`);
  video.addEventListener("error", () => {
    video.hidden = true;
    const missing = find("video-missing");
    missing.hidden = false;
    missing.textContent = `The video ${saved.name} can't be played. It belongs beside this file, at ${decodeURIComponent(saved.src)}.`;
  });
  const follow = () => setNow(video.currentTime + saved.starts_s);
  for (const event of ["timeupdate", "seeking", "seeked"]) video.addEventListener(event, follow);
  const run = () => {
    if (video.paused || video.ended) return;
    follow();
    requestAnimationFrame(run);
  };
  video.addEventListener("play", run);
  video.src = saved.src;
}
