// heartcast for clients: pushes that arrive, are shown once, and are acknowledged.
//
//   import { Heartcast } from "/sdk/heartcast.js";
//
//   const heartcast = new Heartcast({ user: "u456", getToken });
//   heartcast.onPush = (push) => { show(push.data); push.exposed(); };
//   heartcast.connect();
//
// A push is acknowledged when `onPush` returned (or what it returned was fulfilled). One that threw comes
// again. What was shown is remembered: when it comes again, it is acknowledged and not shown.

const [MAX_SEEN, MAX_REPORTS] = [1000, 500]; // an inbox holds a thousand pushes
const ACK_DELAY_MS = 20; // what arrives together is acknowledged together
const [VISIBLE_MS, VISIBLE_SHARE] = [1000, 0.5]; // an element counts as exposed after a second, half in view
const [PING_GRACE_MS, LOCK_MS] = [10000, 3000];
const [MIN_PAUSE_MS, MAX_PAUSE_MS] = [200, 20000];

/** Where there is no localStorage. */
class Memory extends Map {
  getItem = (key) => this.get(key) ?? null;
  setItem = (key, value) => void this.set(key, value);
}

export class Heartcast {
  /** Called with each new push, once: `{ id, data, tags, exposed(), opened(), clicked(), converted() }`. */
  onPush = () => {};
  /** Called with "connecting", "connected" or "closed" and its code. */
  onState = () => {};
  /** Called with what `onPush` threw, or why a report was given up. */
  onError = (error) => console.error(error);

  #options;
  #storage;
  #name;
  #socket = null;
  #position = null; // not remembered over a reload: what was shown is, and the rest has to come again
  #wants = false;
  #failures = 0;
  #timer = 0;
  #silence = 0;
  #acks = new Set();
  #ackTimer = 0;
  #busy = new Set(); // ids whose handler is under way
  #reporting = false;
  #token = "";
  #pingMs = 25000;

  /**
   * @param {object} options
   * @param {string} [options.url] The server; the page's own by default.
   * @param {string|number} options.user Whose pushes these are; the `sub` of the token.
   * @param {() => Promise<string>|string} [options.getToken] Gives a JWT for each connection; or `token`, one.
   * @param {Storage} [options.storage] Remembers what was shown; localStorage by default.
   */
  constructor(options) {
    if (options.user === undefined || options.user === "") throw new Error("user: whose pushes are these?");
    this.#options = options;
    this.#storage = options.storage ?? localStorageOrMemory();
    this.#name = `heartcast:${options.user}`;
  }

  /** Connect, and stay connected until `close`. */
  connect() {
    if (this.#wants) return;
    this.#wants = true;
    this.#open();
  }

  /** Hang up. What is not acknowledged comes with the next connection. */
  close() {
    this.#wants = false;
    clearTimeout(this.#timer);
    this.#sendAcks();
    this.#socket?.close(1000);
  }

  /** Report what happened with a push: "exposed", "opened", "clicked" or "converted". Once is enough,
   *  twice does no harm; what cannot be sent now is sent later, also after a reload. */
  report(id, event) {
    const reports = this.#read("reports", []);
    if (!reports.some(([known, what]) => known === id && what === event)) {
      this.#write("reports", [...reports, [id, event]].slice(-MAX_REPORTS));
    }
    return this.#sendReports();
  }

  /** Report `exposed` when at least half of `element` was in view for a second. */
  watch(element, id) {
    let timer = 0;
    const observer = new IntersectionObserver(
      ([entry]) => {
        clearTimeout(timer);
        const seen = () => (observer.disconnect(), this.report(id, "exposed"));
        if (entry.isIntersecting) timer = setTimeout(seen, VISIBLE_MS);
      },
      { threshold: VISIBLE_SHARE },
    );
    observer.observe(element);
    return () => (clearTimeout(timer), observer.disconnect());
  }

  async #open() {
    this.onState("connecting");
    try {
      this.#token = (await this.#options.getToken?.()) ?? this.#options.token ?? "";
    } catch (error) {
      this.onError(error);
      return this.#again();
    }
    if (!this.#wants) return;
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    const url = new URL("/connection/websocket", this.#options.url ?? location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new Socket(url.href, ["centrifuge-json"]));
    socket.onopen = () => this.#greet(socket);
    socket.onmessage = ({ data }) => this.#socket === socket && this.#take(String(data));
    socket.onclose = ({ code }) => this.#socket === socket && this.#closed(code);
    socket.onerror = () => {}; // `close` follows
  }

  #greet(socket) {
    const { user } = this.#options;
    const connect = this.#token ? { token: this.#token } : { data: { user } };
    const place = this.#position ? { recover: true, ...this.#position } : {};
    const subscribe = { channel: `inbox:#${part(user)}`, ...place };
    socket.send(`${JSON.stringify({ id: 1, connect })}\n${JSON.stringify({ id: 2, subscribe })}`);
    this.#listen(PING_GRACE_MS);
  }

  /** Hang up when nothing is heard for so long: a cable was pulled, and nobody says so. */
  #listen(ms) {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    const lost = () => ((socket.onclose = null), socket.close(), this.#closed(1006));
    this.#silence = setTimeout(lost, ms);
    this.#silence.unref?.();
  }

  #take(text) {
    this.#listen(this.#pingMs + PING_GRACE_MS);
    for (const line of text.split("\n")) {
      const said = JSON.parse(line);
      if (said.error) this.#refused(said.error);
      else if (said.connect) this.#pingMs = 1000 * (said.connect.ping || 25);
      else if (said.subscribe) this.#subscribed(said.subscribe);
      else if (said.push?.pub) this.#got(said.push.pub);
      else if (said.push?.unsubscribe) this.#socket.close(4000);
      else if (line === "{}") this.#socket.send("{}");
    }
  }

