// What an actor and those below it did for some seconds: recorded at a click, drawn here, saved as a file.
import { clock, make, plain, put, size } from "./words.js";
import { follow, load, ask } from "./link.js";

const $ = (id) => document.getElementById(id);
const BAR = 17, HEAD = 22, LABEL = 15, GAP = 5, AXIS = 20; // Heights of what is drawn, in pixels.
const LISTED = 200;
const SHORTEST = 10; // Microseconds that the whole width may show.
const FONT = "12px system-ui, sans-serif";
const TIMES = [1, 2, 5];
const LOOKS = [[/^cancel|^teardown|^credit/, "--warn"], [/^context|^stream/, "--good"], [/^call/, "--accent"]];

export function length(us) {
  if (us < 1000) return `${us.toFixed(us < 10 ? 1 : 0)} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(2)} ms` : `${(us / 1e6).toFixed(3)} s`;
}

export class Timeline {
  constructor(app) {
    this.app = app;
    this.told = null;
    this.abort = null;
    this.chosen = null;
    this.lines = [];
    this.from = 0;
    this.to = 1;
    $("take-stop").addEventListener("click", () => ask("/api/record/stop", {}).catch((error) => app.toast(error.message)));
    $("take-save").addEventListener("click", () => this.save());
    $("take-in").addEventListener("click", () => this.zoom(0.5));
    $("take-out").addEventListener("click", () => this.zoom(2));
    $("take-all").addEventListener("click", () => this.show(0, this.told.seconds * 1e6));
    $("take-of").addEventListener("change", () => this.list());
    const lanes = $("lanes");
    lanes.addEventListener("scroll", () => this.draw());
    lanes.addEventListener("keydown", (event) => this.key(event));
    lanes.addEventListener("wheel", (event) => {
      // With ctrl or cmd: the wheel alone goes on with the page.
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, event.offsetX / lanes.clientWidth);
    }, { passive: false });
    lanes.addEventListener("mousemove", (event) => this.point(event));
    lanes.addEventListener("mouseleave", () => { $("tip").hidden = true; });
    lanes.addEventListener("click", (event) => this.choose(this.under(event)));
    new ResizeObserver(() => this.draw()).observe(lanes);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    addEventListener("pagehide", () => this.abort?.abort());
  }

  async record(one) {
    if (this.abort) {
      this.app.toast("a recording is under way");
      return;
    }
    const abort = (this.abort = new AbortController());
    let ended = "the recording was cut off";
    $("take-stop").hidden = false;
    try {
      await follow("/api/record", { uuid: one.uuid }, abort.signal, (kind, data) => {
        if (kind === "recording") {
          this.goes(data);
        } else if (kind === "timeline") {
          ended = "";
          this.take(data);
        } else {
          ended = `nothing was recorded: ${plain(data.why)}`;
        }
      });
    } catch (error) {
      ended = `not recorded: ${plain(error.message)}`;
    } finally {
      this.abort = null;
      $("take-stop").hidden = true;
      $("take-left").hidden = true;
    }
    if (ended) this.say(ended, true);
  }

  say(text, isBad = false) {
    put($("take"), text);
    $("take").classList.toggle("high", isBad);
  }

  goes(state) {
    const others = state.actors > 1 ? ` and ${state.actors - 1} below it` : "";
    this.say(`recording ${plain(state.actor)}${others}`);
    put($("take-count"), `${state.events} events, ${state.left.toFixed(1)} s left`);
    $("take-left").hidden = false;
    $("take-bar").max = state.seconds;
    $("take-bar").value = state.seconds - state.left;
  }

  take(told) {
    this.told = told;
    this.chosen = null;
    this.lines = laid(told);
    $("drawn").hidden = false;
    this.say(`${plain(told.actor)}, ${clock(told.time)}: ${told.events} events in ${told.seconds.toFixed(1)} s, ${told.slices} of them drawn as slices and marks`);
    const notes = [];
    if (told.left_out) notes.push(`${told.left_out} shorter slices are left out here; the file has them`);
    if (told.rows_left_out) notes.push(`${told.rows_left_out} rows are left out here`);
    if (told.lost) notes.push(`${told.lost} events were lost`);
    if (told.unknown) notes.push(`${told.unknown} events are of a kind that is not known`);
    if (told.file.left_out) notes.push(`${told.file.left_out} records had no room in the file`);
    for (const one of told.missing.slice(0, 8)) notes.push(`${plain(one.what)}: ${plain(one.why)}`);
    if (told.missing.length > 8) notes.push(`${told.missing.length - 8} more have told nothing`);
    $("take-notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
    put($("take-save"), `save for Perfetto (${size(told.file.bytes)})`);
    const all = make("option", { value: "" }, "all actors");
    $("take-of").replaceChildren(all, ...told.actors.map((actor, i) => make("option", { value: String(i) }, plain(actor.title))));
    put($("what"), "");
    const end = this.lines.at(-1);
    this.height = end ? end.y + end.height + GAP : AXIS;
    $("lanes").scrollTop = 0;
    this.show(0, told.seconds * 1e6);
    this.list();
  }

  async save() {
    try {
      const { blob, name } = await load("/api/record/file", { number: this.told.number });
      const address = URL.createObjectURL(blob);
      make("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    } catch (error) {
      this.app.toast(`not saved: ${error.message}`);
    }
  }

  // -- what is seen of it

  show(from, to) {
    const end = this.told.seconds * 1e6;
    const wide = Math.min(end, Math.max(SHORTEST, to - from));
    this.from = Math.max(0, Math.min(from, end - wide));
    this.to = this.from + wide;
    this.draw();
  }

  zoom(factor, at = 0.5) {
    if (!this.told) return;
    const wide = this.to - this.from, middle = this.from + wide * at;
    this.show(middle - wide * factor * at, middle + wide * factor * (1 - at));
  }

  key(event) {
    const step = (this.to - this.from) / 5;
    if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.show(0, this.told.seconds * 1e6);
    else if (event.key === "ArrowLeft") this.show(this.from - step, this.to - step);
    else if (event.key === "ArrowRight") this.show(this.from + step, this.to + step);
    else return;
    event.preventDefault();
  }

  // The slice at the mouse.
  under(event) {
    const box = $("canvas").getBoundingClientRect();
    const x = event.clientX - box.left, top = event.clientY - box.top;
    if (!this.told || top < AXIS) return null;
    const y = top + $("lanes").scrollTop;
    const line = this.lines.find((one) => one.row && y >= one.y + LABEL && y < one.y + one.height);
    if (!line) return null;
    const us = (this.to - this.from) / box.width, at = this.from + x * us;
    const depth = Math.floor((y - line.y - LABEL) / BAR);
    let found = null;
    for (const slice of line.row.slices) {
      const [start, dur, , , its] = slice;
      // A short one is as wide as can be hit.
      if (its === depth && start <= at + 2 * us && at - 2 * us <= start + dur && (!found || dur < found.slice[1])) found = { slice, line };
    }
    return found;
  }

  words({ slice, line }) {
    const [start, dur, name, cat, , bad, more] = slice;
    const took = dur ? `${length(dur)}, from ` : "at ";
    return [`${bad ? "▲ " : ""}${plain(this.told.names[name])} (${plain(this.told.cats[cat])})`, `${took}${length(start)}`,
      `${plain(line.actor)}, ${plain(line.row.name)}`, plain(more)].filter(Boolean).join("\n");
  }

  point(event) {
    const found = this.under(event);
    const tip = $("tip");
    tip.hidden = !found;
    if (!found) return;
    put(tip, this.words(found));
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
  }

  choose(found) {
    this.chosen = found?.slice ?? null;
    put($("what"), found ? this.words(found) : "");
    this.draw();
  }

  // By keyboard and for those who see no picture: errors first, then what took longest.
  list() {
    const of = $("take-of").value;
    const actor = of === "" ? null : Number(of);
    const all = this.lines.filter((line) => line.row && (actor === null || line.number === actor))
      .flatMap((line) => line.row.slices.map((slice) => ({ slice, line })));
    all.sort((a, b) => b.slice[5] - a.slice[5] || b.slice[1] - a.slice[1]);
    const shown = all.slice(0, LISTED);
    put($("listed"), `${all.length} slices and marks${all.length > LISTED ? `, the first ${LISTED} here` : ""}: errors first, then those that took longest`);
    $("slices").replaceChildren(...shown.map((one) => {
      const [start, dur, name, , , bad] = one.slice;
      const button = make("button", { type: "button", class: bad ? "quiet bad" : "quiet", title: this.words(one), onclick: () => this.lead(one) },
        make("span", { class: "fn" }, `${bad ? "▲ " : ""}${plain(this.told.names[name])}`),
        make("span", { class: "rate" }, `${dur ? length(dur) : "mark"} · at ${length(start)} · ${plain(one.line.actor)}, ${plain(one.line.row.name)}`));
      return make("li", {}, button);
    }));
  }

  lead(one) {
    const [start, dur] = one.slice;
    const around = Math.max(dur, SHORTEST * 10);
    $("lanes").scrollTop = one.line.y - AXIS - HEAD;
    this.show(start - around, start + dur + around);
    this.choose(one);
  }

  // -- drawing: only what is seen, whatever there is

  draw() {
    const lanes = $("lanes"), canvas = $("canvas");
    $("tip").hidden = true;
    if (!this.told || !lanes.clientWidth) return;
    const seen = Math.min(this.height, Math.max(160, Math.round(innerHeight * 0.6)));
    lanes.style.height = `${seen + 2}px`;
    $("lanes-rest").style.height = `${this.height - seen}px`;
    const width = lanes.clientWidth, dots = devicePixelRatio || 1;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${seen}px`;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(seen * dots);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const colours = Object.fromEntries(["--panel", "--raised", "--line", "--text", "--muted", "--accent", "--good", "--warn", "--bad", "--focus"].map((name) => [name, colour(name)]));
    const looks = this.told.cats.map((cat) => colours[LOOKS.find(([pattern]) => pattern.test(cat))?.[1] ?? "--muted"]);
    const pen = canvas.getContext("2d");
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.fillStyle = colours["--panel"];
    pen.fillRect(0, 0, width, seen);
    pen.font = FONT;
    pen.textBaseline = "middle";
    const top = lanes.scrollTop;
    for (const line of this.lines) {
      if (line.y + line.height < top + AXIS || line.y > top + seen) continue;
      if (line.row) this.drawRow(pen, line, line.y - top, width, colours, looks);
      else this.drawHead(pen, line, line.y - top, width, colours);
    }
    this.drawAxis(pen, width, colours);
  }

  drawHead(pen, line, y, width, colours) {
    pen.fillStyle = colours["--raised"];
    pen.fillRect(0, y, width, HEAD - 3);
    pen.fillStyle = colours["--text"];
    pen.font = `600 ${FONT}`;
    pen.fillText(plain(line.actor), 6, y + HEAD / 2 - 1);
    pen.font = FONT;
  }

  drawRow(pen, line, y, width, colours, looks) {
    pen.fillStyle = colours["--muted"];
    pen.fillText(plain(line.row.name), 6, y + LABEL / 2);
    const scale = width / (this.to - this.from);
    const until = [], late = [];
    for (const slice of line.row.slices) {
      const [start, dur, , , depth, bad] = slice;
      if (start > this.to) break;
      if (start + dur < this.from) continue;
      // Whole pixels: a thin one has its colour, unmixed.
      const left = Math.max(0, Math.min(width - 2, Math.floor((start - this.from) * scale)));
      const right = Math.min(width, Math.max(left + 2, Math.round((start + dur - this.from) * scale)));
      const box = { left, right, top: y + LABEL + depth * BAR };
      if (bad || slice === this.chosen) {
        late.push([slice, box]);
      } else if (right > (until[depth] ?? -1)) {
        // What would be painted over its neighbour within a pixel is seen once.
        until[depth] = right;
        this.drawSlice(pen, slice, box, colours, looks);
      }
    }
    // Nothing lies over an error, and over the chosen one.
    for (const [slice, box] of late) this.drawSlice(pen, slice, box, colours, looks);
  }

  drawSlice(pen, slice, { left, right, top }, colours, looks) {
    const [, , name, cat, , bad] = slice;
    const wide = right - left;
    pen.fillStyle = bad ? colours["--bad"] : looks[cat];
    pen.fillRect(left, top, Math.max(2, wide > 4 ? wide - 1 : wide), BAR - 2);
    if (slice === this.chosen) {
      pen.strokeStyle = colours["--text"];
      pen.lineWidth = 2;
      pen.strokeRect(left - 1, top - 1, wide + 2, BAR);
    }
    if (wide > 28) this.label(pen, `${bad ? "▲ " : ""}${plain(this.told.names[name])}`, left + 4, top + BAR / 2 - 1, wide - 8, colours["--panel"]);
  }

  label(pen, text, x, y, room, colour) {
    const fits = Math.floor(room / 6.4);
    pen.fillStyle = colour;
    pen.fillText(text.length <= fits ? text : `${text.slice(0, Math.max(1, fits - 1))}…`, x, y, room);
  }

  drawAxis(pen, width, colours) {
    pen.fillStyle = colours["--panel"];
    pen.fillRect(0, 0, width, AXIS);
    pen.strokeStyle = pen.fillStyle = colours["--line"];
    pen.fillRect(0, AXIS - 1, width, 1);
    const wide = this.to - this.from, rough = (wide * 90) / width;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * (TIMES.find((one) => one * power >= rough) ?? 10);
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) {
      const x = ((at - this.from) / wide) * width;
      pen.fillStyle = colours["--line"];
      pen.fillRect(x, AXIS - 6, 1, 6);
      pen.fillStyle = colours["--muted"];
      const text = at === 0 ? "0" : step >= 1e5 ? `${(at / 1e6).toFixed(1)} s` : length(at);
      pen.fillText(text, x + 3, AXIS / 2 - 1);
    }
  }
}

// Actors and their rows, one below the other.
function laid(told) {
  const lines = [];
  let y = AXIS + 2;
  told.actors.forEach((actor, number) => {
    lines.push({ y, height: HEAD, actor: actor.title, number });
    y += HEAD;
    for (const row of actor.rows) {
      const height = LABEL + row.depth * BAR;
      lines.push({ y, height, actor: actor.title, number, row });
      y += height + GAP;
    }
  });
  return lines;
}
