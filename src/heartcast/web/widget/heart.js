/*
 * <heart-button target="post_123">: a heart for anything, on any page, by one script tag.
 *
 *   <script src="https://hearts.example/widget/heart.js" defer></script>
 *   <heart-button target="post_123" user="u456"></heart-button>
 *
 * Attributes: target (required), user, token, api, kind, label, disabled. What is the same
 * for a whole page may stand on the script tag (data-user, data-token, data-api) or in
 * `window.heartcast = { user, token, api }` before it; token may be a function that
 * returns one, also as a promise. No cookies. A visitor who is nobody gets a name at the first
 * click, signed by the server where it lets visitors heart, and keeps it in local storage.
 *
 * What stands between the tags is what readers without JavaScript see: a form, for example.
 * Clicks that cannot be sent wait in local storage, survive a reload, and leave together when
 * the server is there again.
 *
 * Style it from outside: --heart-color, --heart-ink, --heart-surface, --heart-line,
 * --heart-size, --heart-radius; ::part(button), ::part(icon), ::part(count), ::part(note).
 * [stale] is set while the server only knows an older count, [queued] while a click waits.
 * Events, bubbling: "heart" {target, hearted, count}, "heart-error" {target, reason}.
 *
 * One idea keeps the numbers right: a count comes with a version and never goes back to an
 * older one. A click shows at once what it hopes for; the server's word then replaces it.
 * All hearts of a page share one request for their counts and one WebSocket, which tracks them all.
 */
