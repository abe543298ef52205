"use strict";
const GAP_S = 0.5; // as in the episodes: a face that is away for longer, from the end of its last frame, breaks its curve
const SHORTEST_VIEW_S = 0.4;
const MOST_DRAWN = 2000; // points of one curve in view: more than there are pixels
// Timeline

/** Unpack a person's curve to uPlot's columns: times, and seven rows of percentages with null in gaps. */
function columnsOf(person) {
  const steps = new Uint32Array(bytesOf(person.curve.steps).buffer);
  const values = bytesOf(person.curve.values);
  const frameS = report.frame_s;
  const longest = Math.max((frameS + Math.max(GAP_S, frameS / 2)) / report.step_s, 2);
  const endsAfter = Math.max(frameS / report.step_s, 1); // in steps: a reading lasts as long as its frame
  const columns = Array.from({ length: 8 }, () => []);
  const add = (step, valueOf) => {
    columns[0].push(step * report.step_s);
    for (let row = 0; row < 7; row++) columns[row + 1].push(valueOf(row));
  };
  for (let point = 0; point < steps.length; point++) {
    const valueOf = (row) => (values[7 * point + row] * 100) / 255;
    add(steps[point] + 0.5, valueOf);
    if (point + 1 < steps.length && steps[point + 1] - steps[point] <= longest) continue;
    add(steps[point] + 0.5 + endsAfter, valueOf); // so that a single reading shows, too
    if (point + 1 < steps.length) add(steps[point] + 0.75 + endsAfter, () => null);
  }
  return columns;
}

/** Return the same curves with half the points: the mean of every two that no gap separates. */
function coarser(columns) {
  const halved = columns.map(() => []);
  const times = columns[0];
  for (let point = 0; point < times.length; point++) {
    const pairs = columns[1][point] != null && point + 1 < times.length && columns[1][point + 1] != null;
    columns.forEach((column, row) => halved[row].push(pairs ? (column[point] + column[point + 1]) / 2 : column[point]));
    if (pairs) point++;
  }
  return halved;
}

/** Return a person's columns, as fine as they can be drawn in the present view. */
function columnsInView(person) {
  person.levels ??= [columnsOf(person)];
  const share = Math.min(1, (view[1] - view[0]) / (everything[1] - everything[0]));
  for (let level = 0; ; level++) {
    person.levels[level] ??= coarser(person.levels[level - 1]);
    const columns = person.levels[level];
    if (columns[0].length * share <= MOST_DRAWN || columns[0].length < MOST_DRAWN) return columns;
  }
}

const episodesOf = new Map(people.map((person) => [person.id, []]));
for (const episode of report.episodes) episodesOf.get(episode[0]).push(episode);

const shownExpressions = new Set(expressions);
const margin = Math.max((lastS - firstS) * 0.01, 0.05);
const everything = [firstS - margin, lastS + margin];
let view = [...everything];
let charts = [];
let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  colors = { text: read("--text"), quiet: read("--quiet"), edge: read("--edge"), page: read("--page") };
  for (const label of labels) colors[label] = { fill: read(`--fill-${label}`), line: read(`--line-${label}`) };
}

function setView(from, to) {
  const least = Math.min(SHORTEST_VIEW_S, everything[1] - everything[0]);
  let span = Math.min(Math.max(to - from, least), everything[1] - everything[0]);
  const middle = (from + to) / 2;
  const start = Math.min(Math.max(middle - span / 2, everything[0]), everything[1] - span);
  view = [start, start + span];
  for (const chart of charts) {
    const columns = columnsInView(chart.person);
    if (columns !== chart.columns) chart.plot.setData((chart.columns = columns), false);
    chart.plot.setScale("x", { min: view[0], max: view[1] });
  }
}

function zoom(factor, around = nowS >= view[0] && nowS <= view[1] ? nowS : (view[0] + view[1]) / 2) {
  setView(around - (around - view[0]) * factor, around + (view[1] - around) * factor);
}

