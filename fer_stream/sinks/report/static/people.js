"use strict";
const CHARTS_AT_FIRST = 3;
const PEOPLE_SHOWN = 12;
// Head and people

function setUpHead() {
  find("title").textContent = report.title;
  const facts = [
    `${clock(firstS, 0)} to ${clock(lastS, 0)}`,
    people.length === 1 ? "1 person" : `${people.length} people`,
    report.frames === 1 ? "1 frame" : `${report.frames.toLocaleString("en")} frames`,
  ];
  if (report.blurred) facts.push("faces hidden");
  find("facts").textContent = facts.join("  ·  ");
}

const shownPeople = new Set(people.slice(0, CHARTS_AT_FIRST).map((person) => person.id));

/** Return a button with a picture and its label. A click on it goes to the picture's moment. */
function momentButton(person, thumbnail) {
  const button = make("button", "moment", picture(thumbnail, ""), make("span", "", thumbnail.label));
  button.type = "button";
  button.title = `${clock(thumbnail.time_s)}: ${thumbnail.label}`;
  button.setAttribute("aria-label", `${personName(person.id)}, ${thumbnail.label}, go to ${clock(thumbnail.time_s)}`);
  button.addEventListener("click", () => seek(thumbnail.time_s));
  return button;
}

function personCard(person) {
  const seenS = total(person);
  // The best view of a face may show another expression than its main one, so it has a label, too.
  const portrait = person.picture ? momentButton(person, person.picture) : picture();
  const head = make("div", "person-head", portrait);
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
      make("p", "seen", `seen for ${lengthText(seenS)}`),
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
    if (share >= 0.005) shares.append(make("li", "", mark(label), `${label} ${percent(share)} %`));
  }
  const card = make("li", "person", head, stack, shares);
  if (person.pictures && person.pictures.length > 1) {
    card.append(make("div", "moments", ...person.pictures.map((thumbnail) => momentButton(person, thumbnail))));
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
