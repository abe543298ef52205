"use strict";
// Trust and provenance

function setUpWords() {
  const annotation = report.provenance.labels;
  const threshold = `${Number((100 * unsureBelow).toFixed(3))} %`; // not rounded to whole percent
  const lines = [
    "A reading says how people would label the look of the face in a still picture. It does not say what the person feels.",
    "Compare a person with themselves over time. Absolute percentages differ between faces, lights and cameras.",
    "Short episodes, small or turned faces and low percentages are the least certain. Look at the video before you rely on one.",
    "Person numbers follow a face while it can be followed. Someone who leaves and comes back may get a new number.",
  ];
  if (annotation === "ferplus") lines.splice(1, 0, "The percentages follow FER+, in which ten annotators labelled each training picture.");
  if (annotation === "fer2013") lines.splice(1, 0, "The percentages follow FER2013, in which one annotator labelled each training picture and many labels are disputed.");
  if (unsureBelow > 0) lines.splice(2, 0, `“unsure” means that no expression reached ${threshold}. Its percentages are rounded down, so that none seems to reach it.`);
  lines.push("Do not use this report to judge or decide about people.");
  find("trust").append(...lines.map((line) => make("li", "", line)));

  const said = report.provenance;
  const options = Object.entries(said.options).map(([name, value]) => (value === "True" ? `--${name}` : `--${name} ${value}`));
  const entries = [
    ["Source", said.source],
    ["Source SHA-256", said.source_sha256],
    ["Program", `${said.program} ${said.version}`],
    ["Weights", said.weights],
    ["Weights SHA-256", said.weights_sha256],
    ["Annotation", annotation],
    ["Unsure below", unsureBelow > 0 ? threshold : ""],
    ["Device", said.device],
    ["Options", options.join(" ")],
    ["Started", said.started_at],
  ];
  for (const [name, value] of entries) {
    if (value) find("provenance").append(make("dt", "", name), make("dd", "", value));
  }
}

setUpHead();
setUpVideo();
setUpPeople();
setUpTimeline();
setUpEpisodes();
setUpWords();
document.documentElement.dataset.ready = "true";