/** Return a pattern by which "unsure" is told from grey "neutral". */
function hatching(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colors.unsure.fill;
  pen.lineWidth = 2;
  pen.beginPath();
  for (const x of [-8, 0, 8]) {
    pen.moveTo(x, 8);
    pen.lineTo(x + 8, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/** Draw the episodes as a ribbon under the curves, with their names where these fit. */
function drawRibbon(plot, episodes) {
  const context = plot.ctx;
  const { left, top, width, height } = plot.bbox;
  const ratio = devicePixelRatio || 1;
  const upper = plot.valToPos(-6, "y", true);
  const lower = plot.valToPos(-24, "y", true);
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.strokeStyle = colors.page;
  context.lineWidth = 5 * ratio;
  context.lineJoin = "round";
  const hatched = hatching(context);
  for (const [, startS, endS, labelIndex] of episodes) {
    if (endS < view[0] || startS > view[1]) continue;
    const label = labels[labelIndex];
    const from = Math.max(plot.valToPos(startS, "x", true), left);
    const to = Math.min(plot.valToPos(endS, "x", true), left + width);
    context.fillStyle = label === "unsure" ? hatched : colors[label].fill;
    context.fillRect(from, upper, Math.max(to - from - ratio, ratio), lower - upper);
    if (to - from < 20 * ratio) continue;
    const needed = context.measureText(label).width + 10 * ratio;
    if (to - from > needed) {
      const [x, y] = [from + 5 * ratio, (upper + lower) / 2];
      if (label === "unsure") context.strokeText(label, x, y); // a halo, because the hatching runs behind the word
      context.fillStyle = label === "unsure" ? colors.text : label === "sad" ? "#fff" : "#111";
      context.fillText(label, x, y);
    }
  }
  context.restore();
}

const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

function chartOptions(person, width) {
  const episodes = episodesOf.get(person.id);
  const axis = { stroke: colors.quiet, grid: { stroke: colors.edge, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width,
    height: 190,
    legend: { show: false },
    scales: {
      x: { time: false, auto: false, min: view[0], max: view[1] },
      y: { auto: false, range: [-26, 102] },
    },
    axes: [
      {
        ...axis,
        incrs: TICKS,
        space: 70,
        size: 28,
        values: (_plot, splits, _axis, _space, step) => splits.map((value) => clock(value, step < 1 ? 1 : 0)),
      },
      { ...axis, size: 48, splits: [0, 25, 50, 75, 100], values: (_plot, splits) => splits.map((value) => `${value} %`) },
    ],
    series: [
      {},
      ...expressions.map((label) => ({
        label,
        show: shownExpressions.has(label),
        stroke: colors[label].line,
        width: 1.6,
        dash: DASHES[label],
        points: { show: false },
        spanGaps: false,
      })),
    ],
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: true, y: false, setScale: false },
      sync: { key: "fer-stream", scales: ["x", null] },
      bind: { dblclick: () => () => setView(...everything) },
    },
    hooks: {
      // uPlot applies new scales and sizes just before it draws, so the playhead has no place until then.
      draw: [(plot) => drawRibbon(plot, episodes), placePlayhead],
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select;
          if (wide < 4) return;
          const range = [plot.posToVal(left, "x"), plot.posToVal(left + wide, "x")];
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          setView(...range);
        },
      ],
      setCursor: [(plot) => showTip(plot)],
    },
  };
}

/** Return whether a face is unsure at a point of its curves. */
function isUnsure(columns, point) {
  return Math.max(...columns.slice(1).map((column) => column[point])) < 100 * unsureBelow;
}

function showTip(plot) {
  const chart = charts.find((each) => each.plot === plot);
  if (!chart) return;
  const { left, idx } = plot.cursor;
  const { columns } = chart;
  // Only over the chart that the pointer is in; the others get the line alone.
  const hidden = left < 0 || idx == null || columns[1][idx] == null || !chart.hovered;
  chart.tip.hidden = hidden;
  if (hidden) return;
  const unsure = isUnsure(columns, idx);
  const values = expressions
    .map((label, index) => [label, columns[index + 1][idx]])
    .filter(([label]) => shownExpressions.has(label))
    .sort((one, other) => other[1] - one[1]);
  chart.tip.replaceChildren(
    make("b", "", clock(columns[0][idx])),
    ...values.map(([label, value]) => make("span", "", curveSample(label), label, make("i", "", `${percent(value / 100, unsure)} %`))),
  );
  const offset = plot.over.offsetLeft;
  const right = left + 14 + chart.tip.offsetWidth > plot.over.clientWidth;
  chart.tip.style.left = `${offset + (right ? left - 14 - chart.tip.offsetWidth : left + 14)}px`;
}

