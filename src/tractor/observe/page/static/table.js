// The table: the columns of `tractor ps`, sorted by any.
import { grade, keyOf, known, lag, make, percent, plain, put, rate, sign, size, span, whole } from "./words.js";

const COLUMNS = [
  ["NAME", "name", (one) => plain(one.name), "left"],
  ["PID", "pid", (one) => (known(one.pid) ? String(one.pid) : "-"), "narrow-out"],
  ["HOST", "host", (one) => plain(one.host), "left narrow-out"],
  ["STATE", "state", (one) => (one.over ? "ended" : [sign(one), one.state].filter(Boolean).join(" ")), "left state"],
  ["UP", "uptime", (one) => span(one.uptime), "narrow-out"],
  ["CPU", "cpu", (one) => percent(one.cpu), ""],
  ["RSS", "rss", (one) => size(one.rss), "narrow-out"],
  ["TASKS", "tasks", (one) => whole(one.tasks), "narrow-out"],
  ["CALL", "calls", (one) => whole(one.calls), "narrow-out"],
  ["CTX", "contexts", (one) => whole(one.contexts), "narrow-out"],
  ["STR", "streams", (one) => whole(one.streams), "narrow-out"],
  ["CALLS/S", "calls_rate", (one) => rate(one.calls_rate), "narrow-out"],
  ["MSGS/S", "messages_rate", (one) => rate(one.messages_rate), "narrow-out"],
  ["LAG", "lag", (one) => (one.state === "blocked" ? ">" : lag(one.lag)), ""],
  ["FILL", "fill", (one) => percent(one.fill), ""],
  ["RST", "restarts", (one) => whole(one.restarts), "narrow-out"],
];

export class Table {
  constructor(table, choose) {
    this.head = table.tHead;
    this.body = table.tBodies[0];
    this.choose = choose;
    this.sort = null;
    this.rows = new Map();
    this.last = [[], null];
    const row = make("tr");
    for (const [title, key, , look] of COLUMNS) {
      const button = make("button", { type: "button", onclick: () => this.sortBy(key) }, title);
      row.append(make("th", { scope: "col", class: look, "data-key": key }, button));
    }
    this.head.append(row);
  }

  // Largest first, then smallest, then as the tree has them.
  sortBy(key) {
    const same = this.sort?.[0] === key;
    this.sort = !same ? [key, -1] : this.sort[1] === -1 ? [key, 1] : null;
    for (const th of this.head.rows[0].cells) {
      const here = this.sort?.[0] === th.dataset.key;
      if (here) th.setAttribute("aria-sort", this.sort[1] === 1 ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
    this.show(...this.last);
  }

  show(actors, chosen) {
    this.last = [actors, chosen];
    const several = new Set(actors.map((one) => one.host)).size > 1;
    this.head.rows[0].cells[2].hidden = !several;
    const seen = new Set();
    this.sorted(actors).forEach((one, i) => {
      const key = keyOf(one);
      seen.add(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = this.made()));
      this.fill(row, one, chosen === key, several);
      if (this.body.rows[i] !== row.tr) this.body.insertBefore(row.tr, this.body.rows[i] ?? null);
    });
    for (const [key, row] of this.rows) {
      if (!seen.has(key)) {
        row.tr.remove();
        this.rows.delete(key);
      }
    }
  }

  sorted(actors) {
    if (!this.sort) return actors;
    const [key, way] = this.sort;
    const value = (one) => one[key];
    return [...actors].sort((a, b) => {
      const x = value(a), y = value(b);
      if (!known(x) || !known(y)) return Number(known(y)) - Number(known(x));
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * way;
    });
  }

  made() {
    const tr = make("tr");
    const row = { tr, cells: [] };
    const pick = make("button", { type: "button", class: "pick", onclick: () => this.choose(row.one, true) });
    COLUMNS.forEach(([, , , look], i) => {
      const cell = make("td", { class: look });
      if (i === 0) cell.append(pick);
      tr.append(cell);
      row.cells.push(i === 0 ? pick : cell);
    });
    return row;
  }

  fill(row, one, isChosen, several) {
    row.one = one;
    const look = [one.over ? "over" : grade(one), one.dim ? "dim" : "", isChosen ? "chosen" : ""].filter(Boolean).join(" ");
    if (row.tr.className !== look) row.tr.className = look;
    row.tr.dataset.name = one.name;
    row.tr.dataset.pid = one.pid ?? "";
    COLUMNS.forEach(([, key, text], i) => put(row.cells[i], text(one)));
    row.cells[2].hidden = !several;
    row.cells[13].classList.toggle("high", one.state === "blocked" || (one.lag ?? 0) >= 0.1);
    row.cells[14].classList.toggle("high", (one.fill ?? 0) >= 80);
  }
}