(() => {
  "use strict";
  if (customElements.get("heart-button")) return;

  const tag = document.currentScript;
  const settings = (window.heartcast ??= {});
  settings.api ??= tag?.dataset.api ?? (tag?.src ? new URL(tag.src).origin : location.origin);
  settings.user ??= tag?.dataset.user;
  settings.token ??= tag?.dataset.token;

  const COUNTS_PER_REQUEST = 500;
  const TRACKED_PER_CALL = 100;
  const ANNOUNCE_GAP_MS = 10_000;
  const NOTE_MS = 5_000;
  const POLL_MS = 20_000;
  const QUEUE_MS = 7 * 24 * 3600_000;
  const QUEUE_LENGTH = 200;
  const QUEUED = Symbol("queued");
  const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  function channelPart(id) {
    // encodeURIComponent leaves these alone, and they are outside the alphabet of channel names.
    const encoded = encodeURIComponent(id).replace(/[!'()*~]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
    return encoded.replace(/%3A/g, ":");
  }

  const channelOf = (target) => "hearts:" + channelPart(target);

  /** What is kept in local storage; undefined when there is nothing, or storage is forbidden here. */
  function recall(name) {
    try { return JSON.parse(localStorage.getItem(name)) ?? undefined; } catch { return undefined; }
  }
  function keep(name, value) {
    try { localStorage.setItem(name, JSON.stringify(value)); return true; } catch { return false; }
  }

  const visitorKey = (api) => "heartcast.visitor " + api;

  /** A name for somebody who is nobody: the server's, or our own where it gives none (dev mode). */
  async function newVisitor(api) {
    const response = await fetch(new URL("/api/v1/visitors", api), { method: "POST", credentials: "omit" });
    const { user_id, proof } = response.ok ? await response.json() : {};
    const random = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
    const made = user_id ? { user: user_id, proof } : { user: "visitor-" + random() };
    return keep(visitorKey(api), made) ? made : null; // A heart that could never be taken back is none.
  }

  /** Clicks that wait for the server: [{api, user, target, kind, hearted, at}], oldest first. */
  const queue = {
    all: () => (recall("heartcast.queue") ?? []).filter((wish) => Date.now() - wish.at < QUEUE_MS),
    of: (api, user) => queue.all().filter((wish) => wish.api === api && wish.user === user),
    put: (wish) => keep("heartcast.queue", [...queue.without(wish), { ...wish, at: Date.now() }].slice(-QUEUE_LENGTH)),
    drop: (wish) => keep("heartcast.queue", queue.without(wish)),
    without: (wish) => queue.all().filter((other) => ["api", "user", "target", "kind"].some((name) => other[name] !== wish[name])),
  };

  function userOfToken(token) {
    try {
      const bytes = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
      return JSON.parse(decodeURIComponent(escape(bytes))).sub ?? null;
    } catch {
      return null;
    }
  }

  /** One WebSocket per page and server: the Centrifugo protocol in JSON, as much of it as is needed. */
  class Live extends EventTarget {
    #api; #token; #socket = null; #id = 0; #waiting = new Map(); #channels = new Map(); #toTrack = new Set(); #toUntrack = new Set();
    #attempt = 0; #retry = 0; #silence = 0; #silentAfterMs = 0; #outbox = []; #flushing = false; #isOver = false;
    isConnected = false;

    constructor(api, token) {
      super();
      this.#api = api;
      this.#token = token;
      addEventListener("online", () => this.#socket || this.#reconnect(0));
    }

    /** Follow a channel. `onData(data, publication)` is called for each publication. Returns a function that stops it. */
    subscribe(channel, onData, { recover = false } = {}) { return this.#follow(channel, onData, recover); }

    /** Follow a target's count, one of hundreds. `onCount({target_id, count, version})`. Returns a function that stops it. */
    track(target, onCount) { return this.#follow(channelOf(target), onCount, false, target); }

    #follow(channel, onData, recover, target) {
      const known = this.#channels.get(channel);
      const entry = known ?? { listeners: new Set(), recover, position: null, latest: null, target };
      entry.listeners.add(onData);
      if (!known) {
        this.#channels.set(channel, entry);
        if (this.isConnected) this.#subscribe(channel, entry);
        else this.#open();
      } else if (entry.latest && !recover) onData(entry.latest.data, entry.latest);
      return () => {
        entry.listeners.delete(onData);
        if (entry.listeners.size || this.#channels.get(channel) !== entry) return;
        this.#channels.delete(channel);
        if (!this.isConnected) return;
        if (entry.target === undefined) this.#command({ unsubscribe: { channel } });
        else this.#soon(this.#toUntrack, entry.target);
      };
    }

    /** Send data to the server without an answer, for acknowledgements. Lost when not connected. */
    send(data) {
      if (this.isConnected) this.#write({ send: { data } });
      return this.isConnected;
    }

    #write(message) {
      // Commands of one turn leave in one frame.
      this.#outbox.push(JSON.stringify(message));
      if (this.#flushing) return;
      this.#flushing = true;
      queueMicrotask(() => {
        this.#flushing = false;
        const text = this.#outbox.splice(0).join("\n");
        if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text);
      });
    }

    #command(command, onReply = () => {}) {
      const id = ++this.#id;
      this.#waiting.set(id, onReply);
      this.#write({ id, ...command });
    }

    async #open() {
      if (this.#socket || this.#retry || this.#isOver) return;
      const url = new URL("/connection/websocket", this.#api);
      url.protocol = url.protocol.replace("http", "ws");
      const socket = (this.#socket = new WebSocket(url));
      socket.onopen = async () => {
        let token;
        try { token = await this.#token(); } catch { return socket.close(); }
        this.#command({ connect: { ...(token ? { token } : {}), name: "heart-button" } }, (reply) => this.#connected(reply));
      };
      socket.onmessage = ({ data }) => {
        this.#heard();
        for (const line of data.split("\n")) if (line) this.#take(JSON.parse(line));
      };
      socket.onclose = ({ code }) => this.#closed(socket, code);
    }

    #connected({ error, connect }) {
      // A token that has just expired is asked for again; a refused one is not repeated at once.
      if (error) return this.#socket.close();
      this.isConnected = true;
      this.#attempt = 0;
      this.#silentAfterMs = connect.ping ? connect.ping * 1000 + 10_000 : 0;
      this.#heard();
      for (const [channel, entry] of this.#channels) this.#subscribe(channel, entry);
      this.dispatchEvent(new Event("connected"));
    }

    /** Targets that come or go in one turn share a command; one that does both is what it is in the end. */
    #soon(targets, target) {
      if (!this.#toTrack.size && !this.#toUntrack.size) queueMicrotask(() => this.#sendTargets());
      targets.add(target);
    }

    #sendTargets() {
      const isTracked = (target) => this.#channels.get(channelOf(target))?.target !== undefined;
      const gone = [...this.#toUntrack].filter((target) => !isTracked(target));
      const come = [...this.#toTrack].filter(isTracked);
      this.#toTrack.clear();
      this.#toUntrack.clear();
      if (!this.isConnected) return; // All are tracked when it is.
      for (let i = 0; i < gone.length; i += TRACKED_PER_CALL)
        this.#command({ rpc: { method: "untrack", data: { targets: gone.slice(i, i + TRACKED_PER_CALL) } } });
      for (let i = 0; i < come.length; i += TRACKED_PER_CALL) this.#track(come.slice(i, i + TRACKED_PER_CALL));
    }

    #track(targets) {
      this.#command({ rpc: { method: "track", data: { targets } } }, ({ error, rpc }) => {
        if (error) for (const target of targets) this.dispatchEvent(new CustomEvent("refused", { detail: { channel: channelOf(target), error } }));
        else for (const count of rpc.data.counts) {
          const entry = this.#channels.get(channelOf(count.target_id));
          if (entry && !(entry.latest?.data.version > count.version)) this.#deliver(entry, { data: count });
        }
      });
    }

    #subscribe(channel, entry) {
      if (entry.target !== undefined) return this.#soon(this.#toTrack, entry.target);
      const from = entry.recover && entry.position ? { recover: true, ...entry.position } : {};
      this.#command({ subscribe: { channel, ...from } }, ({ error, subscribe }) => {
        if (this.#channels.get(channel) !== entry) return;
        if (error) return this.dispatchEvent(new CustomEvent("refused", { detail: { channel, error } }));
        if (subscribe.recoverable) entry.position = { offset: subscribe.offset ?? 0, epoch: subscribe.epoch ?? "" };
        for (const publication of subscribe.publications ?? []) this.#deliver(entry, publication);
        this.dispatchEvent(new CustomEvent("subscribed", { detail: { channel } }));
      });
    }

    #deliver(entry, publication) {
      if (publication.offset && entry.position) entry.position.offset = publication.offset;
      entry.latest = publication;
      for (const listener of [...entry.listeners]) {
        try { listener(publication.data, publication); } catch (error) { console.error(error); }
      }
    }

    #take(message) {
      if (message.id) {
        const onReply = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        return onReply?.(message);
      }
      if (!message.push) return this.#write({}); // A ping, answered with a pong.
      const { channel, pub, unsubscribe, disconnect } = message.push;
      const entry = this.#channels.get(channel);
      if (pub && entry) this.#deliver(entry, pub);
      else if (unsubscribe && entry && unsubscribe.code >= 2500) this.#subscribe(channel, entry);
      else if (disconnect) this.#closed(this.#socket, disconnect.code);
    }

    #heard() {
      clearTimeout(this.#silence);
      const socket = this.#socket;
      if (this.#silentAfterMs) this.#silence = setTimeout(() => this.#closed(socket, 0), this.#silentAfterMs);
    }

    #closed(socket, code) {
      if (!socket || socket !== this.#socket) return;
      socket.onmessage = socket.onclose = socket.onopen = null;
      socket.close();
      clearTimeout(this.#silence);
      this.#socket = null;
      this.#waiting.clear();
      this.#outbox.length = 0;
      this.isConnected = false;
      this.dispatchEvent(new Event("disconnected"));
      // The protocol's own codes for "do not come back".
      this.#isOver = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
      // Full jitter: a server that restarts must not be met by everybody at once.
      if (!this.#isOver) this.#reconnect(Math.random() * Math.min(20_000, 500 * 2 ** this.#attempt++));
    }

    #reconnect(delayMs) {
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => {
        this.#retry = 0;
        if (this.#channels.size) this.#open();
      }, delayMs);
    }
  }

  /** What this page knows of one target; any number of buttons show it. */
  class Heart {
    version = -1; count = null; hearted = false; wanted = null; isSending = false; isUnsure = false; isQueued = false; isStale = false; buttons = new Set(); stop = null;
    #from = 0; #isIncluded = false;
    constructor(target, kind) { this.target = target; this.kind = kind; this.isLive = kind === "heart"; }

    get shownHearted() { return this.wanted ?? this.hearted; }
    get shownCount() {
      if (this.count === null) return null;
      return Math.max(0, this.count + (this.#isIncluded ? 0 : this.#hope));
    }
    get #hope() { return Number(this.shownHearted) - Number(this.hearted); }

    beginWrite() { this.isSending = true; this.#from = this.count; this.#isIncluded = false; }
    endWrite() { this.isSending = false; this.#isIncluded = false; }

    /** Take a count if it is not older than what is known. */
    learn(count, version) {
      if (version < this.version) return false;
      this.version = version;
      this.count = count;
      // The live count may overtake the answer to our own click. If it has moved our way,
      // the click is most likely in it: adding it again would overshoot for a moment.
      if (this.isSending && (count - this.#from) * this.#hope > 0) this.#isIncluded = true;
      return true;
    }

    show(why) { for (const button of this.buttons) button.render(why); }
  }

  /** All hearts of one page, server and user. */
  class Page {
    static #all = new Map();
    static of(api, user, token) {
      const key = JSON.stringify([api, user, typeof token === "function" ? "function" : token]);
      if (!Page.#all.has(key)) Page.#all.set(key, new Page(api, user, token));
      return Page.#all.get(key);
    }

    #hearts = new Map(); #toLoad = new Set(); #timer = 0; #isFlushing = false;
    constructor(api, user, token) {
      this.api = api;
      const known = user ? { user } : recall(visitorKey(api));
      this.user = known?.user;
      this.proof = known?.proof;
      this.token = async () => (typeof token === "function" ? await token() : token) || null;
      this.live = liveOf(api, token);
      this.live.addEventListener("connected", () => { this.#loadAll(); this.#flush(); });
      addEventListener("online", () => this.#flush());
      // A connection may track so many targets and no more (1,000 unless the operator says otherwise).
      this.live.addEventListener("refused", ({ detail }) => {
        for (const heart of this.#hearts.values()) if (channelOf(heart.target) === detail.channel) heart.isLive = false;
      });
      setInterval(() => {
        if (!document.hidden) this.#loadAll((heart) => !this.live.isConnected || !heart.isLive);
        this.#flush();
      }, POLL_MS);
    }

    join(button, target, kind) {
      const key = kind + "\n" + target;
      let heart = this.#hearts.get(key);
      if (!heart) {
        heart = new Heart(target, kind);
        this.#hearts.set(key, heart);
        const wish = this.user && queue.of(this.api, this.user).find((wish) => wish.target === target && wish.kind === kind);
        if (wish) {
          heart.wanted = wish.hearted;
          heart.isQueued = true;
        }
        this.load(heart);
        // The live channel carries the default kind; other kinds follow by asking.
        if (kind === "heart") heart.stop = this.live.track(target, ({ count, version }) => {
          if (heart.learn(count, version)) heart.show("live");
        });
      }
      heart.buttons.add(button);
      return heart;
    }

    leave(button, heart) {
      heart.buttons.delete(button);
      if (heart.buttons.size) return;
      heart.stop?.();
      this.#hearts.delete(heart.kind + "\n" + heart.target);
    }

    load(heart) {
      this.#toLoad.add(heart);
      this.#timer ||= setTimeout(() => this.#load(), 10);
    }

    #loadAll(wanted = () => true) { for (const heart of this.#hearts.values()) if (wanted(heart)) this.load(heart); }

    async #load() {
      this.#timer = 0;
      const byKind = new Map();
      for (const heart of this.#toLoad) byKind.set(heart.kind, [...(byKind.get(heart.kind) ?? []), heart]);
      this.#toLoad.clear();
      for (const [kind, hearts] of byKind)
        for (let i = 0; i < hearts.length; i += COUNTS_PER_REQUEST) await this.#loadSome(kind, hearts.slice(i, i + COUNTS_PER_REQUEST));
    }

    async #loadSome(kind, hearts) {
      const body = { target_ids: hearts.map((heart) => heart.target) };
      if (this.user) body.user_id = this.user;
      if (kind !== "heart") body.kind = kind;
      const response = await this.request("POST", "/api/v1/hearts/counts", body).catch(() => null);
      if (response?.status === 401 && this.proof) {
        this.#forget();
        return this.#loadSome(kind, hearts);
      }
      if (!response?.ok) return;
      const { counts, stale } = await response.json();
      const byTarget = new Map(counts.map((item) => [item.target_id, item]));
      for (const heart of hearts) {
        const found = byTarget.get(heart.target);
        if (!found) continue;
        heart.learn(found.count, found.version);
        heart.isStale = stale === true;
        if (!heart.isSending && typeof found.hearted === "boolean") heart.hearted = found.hearted;
        heart.show("loaded");
      }
    }

    async request(method, path, body) {
      const token = await this.token();
      const credentials = token ? "Bearer " + token : this.proof ? "Visitor " + this.proof : null;
      return fetch(new URL(path, this.api), {
        method,
        credentials: "omit",
        headers: { ...(body ? { "content-type": "application/json" } : {}), ...(credentials ? { authorization: credentials } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
    }

    /** Want it hearted or not. Clicks during a request are summed up in one more request. */
    async want(heart, hearted) {
      heart.wanted = hearted;
      heart.show("own");
      if (heart.isSending) return;
      let reason = null;
      if (!this.user) {
        heart.isSending = true;
        reason = await this.#introduce();
        if (reason) {
          heart.wanted = null;
          for (const button of heart.buttons) button.fail(reason);
        }
      }
      while (heart.isUnsure || (heart.wanted !== null && heart.wanted !== heart.hearted)) {
        heart.beginWrite();
        if (heart.wanted === null || heart.wanted === heart.hearted) {
          heart.isUnsure = false;
          await this.#loadSome(heart.kind, [heart]);
          continue;
        }
        const tried = heart.wanted;
        reason = await this.#write(heart, tried);
        if (reason === QUEUED) {
          if (heart.wanted !== tried) continue; // Another click meanwhile: it is tried, too.
          if (this.#queue(heart)) return;
          reason = "Not saved: the server cannot be reached.";
        }
        if (reason) {
          heart.wanted = null;
          for (const button of heart.buttons) button.fail(reason);
        }
      }
      heart.wanted = null;
      heart.endWrite();
      if (heart.isQueued) this.#unqueue(heart);
      heart.show(reason ? "reverted" : "settled");
    }

    /** The server does not know this visitor any more: be nobody again. */
    #forget() { this.user = this.proof = undefined; }

    /** Become somebody. Returns null when that was done, else what to tell the person. */
    async #introduce() {
      try {
        const made = await newVisitor(this.api);
        if (!made) return "Please sign in to give a heart.";
        this.user = made.user;
        this.proof = made.proof;
        return null;
      } catch {
        return "Not saved: the server cannot be reached.";
      }
    }

    #wish(heart) { return { api: this.api, user: this.user, target: heart.target, kind: heart.kind, hearted: heart.wanted }; }

    #queue(heart) {
      // A page that never reached the server is probably one that may not: nothing would be sent later.
      if ((heart.count === null && navigator.onLine) || !queue.put(this.#wish(heart))) return false;
      heart.isQueued = true;
      heart.endWrite();
      heart.show("queued");
      return true;
    }

    #unqueue(heart) {
      queue.drop(this.#wish(heart));
      heart.isQueued = false;
    }

    /** Send what waits, also for targets that are not on this page: one request. */
    async #flush() {
      const wishes = this.user ? queue.of(this.api, this.user) : [];
      if (!wishes.length || this.#isFlushing) return;
      this.#isFlushing = true;
      const waiting = wishes.map((wish) => this.#hearts.get(wish.kind + "\n" + wish.target));
      for (const heart of waiting) heart?.beginWrite();
      const items = wishes.map(({ target, kind, hearted }) => ({ op: hearted ? "add" : "remove", target_id: target, user_id: this.user, kind }));
      const response = await this.request("POST", "/api/v1/hearts/batch", { items }).catch(() => null);
      const { results } = response?.ok ? await response.json() : {};
      wishes.forEach((wish, at) => {
        const heart = waiting[at];
        heart?.endWrite();
        if (results) this.#flushed(wish, heart, results[at].status);
        else heart?.show("queued");
      });
      this.#isFlushing = false;
    }

    #flushed(wish, heart, status) {
      queue.drop(wish);
      if (!heart) return;
      heart.isQueued = false;
      if (status < 300) heart.hearted = wish.hearted;
      else for (const button of heart.buttons) button.fail(kindWords({ status, headers: new Headers() }));
      if (heart.wanted === wish.hearted) heart.wanted = null;
      this.load(heart);
      if (heart.wanted !== null) this.want(heart, heart.wanted); // Clicked again meanwhile.
      else heart.show(status < 300 ? "settled" : "reverted");
    }

    /** One write. Returns null when it was done, QUEUED when it must wait, else what to tell the person. */
    async #write(heart, hearted) {
      const before = heart.version;
      const names = { target_id: heart.target, user_id: this.user, ...(heart.kind === "heart" ? {} : { kind: heart.kind }) };
      let response;
      try {
        response = hearted
          ? await this.request("POST", "/api/v1/hearts", names)
          : await this.request("DELETE", "/api/v1/hearts?" + new URLSearchParams(names));
      } catch {
        return QUEUED;
      }
      if (response.status === 401 && this.proof) {
        this.#forget();
        return (await this.#introduce()) ?? this.#write(heart, hearted);
      }
      if (!response.ok) return kindWords(response);
      const answer = await response.json().catch(() => null);
      heart.hearted = hearted;
      // The answer has no version. It counts until the next versioned word. If one came meanwhile
      // nobody can say which is newer, and the counts are asked for before anything is settled.
      if (answer && heart.version === before) heart.count = answer.count;
      if (heart.version !== before) heart.isUnsure = true;
      else if (!this.live.isConnected || heart.kind !== "heart") this.load(heart);
      return null;
    }
  }

  function kindWords(response) {
    const seconds = Number(response.headers.get("retry-after"));
    const when = seconds > 0 ? (seconds === 1 ? "in a second" : `in ${seconds} seconds`) : "in a moment";
    if (response.status === 429) return `Not saved: that was a lot of hearts. Try again ${when}.`;
    if (response.status === 503) return `Not saved: the server is busy. Try again ${when}.`;
    if (response.status === 401 || response.status === 403) return "Please sign in to give a heart.";
    return "Not saved: something went wrong.";
  }

  const lives = new Map();
  function liveOf(api, token) {
    // One socket per page and server: the first caller's token opens it.
    if (!lives.has(api)) lives.set(api, new Live(api, async () => (typeof token === "function" ? await token() : token) || null));
    return lives.get(api);
  }

  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    :host { --_color: var(--heart-color, #e5374f); --_size: var(--heart-size, 1.25em);
      display: inline-block; position: relative; font: inherit; line-height: 1; vertical-align: middle; }
    :host([hidden]) { display: none; }
    button { all: unset; box-sizing: border-box; display: inline-flex; align-items: center; gap: .45em; min-height: 2.25em;
      padding: .35em .8em .35em .65em; border-radius: var(--heart-radius, 999px); cursor: pointer; user-select: none;
      -webkit-tap-highlight-color: transparent; touch-action: manipulation; font: inherit; font-weight: 600;
      color: var(--heart-ink, light-dark(#4a4550, #cfc9d6)); background: var(--heart-surface, light-dark(#f6f1ee, #2a2630));
      box-shadow: inset 0 0 0 1px var(--heart-line, light-dark(#e6dcd6, #3c3644)); transition: color .2s, background .2s, box-shadow .2s; }
    button:hover { color: var(--_color); box-shadow: inset 0 0 0 1px color-mix(in srgb, var(--_color) 45%, transparent); }
    button:focus-visible { outline: 2px solid var(--_color); outline-offset: 2px; }
    button[aria-pressed="true"] { color: var(--_color); background: color-mix(in srgb, var(--_color) 11%, var(--heart-surface, transparent));
      box-shadow: inset 0 0 0 1px color-mix(in srgb, var(--_color) 35%, transparent); }
    button:disabled { cursor: default; opacity: .55; }
    .icon { position: relative; width: var(--_size); height: var(--_size); flex: none; }
    svg { display: block; width: 100%; height: 100%; overflow: visible; }
    path { fill: transparent; stroke: currentColor; stroke-width: 1.9; stroke-linejoin: round; transition: fill .2s; }
    [aria-pressed="true"] path { fill: var(--_color); stroke: var(--_color); }
    .count { min-width: 1ch; font-variant-numeric: tabular-nums; display: inline-block; }
    .note { position: absolute; left: 0; bottom: calc(100% + .5em); width: max-content; max-width: 17em; padding: .55em .8em;
      border-radius: .6em; font-size: .82em; font-weight: 500; line-height: 1.35; text-align: start; z-index: 10; pointer-events: none;
      color: light-dark(#fff, #1b181f); background: light-dark(#2b2631, #f3eef7); box-shadow: 0 6px 20px rgb(0 0 0 / .22); }
    .note[hidden] { display: none; }
    .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    .spark { position: absolute; inset: 0; margin: auto; width: 5px; height: 5px; border-radius: 50%; background: var(--_color); pointer-events: none; }
    @media (forced-colors: active) { button { border: 1px solid ButtonText; } [aria-pressed="true"] path { fill: Highlight; stroke: Highlight; } }
    @media (prefers-reduced-motion: reduce) { button, path { transition: none; } }
  `);

  const template = document.createElement("template");
  template.innerHTML = `
    <button type="button" part="button" aria-pressed="false">
      <span class="icon" part="icon" aria-hidden="true"><svg viewBox="0 0 24 24"><path d="M12 20.6 4.3 12.9a5 5 0 0 1 0-7.1 5 5 0 0 1 7.1 0l.6.6.6-.6a5 5 0 0 1 7.1 0 5 5 0 0 1 0 7.1Z"/></svg></span>
      <span class="unseen name"></span>
      <span class="count" part="count"></span>
    </button>
    <span class="note" part="note" hidden></span>
    <span class="unseen" role="status"></span>`;

  class HeartButton extends HTMLElement {
    static observedAttributes = ["target", "user", "token", "api", "kind", "label", "disabled"];
    /** The shared connection of this page, for pages that follow more channels. */
    static live(api = settings.api) { return liveOf(new URL(api, location.href).origin, settings.token); }

    #page = null; #heart = null; #parts; #said = -Infinity; #noteTimer = 0; #saidTimer = 0; #shown = null; #isStale = false;

    constructor() {
      super();
      const root = this.attachShadow({ mode: "open", delegatesFocus: true });
      root.adoptedStyleSheets = [sheet];
      root.append(template.content.cloneNode(true));
      const find = (selector) => root.querySelector(selector);
      this.#parts = { button: find("button"), name: find(".name"), count: find(".count"), note: find(".note"), status: find("[role=status]"), icon: find(".icon") };
      this.#parts.button.addEventListener("click", () => this.toggle());
    }

    get hearted() { return this.#heart?.shownHearted ?? false; }
    get count() { return this.#heart?.shownCount ?? null; }

    connectedCallback() { this.#join(); }
    disconnectedCallback() { this.#leave(); }
    attributeChangedCallback(name, before, now) {
      if (before === now || !this.isConnected) return;
      if (name === "label" || name === "disabled") return this.render();
      // Several attributes often change together; join once.
      if (this.#isStale) return;
      this.#isStale = true;
      queueMicrotask(() => {
        this.#isStale = false;
        this.#leave();
        if (this.isConnected) this.#join();
      });
    }

    #join() {
      const target = this.getAttribute("target");
      if (!target || this.#heart) return;
      const api = new URL(this.getAttribute("api") ?? settings.api, location.href).origin;
      const token = this.getAttribute("token") ?? settings.token;
      const user = this.getAttribute("user") ?? settings.user ?? (typeof token === "string" ? userOfToken(token) : null);
      this.#page = Page.of(api, user, token);
      this.#heart = this.#page.join(this, target, this.getAttribute("kind") ?? "heart");
      this.render();
    }

    #leave() {
      if (this.#heart) this.#page.leave(this, this.#heart);
      this.#heart = null;
      this.#shown = null;
    }

    /** Heart it, or take the heart back. */
    toggle() {
      if (!this.#heart || this.hasAttribute("disabled")) return;
      const hearted = !this.hearted;
      this.#hideNote();
      if (hearted) this.#celebrate();
      this.#page.want(this.#heart, hearted);
    }

    /** Called by the page's store: show what is known. `why`: own, live, loaded, settled, reverted, queued. */
    render(why) {
      const heart = this.#heart;
      const { button, name, count } = this.#parts;
      button.disabled = this.hasAttribute("disabled");
      name.textContent = this.getAttribute("label") ?? "Heart";
      if (!heart) return;
      button.setAttribute("aria-pressed", String(heart.shownHearted));
      this.toggleAttribute("stale", heart.isStale);
      this.toggleAttribute("queued", heart.isQueued);
      const number = heart.shownCount;
      if (number !== this.#shown && number !== null) this.#showCount(number);
      if (why === "live" && this.matches(":focus-within")) this.#announce(`${number} hearts`, ANNOUNCE_GAP_MS);
      if (why === "queued") this.#tell(navigator.onLine ? "The server cannot be reached. Your click is kept and sent later." : "You seem to be offline. Your click is kept and sent later.");
      if (why === "settled") {
        this.#announce(`${heart.hearted ? "Hearted" : "Heart taken back"}, ${number} ${number === 1 ? "heart" : "hearts"}`, 0);
        this.dispatchEvent(new CustomEvent("heart", { bubbles: true, composed: true, detail: { target: heart.target, hearted: heart.hearted, count: number } }));
      }
    }

    #showCount(number) {
      const { count } = this.#parts;
      const isUp = this.#shown !== null && number > this.#shown;
      const isFirst = this.#shown === null;
      this.#shown = number;
      const locale = this.closest("[lang]")?.lang || undefined;
      count.textContent = new Intl.NumberFormat(locale, number >= 10_000 ? { notation: "compact", maximumFractionDigits: 1 } : {}).format(number);
      count.title = number >= 10_000 ? number.toLocaleString(locale) : "";
      if (!isFirst && !isCalm())
        count.animate([{ transform: `translateY(${isUp ? 45 : -45}%)`, opacity: 0 }, { transform: "none", opacity: 1 }], { duration: 220, easing: "cubic-bezier(.2,.9,.3,1.2)" });
    }

    #celebrate() {
      if (isCalm()) return;
      const { icon } = this.#parts;
      icon.firstElementChild.animate([{ transform: "scale(1)" }, { transform: "scale(.7)" }, { transform: "scale(1.28)" }, { transform: "scale(1)" }], { duration: 420, easing: "cubic-bezier(.3,1.4,.5,1)" });
      for (let i = 0; i < 7; i++) {
        const spark = document.createElement("i");
        spark.className = "spark";
        icon.append(spark);
        const angle = (i / 7) * 2 * Math.PI - 0.4;
        spark.animate(
          [{ transform: "scale(0)", opacity: 1 }, { transform: `translate(${Math.cos(angle) * 20}px, ${Math.sin(angle) * 20}px) scale(1)`, opacity: 1, offset: 0.6 }, { transform: `translate(${Math.cos(angle) * 25}px, ${Math.sin(angle) * 25}px) scale(0)`, opacity: 0 }],
          { duration: 560, easing: "ease-out" },
        ).onfinish = () => spark.remove();
      }
    }

    /** Polite: what others do is said at most every ten seconds, and then only the latest. */
    #announce(text, gapMs) {
      clearTimeout(this.#saidTimer);
      const wait = Math.max(0, this.#said + gapMs - performance.now());
      this.#saidTimer = setTimeout(() => {
        this.#said = performance.now();
        this.#parts.status.textContent = text;
      }, wait);
    }

    #tell(text) {
      const { note } = this.#parts;
      note.textContent = text;
      note.hidden = false;
      this.#announce(text, 0);
      clearTimeout(this.#noteTimer);
      this.#noteTimer = setTimeout(() => this.#hideNote(), NOTE_MS);
    }

    /** The heart was not saved: it has been taken back, and this says why. */
    fail(reason) {
      this.#tell(reason);
      this.dispatchEvent(new CustomEvent("heart-error", { bubbles: true, composed: true, detail: { target: this.#heart?.target, reason } }));
    }

    #hideNote() { this.#parts.note.hidden = true; }
  }

  customElements.define("heart-button", HeartButton);
})();