  #subscribed({ epoch, offset = 0, publications = [] }) {
    this.#failures = 0;
    this.onState("connected");
    this.#position = { epoch, offset };
    publications.forEach((publication) => this.#got(publication));
    this.#sendAcks();
    this.#sendReports();
  }

  #refused(error) {
    // 109: the token is over, and the next connection asks for another one.
    if (!error.temporary && error.code !== 109) {
      this.onError(new Error(`heartcast: ${error.message} (${error.code})`));
      this.#wants = false;
    }
    this.#socket.close(1000);
  }

  #closed(code) {
    clearTimeout(this.#silence);
    this.#socket = null;
    this.onState("closed", code);
    if ((code >= 3500 && code < 4000) || (code >= 4500 && code < 5000)) this.#wants = false;
    if (this.#wants) this.#again();
  }

  #again() {
    // Full jitter: a thousand clients of one server that stopped come back spread out.
    const most = Math.min(MAX_PAUSE_MS, MIN_PAUSE_MS * 2 ** this.#failures++);
    this.#timer = setTimeout(() => this.#wants && this.#open(), most * Math.random());
  }

  #got({ data, offset, tags = {} }) {
    const { id } = tags;
    if (offset) this.#position.offset = offset;
    if (!id || this.#busy.has(id)) return;
    const push = { id, data, tags };
    for (const event of ["exposed", "opened", "clicked", "converted"]) push[event] = () => this.report(id, event);
    this.#busy.add(id);
    alone(`${this.#name}:${id}`, () => this.#show(push)).finally(() => this.#busy.delete(id));
  }

  /** Whether it is settled; what was not comes again. */

  async #show(push) {
    try {
      if (!this.#read("seen", []).includes(push.id)) {
        await this.onPush(push);
        // Remembered before it is acknowledged, so that a reload in between does not show it again.
        this.#write("seen", [...this.#read("seen", []), push.id].slice(-MAX_SEEN));
      }
      this.#ack(push.id);
      return true;
    } catch (error) {
      this.onError(error);
      return false;
    }
  }

  #ack(id) {
    this.#acks.add(id);
    this.#ackTimer ||= setTimeout(() => this.#sendAcks(), ACK_DELAY_MS);
  }

  #sendAcks() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = 0;
    // 1: open. What is not sent now is redelivered, found among the seen, and acknowledged then.
    if (!this.#acks.size || this.#socket?.readyState !== 1) return;
    this.#socket.send(JSON.stringify({ send: { data: { ack: [...this.#acks] } } }));
    this.#acks.clear();
  }

  async #sendReports() {
    if (this.#reporting) return;
    this.#reporting = true;
    try {
      for (let reports = this.#read("reports", []); reports.length; reports = this.#read("reports", [])) {
        const [id, event] = reports[0];
        if (!(await this.#sendReport(id, event))) return; // with the next connection or report
        this.#write("reports", this.#read("reports", []).filter(([known, what]) => known !== id || what !== event));
      }
    } finally {
      this.#reporting = false;
    }
  }

  /** Whether the server took it, or never will. */
  async #sendReport(id, event) {
    const url = new URL(`/api/v1/pushes/${encodeURIComponent(id)}/receipts`, this.#options.url ?? location.href);
    const headers = { "content-type": "application/json" };
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    try {
      const report = { event, device_id: this.#device() };
      const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(report), keepalive: true });
      if (answer.ok) return true;
      if (answer.status === 401 || answer.status === 429 || answer.status >= 500) return false;
      this.onError(new Error(`heartcast: ${event} of ${id} was refused with ${answer.status}`));
      return true;
    } catch {
      return false; // no network
    }
  }

  #device() {
    const known = this.#read("device", "");
    if (known) return known;
    this.#write("device", crypto.getRandomValues(new Uint8Array(8)).join("-"));
    return this.#read("device", "");
  }

  #read(name, otherwise) {
    try {
      return JSON.parse(this.#storage.getItem(`${this.#name}:${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  }

  #write(name, value) {
    try {
      this.#storage.setItem(`${this.#name}:${name}`, JSON.stringify(value));
    } catch (error) {
      this.onError(error); // full, or forbidden: a reload may show a push again
    }
  }
}

function localStorageOrMemory() {
  try {
    return globalThis.localStorage ?? new Memory();
  } catch {
    return new Memory(); // a page that may not keep anything
  }
}

/** Run in one tab only. The others pass it over: what they read of localStorage may be a moment old, so
 *  the lock is kept for a while. Where pages cannot lock (no https; Node) each runs. */
async function alone(name, run) {
  const once = async (lock) => lock && (await run()) && new Promise((done) => setTimeout(done, LOCK_MS));
  const { locks } = globalThis.navigator ?? {};
  await (locks ? locks.request(name, { ifAvailable: true }, once) : run());
}

/** An id as it stands in a channel's name. */
function part(id) {
  const coded = encodeURIComponent(String(id)).replaceAll("%3A", ":");
  return coded.replace(/[!~*'()]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
