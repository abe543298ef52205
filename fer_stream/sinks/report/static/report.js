"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const { labels, people, video: saved } = content;
  const expressions = labels.slice(0, 7);
  const [firstS, lastS] = content.span_s;
  const find = (id) => document.getElementById(id);
  const byId = new Map(people.map((person) => [person.id, person]));

  const PEOPLE_SHOWN = 12;
  const ROWS_SHOWN = 150;
  const CHARTS_AT_FIRST = 3;
  const GAP_S = 0.5; // as in the episodes: a face that is away for longer breaks its curve
  const SHORTEST_VIEW_S = 0.4;
  const SEEK_SLACK_S = 0.002;
  const DASHES = [[8, 3], [9, 3, 2, 3], [2, 3], [], [], [4, 3], [14, 4]];

  /** Make an element with a class and text or children. Text is never read as markup. */
  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  }

  function clock(seconds, digits = 1) {
    const scale = 10 ** digits;
    const total = Math.round(Math.abs(seconds) * scale) / scale;
    const hours = Math.floor(total / 3600);
    const minutes = Math.floor(total / 60) % 60;
    const rest = (total % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
    const text = hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
    return seconds < 0 && total ? `−${text}` : text;
  }

  function length(seconds) {
    return seconds < 60 ? `${seconds.toFixed(1)} s` : `${clock(seconds, 0)} min`;
  }

  const percent = (share) => `${Math.round(100 * share)} %`;
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

  // Head and people

  function setUpHead() {
    find("title").textContent = content.title;
    const facts = [
      `${clock(firstS, 0)} to ${clock(lastS, 0)}`,
      people.length === 1 ? "1 person" : `${people.length} people`,
      `${content.frames.toLocaleString("en")} frames`,
    ];
    if (content.blurred) facts.push("faces hidden");
    find("facts").textContent = facts.join("  ·  ");
  }

  const shownPeople = new Set(people.slice(0, CHARTS_AT_FIRST).map((person) => person.id));

  function personCard(person) {
    const seenS = total(person);
    const head = make("div", "person-head", picture(person.picture, personName(person.id)));
    const toggle = make("input");
    toggle.type = "checkbox";
    toggle.checked = shownPeople.has(person.id);
    toggle.addEventListener("change", () => {
      if (toggle.checked) shownPeople.add(person.id);
      else shownPeople.delete(person.id);
      drawCharts();
    });
    head.append(
      make(
        "div",
        "",
        make("h3", "", personName(person.id)),
        make("p", "seen", `seen for ${length(seenS)}`),
        make("label", "", toggle, "in the timeline"),
      ),
    );
    const ranked = labels
      .map((label) => [label, (person.seconds[label] || 0) / (seenS || 1)])
      .filter(([, share]) => share > 0)
      .sort((one, other) => other[1] - one[1]);
    const stack = make("div", "stack");
    stack.setAttribute("aria-hidden", "true");
    const shares = make("ul", "shares");
    for (const [label, share] of ranked) {
      const part = make("span", `fill-${label}`);
      part.style.flexGrow = String(share);
      stack.append(part);
      if (share >= 0.005) shares.append(make("li", "", mark(label), `${label} ${percent(share)}`));
    }
    const card = make("li", "person", head, stack, shares);
    if (person.pictures && person.pictures.length > 1) {
      const moments = make("div", "moments");
      for (const thumbnail of person.pictures) {
        const button = make(
          "button",
          "",
          picture(thumbnail, ""),
          make("span", "", thumbnail.label),
        );
        button.type = "button";
        button.title = `${clock(thumbnail.time_s)}: ${thumbnail.label}`;
        button.setAttribute("aria-label", `${personName(person.id)}, ${thumbnail.label}, go to ${clock(thumbnail.time_s)}`);
        button.addEventListener("click", () => seek(thumbnail.time_s));
        moments.append(button);
      }
      card.append(moments);
    }
    return card;
  }

  function setUpPeople() {
    find("nobody").hidden = people.length > 0;
    find("timeline-section").hidden = people.length === 0 && !saved;
    const list = find("people");
    const more = find("more-people");
    list.append(...people.slice(0, PEOPLE_SHOWN).map(personCard));
    more.hidden = people.length <= PEOPLE_SHOWN;
    more.textContent = `Show all ${people.length} people`;
    more.addEventListener("click", () => {
      list.append(...people.slice(PEOPLE_SHOWN).map(personCard));
      more.hidden = true;
    });
  }

  // Timeline

  function bytesOf(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  /** Unpack a person's curve to uPlot's columns: times, and seven rows of percentages with null in gaps. */
  function columnsOf(person) {
    if (person.columns) return person.columns;
    const steps = new Uint32Array(bytesOf(person.curve.steps).buffer);
    const values = bytesOf(person.curve.values);
    const longest = Math.max(GAP_S / content.step_s, 2);
    const columns = Array.from({ length: 8 }, () => []);
    for (let point = 0; point < steps.length; point++) {
      if (point && steps[point] - steps[point - 1] > longest) {
        columns[0].push((steps[point - 1] + 1) * content.step_s);
        for (let row = 1; row < 8; row++) columns[row].push(null);
      }
      columns[0].push((steps[point] + 0.5) * content.step_s);
      for (let row = 0; row < 7; row++) columns[row + 1].push((values[7 * point + row] * 100) / 255);
    }
    person.columns = columns;
    return columns;
  }

  const episodesOf = new Map(people.map((person) => [person.id, []]));
  for (const episode of content.episodes) episodesOf.get(episode[0]).push(episode);

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
    for (const { plot } of charts) plot.setScale("x", { min: view[0], max: view[1] });
    placePlayheads();
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
    const hatched = hatching(context);
    for (const [, startS, endS, labelIndex] of episodes) {
      if (endS < view[0] || startS > view[1]) continue;
      const label = labels[labelIndex];
      const from = Math.max(plot.valToPos(startS, "x", true), left);
      const to = Math.min(plot.valToPos(endS, "x", true), left + width);
      context.fillStyle = label === "unsure" ? hatched : colors[label].fill;
      context.fillRect(from, upper, Math.max(to - from - ratio, ratio), lower - upper);
      const needed = context.measureText(label).width + 10 * ratio;
      if (to - from > needed) {
        context.fillStyle = label === "unsure" ? colors.page : "transparent";
        context.fillRect(from + 3 * ratio, upper + 2 * ratio, needed - 6 * ratio, lower - upper - 4 * ratio);
        context.fillStyle = label === "unsure" ? colors.text : label === "sad" || label === "angry" ? "#fff" : "#111";
        context.fillText(label, from + 5 * ratio, (upper + lower) / 2);
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
        ...expressions.map((label, index) => ({
          label,
          show: shownExpressions.has(label),
          stroke: colors[label].line,
          width: 1.6,
          dash: DASHES[index],
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
        draw: [(plot) => drawRibbon(plot, episodes)],
        setSelect: [
          (plot) => {
            const { left, width: wide } = plot.select;
            if (wide < 4) return;
            const range = [plot.posToVal(left, "x"), plot.posToVal(left + wide, "x")];
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            setView(...range);
          },
        ],
        setCursor: [(plot) => showTip(plot, person)],
      },
    };
  }

  function showTip(plot, person) {
    const chart = charts.find((each) => each.plot === plot);
    if (!chart) return;
    const { left, idx } = plot.cursor;
    const columns = columnsOf(person);
    // Only over the chart that the pointer is in; the others get the line alone.
    const hidden = left < 0 || idx == null || columns[1][idx] == null || !chart.hovered;
    chart.tip.hidden = hidden;
    if (hidden) return;
    const values = expressions
      .map((label, index) => [label, columns[index + 1][idx]])
      .filter(([label]) => shownExpressions.has(label))
      .sort((one, other) => other[1] - one[1]);
    chart.tip.replaceChildren(
      make("b", "", clock(columns[0][idx])),
      ...values.map(([label, value]) => make("span", "", mark(label), label, make("i", "", `${Math.round(value)} %`))),
    );
    const offset = plot.over.offsetLeft;
    const right = left + 14 + chart.tip.offsetWidth > plot.over.clientWidth;
    chart.tip.style.left = `${offset + (right ? left - 14 - chart.tip.offsetWidth : left + 14)}px`;
  }

  function episodeAt(personId, seconds) {
    const episodes = episodesOf.get(personId);
    let low = 0;
    let high = episodes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (episodes[middle][1] <= seconds) low = middle + 1;
      else high = middle;
    }
    const episode = episodes[low - 1];
    return episode && seconds < episode[2] ? episode : null;
  }

  function placePlayheads() {
    for (const { plot, playhead, now, person } of charts) {
      playhead.hidden = nowS < view[0] || nowS > view[1];
      playhead.style.left = `${plot.valToPos(nowS, "x")}px`;
      const episode = episodeAt(person.id, nowS);
      now.textContent = episode ? `${labels[episode[3]]} at ${clock(nowS)}` : `not seen at ${clock(nowS)}`;
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
      const plot = new uPlot(chartOptions(person, width), columnsOf(person), plotHolder);
      const playhead = make("div", "playhead");
      plot.over.append(playhead);
      const tip = make("div", "tip");
      tip.hidden = true;
      plotHolder.append(tip);
      plotHolder.style.position = "relative";
      const chart = { plot, playhead, now, person, tip, hovered: false };
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
    placePlayheads();
  }

  function setUpTimeline() {
    readColors();
    const chips = find("expressions");
    for (const label of expressions) {
      const chip = make("button", "", mark(label), label);
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
    }. With the keyboard: arrows, +, − and 0 on a curve. The ribbon under each curve shows the episodes.`;
    drawCharts();
    watchers.push(placePlayheads);
    let wide = find("charts").clientWidth;
    new ResizeObserver(() => {
      const width = find("charts").clientWidth;
      if (Math.abs(width - wide) < 2) return;
      wide = width;
      for (const { plot } of charts) plot.setSize({ width: Math.max(width, 240), height: 190 });
      placePlayheads();
    }).observe(find("charts"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      readColors();
      drawCharts();
    });
  }

  // Episodes

  const KEYS = {
    person: (episode) => episode[0],
    start: (episode) => episode[1],
    end: (episode) => episode[2],
    length: (episode) => episode[2] - episode[1],
    expression: (episode) => labels[episode[3]],
    mean: (episode) => episode[4],
    max: (episode) => episode[5],
  };

  function setUpEpisodes() {
    const body = document.querySelector("#episodes tbody");
    const more = find("more-episodes");
    const pickPerson = find("pick-person");
    const pickExpression = find("pick-expression");
    pickPerson.append(new Option("all", ""), ...people.map(({ id }) => new Option(String(id), String(id))));
    pickExpression.append(new Option("all", ""), ...labels.map((label, index) => new Option(label, String(index))));
    let key = "start";
    let downwards = false;
    let listed = [];
    let count = ROWS_SHOWN;
    let rows = [];

    function row(episode) {
      const [personId, startS, endS, labelIndex, mean, highest] = episode;
      const go = make("button", "", clock(startS, 2));
      go.type = "button";
      go.title = "Go to this moment";
      go.setAttribute("aria-label", `${personName(personId)}, ${labels[labelIndex]}, go to ${clock(startS, 2)}`);
      const line = make(
        "tr",
        "",
        make("td", "", String(personId)),
        make("td", "", go),
        make("td", "", clock(endS, 2)),
        make("td", "", `${(endS - startS).toFixed(2)} s`),
        make("td", "", mark(labels[labelIndex]), labels[labelIndex]),
        make("td", "", percent(mean)),
        make("td", "", percent(highest)),
      );
      line.addEventListener("click", () => {
        seek(startS);
        if (startS < view[0] || startS > view[1]) {
          const span = view[1] - view[0];
          setView(startS - span / 4, startS + (3 * span) / 4);
        }
      });
      rows.push({ line, episode });
      return line;
    }

    function list() {
      rows = [];
      body.replaceChildren(...listed.slice(0, count).map(row));
      more.hidden = listed.length <= count;
      more.textContent = `Show ${Math.min(ROWS_SHOWN, listed.length - count)} more of ${listed.length}`;
      find("episode-count").textContent = listed.length === 1 ? "1 episode" : `${listed.length} episodes`;
      highlight();
    }

    function update() {
      const person = pickPerson.value;
      const expression = pickExpression.value;
      listed = content.episodes.filter(
        (episode) => (!person || episode[0] === Number(person)) && (!expression || episode[3] === Number(expression)),
      );
      const value = KEYS[key];
      const order = downwards ? -1 : 1;
      listed.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        return order * (a < b ? -1 : a > b ? 1 : 0) || one[1] - other[1] || one[0] - other[0];
      });
      count = ROWS_SHOWN;
      list();
    }

    function highlight() {
      for (const { line, episode } of rows) line.classList.toggle("current", episode[1] <= nowS && nowS < episode[2]);
    }

    for (const header of document.querySelectorAll("#episodes th")) {
      header.querySelector("button").addEventListener("click", (event) => {
        const chosen = event.currentTarget.dataset.key;
        downwards = chosen === key ? !downwards : ["length", "mean", "max"].includes(chosen);
        key = chosen;
        for (const other of document.querySelectorAll("#episodes th")) other.setAttribute("aria-sort", "none");
        header.setAttribute("aria-sort", downwards ? "descending" : "ascending");
        update();
      });
    }
    pickPerson.addEventListener("change", update);
    pickExpression.addEventListener("change", update);
    more.addEventListener("click", () => {
      const shown = count;
      count += ROWS_SHOWN;
      body.append(...listed.slice(shown, count).map(row));
      more.hidden = listed.length <= count;
      more.textContent = `Show ${Math.min(ROWS_SHOWN, listed.length - count)} more of ${listed.length}`;
    });
    watchers.push(highlight);
    update();
  }

  // Trust and provenance

  function setUpWords() {
    const { labels: annotation, unsure_below: unsureBelow } = content.provenance;
    const lines = [
      "A reading says how people would label the look of the face in a still picture. It does not say what the person feels.",
      "Compare a person with themselves over time. Absolute percentages differ between faces, lights and cameras.",
      "Short episodes, small or turned faces and low percentages are the least certain. Look at the video before you rely on one.",
      "Person numbers follow a face while it can be followed. Someone who leaves and comes back may get a new number.",
    ];
    if (annotation === "ferplus") lines.splice(1, 0, "The percentages follow FER+, in which ten annotators labelled each training picture.");
    if (annotation === "fer2013") lines.splice(1, 0, "The percentages follow FER2013, in which one annotator labelled each training picture and many labels are disputed.");
    if (unsureBelow > 0) lines.splice(2, 0, `“unsure” means that no expression reached ${percent(unsureBelow)}.`);
    lines.push("Do not use this report to judge or decide about people.");
    find("trust").append(...lines.map((line) => make("li", "", line)));

    const said = content.provenance;
    const options = Object.entries(said.options).map(([name, value]) => (value === "True" ? `--${name}` : `--${name} ${value}`));
    const entries = [
      ["Source", said.source],
      ["Source SHA-256", said.source_sha256],
      ["Program", `${said.program} ${said.version}`],
      ["Weights", said.weights],
      ["Weights SHA-256", said.weights_sha256],
      ["Annotation", annotation],
      ["Unsure below", unsureBelow > 0 ? percent(unsureBelow) : ""],
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
})();
