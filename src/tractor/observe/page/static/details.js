// One actor: how it does, what it has open, where its tasks are, and what may be done to it.
import { called, clock, grade, keyOf, known, lag, make, percent, plain, put, rate, sign, size, span, whole } from "./words.js";
import { ask } from "./link.js";

const $ = (id) => document.getElementById(id);

export class Details {
  constructor(app) {
    this.app = app;
    this.one = null;
    this.made = "";
    $("close-details").addEventListener("click", () => app.choose(null));
    $("confirm-no").addEventListener("click", () => $("confirm").close());
  }

  show(one, cpus) {
    this.one = one;
    $("details").hidden = !one;
    if (!one) return;
    put($("who"), called(one));
    const since = known(one.since) && one.state !== "run" ? ` since ${one.since_at_least ? "before " : ""}${clock(one.since)}` : "";
    put($("how"), one.over ? "its program has ended; this is its last state" : `${sign(one)} ${one.state}${since}`.trim());
    $("how").className = one.over ? "" : grade(one);
    put($("why"), plain(one.why));
    const figures = [
      ["uuid", plain(one.uuid).slice(0, 8) || "-"], ["host", plain(one.host)], ["up", span(one.uptime)], ["CPU", percent(one.cpu)],
      ["memory", size(one.rss)], ["loop lag", one.state === "blocked" ? "no answer" : lag(one.lag)], ["tasks", whole(one.tasks)],
      ["calls open", whole(one.calls)], ["contexts", whole(one.contexts)], ["streams", whole(one.streams)],
      ["fullest stream", percent(one.fill)], ["calls/s", rate(one.calls_rate)], ["messages/s", rate(one.messages_rate)],
      ["errors", whole(one.errors_total)], ["restarts", whole(one.restarts)],
    ];
    const list = $("figures");
    figures.forEach(([name, value], i) => {
      const pair = list.children[i] ?? list.appendChild(make("div", {}, make("dt"), make("dd")));
      put(pair.children[0], name);
      put(pair.children[1], value);
    });
    this.spark(cpus);
    this.buttons();
  }

