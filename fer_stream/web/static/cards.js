// One card per person, with seven bars.
// `make` and `percent` come from the classic script /static/shared.js, which the report inlines, too.

export const EXPRESSIONS = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"];
// In the source's time, so that they do not depend on the speed of the run.
const AWAY_AFTER_S = 0.4; // a detector misses a face in single frames
const GONE_AFTER_S = 2.5;

function makeCard(id) {
  const name = make("h3", "", `Person ${id}`);
  const label = make("strong", "");
  const rows = EXPRESSIONS.map((expression) => {
    const fill = make("div", `bar-fill fill-${expression}`);
    const value = make("span", "value");
    const row = make("div", "row", make("span", "", expression), make("div", "track", fill), value);
    return { row, fill, value };
  });
  const card = make("li", "card", make("div", "card-head", name, label), ...rows.map(({ row }) => row));
  return { card, label, rows, seenS: 0 };
}

export class Cards {
  constructor(list, nobody) {
    this.list = list;
    this.nobody = nobody;
    this.cards = new Map();
    this.unsureBelow = 0;
  }

  /** Show the faces of one frame. */
  show({ time_s: nowS, faces }) {
    for (const face of faces) {
      let entry = this.cards.get(face.face_id);
      if (!entry) {
        entry = makeCard(face.face_id);
        this.cards.set(face.face_id, entry);
        const next = [...this.cards.keys()].filter((id) => id > face.face_id).sort((one, other) => one - other)[0];
        this.list.insertBefore(entry.card, next === undefined ? null : this.cards.get(next).card);
      }
      entry.seenS = nowS;
      this.fill(entry, face);
    }
    this.clear(nowS);
  }

  fill(entry, face) {
    const unsure = face.confidence < this.unsureBelow;
    const label = unsure ? "unsure" : face.expression;
    entry.label.textContent = unsure ? "unsure" : `${label} ${percent(face.confidence)} %`;
    entry.card.style.borderLeftColor = `var(--fill-${label})`;
    entry.card.style.borderLeftStyle = unsure ? "dashed" : "solid"; // two greys alone are hard to tell apart
    EXPRESSIONS.forEach((expression, index) => {
      const { row, fill, value } = entry.rows[index];
      fill.style.transform = `scaleX(${face[expression]})`;
      value.textContent = String(percent(face[expression], unsure));
      row.classList.toggle("top-row", expression === face.expression && !unsure);
    });
  }

  /** Dim the cards of faces that are away, and remove them after a while. */
  clear(nowS) {
    for (const [id, entry] of this.cards) {
      const awayS = Math.abs(nowS - entry.seenS);
      entry.card.classList.toggle("away", awayS > AWAY_AFTER_S);
      if (awayS > GONE_AFTER_S) {
        entry.card.remove();
        this.cards.delete(id);
      }
    }
    this.nobody.hidden = this.cards.size > 0;
    this.list.parentElement.classList.toggle("many", this.cards.size > 2);
    this.list.parentElement.classList.toggle("crowd", this.cards.size > 4);
  }
}
