// The way to the command: the token, the secret, the stream of states, and questions at a click.

const KEPT = "tractor-dash";
let secret = null;

// The token leaves the address at once: it stays neither in the history nor in what is copied.
export async function enter() {
  const token = location.hash.slice(1);
  if (token) {
    history.replaceState(null, "", location.pathname);
    const answer = await fetch("/api/session", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token }),
    });
    if (answer.ok) {
      secret = (await answer.json()).secret;
      // Of this tab alone, so that it may be loaded anew.
      sessionStorage.setItem(KEPT, secret);
      return true;
    }
  }
  secret = sessionStorage.getItem(KEPT);
  return secret !== null;
}

export function leave() {
  secret = null;
  sessionStorage.removeItem(KEPT);
}

function request(path, body, signal) {
  return fetch(path, {
    method: "POST", cache: "no-store", signal,
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify(body),
  });
}

export async function ask(path, body) {
  const answer = await request(path, body);
  if (answer.status === 204) return null;
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

async function refusal(answer) {
  const told = await answer.json().catch(() => ({}));
  return Object.assign(new Error(told.error ?? `status ${answer.status}`), { status: answer.status });
}

// A file, and what it is called.
export async function load(path, body) {
  const answer = await request(path, body);
  if (!answer.ok) throw await refusal(answer);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "");
  return { blob: await answer.blob(), name: name?.[1] ?? "trace.json.gz" };
}

// What comes line by line, until its end.
export async function follow(path, body, signal, tells) {
  const answer = await request(path, body, signal);
  if (!answer.ok) throw await refusal(answer);
  await read(answer.body.getReader(), tells);
}

async function read(reader, tells) {
  const decoder = new TextDecoder();
  let rest = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = decoder.decode(value, { stream: true }).split("\n");
    // A long line comes in many parts, which are put together once.
    rest.push(lines.shift());
    for (const next of lines) {
      const { kind, data } = JSON.parse(rest.join(""));
      rest = [next];
      tells(kind, data);
    }
  }
}

export class Stream {
  // tells: called with the kind and data of each state; looks: what is looked at now.
  constructor(tells, looks, ended) {
    this.tells = tells;
    this.looks = looks;
    this.ended = ended;
    this.viewer = null;
    this.abort = null;
    this.beat = null;
  }

  get isOpen() {
    return this.abort !== null;
  }

  async open() {
    if (this.abort) return;
    const abort = (this.abort = new AbortController());
    let why = { status: 0, text: "" };
    try {
      const answer = await request("/api/events", this.looks(), abort.signal);
      if (!answer.ok) {
        why = { status: answer.status, text: (await answer.json()).error };
      } else {
        this.beat = setInterval(() => this.look(), 2000);
        await read(answer.body.getReader(), (kind, data) => {
          if (kind === "hello") this.viewer = data.viewer;
          this.tells(kind, data);
        });
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      why = { status: 0, text: String(error) };
    } finally {
      if (this.abort === abort) this.close();
    }
    if (!abort.signal.aborted || this.abort === null) this.ended(why);
  }

  // Says what is looked at, and with that, that somebody is there.
  async look() {
    if (!this.viewer) return;
    try {
      await ask("/api/look", { viewer: this.viewer, ...this.looks() });
    } catch (error) {
      if (error.status === 410 || error.status === 401) this.abort?.abort("gone");
    }
  }

  close() {
    clearInterval(this.beat);
    this.viewer = null;
    const abort = this.abort;
    this.abort = null;
    abort?.abort();
  }
}
