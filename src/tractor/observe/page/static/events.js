// What has happened, latest first.
import { clock, known, make, plain } from "./words.js";

const OWN = new Set(["number", "time", "kind", "traceback", "actor", "actor_pid", "actor_uuid", "bad", "uuid"]);

export function headline(event) {
  const more = { ...event };
  const said = saying(event);
  if (event.kind === "child_gone") {
    const how = known(event.status) ? ` (exit status ${event.status})` : "";
    const why = said ? `, ${said}` : "";
    return event.bad ? `${plain(event.child)} crashed${how}${why}` : `${plain(event.child)} has ended${how}`;
  }
  if (event.kind === "service_event") {
    const delay = known(event.delay) ? `, again in ${event.delay.toFixed(1)} s` : "";
    const why = said ? `: ${said}` : "";
    return `service ${plain(event.service)} ${plain(event.event)}${why} (life ${plain(event.incarnation)}${delay})`;
  }
  for (const name of OWN) delete more[name];
  const words = Object.entries(more).map(([name, value]) => `${name}=${typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : plain(value)}`);
  return [plain(event.kind).replaceAll("_", " "), ...words].join("  ");
}

// The error and what it says: the last line of its traceback that begins with its name, and is not indented.
function saying(event) {
  if (!event.error) return "";
  const name = plain(event.error);
  const lines = plain(event.traceback).split("\n").filter((line) => /^[\w.]/.test(line));
  const line = lines.reverse().find((one) => one.split(":")[0].split(".").pop() === name);
  return (line ? `${name}${line.slice(line.split(":")[0].length)}` : name).slice(0, 200);
}

const idOf = (event) => `${event.actor_uuid}/${event.number}/${event.time}`;

// Elements stay as they are, so a traceback that is open stays open.
export function list(element, events) {
  const kept = new Map([...element.children].map((item) => [item.dataset.id, item]));
  events.forEach((event, i) => {
    const id = idOf(event);
    const item = kept.get(id) ?? item_of(event, id);
    kept.delete(id);
    if (element.children[i] !== item) element.insertBefore(item, element.children[i] ?? null);
  });
  for (const item of kept.values()) item.remove();
}

function item_of(event, id) {
  const item = make("li", { "data-id": id, class: event.bad ? "bad-event" : "" },
    make("time", { datetime: new Date(event.time * 1000).toISOString() }, clock(event.time)),
    make("span", { class: "who" }, `${plain(event.actor)}@${event.actor_pid}`),
    make("span", { class: "what" }, headline(event)));
  if (event.traceback) {
    item.append(make("details", {}, make("summary", {}, "traceback"), make("pre", { tabindex: "0" }, plain(event.traceback))));
  }
  return item;
}
