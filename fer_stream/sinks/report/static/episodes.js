"use strict";
const ROWS_SHOWN = 150;
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
    const unsure = labels[labelIndex] === "unsure";
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
      make("td", "", `${percent(mean, unsure)} %`),
      make("td", "", `${percent(highest, unsure)} %`),
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
    listed = report.episodes.filter(
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
  const frame = find("table-frame");
  const fade = () => frame.classList.toggle("more-right", frame.scrollLeft + frame.clientWidth < frame.scrollWidth - 1);
  frame.addEventListener("scroll", fade);
  const resized = new ResizeObserver(fade);
  resized.observe(frame);
  resized.observe(find("episodes"));
  watchers.push(highlight);
  update();
}
