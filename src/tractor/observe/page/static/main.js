// The page: what is looked at, what was told last, and who is chosen. Every text that comes is put in as text.
import { called, clock, grade, keyOf, known, make, matches, plain, put, rate, sign, span } from "./words.js";
import { Stream, enter, leave } from "./link.js";
import { Tree } from "./tree.js";
import { Table } from "./table.js";
import { Details } from "./details.js";
import { Timeline } from "./timeline.js";
import { list } from "./events.js";

const $ = (id) => document.getElementById(id);
const VIEWS = ["tree", "table", "crashes", "timeline"];
const DOOR = 'open the address that "tractor dash" prints; press enter there for another';
const OLD = 3.5; // Seconds without a new state after which what is shown counts as old.
const NAMED = 8;

class App {
  constructor() {
    this.view = "tree";
    this.state = null;
    this.events = [];
    this.lost = 0;
    this.chosen = null;
    this.control = false;
    this.cpus = new Map();
    this.hidden = new Set();
    this.got = 0;
    this.retry = 0;
    this.tree = new Tree($("tree"), (one, follow) => this.choose(one, follow));
    this.table = new Table($("table"), (one, follow) => this.choose(one, follow));
    this.details = new Details(this);
    this.timeline = new Timeline(this);
    this.stream = new Stream((kind, data) => this.tell(kind, data), () => this.looks(), (why) => this.ended(why));
    this.wire();
  }

