// Every push of a user with its trace. All texts come from the server and are inserted as text.
"use strict";

const $ = (id) => document.getElementById(id);
// As in console.js: a key that was given there is not asked for again in this tab.
const KEY = "heartcast.console.key";
const PUSH_ID = /^[0-9A-HJKMNP-TV-Z]{26}$/;
const DID_NOT = new Set(["suppressed", "expired", "cancelled", "failed", "dead"]);
const WAITS = new Set(["queued", "deferred", "sending", "sent"]);

// What a reason means to a person; one that is not here is shown as it is.
const WORDS = {
  category_off: "the user switched this category off",
  route_off: "the user switched this way out off",
  quiet_hours: "it came in the user's quiet hours",
  cap: "the cap on pushes had no room",
  frequency: "the user wants no more pushes in this time",
  duplicate: "another push had used its dedupe key",
  collapsed: "a newer push took its place",
  ttl: "nobody acknowledged it before its time to live ran out",
  inbox_full: "the inbox was full of newer pushes",
  broadcast: "its broadcast was cancelled",
  erased: "the user was erased",
  rendering: "its template could not be rendered",
  send_at: "its sender asked for a later time",
};

let pushes = [];
let only = "";

function el(name, props = {}, ...children) {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children);
  return node;
}

function shown(text) {
  return new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

function when(text) {
  return el("time", { dateTime: text, textContent: shown(text) });
}

function because(reason) {
  return WORDS[reason] || reason;
}

function sentence(push) {
  const who = String(push.user_id);
  if (push.status === "delivered") return `${who} has it: a device acknowledged it.`;
  if (DID_NOT.has(push.status)) {
    const why = push.reason ? `: ${because(push.reason)}` : push.status === "cancelled" ? ": its sender took it back" : "";
    return `${who} did not get it${why}.`;
  }
  if (push.status === "sent") {
    return push.attempts
      ? `It was sent ${push.attempts} times and not acknowledged yet.`
      : `It waits in the inbox; ${who} has not been connected since.`;
  }
  if (push.status === "deferred") return `It waits until ${shown(push.due_at)}: ${because(push.reason || "")}.`;
  return "It is on its way.";
}

function kind(step) {
  if (step.verdict === "delivered") return "good";
  if (DID_NOT.has(step.verdict)) return "bad";
  return step.verdict === "deferred" ? "wait" : "";
}

function stepShown(step) {
  const item = el("li");
  item.dataset.kind = kind(step);
  const words = el("span", {}, el("b", { textContent: step.step }), ` ${step.verdict}`);
  if (step.count > 1) words.append(` ${step.count} times`);
  if (step.reason) words.append(` · ${because(step.reason)}`);
  if (step.until) words.append(" · until ", when(step.until));
  if (step.push) words.append(" · see ", el("code", { textContent: step.push }));
  item.append(words, when(step.at));
  return item;
}

function pushShown(push) {
  const status = el("span", { className: "status", textContent: push.status });
  status.dataset.status = push.status;
  const summary = el(
    "summary", {},
    status, el("span", { textContent: `${push.template}@${push.version}` }), when(push.timestamp),
    el("span", { className: "why", textContent: sentence(push) }),
  );
  const steps = el("ol", {}, ...push.trace.map(stepShown));
  return el("details", {}, summary, el("div", { className: "body" }, el("code", { textContent: push.id }), steps));
}

function show() {
  const listed = only ? pushes.filter((push) => push.status === only) : pushes;
  $("pushes").replaceChildren(...listed.map(pushShown));
  if (listed.length === 1) $("pushes").firstElementChild.open = true;
  const counts = new Map();
  for (const push of pushes) counts.set(push.status, (counts.get(push.status) || 0) + 1);
  $("filter").hidden = counts.size < 2;
  $("filter").replaceChildren(
    ...[["", pushes.length], ...counts].map(([status, count]) => {
      const button = el("button", { type: "button", textContent: `${status || "all"} ${count}` });
      button.setAttribute("aria-pressed", String(only === status));
      button.addEventListener("click", () => {
        only = status;
        show();
        [...$("filter").children].find((one) => one.getAttribute("aria-pressed") === "true").focus();
      });
      return button;
    }),
  );
}

function say(text, isBad = false) {
  $("said").textContent = text;
  $("said").className = isBad ? "bad" : "";
}

async function ask(path) {
  const key = $("key").value;
  const answer = await fetch(path, { headers: key ? { "X-API-Key": key } : {} });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail || `the server answered ${answer.status}`);
  return document;
}

async function look() {
  const who = $("who").value.trim();
  if (!who) return;
  only = "";
  say("Looking…");
  try {
    if (PUSH_ID.test(who)) {
      pushes = [await ask(`/api/v1/pushes/${who}`)];
    } else {
      pushes = (await ask(`/api/v1/users/${encodeURIComponent(who)}/export`)).pushes.reverse();
    }
    const missed = pushes.filter((push) => DID_NOT.has(push.status)).length;
    const waiting = pushes.filter((push) => WAITS.has(push.status)).length;
    say(
      pushes.length
        ? `${pushes.length} ${pushes.length === 1 ? "push" : "pushes"}, newest first: ${missed} not delivered, ${waiting} waiting.`
        : `No push to ${who} is known. Records are kept for a day; was another id used?`,
    );
    history.replaceState(null, "", `#${encodeURIComponent(who)}`);
  } catch (error) {
    pushes = [];
    say(error instanceof TypeError ? "The server does not answer." : `${error.message}.`, true);
  }
  show();
}

function move(step) {
  const heads = [...document.querySelectorAll("summary")];
  const at = heads.indexOf(document.activeElement);
  const next = heads[at < 0 ? 0 : at + step];
  if (next) next.focus();
  else if (at === 0 && step < 0) $("who").focus();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  look();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inText = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !inText) {
    event.preventDefault();
    $("who").select();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  }
});

$("key").value = sessionStorage.getItem(KEY) || "";
if (location.hash.length > 1) {
  $("who").value = decodeURIComponent(location.hash.slice(1));
  look();
}
