"use strict";
// What the report and the live page share.

/** Make an element with a class and text or children. Text is never read as markup. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/**
 * Return a share in whole percent. It rounds up to 100 only from 99.95 %, as in every other output.
 * The percentages of an unsure face round down, so that none reaches the threshold.
 */
function percent(share, unsure = false) {
  return unsure ? Math.floor(100 * share) : Math.min(Math.round(100 * share), share < 0.9995 ? 99 : 100);
}

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