  wire() {
    VIEWS.forEach((view) => $(`tab-${view}`).addEventListener("click", () => this.open(view)));
    document.querySelector('[role="tablist"]').addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = VIEWS[(VIEWS.indexOf(this.view) + step + VIEWS.length) % VIEWS.length];
      this.open(next);
      $(`tab-${next}`).focus();
    });
    $("filter").addEventListener("input", () => this.draw());
    $("all-events").addEventListener("change", () => this.drawEvents());
    $("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      this.timeline.draw();
    });
    document.addEventListener("keydown", (event) => {
      if (event.target.matches?.("input, select") || document.querySelector("dialog[open]")) return;
      if (event.key === "/") {
        event.preventDefault();
        $("filter").focus();
      } else if (event.key === "Escape" && this.chosen) {
        this.choose(null);
      }
    });
    // A page that nobody sees asks nothing.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.pause();
      else this.connect();
    });
    addEventListener("pagehide", () => this.pause());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    this.narrow = matchMedia("(max-width: 760px)");
    this.narrow.addEventListener("change", () => this.look());
    new ResizeObserver(() => this.draw()).observe($("main"));
    setInterval(() => this.age(), 1000);
  }

  async start() {
    let isIn = false;
    try {
      isIn = await enter();
    } catch (error) {
      this.ended({ status: 0, text: String(error) });
      return;
    }
    if (isIn) this.connect();
    else this.shut(DOOR);
  }

  connect() {
    clearTimeout(this.retry);
    if (document.hidden || this.stream.isOpen || this.isShut) return;
    this.stream.open();
  }

  pause() {
    clearTimeout(this.retry);
    this.stream.close();
    this.status("paused: the page is hidden", "waiting");
  }

  looks() {
    const panels = ["tree"];
    if (this.view === "crashes" || !this.narrow?.matches || this.chosen) panels.push("recent");
    const one = this.find(this.chosen);
    if (one?.uuid && !one.over) panels.push("actor");
    return { panels, actor: one?.uuid ?? "" };
  }

  look() {
    if (this.stream.isOpen) this.stream.look();
  }

  ended(why) {
    if (document.hidden) return;
    if (why.status === 401) {
      leave();
      this.shut(DOOR);
      return;
    }
    this.status(why.status === 503 ? why.text : "no answer: has `tractor dash` ended?", "old");
    document.body.classList.add("stale");
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), 2000);
  }

  shut(text) {
    this.isShut = true;
    $("door").hidden = false;
    put($("door"), text);
    this.status("not connected", "old");
  }

  status(text, look) {
    put($("status"), text);
    $("status").className = `status ${look}`;
  }

  age() {
    if (!this.state || !this.stream.isOpen) return;
    const age = performance.now() / 1000 - this.got;
    const isOld = age > OLD;
    document.body.classList.toggle("stale", isOld);
    if (isOld) this.status(`nothing new for ${span(age)}`, "old");
  }

  tell(kind, data) {
    if (kind === "hello") {
      this.control = data.control;
      put($("scope"), `· ${data.actor ? `${plain(data.actor)} · ` : ""}${plain(data.host)}`);
      put($("mode"), data.control ? "may act" : "read-only");
      $("mode").classList.toggle("acts", data.control);
    } else if (kind === "tree") {
      this.state = data;
      this.got = performance.now() / 1000;
      this.keep(data.actors);
      this.draw();
      const others = data.viewers > 1 ? ` · ${data.viewers} of ${data.viewers_most} viewers` : "";
      this.status(`live, 1 s · ${clock(data.time)}${others}`, "live");
    } else if (kind === "recent") {
      this.events = [...data.events].reverse();
      this.lost = data.lost;
      this.drawEvents();
    } else if (kind === "actor") {
      this.details.tell(data);
    } else if (kind === "problem") {
      this.status(`${data.panel}: ${plain(data.why)}`, "old");
    }
  }

  // The last 60 s of CPU, for the one that may be chosen.
  keep(actors) {
    const kept = new Map();
    for (const one of actors) {
      const line = this.cpus.get(keyOf(one)) ?? [];
      line.push(one.cpu);
      if (line.length > 61) line.shift();
      kept.set(keyOf(one), line);
    }
    this.cpus = kept;
  }

  all() {
    if (!this.state) return [];
    const over = this.state.ended.filter((one) => !this.hidden.has(one.uuid))
      .flatMap((one) => one.actors.map((actor) => ({ ...actor, over: true })));
    const present = new Set(this.state.actors.map(keyOf));
    return [...this.state.actors, ...over.filter((one) => !present.has(keyOf(one)))];
  }

  // Those whose name matches, and, dimmed, those above them.
  filtered(actors) {
    const pattern = $("filter").value.trim();
    if (!pattern) return actors;
    const by = new Map(actors.map((one) => [one.uuid, one]));
    const wanted = new Set(), above = new Set();
    for (const one of actors) {
      if (!matches(pattern, one.name)) continue;
      wanted.add(one);
      for (let up = by.get(one.parent); up && !above.has(up); up = by.get(up.parent)) above.add(up);
    }
    return actors.filter((one) => wanted.has(one) || above.has(one))
      .map((one) => (wanted.has(one) ? one : { ...one, dim: true }));
  }

  find(key) {
    return key ? this.all().find((one) => keyOf(one) === key) ?? null : null;
  }

  below(one) {
    const uuids = new Set([one.uuid]);
    let count = 0;
    for (const other of this.state.actors) {
      if (uuids.has(other.parent)) {
        count += 1;
        if (other.uuid) uuids.add(other.uuid);
      }
    }
    return count;
  }

  choose(one, follow = false) {
    const before = this.chosen;
    this.chosen = one ? keyOf(one) : null;
    this.draw();
    this.drawEvents();
    this.look();
    if (one && follow) $("who").focus();
    if (!one && before) {
      if (this.view === "tree") this.tree.focus(before);
      else $(`tab-${this.view}`).focus();
    }
  }

  record(one) {
    this.open("timeline");
    if (this.narrow.matches) $("view-timeline").scrollIntoView();
    this.timeline.record(one);
  }

  open(view) {
    this.view = view;
    $("tip").hidden = true;
    for (const other of VIEWS) {
      const isIt = other === view;
      $(`tab-${other}`).setAttribute("aria-selected", isIt);
      $(`tab-${other}`).tabIndex = isIt ? 0 : -1;
      $(`view-${other}`).hidden = !isIt;
    }
    this.draw();
    this.drawEvents();
    if (view === "timeline") this.timeline.draw();
    this.look();
  }

  draw() {
    if (!this.state) return;
    const all = this.all(), shown = this.filtered(all);
    // Details of one that is gone stay until they are closed.
    const chosen = this.find(this.chosen) ?? (this.details.one && this.chosen === keyOf(this.details.one) ? { ...this.details.one, over: true } : null);
    $("tree-empty").hidden = all.length > 0;
    // The width first: the details take a part of it.
    this.details.show(chosen, this.cpus.get(this.chosen) ?? []);
    if (this.view === "tree") this.tree.show(shown, this.chosen, $("main").clientWidth - 2);
    else if (this.view === "table") this.table.show(shown, this.chosen);
    this.drawTroubles();
    this.drawEnded();
    this.drawFoot();
  }

  drawTroubles() {
    const state = this.state;
    const counts = new Map();
    for (const one of state.actors) if (grade(one)) counts.set(one.state, (counts.get(one.state) ?? 0) + 1);
    const actors = make("span", { class: "count" }, `${state.count} actor${state.count === 1 ? "" : "s"}`);
    const rates = make("span", { class: "rates" }, `${rate(state.calls_rate)} calls/s · ${rate(state.messages_rate)} messages/s`);
    const what = [...counts].map(([name, count]) => make("span", { class: "count" }, `${sign({ state: name })} ${count} ${name}`));
    const calm = counts.size || !state.count ? [] : [make("span", { class: "count" }, "✓ all answer")];
    const summary = make("p", {}, actors, ...what, ...calm, rates);
    if (summary.textContent !== $("summary").textContent) $("summary").replaceChildren(...summary.childNodes);
    const rank = { bad: 0, warn: 1 };
    const bad = state.actors.filter(grade).sort((a, b) => rank[grade(a)] - rank[grade(b)]).slice(0, NAMED);
    const list = $("list-of-troubles");
    bad.forEach((one, i) => {
      const item = list.children[i] ?? list.appendChild(this.trouble());
      const button = item.firstChild;
      button.one = one;
      button.className = grade(one);
      put(button.children[0], `${sign(one)} ${one.state} ${known(one.since) ? (one.since_at_least ? "≥ " : "") + span(state.time - one.since) : ""}`.trim());
      put(button.children[1], called(one));
      put(button.children[2], plain(one.why ?? one.last_error ?? "").slice(0, 200));
    });
    while (list.children.length > bad.length) list.lastChild.remove();
  }

  trouble() {
    const parts = ["state", "name", "text"].map((name) => make("span", { class: name }));
    const button = make("button", { type: "button", onclick: () => this.choose(button.one, true) }, ...parts);
    return make("li", {}, button);
  }

  drawEnded() {
    const shown = this.state.ended.filter((one) => !this.hidden.has(one.uuid));
    const key = shown.map((one) => `${one.uuid}${one.left}`).join();
    if (key === this.endedKey) return;
    this.endedKey = key;
    $("ended").replaceChildren(...shown.map((one) => {
      const status = known(one.status) ? `exit status ${one.status}` : "exit status unknown";
      const left = one.left ? `; ${one.left} of its actors are still there` : "";
      const close = make("button", { type: "button", onclick: () => {
        this.hidden.add(one.uuid);
        this.draw();
      } }, "hide its last state");
      return make("p", { class: "banner over" }, `the program ${called(one)} has ended at ${clock(one.time)} (${status})${left}`, close);
    }));
  }

  drawFoot() {
    const state = this.state;
    put($("as-of"), `as of ${clock(state.time)}`);
    const names = state.missing.slice(0, NAMED).map((one) => `${plain(one.what)} (${plain(one.why).split(":")[0]})`);
    const more = state.missing_count > names.length ? ` and ${state.missing_count - names.length} more` : "";
    const rest = state.truncated ? ` · ${state.truncated} actors are left out` : "";
    put($("missing"), (names.length ? `· ${names.join(", ")}${more}: no answer` : "") + rest);
    put($("lost"), this.lost ? `· ${this.lost} events lost` : "");
  }

  drawEvents() {
    const bad = this.events.filter((event) => event.bad);
    put($("crash-count"), bad.length ? String(bad.length) : "");
    if (this.view === "crashes") {
      const shown = $("all-events").checked ? this.events : bad;
      list($("events"), shown);
      $("events-empty").hidden = shown.length > 0;
    }
    list($("latest-events"), this.view === "crashes" ? [] : bad.slice(0, 3));
    const one = this.find(this.chosen);
    list($("own-events"), one ? this.events.filter((event) => event.actor_uuid === one.uuid || event.child === one.name || event.uuid === one.uuid).slice(0, 20) : []);
  }

  toast(text) {
    $("toast").hidden = false;
    put($("toast"), text);
    clearTimeout(this.toasts);
    this.toasts = setTimeout(() => { $("toast").hidden = true; }, 12000);
  }
}

new App().start();