  spark(cpus) {
    const svg = $("spark");
    const line = svg.firstChild ?? svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "polyline"));
    const top = Math.max(100, ...cpus.map((cpu) => cpu ?? 0));
    const points = cpus.map((cpu, i) => known(cpu) ? `${240 - (cpus.length - 1 - i) * 4},${(39 - (38 * cpu) / top).toFixed(1)}` : "");
    line.setAttribute("points", points.filter(Boolean).join(" "));
    svg.setAttribute("aria-label", `CPU now ${percent(cpus.at(-1))}, at most ${percent(Math.max(0, ...cpus.map((c) => c ?? 0)))}`);
  }

  // Made anew only for another actor, so that focus stays.
  buttons() {
    const one = this.one;
    const made = [keyOf(one), one.over, this.app.control, known(one.restarts)].join();
    if (made === this.made) return;
    this.made = made;
    const buttons = [];
    if (one.uuid && !one.over) buttons.push(make("button", { type: "button", id: "stacks", onclick: () => this.stacks() }, "stacks"),
      make("button", { type: "button", id: "record", onclick: () => this.app.record(this.one) }, "record 10 s"));
    if (this.app.control && one.uuid && !one.over) {
      buttons.push(make("button", { type: "button", onclick: () => this.confirm("log") }, "log level…"));
      if (known(one.restarts)) {
        buttons.push(make("button", { type: "button", onclick: () => this.confirm("restart") }, "restart…"));
        buttons.push(make("button", { type: "button", onclick: () => this.confirm("stop") }, "stop…"));
      }
      buttons.push(make("button", { type: "button", class: "danger", id: "cancel", onclick: () => this.confirm("cancel") }, "cancel…"));
    }
    $("acts").replaceChildren(...buttons);
    $("dialogs").replaceChildren();
    put($("dialogs-note"), one.over ? "" : one.uuid ? "asked for" : "it can't be asked");
    put($("levels"), "");
  }

  tell(state) {
    if (!this.one || state.uuid !== this.one.uuid) return;
    if (state.why) {
      put($("dialogs-note"), `no answer: ${plain(state.why)}`);
      return;
    }
    const dialogs = state.dialogs;
    const more = state.truncated ? `; ${state.truncated} more are left out` : "";
    put($("dialogs-note"), dialogs === null ? "its loop does not answer: unknown" : dialogs.length ? `${dialogs.length} open${more}` : "none");
    const list = $("dialogs");
    (dialogs ?? []).forEach((dialog, i) => this.dialog(list.children[i] ?? list.appendChild(newDialog()), dialog));
    while (list.children.length > (dialogs ?? []).length) list.lastChild.remove();
    const levels = state.levels ? Object.entries(state.levels).map(([name, level]) => `${plain(name)}: ${plain(level)}`).join(", ") : "";
    put($("levels"), levels || (state.levels_why ? plain(state.levels_why) : "unknown"));
  }

  dialog(item, dialog) {
    const [head, rates, meter] = item.children;
    const way = dialog.side === "caller" ? "→" : "←";
    put(head, `${plain(dialog.function)} ${way} ${plain(dialog.peer)}`);
    const words = [dialog.kind, dialog.state];
    if (known(dialog.sent)) words.push(`${rate(dialog.sent_rate)}/s out (${dialog.sent})`, `${rate(dialog.received_rate)}/s in (${dialog.received})`);
    if (dialog.discarded) words.push(`${dialog.discarded} discarded`);
    if (known(dialog.fill)) words.push(`${percent(dialog.fill)} full`);
    put(rates, words.filter(Boolean).map(plain).join(" · "));
    meter.hidden = !known(dialog.fill);
    meter.className = (dialog.fill ?? 0) >= 80 ? "meter high" : "meter";
    meter.firstChild.style.width = `${Math.min(100, dialog.fill ?? 0)}%`;
  }

  async stacks() {
    const one = this.one;
    $("stacks").disabled = true;
    try {
      const told = await ask("/api/stacks", { uuid: one.uuid });
      this.text(`stacks of ${called(one)}, ${clock(Date.now() / 1000)}`, stacksText(told));
    } catch (error) {
      this.app.toast(`${called(one)}: ${error.message}`);
    } finally {
      const button = $("stacks");
      if (button) button.disabled = false;
    }
  }

  text(title, body) {
    $("text-title").textContent = title;
    $("text-body").textContent = body;
    $("text").showModal();
  }

  // The question names whom it is about; what is confirmed here is said to the command, which compares it.
  confirm(op) {
    const one = this.one;
    const below = this.app.below(one);
    const name = `${one.name}@${one.pid}`;
    const what = { cancel: "end", log: "set the log level of", restart: "restart", stop: "stop" }[op];
    $("confirm-title").textContent = `${what} ${called(one)}?`;
    $("confirm-body").textContent = op === "cancel" && below ? `The ${below} actors below it end with it.` : "";
    $("confirm-field").hidden = op !== "log";
    const yes = $("confirm-yes");
    yes.textContent = `${what} ${called(one)}`;
    yes.className = op === "log" ? "" : "danger";
    yes.onclick = async () => {
      const spec = $("confirm-value").value.trim();
      if (op === "log" && !spec) return $("confirm-value").focus();
      $("confirm").close();
      this.app.toast(`${what} ${called(one)} …`);
      try {
        this.app.toast((await ask("/api/act", { op, uuid: one.uuid, confirm: name, spec })).text);
      } catch (error) {
        this.app.toast(`not done: ${error.message}`);
      }
    };
    $("confirm").showModal();
    (op === "log" ? $("confirm-value") : $("confirm-no")).focus();
  }
}

function newDialog() {
  return make("li", {}, make("div", { class: "fn" }), make("div", { class: "rate" }), make("div", { class: "meter" }, make("div")));
}

export function stacksText(told) {
  const depths = new Map();
  const lines = [];
  for (const task of told.tasks) {
    const above = depths.get(task.parent) ?? 0;
    depths.set(task.id, above + (task.runtime ? 0 : 1));
    if (task.runtime) continue;
    const indent = "  ".repeat(above);
    lines.push(`${indent}task ${plain(task.name)}${task.running ? ", running" : ""}`);
    let last = -1;
    task.frames.forEach((frame, i) => {
      if (frame.runtime) return;
      last = i;
      lines.push(`${indent}    ${plain(frame.file)}:${frame.line} in ${plain(frame.function)}()`);
    });
    const wait = task.frames[last + 1];
    if (wait) lines.push(`${indent}    waits in ${plain(wait.function)}()`);
  }
  if (!lines.length) lines.push("no task of the program's");
  if (told.truncated) lines.push(`${told.truncated} more tasks were left out`);
  for (const thread of told.threads) {
    lines.push("", `thread ${plain(thread.name) || "?"}`);
    for (const frame of thread.frames) lines.push(`    ${plain(frame.file)}:${frame.line} in ${plain(frame.function)}()`);
  }
  return lines.join("\n");
}
