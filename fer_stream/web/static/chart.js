// The chart of one person's readings: the last minute of a live source, all of a recording.
// `make`, `bytesOf`, `curveSample` and `DASHES` come from the classic script /static/shared.js, `uPlot` from /static/uPlot.js.

import { EXPRESSIONS } from "./cards.js";

const MINUTE_S = 60;
const GAP_S = 0.5;
const STEP_S = 0.1; // readings in between add nothing that a minute's chart could show
const MOST_POINTS = 4000; // for each person; every other one goes when there are more
const FORGET_AFTER_S = 65; // a live source's chart shows a minute
const FORGET_AT_ONCE = 50; // points; removing them one by one would be slow
const PRESENT_FOR_S = 1; // since a person was last seen
const LEAVE_AFTER_S = 5; // then the chart shows someone else, unless the user chose this person
const GONE_OFFERED = 6; // people to choose from who are no longer in the picture
const HEIGHT_PX = 190;
const COLUMNS = 1 + EXPRESSIONS.length; // times, and the values of each expression
const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/** Return a time or a length as m:ss or h:mm:ss, rounded as in every other output. */
export function clock(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const hours = Math.floor(total / 3600);
  const minutes = String(Math.floor(total / 60) % 60);
  const rest = String(total % 60).padStart(2, "0");
  return hours ? `${hours}:${minutes.padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function emptyCurve(stepS) {
  return { columns: Array.from({ length: COLUMNS }, () => []), stepS, lastS: -Infinity, seenS: -Infinity };
}

/** Add one reading to a curve, and an empty point where the person was away for longer than the gap. */
function append(curve, timeS, values, gapS = GAP_S) {
  if (timeS < curve.lastS - 1) {
    // The source has started over, as a stream does after an outage.
    curve.columns.forEach((column) => (column.length = 0));
    curve.lastS = -Infinity;
  }
  curve.seenS = timeS;
  if (timeS - curve.lastS < curve.stepS) return;
  if (timeS - curve.lastS > Math.max(gapS, 2 * curve.stepS) && curve.columns[0].length) {
    curve.columns[0].push(curve.lastS + 0.01);
    for (let row = 1; row < COLUMNS; row++) curve.columns[row].push(null);
  }
  curve.columns[0].push(timeS);
  values.forEach((value, row) => curve.columns[row + 1].push(100 * value));
  curve.lastS = timeS;
}

export class Chart {
  constructor(holder, people, legend, heading) {
    Object.assign(this, { holder, people, heading });
    this.curves = new Map();
    this.shown = null;
    this.chosen = false;
    this.live = true;
    this.nowS = 0;
    this.dirty = true;
    this.plot = null;
    legend.append(...EXPRESSIONS.map((expression) => make("li", "", curveSample(expression), expression)));
    new ResizeObserver(() => this.build()).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build(true));
  }

  setLive(live) {
    this.live = live;
    this.heading.textContent = live ? "Last minute" : "So far";
  }

  /** Add the readings from before this page was opened. */
  load(history) {
    this.curves.clear();
    for (const [id, { steps, values }] of Object.entries(history.faces)) {
      const curve = emptyCurve(Math.max(STEP_S, history.step_s));
      const numbers = new Uint32Array(bytesOf(steps).buffer);
      const bytes = bytesOf(values);
      const unitS = history.step_s;
      numbers.forEach((step, point) => {
        const row = Array.from(bytes.subarray(7 * point, 7 * point + 7), (value) => value / 255);
        append(curve, (step + 0.5) * unitS, row, Math.max(GAP_S, 2 * unitS));
      });
      this.curves.set(Number(id), curve);
      this.nowS = Math.max(this.nowS, curve.lastS);
    }
    this.dirty = true;
  }

  /** Add the readings of one frame. */
  add({ time_s: timeS, faces }) {
    this.nowS = timeS;
    for (const face of faces) {
      let curve = this.curves.get(face.face_id);
      if (!curve) this.curves.set(face.face_id, (curve = emptyCurve(STEP_S)));
      append(curve, timeS, EXPRESSIONS.map((expression) => face[expression]));
      if (this.live) {
        let old = 0;
        while (curve.columns[0][old] < timeS - FORGET_AFTER_S) old++;
        if (old > FORGET_AT_ONCE) curve.columns.forEach((column) => column.splice(0, old));
      } else if (curve.columns[0].length > MOST_POINTS) {
        curve.columns = curve.columns.map((column) => column.filter((_, point) => point % 2 === 0));
        curve.stepS *= 2;
      }
    }
    if (this.live) {
      for (const [id, curve] of this.curves) if (curve.lastS < timeS - FORGET_AFTER_S) this.curves.delete(id);
    }
    this.dirty = true;
  }

  /** Draw what is new. Called a few times a second. */
  draw() {
    if (!this.dirty) return;
    this.dirty = false;
    this.offerPeople();
    if (!this.plot) this.build();
    const curve = this.curves.get(this.shown);
    if (!this.plot) return;
    this.plot.setData(curve ? curve.columns : emptyCurve(STEP_S).columns, false);
    this.plot.setScale("x", this.timeRange());
  }

  /** Return the range of the time axis. A live source fills its first minute from the left, and then scrolls. */
  timeRange() {
    if (this.live) {
      const max = Math.max(this.nowS, MINUTE_S);
      return { min: max - MINUTE_S, max };
    }
    const first = Math.min(...[...this.curves.values()].map((each) => each.columns[0][0] ?? Infinity));
    const min = Number.isFinite(first) ? first : 0;
    return { min, max: Math.max(this.nowS, min + 1) };
  }

  /** Show a button for each person who can be chosen, and choose one if the user has not. */
  offerPeople() {
    const seenS = (id) => this.curves.get(id).seenS;
    const isPresent = (id) => seenS(id) >= this.nowS - PRESENT_FOR_S;
    const ids = [...this.curves.keys()].sort((one, other) => one - other);
    const present = ids.filter(isPresent);
    const gone = ids.filter((id) => !isPresent(id)).sort((one, other) => seenS(other) - seenS(one));
    if (!this.curves.has(this.shown) || (!this.chosen && seenS(this.shown) < this.nowS - LEAVE_AFTER_S)) {
      this.shown = [...present, ...gone][0] ?? null;
      this.chosen = false;
    }
    const focused = Number(document.activeElement?.dataset?.person);
    const offered = [...present, ...gone.filter((id, place) => place < GONE_OFFERED || id === this.shown || id === focused)];
    const key = `${offered.join(" ")}|${this.shown}`;
    if (key === this.key) return;
    this.key = key;
    this.people.replaceChildren(
      ...offered.map((id) => {
        const button = make("button", "", `Person ${id}`);
        button.type = "button";
        button.dataset.person = String(id);
        button.setAttribute("aria-pressed", String(id === this.shown));
        button.addEventListener("click", () => {
          this.shown = id;
          this.chosen = true;
          this.dirty = true;
          this.draw();
        });
        return button;
      }),
    );
    if (focused) this.people.querySelector(`[data-person="${focused}"]`)?.focus({ preventScroll: true });
  }

  /** Make the plot, or fit it to the page's width. A change of colours needs a new one. */
  build(renew = false) {
    const width = this.holder.clientWidth;
    if (!width) return;
    if (this.plot && !renew) {
      if (Math.abs(this.plot.width - width) > 1) this.plot.setSize({ width, height: HEIGHT_PX });
      return;
    }
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: read("--quiet"), grid: { stroke: read("--edge"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    this.plot?.destroy();
    this.plot = new uPlot(
      {
        width,
        height: HEIGHT_PX,
        legend: { show: false },
        cursor: { show: false },
        select: { show: false },
        scales: { x: { time: false, auto: false, min: 0, max: MINUTE_S }, y: { auto: false, range: [0, 102] } },
        axes: [
          { ...axis, incrs: TICKS, space: 70, size: 28, values: (_plot, splits) => splits.map(clock) },
          { ...axis, size: 48, splits: [0, 25, 50, 75, 100], values: (_plot, splits) => splits.map((value) => `${value} %`) },
        ],
        series: [
          {},
          ...EXPRESSIONS.map((expression) => ({
            label: expression,
            stroke: read(`--line-${expression}`),
            width: 1.7,
            dash: DASHES[expression],
            points: { show: false },
            spanGaps: false,
          })),
        ],
      },
      emptyCurve(STEP_S).columns,
      this.holder,
    );
    this.dirty = true;
  }
}
