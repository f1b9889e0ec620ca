/*
 * The Lantern: what a site's own script does around <heart-button>.
 *
 * Runs before heart.js and tells it who is here. Each window is another person, so that
 * two windows show what two people see. The hot list, pushes and their acknowledgements
 * use the hearts' own connection.
 */
(() => {
  "use strict";
  const find = (selector) => document.querySelector(selector);
  const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const pick = (list) => list[crypto.getRandomValues(new Uint32Array(1))[0] % list.length];

  const MOODS = ["Brisk", "Calm", "Merry", "Quiet", "Sunny", "Bold", "Gentle", "Witty", "Lucky", "Bright", "Kind", "Swift"];
  const ANIMALS = ["Otter", "Heron", "Fox", "Lynx", "Puffin", "Badger", "Wren", "Seal", "Hare", "Finch", "Moth", "Crane"];
  const HEADLINES = [
    "The last ferry waits for you tonight", "Fresh rolls in ten minutes", "The swifts just passed your window",
    "Your tomato is overdue", "West wind at four: bring a kite", "The lighthouse says good night",
  ];

  // ---- Who is here -------------------------------------------------------------------

  function whoAmI() {
    const asked = new URLSearchParams(location.search).get("user");
    const user = asked || sessionStorage.getItem("lantern.user") || someone();
    sessionStorage.setItem("lantern.user", user);
    return user;
  }
  const someone = () => `${pick(MOODS)}-${pick(ANIMALS)}-${100 + (crypto.getRandomValues(new Uint16Array(1))[0] % 900)}`;

  const me = whoAmI();
  let token = null;
  let tokenUntil = 0;

  /** Only the demonstration asks the server for a token; a real site makes one at log-in. */
  async function freshToken() {
    if (token && Date.now() < tokenUntil) return token;
    const response = await fetch("/api/v1/dev/token", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ user_id: me }),
    });
    if (!response.ok) throw new Error(`no token: ${response.status}`);
    token = (await response.json()).token;
    tokenUntil = Date.now() + 60_000;
    return token;
  }
  window.heartcast = { user: me, token: freshToken };

  function introduce() {
    find("#me").textContent = me.replace(/-\d+$/, "").replaceAll("-", " ");
    find("#me").title = me;
    find("#avatar").textContent = me.split("-").map((word) => word[0]).join("").slice(0, 2).toUpperCase();
    find("#avatar").style.setProperty("--hue", [...me].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 360, 7));
    find("#second").href = `/demo?user=${someone()}`;
    find("#push-user").value = me;
    find("#push-text").value = pick(HEADLINES);
    find("#today").textContent = new Date().toLocaleDateString("en", { weekday: "long", day: "numeric", month: "long" });
  }

  function keepTheme() {
    const root = document.documentElement;
    const kept = localStorage.getItem("lantern.theme");
    if (kept) root.dataset.theme = kept;
    find("#theme").addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      localStorage.setItem("lantern.theme", root.dataset.theme);
    });
  }

  /** A column taller than the window sticks by its lower end, so that all of it can be reached. */
  function keepReachable() {
    const aside = find("aside");
    const place = () => aside.style.setProperty("--top", `${Math.min(20, innerHeight - aside.offsetHeight - 20)}px`);
    new ResizeObserver(place).observe(aside);
    addEventListener("resize", place);
  }

  // ---- The hot list ------------------------------------------------------------------

  const titles = new Map([...document.querySelectorAll(".story")].map((story) => [story.dataset.target, story.querySelector("h2, h3").textContent]));
  const rows = new Map();

  function row(itemId) {
    let item = rows.get(itemId);
    if (item) return item;
    item = document.createElement("li");
    item.dataset.item = itemId;
    item.innerHTML = '<span class="rank"></span><a></a><span class="score"></span><span class="bar" aria-hidden="true"><i></i></span>';
    const link = item.querySelector("a");
    link.textContent = titles.get(itemId) ?? itemId;
    link.href = titles.has(itemId) ? `#t-${itemId}` : "#stories";
    rows.set(itemId, item);
    return item;
  }

  function showHot(items) {
    const shown = items.slice(0, 5);
    const best = shown[0]?.score || 1;
    const wanted = shown.map((item, index) => {
      const element = row(item.item_id);
      element.querySelector(".rank").textContent = index + 1;
      element.querySelector(".score").textContent = formatScore(item.score);
      element.querySelector(".bar i").style.setProperty("--share", Math.max(0.02, item.score / best));
      return element;
    });
    find("#hot-empty").hidden = wanted.length > 0;
    arrange(find("#hot"), wanted);
  }

  /** Reorder with FLIP: note where rows are, move them, then play the way from there. */
  function arrange(list, wanted) {
    const before = new Map([...list.children].map((item) => [item, item.getBoundingClientRect().top]));
    // Rows that stay in place are not touched: focus and hover survive.
    wanted.forEach((element, index) => {
      if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    });
    while (list.children.length > wanted.length) list.lastChild.remove();
    if (!isCalm()) for (const element of wanted) flip(element, before.get(element));
  }

  function flip(element, from) {
    if (from === undefined) {
      element.animate([{ opacity: 0, transform: "translateY(12px)" }, { opacity: 1, transform: "none" }], { duration: 300, easing: "ease-out" });
      return;
    }
    const moved = from - element.getBoundingClientRect().top;
    if (!moved) return;
    element.style.zIndex = moved > 0 ? 1 : 0; // Who rises passes in front.
    element.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 520, easing: "cubic-bezier(.2,.9,.25,1)" });
  }

  const formatScore = (score) => (score >= 10 ? Math.round(score).toLocaleString("en") : score.toFixed(1));

  async function loadHot() {
    const response = await fetch("/api/v1/hot/hour?limit=5").catch(() => null);
    if (response?.ok) showHot((await response.json()).items);
  }

  // ---- For you -----------------------------------------------------------------------

  const SETTLE_MS = 120; // The server counts what goes together a moment after the heart.
  const OTHERS_MS = 600; // Other people's hearts move the list too, but need not at once.
  const picks = new Map();
  let forYouTimer = 0;
  let forYouDue = Infinity;
  let forYouAsked = 0;

  /** Refresh after so many milliseconds; an earlier appointment stands. */
  function refreshForYou(wait) {
    const due = performance.now() + wait;
    if (due >= forYouDue) return;
    forYouDue = due;
    clearTimeout(forYouTimer);
    forYouTimer = setTimeout(loadForYou, wait);
  }

  async function loadForYou() {
    forYouDue = Infinity;
    const asked = ++forYouAsked;
    const response = await fetch(`/api/v1/recommend/${encodeURIComponent(me)}?n=3&explain=1`).catch(() => null);
    // 404: this server runs without the ranking extra, and the page without this card.
    if (response?.status === 404) return (find("#for-you-card").hidden = true);
    if (!response?.ok) return;
    const { items } = await response.json();
    if (asked === forYouAsked) showForYou(items); // Answers may overtake each other.
  }

  const KNOWN = new RegExp(`(?<![\\w-])(?:${[...titles.keys()].join("|")})(?![\\w-])`, "g");

  /** The server's reason with headlines for ids: “You hearted …, and 3 others hearted both.” */
  function inWords(because) {
    const named = because.replace(KNOWN, (id) => `“${titles.get(id)}”`);
    return named ? `${named[0].toUpperCase()}${named.slice(1)}.` : "A guess.";
  }

  function pickRow(itemId) {
    let item = picks.get(itemId);
    if (item) return item;
    item = document.createElement("li");
    item.dataset.item = itemId;
    item.innerHTML = '<a></a><p class="why" role="tooltip"></p>';
    const link = item.querySelector("a");
    link.textContent = titles.get(itemId) ?? itemId;
    link.href = titles.has(itemId) ? `#t-${itemId}` : "#stories";
    const why = item.querySelector(".why");
    why.id = `why-${picks.size}`;
    link.setAttribute("aria-describedby", why.id);
    for (const left of ["pointerleave", "focusout"]) item.addEventListener(left, () => item.classList.remove("hushed"));
    picks.set(itemId, item);
    return item;
  }

  function showForYou(items) {
    find("#for-you-card").hidden = false;
    find("#for-you-empty").hidden = items.length > 0;
    const wanted = items.map((pick) => {
      const element = pickRow(pick.item_id);
      element.querySelector(".why").textContent = inWords(pick.because ?? "");
      return element;
    });
    arrange(find("#for-you"), wanted);
  }

  // ---- Pushes ------------------------------------------------------------------------

  const sent = new Map();
  const arrived = new Map(); // Push id → when it came and the line of its toast that says how fast.

  async function push(event) {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("button");
    button.disabled = true;
    mark(0);
    try {
      const began = performance.now();
      const response = await fetch("/push", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ user_id: form.user.value.trim(), template: "news_v2", payload: { title: form.title.value.trim() } }),
      });
      const answer = await response.json();
      if (!response.ok) return say(answer.detail ?? "The server refused the push.", "bad");
      mark(1);
      sent.set(answer.id, began);
      sayHowFast(answer.id);
      say(`Accepted as …${answer.id.slice(-6)}${answer.shard === undefined ? "" : `, shard ${answer.shard}`}.`);
      find("#push-text").value = pick(HEADLINES.filter((headline) => headline !== form.title.value));
      follow(answer.id);
    } catch {
      say("Not sent: the server cannot be reached.", "bad");
    } finally {
      button.disabled = false;
    }
  }

  /** Ask a few times how far the push has come; the way lights up accordingly. */
  async function follow(id) {
    for (let wait = 60; wait < 4_000; wait *= 2) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      const response = await fetch(`/api/v1/pushes/${id}`).catch(() => null);
      if (!response?.ok) return;
      const record = await response.json();
      if (record.status === "delivered") return mark(3); // The server's word for "acknowledged".
      if (record.status === "sent" || arrived.has(id)) mark(2);
    }
  }

  const mark = (steps) => [...find("#way").children].forEach((step, index) => step.classList.toggle("done", index < steps));
  function say(text, is = "") {
    find("#push-said").textContent = text;
    find("#push-said").dataset.is = is;
  }

  function receive(live, data, publication) {
    const id = publication.tags?.id;
    // Acknowledge first, and again when it comes again: the first may not have arrived.
    if (id) live.send({ ack: [id] });
    if (id && arrived.has(id)) return;
    const note = toast(data.title ?? "News", data.body ?? "");
    if (id) arrived.set(id, { at: performance.now(), note });
    sayHowFast(id);
  }

  /** The push may arrive before the answer that names it: whichever is second says the time. */
  function sayHowFast(id) {
    if (!arrived.has(id) || !sent.has(id)) return;
    const { at, note } = arrived.get(id);
    note.textContent = `arrived ${Math.max(1, Math.round(at - sent.get(id)))} ms after you sent it`;
    mark(2);
  }

  function toast(title, body) {
    const element = document.createElement("div");
    element.className = "toast";
    element.innerHTML = '<img src="/favicon.svg" alt=""><div><strong></strong><p></p><small></small></div><button type="button" aria-label="Dismiss">×</button>';
    element.querySelector("strong").textContent = title;
    element.querySelector("p").textContent = body;
    element.querySelector("p").hidden = !body;
    element.querySelector("small").textContent = "just now";
    const toasts = find("#toasts");
    toasts.append(element);
    while (toasts.children.length > 4) toasts.firstChild.remove();
    if (!isCalm()) element.animate([{ opacity: 0, transform: "translateY(24px) scale(.96)" }, { opacity: 1, transform: "none" }], { duration: 380, easing: "cubic-bezier(.2,1.2,.4,1)" });
    // It stays while somebody reads it: under the pointer or the focus it does not leave.
    let timer = 0;
    const leave = () => element.remove();
    const wait = () => { timer = setTimeout(leave, 9_000); };
    const stay = () => clearTimeout(timer);
    element.addEventListener("pointerenter", stay);
    element.addEventListener("pointerleave", wait);
    element.addEventListener("focusin", stay);
    element.addEventListener("focusout", wait);
    element.querySelector("button").addEventListener("click", leave);
    wait();
    return element.querySelector("small");
  }

  // ---- Right now ---------------------------------------------------------------------

  const number = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1));

  async function refreshPanel() {
    if (document.hidden) return;
    const response = await fetch("/api/v1/panel").catch(() => null);
    if (!response?.ok) return;
    const { rates, gauges, history } = await response.json();
    for (const place of document.querySelectorAll("[data-figure]")) {
      const name = place.dataset.figure;
      // A quiet second has no p99: the last one that was measured stays.
      const value = rates[name] ?? gauges[name] ?? (history[name] ?? []).findLast((past) => past !== null);
      place.textContent = value === null || value === undefined ? "–" : name === "p99_ms" ? `${number(value)} ms` : number(value);
      draw(place.parentElement.querySelector("svg"), history[name] ?? []);
    }
  }

  function draw(svg, values) {
    const [area, line] = svg.children;
    let last = 0;
    const known = values.map((value) => (last = value ?? last));
    if (known.length < 2) return;
    const top = Math.max(...known, 1e-9) * 1.15;
    // A minute is the full width; a younger history begins further right.
    const points = known.map((value, index) => [100 - ((known.length - 1 - index) / 59) * 100, 26.5 - (value / top) * 24]);
    const path = points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
    line.setAttribute("d", path);
    area.setAttribute("d", `${path}L100 28L${points[0][0].toFixed(2)} 28Z`);
  }

  // ---- Together ----------------------------------------------------------------------

  const encodePart = (id) => encodeURIComponent(id).replace(/[!'()*~]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase()).replace(/%3A/g, ":");

  introduce();
  keepTheme();
  keepReachable();
  find("#push").addEventListener("submit", push);
  customElements.whenDefined("heart-button").then((HeartButton) => {
    const live = HeartButton.live();
    const state = (name, words) => {
      find("#connection").dataset.state = name;
      find("#connection").lastElementChild.textContent = words;
    };
    live.addEventListener("connected", () => state("live", "live"));
    live.addEventListener("disconnected", () => state("connecting", "reconnecting"));
    live.subscribe("hot:hour", (data) => {
      showHot(data.items);
      refreshForYou(OTHERS_MS);
    });
    live.subscribe(`inbox:#${encodePart(me)}`, (data, publication) => receive(live, data, publication), { recover: true });
    if (live.isConnected) state("live", "live");
  });
  // Escape puts a reason away without moving the pointer or the focus.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") find("#for-you li:is(:hover, :focus-within)")?.classList.add("hushed");
  });
  document.addEventListener("heart", () => refreshForYou(SETTLE_MS));
  loadHot();
  loadForYou();
  refreshPanel();
  setInterval(refreshPanel, 1_000);
})();