/** Return the index of the last of several things that has started by a moment, -1 if none has. */
function lastStarted(count, startOf, seconds) {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (startOf(middle) <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Return the label of a person's reading at a moment, as in the video; null if the person is not seen. */
function labelAt(person, seconds) {
  const episodes = episodesOf.get(person.id);
  const episode = episodes[lastStarted(episodes.length, (index) => episodes[index][1], seconds)];
  if (!episode || seconds >= episode[2]) return null;
  const columns = person.levels[0];
  const startOf = (point) => columns[0][point] - report.step_s / 2;
  let point = Math.max(0, lastStarted(columns[0].length, startOf, seconds + SEEK_SLACK_S));
  if (columns[1][point] == null) point -= 1; // within an episode, a reading lasts until the next one
  if (isUnsure(columns, point)) return "unsure";
  const values = expressions.map((_, index) => columns[index + 1][point]);
  return expressions[values.indexOf(Math.max(...values))];
}

function placePlayhead(plot) {
  const { playhead } = charts.find((each) => each.plot === plot);
  playhead.hidden = nowS < view[0] || nowS > view[1];
  playhead.style.left = `${plot.valToPos(nowS, "x")}px`;
}

function showNow() {
  for (const { plot, now, person } of charts) {
    placePlayhead(plot);
    now.textContent = `${labelAt(person, nowS) ?? "not seen"} at ${clock(nowS)}`;
  }
  find("clock").textContent = clock(nowS);
}

function onKey(event) {
  const step = event.shiftKey ? 10 : 1;
  const actions = {
    ArrowLeft: () => seek(nowS - step),
    ArrowRight: () => seek(nowS + step),
    Home: () => seek(firstS),
    End: () => seek(lastS),
    "+": () => zoom(0.5),
    "=": () => zoom(0.5),
    "-": () => zoom(2),
    0: () => setView(...everything),
    " ": () => saved && (video.paused ? video.play() : video.pause()),
  };
  const action = actions[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
  if (nowS < view[0] || nowS > view[1]) {
    const span = view[1] - view[0];
    setView(nowS - span / 2, nowS + span / 2);
  }
}

function drawCharts() {
  for (const { plot } of charts) plot.destroy();
  charts = [];
  const holder = find("charts");
  const lanes = [];
  for (const person of people) {
    if (!shownPeople.has(person.id)) continue;
    const now = make("span", "now");
    const title = make("h3", "");
    if (person.picture) title.append(picture(person.picture, ""));
    title.append(personName(person.id), now);
    const plotHolder = make("div", "plot");
    plotHolder.tabIndex = 0;
    plotHolder.setAttribute("role", "application");
    plotHolder.setAttribute(
      "aria-label",
      `${personName(person.id)}: curves. Arrow keys move in time, plus and minus zoom, 0 shows everything.`,
    );
    plotHolder.addEventListener("keydown", onKey);
    const lane = make("div", "lane", title, plotHolder);
    lanes.push({ lane, plotHolder, person, now });
  }
  holder.replaceChildren(...lanes.map(({ lane }) => lane));
  if (!lanes.length) {
    holder.append(make("p", "note", people.length ? "Choose people above to see their curves." : "No face was found."));
  }
  const width = Math.max(holder.clientWidth, 240);
  for (const { plotHolder, person, now } of lanes) {
    const columns = columnsInView(person);
    const plot = new uPlot(chartOptions(person, width), columns, plotHolder);
    const playhead = make("div", "playhead");
    plot.over.append(playhead);
    const tip = make("div", "tip");
    tip.hidden = true;
    plotHolder.append(tip);
    plotHolder.style.position = "relative";
    const chart = { plot, columns, playhead, now, person, tip, hovered: false };
    charts.push(chart);
    plot.over.addEventListener("mouseenter", () => (chart.hovered = true));
    plot.over.addEventListener("mouseleave", () => {
      chart.hovered = false;
      tip.hidden = true;
    });
    plot.over.addEventListener("click", (event) => {
      seek(plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
    });
    plot.over.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.shiftKey) return; // without a key the page scrolls
        event.preventDefault();
        const along = plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x");
        const amount = event.deltaY || event.deltaX;
        if (event.ctrlKey) zoom(amount < 0 ? 0.8 : 1.25, along);
        else {
          const shift = Math.sign(amount) * (view[1] - view[0]) * 0.1;
          setView(view[0] + shift, view[1] + shift);
        }
      },
      { passive: false },
    );
  }
  showNow();
}

function setUpTimeline() {
  readColors();
  const chips = find("expressions");
  for (const label of expressions) {
    const chip = make("button", "", curveSample(label), label);
    chip.type = "button";
    chip.setAttribute("aria-pressed", "true");
    chip.addEventListener("click", () => {
      const shown = !shownExpressions.has(label);
      if (shown) shownExpressions.add(label);
      else shownExpressions.delete(label);
      chip.setAttribute("aria-pressed", String(shown));
      for (const { plot } of charts) plot.setSeries(expressions.indexOf(label) + 1, { show: shown });
    });
    chips.append(chip);
  }
  find("zoom-in").addEventListener("click", () => zoom(0.5));
  find("zoom-out").addEventListener("click", () => zoom(2));
  find("zoom-all").addEventListener("click", () => setView(...everything));
  find("hint").textContent = `Drag over a curve to zoom, double-click to see everything${
    saved ? ", click to go to the moment in the video" : ""
  }. With the keyboard: arrows, +, − and 0 on a curve. The ribbon under each curve shows the episodes. A label that lasts less than 0.3 s joins the longer episode beside it, so a single frame can differ from the ribbon.`;
  drawCharts();
  watchers.push(showNow);
  let wide = find("charts").clientWidth;
  new ResizeObserver(() => {
    const width = find("charts").clientWidth;
    if (Math.abs(width - wide) < 2) return;
    wide = width;
    for (const { plot } of charts) plot.setSize({ width: Math.max(width, 240), height: 190 });
  }).observe(find("charts"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColors();
    drawCharts();
  });
}
