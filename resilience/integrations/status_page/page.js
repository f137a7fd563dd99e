"use strict";

// The server sends three kinds of messages: "state" is everything, "transition" one change of state,
// "look" the circuits that look different from a second ago. Text from outside only ever becomes
// the text of a node. Time is the server's clock, carried on by this page's own between messages.

const HOUR = 3600;
const STATES = ["OPEN", "HALF_OPEN", "CLOSED"];
const COUNTS = ["successes", "failures", "ignored", "rejected", "probes", "trips"];
const LABELS = ["Succeeded", "Failed", "Ignored", "Rejected", "Probes", "Trips"];
const MOST_EVENTS = 200;
const PATIENCE = 5000; // milliseconds without a message

const $ = (id) => document.getElementById(id);
const rows = new Map(); // region -> what is on the page for it
const past = new Map(); // region -> its changes of state, oldest first
const seen = new Set(); // the changes that are on the page
const undrawn = new Set(); // rows whose last hour has changed
let clock = { at: 0, read: 0 };
let knownSince = 0;
let filter = "";
let wanted = "";
let heard = 0;
let source = null;

const now = () => clock.at + (performance.now() - clock.read) / 1000;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < HOUR) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 48 * HOUR) return `${Math.floor(s / HOUR)} h ${Math.floor((s % HOUR) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

// One row for each region

function makeRow(region) {
  const cell = (name, extra = {}) => make("td", { role: "cell", class: name, ...extra });
  const row = { made: make("tr", { role: "row" }), drawn: "", place: null };
  row.pill = make("span", { class: "pill" });
  row.why = make("bdi", { class: "why" });
  row.next = make("span");
  row.bar = make("progress", { max: "1", "aria-hidden": "true" });
  row.age = cell("age");
  row.streak = cell("n streak");
  row.counts = LABELS.map((label) => cell("n", { "data-label": label }));
  row.line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  row.line.setAttribute("class", "line");
  row.line.setAttribute("viewBox", `0 0 ${HOUR} 10`);
  row.line.setAttribute("preserveAspectRatio", "none");
  row.line.setAttribute("role", "img");
  const state = cell("state");
  const next = cell("next");
  const hour = cell("hour");
  state.append(row.pill);
  next.append(row.next, row.bar);
  hour.append(row.line);
  const name = make("th", { role: "rowheader", scope: "row", class: "name" });
  name.append(make("bdi", {}, region), row.why);
  row.made.append(state, name, next, row.age, row.streak, hour, ...row.counts);
  return row;
}

function show(what) {
  let row = rows.get(what.region);
  if (!row) rows.set(what.region, (row = makeRow(what.region)));
  row.what = what;
  row.read = now();
  row.made.className = what.state;
  row.pill.className = `pill ${what.state}`;
  put(row.pill, what.state);
  put(row.why, what.reason && what.state !== "CLOSED" ? what.reason : "");
  put(row.streak, String(what.streak));
  row.streak.classList.toggle("zero", !what.streak);
  COUNTS.forEach((name, i) => {
    put(row.counts[i], what[name].toLocaleString("en"));
    row.counts[i].classList.toggle("zero", !what[name]);
  });
  undrawn.add(row);
  pass(row);
}

// What changes as time passes

function pass(row) {
  const { state, since, recovery_timeout: timeout, retry_after: wait, forced } = row.what;
  const left = since + timeout - now();
  const counting = state === "OPEN" && !forced;
  row.bar.hidden = !counting;
  if (counting) row.bar.value = Math.min(1, Math.max(0, 1 - left / timeout));
  let text = "none needed";
  if (state === "OPEN") text = forced ? "not before a reset" : left > 0 ? `in ${span(Math.ceil(left))}` : "due now";
  if (state === "HALF_OPEN") text = wait > 0 ? "under way" : "due now";
  put(row.next, text);
  put(row.age, span(now() - since));
}

// The last hour

function draw(row) {
  const { region, state, since } = row.what;
  const events = past.get(region) || [];
  const end = now();
  const parts = [];
  let from = Math.max(since, events.length ? events[events.length - 1].at : since);
  parts.push([state, from, end]);
  // A circuit that is due is HALF_OPEN already, and no event says so.
  if (events.length && from > events[events.length - 1].at) {
    parts.push([events[events.length - 1].new, events[events.length - 1].at, from]);
  }
  for (let i = events.length - 1; i >= 0; i--) {
    const began = i ? events[i - 1].at : Math.min(knownSince, events[0].at);
    parts.push([events[i].old, began, events[i].at]);
  }
  const start = end - HOUR;
  const shown = parts.filter(([, a, b]) => b > start && b > a);
  const key = shown.map(([s, a, b]) => `${s}${Math.round(a)}${Math.round(b)}`).join() + Math.round(end / 5);
  if (row.drawn === key) return;
  row.drawn = key;
  row.line.replaceChildren(...shown.map(([kind, a, b]) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const x = Math.max(0, a - start);
    rect.setAttribute("class", kind);
    rect.setAttribute("x", x);
    rect.setAttribute("width", Math.max(kind === "CLOSED" ? 0 : 12, b - start - x)); // never too narrow to see
    rect.setAttribute("height", 10);
    return rect;
  }).reverse());
  const spent = (kind) => shown.reduce((sum, [s, a, b]) => sum + (s === kind ? b - Math.max(a, start) : 0), 0);
  const away = ["OPEN", "HALF_OPEN"].filter(spent).map((s) => `${s} for ${span(spent(s))}`);
  row.line.setAttribute("aria-label", `last hour: ${away.join(", ") || "CLOSED as far as known"}`);
}

// Which rows, in which order

function arrange() {
  const counts = { "": rows.size, OPEN: 0, HALF_OPEN: 0, CLOSED: 0 };
  const list = [];
  for (const [region, row] of rows) {
    counts[row.what.state]++;
    const text = `${region} ${row.what.reason || ""}`.toLowerCase();
    if ((!filter || filter === row.what.state) && text.includes(wanted)) list.push([region, row]);
  }
  list.sort(([a, x], [b, y]) =>
    STATES.indexOf(x.what.state) - STATES.indexOf(y.what.state) || (a < b ? -1 : 1));
  const body = $("regions").tBodies[0];
  let at = body.firstChild;
  for (const [, { made }] of list) {
    if (made === at) at = at.nextSibling;
    else body.insertBefore(made, at);
  }
  while (at) {
    const rest = at.nextSibling;
    at.remove();
    at = rest;
  }
  $("none").hidden = list.length > 0;
  put($("none"), rows.size ? "No region fits." : "No region has been called yet. Each appears with its first call.");
  $("regions").hidden = !list.length;
  tally(counts);
}

function tally(counts) {
  for (const button of $("filters").children) {
    const state = button.value;
    put(button.lastChild, String(counts[state]));
    button.classList.toggle("some", counts[state] > 0);
    button.setAttribute("aria-pressed", String(filter === state));
  }
  const bad = counts.OPEN + counts.HALF_OPEN;
  const title = bad ? `${bad} of ${rows.size} not closed | Circuits` : "Circuits";
  if (document.title !== title) document.title = title;
  const icon = document.querySelector("link[rel=icon]");
  const file = counts.OPEN ? "icon-alert.svg" : "icon.svg";
  if (icon.getAttribute("href") !== file) icon.setAttribute("href", file);
}

// What happened

function remember(event) {
  const key = `${event.region}|${event.time}|${event.old}|${event.new}`;
  if (seen.has(key)) return null;
  seen.add(key);
  if (!past.has(event.region)) past.set(event.region, []);
  const its = past.get(event.region);
  its.push(event);
  while (its.length > 1 && its[1].at < now() - HOUR) its.shift();
  const time = new Date(event.time);
  const item = make("li", {},
    make("time", { datetime: event.time, title: time.toString() }, time.toTimeString().slice(0, 8)),
    make("bdi", { class: "region" }, event.region),
    make("span", { class: "move" }, pillOf(event.old), " → ", pillOf(event.new)),
    make("bdi", { class: "why" }, event.by ? `${event.reason}, told by ${event.by}` : event.reason));
  item.key = key;
  return item;
}

const pillOf = (state) => make("span", { class: `pill ${state}` }, state);

function list(items) {
  const events = $("events");
  events.prepend(...items.reverse());
  while (events.children.length > MOST_EVENTS) {
    seen.delete(events.lastChild.key);
    events.lastChild.remove();
  }
  events.hidden = !events.children.length;
  $("quiet").hidden = !events.hidden;
}

// For who listens instead of looking: the last change, not too often

let toSay = "";
function say(event) {
  if (!toSay) setTimeout(() => { put($("said"), toSay); toSay = ""; }, 1000);
  toSay = `${event.region} is ${event.new}: ${event.reason}`;
}

// Messages

let queued = [];
let due = false;
function soon() {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    const items = queued;
    queued = [];
    if (items.length) list(items);
    arrange();
    undrawn.forEach(draw);
    undrawn.clear();
  });
}

function hear(name, receive) {
  source.addEventListener(name, (message) => {
    heard = performance.now();
    live("on", "live");
    receive(JSON.parse(message.data));
  });
}

function setClock(at) {
  clock = { at, read: performance.now() };
}

function receiveAll(all) {
  setClock(all.clock);
  knownSince = all.known_since;
  put($("who"), `${all.host} · process ${all.process}`);
  rows.clear();
  past.clear();
  seen.clear();
  $("events").replaceChildren();
  queued = all.history.map(remember).filter(Boolean);
  all.regions.forEach(show);
  soon();
}

function receiveLook(look) {
  setClock(look.clock);
  look.gone.forEach((region) => { rows.delete(region); past.delete(region); });
  look.regions.forEach(show);
  if (look.gone.length || look.regions.length) soon();
  else for (const row of rows.values()) pass(row);
}

function receiveTransition(event) {
  const item = remember(event);
  if (!item) return;
  queued.push(item);
  say(event);
  const row = rows.get(event.region);
  if (row) {
    const forced = event.new === "OPEN" && event.retry_after === null;
    const reason = event.new === "OPEN" ? event.reason : row.what.reason;
    show({ ...row.what, state: event.new, since: event.at, streak: event.streak, forced, reason, retry_after: event.retry_after });
  }
  soon();
}

function live(kind, text) {
  $("live").className = kind;
  put($("live"), text);
}

function connect() {
  source = new EventSource("stream");
  hear("state", receiveAll);
  hear("look", receiveLook);
  hear("transition", receiveTransition);
  source.onerror = () => {
    live("off", "not live, trying again");
    if (source.readyState === EventSource.CLOSED) { // refused, not interrupted: the browser gives up
      fetch("api/circuits").then((answer) => answer.json()).then(receiveAll).catch(() => {});
      setTimeout(connect, 10000);
    }
  };
}

for (const state of ["", ...STATES]) {
  const button = make("button", { type: "button", value: state, class: state, "aria-pressed": "false" },
    make("span", {}, state ? state : "All"), make("b", {}, "0"));
  button.addEventListener("click", () => { filter = state; arrange(); });
  $("filters").append(button);
}
$("find").addEventListener("input", (event) => { wanted = event.target.value.trim().toLowerCase(); arrange(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("find")) { event.preventDefault(); $("find").focus(); }
});
let seconds = 0;
setInterval(() => {
  seconds++;
  for (const row of rows.values()) {
    pass(row);
    if (seconds % 10 === 0) draw(row);
  }
  if (heard && performance.now() - heard > PATIENCE) live("off", "not live, trying again");
}, 1000);
$("events").hidden = true;
connect();
