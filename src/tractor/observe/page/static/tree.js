// The tree as a picture: parents above their children, leaves side by side where there are many.
import { called, grade, keyOf, known, percent, plain, rate, sign, size } from "./words.js";

const NS = "http://www.w3.org/2000/svg";
const HIGH = 46, GAP = 8, INDENT = 26;

function draw(tag, attributes, parent) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function shortened(text, room) {
  const most = Math.max(4, Math.floor(room / 7.4));
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

export class Tree {
  constructor(svg, choose) {
    this.svg = svg;
    this.choose = choose;
    this.nodes = new Map();
    this.order = [];
    this.at = null;
    this.edges = draw("g", {}, svg);
    this.boxes = draw("g", {}, svg);
    svg.addEventListener("keydown", (event) => this.onKey(event));
  }

  show(actors, chosen, room) {
    const { rows, width, height, boxWidth } = arranged(actors, Math.max(280, room));
    set(this.svg, "width", width);
    set(this.svg, "height", height);
    const seen = new Set();
    this.order = rows.map((row) => row.key);
    for (const row of rows) {
      seen.add(row.key);
      let node = this.nodes.get(row.key);
      if (!node) this.nodes.set(row.key, (node = this.made(row.key)));
      this.fill(node, row, chosen, boxWidth);
      if (this.boxes.children[seen.size - 1] !== node.g) {
        const hadFocus = document.activeElement === node.g;
        this.boxes.insertBefore(node.g, this.boxes.children[seen.size - 1] ?? null);
        if (hadFocus) node.g.focus();
      }
    }
    const hadFocus = this.boxes.contains(document.activeElement);
    for (const [key, node] of this.nodes) {
      if (!seen.has(key)) {
        node.g.remove();
        this.nodes.delete(key);
      }
    }
    if (!this.nodes.has(this.at)) this.at = this.order[0] ?? null;
    for (const [key, node] of this.nodes) set(node.g, "tabindex", key === this.at ? 0 : -1);
    if (hadFocus && !this.boxes.contains(document.activeElement)) this.nodes.get(this.at)?.g.focus();
    this.connect(rows);
  }

  made(key) {
    const g = draw("g", { class: "node", role: "treeitem" });
    const node = {
      g,
      title: draw("title", {}, g),
      box: draw("rect", { class: "box", rx: 5, height: HIGH }, g),
      side: draw("rect", { class: "side", rx: 2, width: 6, height: HIGH }, g),
      name: draw("text", { class: "name", x: 14, y: 18 }, g),
      flag: draw("text", { class: "flag", y: 18 }, g),
      more: draw("text", { class: "more", x: 14, y: 35 }, g),
      full: draw("rect", { class: "full", x: 6, y: HIGH - 4, height: 3, width: 0 }, g),
    };
    g.addEventListener("click", () => {
      this.at = key;
      this.choose(node.row.one);
    });
    return node;
  }

  fill(node, row, chosen, boxWidth) {
    const { one, x, y, level } = row;
    node.row = row;
    const state = one.over ? "ended" : one.state;
    const flags = [one.state === "run" && !one.over ? "" : `${one.over ? "✖" : sign(one)} ${state}`];
    if (one.restarts) flags.push(`↻${one.restarts}`);
    if (one.folded) flags.push(`+${one.folded}`);
    const flag = flags.filter(Boolean).join(" ");
    const figures = [];
    if (known(one.cpu)) figures.push(percent(one.cpu));
    if (known(one.rss)) figures.push(size(one.rss));
    if (one.messages_rate) figures.push(`${rate(one.messages_rate)} msg/s`);
    if (known(one.fill) && one.fill >= 1) figures.push(`${percent(one.fill)} full`);
    const graded = one.over ? "over" : grade(one);
    set(node.g, "class", ["node", graded, one.dim ? "dim" : "", chosen === row.key ? "chosen" : ""].filter(Boolean).join(" "));
    set(node.g, "transform", `translate(${x} ${y})`);
    set(node.g, "aria-level", level + 1);
    set(node.g, "aria-selected", chosen === row.key);
    set(node.g, "data-name", one.name);
    set(node.g, "data-pid", one.pid ?? "");
    set(node.g, "data-state", state);
    const label = [called(one), state, one.why, one.restarts ? `${one.restarts} restarts` : "",
      one.folded ? `${one.folded} more below` : "", ...figures].filter(Boolean).map(plain).join(", ");
    set(node.g, "aria-label", label);
    write(node.title, label);
    set(node.box, "width", boxWidth);
    set(node.flag, "x", boxWidth - 8);
    write(node.flag, flag);
    write(node.name, shortened(plain(one.name), boxWidth - 30 - flag.length * 7));
    write(node.more, shortened(figures.join(" · ") || "-", boxWidth - 10));
    const fill = known(one.fill) ? Math.min(100, one.fill) : 0;
    set(node.full, "width", Math.max(0, ((boxWidth - 10) * fill) / 100));
    set(node.full, "class", fill >= 80 ? "full high" : "full");
  }

  connect(rows) {
    const paths = [];
    for (const row of rows) {
      if (!row.above) continue;
      const x = row.above.x + 12, from = row.above.y + HIGH, to = row.y + HIGH / 2;
      const wide = Math.min(7, 1 + Math.log10(1 + (row.one.messages_rate ?? 0)));
      if (row.first) paths.push([`M${x} ${from}V${to}H${row.x}`, wide]);
    }
    while (this.edges.children.length > paths.length) this.edges.lastChild.remove();
    paths.forEach(([d, wide], i) => {
      const path = this.edges.children[i] ?? draw("path", { class: "edge" }, this.edges);
      set(path, "d", d);
      set(path, "stroke-width", wide.toFixed(1));
    });
  }

  onKey(event) {
    const at = this.order.indexOf(this.at);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.nodes.get(this.at)?.row;
    let to = null;
    if (event.key === "ArrowDown") to = this.order[at + 1];
    else if (event.key === "ArrowUp") to = this.order[at - 1];
    else if (event.key === "Home") to = this.order[0];
    else if (event.key === "End") to = this.order.at(-1);
    else if (event.key === "ArrowLeft") to = row?.above?.key;
    else if (event.key === "ArrowRight") {
      to = this.order.find((key) => this.nodes.get(key)?.row.above?.key === this.at);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.choose(row.one, true);
      return;
    } else return;
    event.preventDefault();
    if (to) this.focus(to);
  }

  focus(key) {
    const node = this.nodes.get(key);
    if (!node) return;
    this.nodes.get(this.at)?.g.setAttribute("tabindex", -1);
    this.at = key;
    node.g.setAttribute("tabindex", 0);
    node.g.focus();
    node.g.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

// Places each actor: those with children one below the other, leaves in as many columns as there is room for.
function arranged(actors, room) {
  const known = new Set(actors.map((one) => one.uuid).filter(Boolean));
  const below = new Map();
  for (const one of actors) {
    const above = known.has(one.parent) && one.parent !== one.uuid ? one.parent : "";
    if (!below.has(above)) below.set(above, []);
    below.get(above).push(one);
  }
  const boxWidth = Math.min(room < 520 ? room - 3 * INDENT : 208, 300);
  const rows = [];
  let y = 4, width = room;
  const place = (one, x, level, above, first) => {
    const row = { one, key: keyOf(one), x, y, level, above, first };
    rows.push(row);
    width = Math.max(width, x + boxWidth + 4);
    return row;
  };
  const add = (siblings, level, above) => {
    const x = 3 + INDENT * level;
    const leaves = siblings.filter((one) => !one.uuid || !below.get(one.uuid)?.length);
    const others = siblings.filter((one) => !leaves.includes(one));
    const columns = Math.max(1, Math.floor((room - x + GAP) / (boxWidth + GAP)));
    const inRow = leaves.length > 3 ? columns : 1;
    leaves.forEach((one, i) => {
      place(one, x + (i % inRow) * (boxWidth + GAP), level, above, i % inRow === 0);
      if ((i + 1) % inRow === 0 || i === leaves.length - 1) y += HIGH + GAP;
    });
    for (const one of others) {
      const row = place(one, x, level, above, true);
      y += HIGH + GAP;
      if (level < 60) add(below.get(one.uuid), level + 1, row);
    }
  };
  add(below.get("") ?? [], 0, null);
  return { rows, width, height: y + 4, boxWidth };
}
