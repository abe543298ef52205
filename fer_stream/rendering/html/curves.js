"use strict";
// How the report and the live page draw the curve of each expression.

// Dashes tell the curves apart without their colours.
const DASHES = {
  angry: [8, 3],
  disgust: [9, 3, 2, 3],
  fear: [2, 3],
  happy: [],
  neutral: [],
  sad: [4, 3],
  surprise: [14, 4],
};

/** Return a short piece of an expression's curve, for a legend. */
function curveSample(expression) {
  const namespace = "http://www.w3.org/2000/svg";
  const sample = document.createElementNS(namespace, "svg");
  sample.setAttribute("class", "curve-sample");
  sample.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(namespace, "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: "100%", y1: "50%", y2: "50%" })) {
    line.setAttribute(name, value);
  }
  line.setAttribute("stroke-dasharray", DASHES[expression].join(" "));
  line.style.stroke = `var(--line-${expression})`;
  sample.append(line);
  return sample;
}
