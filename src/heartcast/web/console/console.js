/*
 * The operators' console: an overview that renews itself, and one target or user at a time.
 *
 * The address says what is shown (#target=post_123), so that it can be sent to a colleague.
 * "/" goes to the search field, Escape back to the overview. Everything that comes from
 * people is put in as text.
 */
(() => {
  "use strict";
  const RENEW_MS = 5_000;
  const $ = (id) => document.getElementById(id);
  const KEY = "heartcast.console.key";
  let shown = 0;

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return element;
  }

  const number = (value) => value.toLocaleString();
  const time = (at) => make("time", { datetime: at, title: at }, new Date(at).toLocaleString());
  const to = (what, id) => make("a", { href: `#${what}=${encodeURIComponent(id)}` }, id);

  function tiles(entries) {
    const list = make("dl", { class: "tiles" });
    for (const [name, value, look = ""] of entries)
      list.append(make("div", { class: "tile" }, make("dt", {}, name), make("dd", { class: look }, value)));
    return list;
  }

  /** A table, or a sentence when there is nothing: columns are [title, cell(row), isNumber]. */
  function table(caption, columns, rows, nothing) {
    const heading = make("h2", {}, caption);
    if (!rows.length) return [heading, make("p", { class: "none" }, nothing)];
    const look = (isNumber) => (isNumber ? { class: "number" } : {});
    const head = make("tr", {}, ...columns.map(([title, , isNumber]) => make("th", { scope: "col", ...look(isNumber) }, title)));
    const body = rows.map((row) => make("tr", {}, ...columns.map(([, cell, isNumber]) => make("td", look(isNumber), cell(row)))));
    const frame = make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, head), make("tbody", {}, ...body));
    return [heading, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, frame)];
  }

  const changes = (rows) => table("Last hearts", [
    ["when", (row) => time(row.at)], ["target", (row) => to("target", row.target_id)], ["user", (row) => to("user", row.user_id)],
    ["kind", (row) => row.kind], ["what", (row) => (row.delta > 0 ? "given" : "taken back")], ["count", (row) => number(row.count), true],
  ], rows, "None since this process started.");

  const verdicts = (rows) => table("Hearts that do not count", [
    ["when", (row) => time(row.at)], ["reason", (row) => row.reason], ["user", (row) => to("user", row.user_id)],
    ["target", (row) => to("target", row.target_id)], ["network", (row) => row.network],
  ], rows, "None since this process started.");

  const hearts = (rows) => table("Hearts, oldest first", [
    ["given", (row) => time(row.timestamp)], ["target", (row) => to("target", row.target_id)], ["user", (row) => to("user", row.user_id)],
    ["kind", (row) => row.kind], ["counts", (row) => (row.is_shadowed ? "no, shadowed" : "yes")],
  ], rows, "None.");

  const views = {
    overview(found) {
      const shadowed = Object.entries(found.shadowed);
      return [
        make("h1", {}, "Hearts"),
        tiles([
          ["given", number(found.added)], ["taken back", number(found.removed)], ["repeated", number(found.unchanged)],
          ["store", found.degraded.length ? found.degraded.join(", ") : "well", found.degraded.length ? "bad" : "good"],
          ["judged", found.judged === null ? "off" : number(found.judged)],
          ...shadowed.map(([reason, count]) => [`shadowed: ${reason}`, number(count)]),
          ...Object.entries(found.lags).map(([name, lag]) => [`${name} is behind by`, number(lag), lag > 10_000 ? "bad" : ""]),
        ]),
        ...changes(found.recent), ...verdicts(found.verdicts),
      ];
    },
    target(found) {
      return [
        make("h1", {}, found.target_id),
        ...table("Counts", [
          ["kind", (row) => row.kind], ["count", (row) => number(row.count), true], ["recounted", (row) => number(row.rows), true],
          ["drift", (row) => make("span", { class: row.drift ? "bad" : "good" }, number(row.drift)), true],
          ["version", (row) => number(row.version), true], ["shadowed", (row) => number(row.shadowed), true],
        ], found.kinds, "Nobody ever hearted it."),
        ...changes(found.recent), ...verdicts(found.verdicts), ...hearts(found.hearts),
      ];
    },
    user(found) {
      return [make("h1", {}, found.user_id), ...hearts(found.hearts), ...changes(found.recent), ...verdicts(found.verdicts)];
    },
  };

  function asked() {
    const [what, id] = location.hash.slice(1).split("=");
    return what in views && id ? [what, decodeURIComponent(id)] : ["overview", ""];
  }

  function say(text, isBad = false) {
    $("status").textContent = text;
    $("status").className = isBad ? "bad" : "";
  }

  async function show({ isRenewal = false } = {}) {
    const turn = ++shown;
    const [what, id] = asked();
    const path = what === "overview" ? "/api/v1/console" : `/api/v1/console/${what}?id=${encodeURIComponent(id)}`;
    const key = sessionStorage.getItem(KEY);
    if (!isRenewal) say("Looking…");
    const response = await fetch(path, { headers: key ? { "x-api-key": key } : {} }).catch(() => null);
    if (turn !== shown) return;
    if (!response) return say("The server cannot be reached.", true);
    const isRefused = response.status === 401 || response.status === 403;
    $("access").hidden = !isRefused;
    $("forget").hidden = !key;
    if (isRefused) {
      $("content").replaceChildren();
      $("key").focus();
      return say(key ? "This key may not open the console." : "", true);
    }
    const found = await response.json();
    if (!response.ok) return say(found.detail, true);
    say(what === "overview" ? `As of ${new Date(found.as_of).toLocaleTimeString()}, renewed every 5 seconds` : "");
    document.title = `${id || "overview"} · heartcast console`;
    if (what !== "overview") { $("what").value = what; $("id").value = id; }
    $("content").replaceChildren(...views[what](found));
  }

  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const hash = `#${$("what").value}=${encodeURIComponent($("id").value.trim())}`;
    if (hash === location.hash) show();
    else location.hash = hash;
  });
  $("access").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, $("key").value);
    $("key").value = "";
    show();
  });
  $("forget").addEventListener("click", () => { sessionStorage.removeItem(KEY); show(); });
  addEventListener("hashchange", () => show());
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select")) { event.preventDefault(); $("id").focus(); }
    if (event.key === "Escape" && location.hash) location.hash = "";
  });
  setInterval(() => {
    // Not while somebody has marked text to copy it: the tables would be new ones.
    if (!document.hidden && asked()[0] === "overview" && $("access").hidden && getSelection().isCollapsed && !$("content").contains(document.activeElement)) show({ isRenewal: true });
  }, RENEW_MS);
  show();
})();
