"use strict";

// The stream sends three kinds of messages: "state" is everything, "transition" is one change of a
// circuit's state, and "update" is the circuits that have changed in another way. Times are seconds
// of the server's clock; between two messages this page lets it run on by itself. Text from outside
// becomes the text of a node and nothing else.

const HOUR = 3600; // seconds
const STATES = ["OPEN", "HALF_OPEN", "CLOSED"]; // in the order of the table
const COUNTS = {
  successes: "Succeeded", failures: "Failed", answered: "Answered", ignored: "Ignored",
  rejected: "Rejected", probes: "Probes", trips: "Trips",
};
// What is written next to a circuit that rejects nobody.
const MODES = { enforce: "", observe: "only observed: no call is rejected", off: "switched off" };
const MAX_EVENTS = 200; // in the list
const SILENCE = 5000; // milliseconds without a message, after which the page is not live
const RECONNECT = 10000; // milliseconds until the next attempt, if the server has refused this one

const $ = (id) => document.getElementById(id);
const rows = new Map(); // region -> its row in the table
const transitions = new Map(); // region -> its state changes of the last hour, oldest first
const listed = new Set(); // the keys of the state changes in the list
const outdated = new Set(); // the rows whose timeline has to be drawn again
let clock = { at: 0, readAt: 0 };
let knownSince = 0; // no state change before this is known
let stateFilter = ""; // a state, or "" for all
let textFilter = "";
let lastMessageAt = 0;
let source = null;

const now = () => clock.at + (performance.now() - clock.readAt) / 1000;

function setClock(at) {
  clock = { at, readAt: performance.now() };
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function svgElement(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const pill = (state) => element("span", { class: `pill ${state}` }, state);

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function formatDuration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < HOUR) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 48 * HOUR) return `${Math.floor(s / HOUR)} h ${Math.floor((s % HOUR) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

// The table: one row for each region

function createRow(region) {
  const cell = (name, extra = {}) => element("td", { role: "cell", class: name, ...extra });
  const row = {
    node: element("tr", { role: "row" }),
    pill: element("span", { class: "pill" }),
    reason: element("bdi", { class: "reason" }),
    ignored: element("bdi", { class: "reason ignored" }),
    tenants: element("bdi", { class: "reason tenants" }),
    drain: element("bdi", { class: "reason drain" }),
    mode: element("bdi", { class: "reason mode" }),
    nextProbe: element("span"),
    progress: element("progress", { max: "1", "aria-hidden": "true" }),
    age: cell("age"),
    streak: cell("number streak"),
    counts: Object.entries(COUNTS).map(([name, label]) => [name, cell("number", { "data-label": label })]),
    timeline: svgElement("svg", {
      class: "timeline", viewBox: `0 0 ${HOUR} 10`, preserveAspectRatio: "none", role: "img",
    }),
    drawn: "", // what the timeline shows
  };
  const name = element("th", { role: "rowheader", scope: "row", class: "name" });
  name.append(element("bdi", {}, region), row.reason, row.ignored, row.tenants, row.drain, row.mode);
  const state = cell("state");
  const next = cell("next");
  const hour = cell("hour");
  state.append(row.pill);
  next.append(row.nextProbe, row.progress);
  hour.append(row.timeline);
  row.node.append(state, name, next, row.age, row.streak, hour, ...row.counts.map(([, node]) => node));
  return row;
}

function showCircuit(circuit) {
  let row = rows.get(circuit.region);
  if (!row) rows.set(circuit.region, (row = createRow(circuit.region)));
  row.circuit = circuit;
  // While the circuit is OPEN: when a probe is due.
  row.due = circuit.since + circuit.seconds_in_state + (circuit.retry_after || 0);
  row.node.className = circuit.state;
  row.pill.className = `pill ${circuit.state}`;
  setText(row.pill, circuit.state);
  setText(row.reason, circuit.reason && circuit.state !== "CLOSED" ? circuit.reason : "");
  setText(row.ignored, ignoredText(circuit));
  setText(row.tenants, tenantsText(circuit));
  setText(row.drain, drainText(circuit));
  setText(row.mode, MODES[circuit.mode]);
  setText(row.streak, String(circuit.streak));
  row.streak.classList.toggle("zero", !circuit.streak);
  for (const [name, node] of row.counts) {
    setText(node, circuit[name].toLocaleString("en"));
    node.classList.toggle("zero", !circuit[name]);
  }
  outdated.add(row);
  showTimes(row);
}

function showTimes(row) {
  const { circuit, due } = row;
  const elapsed = now() - circuit.since;
  const total = due - circuit.since;
  const isCountingDown = circuit.state === "OPEN" && !circuit.forced;
  row.progress.hidden = !isCountingDown;
  row.progress.value = total > 0 ? Math.min(1, Math.max(0, elapsed / total)) : 1;
  // Whole seconds; the server rounds its times to milliseconds.
  setText(row.nextProbe, nextProbeText(circuit, Math.ceil(total - elapsed - 0.001)));
  setText(row.age, formatDuration(elapsed));
}

function nextProbeText(circuit, left) {
  if (circuit.state === "CLOSED") return "not needed";
  if (circuit.forced) return "after a manual reset";
  if (circuit.state === "HALF_OPEN") return circuit.retry_after > 0 ? "in progress" : "due now";
  return left > 0 ? `in ${formatDuration(left)}` : "due now";
}

// Returns why a circuit that is probed can neither close nor open.
function ignoredText(circuit) {
  if (!circuit.ignored_probes) return "";
  const probes = circuit.ignored_probes === 1 ? "1 probe was"
    : `${circuit.ignored_probes.toLocaleString("en")} probes in a row were`;
  const reasons = circuit.ignored_reasons.join(", ");
  return `${probes} ignored${reasons && ": "}${reasons}`;
}

// Returns which tenants of a region wait; their names only where the server sends them.
function tenantsText(circuit) {
  const count = circuit.throttled_tenants;
  if (!count) return "";
  const tenants = `${count.toLocaleString("en")} throttled ${count === 1 ? "tenant" : "tenants"}`;
  const names = Object.keys(circuit.tenant_waits).join(", ");
  return `${tenants}, at most ${formatDuration(circuit.longest_wait)} more${names && ": "}${names}`;
}

// Returns how far the backlog of an outage is worked off.
function drainText(circuit) {
  const drain = circuit.drain;
  if (!drain) return "";
  const rate = drain.rate.toLocaleString("en", { maximumFractionDigits: 1 });
  const left = drain.eta === null ? "not shrinking at this rate" : `${formatDuration(drain.eta)} to go`;
  return `backlog of ${drain.backlog.toLocaleString("en")}, ${rate} a second, ${left}`;
}

function showRows() {
  const visible = [...rows.entries()].filter(([region, { circuit }]) => {
    const text = `${region} ${circuit.reason || ""}`.toLowerCase();
    return (!stateFilter || stateFilter === circuit.state) && text.includes(textFilter);
  });
  visible.sort(([a, x], [b, y]) =>
    STATES.indexOf(x.circuit.state) - STATES.indexOf(y.circuit.state) || (a < b ? -1 : 1));
  // Only rows that are not yet in their place are moved.
  const body = $("regions").tBodies[0];
  let place = body.firstChild;
  for (const [, { node }] of visible) {
    if (node === place) place = place.nextSibling;
    else body.insertBefore(node, place);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
  $("regions").hidden = !visible.length;
  $("no-regions").hidden = visible.length > 0;
  setText($("no-regions"), rows.size
    ? "No region matches."
    : "No region has been called yet. A region appears here with its first call.");
  showSummary();
}

function showSummary() {
  const counts = { "": rows.size, OPEN: 0, HALF_OPEN: 0, CLOSED: 0 };
  for (const { circuit } of rows.values()) counts[circuit.state]++;
  for (const button of $("filters").children) {
    const state = button.value;
    setText(button.lastChild, String(counts[state]));
    button.classList.toggle("some", counts[state] > 0);
    button.setAttribute("aria-pressed", String(stateFilter === state));
  }
  const notClosed = counts.OPEN + counts.HALF_OPEN;
  const title = notClosed ? `${notClosed} of ${rows.size} not closed | Circuits` : "Circuits";
  if (document.title !== title) document.title = title;
  const icon = document.querySelector("link[rel=icon]");
  const file = counts.OPEN ? "icon-alert.svg" : "icon.svg";
  if (icon.getAttribute("href") !== file) icon.setAttribute("href", file);
}

// The timeline: the states of a circuit in the last hour

// Returns parts of time as [state, begin, end], oldest first.
function partsOf(circuit) {
  const events = transitions.get(circuit.region) || [];
  const last = events[events.length - 1];
  const parts = events.map((event, i) =>
    [event.old, i ? events[i - 1].at : Math.min(knownSince, event.at), event.at]);
  const begin = last ? Math.max(circuit.since, last.at) : circuit.since;
  // An OPEN circuit whose probe is due counts as HALF_OPEN, although there was no transition yet.
  if (last && begin > last.at) parts.push([last.new, last.at, begin]);
  parts.push([circuit.state, begin, now()]);
  return parts;
}

function drawTimeline(row) {
  const end = now();
  const start = end - HOUR;
  const parts = partsOf(row.circuit).filter(([, from, to]) => to > start && to > from);
  const key = parts.map(([state, from, to]) => `${state}${Math.round(from)}${Math.round(to)}`).join()
    + Math.round(end / 5);
  if (row.drawn === key) return;
  row.drawn = key;
  row.timeline.replaceChildren(...parts.map(([state, from, to]) => {
    const x = Math.max(0, from - start);
    const least = state === "CLOSED" ? 0 : 12; // never too narrow to be seen
    return svgElement("rect", { class: state, x, width: Math.max(least, to - start - x), height: 10 });
  }));
  const secondsIn = (wanted) => parts
    .filter(([state]) => state === wanted)
    .reduce((sum, [, from, to]) => sum + to - Math.max(from, start), 0);
  const outages = ["OPEN", "HALF_OPEN"].filter(secondsIn)
    .map((state) => `${state} for ${formatDuration(secondsIn(state))}`);
  row.timeline.setAttribute("aria-label", `last hour: ${outages.join(", ") || "no outage known"}`);
}

// The list of state changes

// Returns why a circuit changed its state.
function changeText(event) {
  const by = event.by && `by ${event.by}`;
  return [event.reason, by, MODES[event.mode]].filter(Boolean).join(", ");
}

// Returns the item for a new state change, or null if it is in the list already.
function createItem(event) {
  const key = `${event.region}|${event.time}|${event.old}|${event.new}`;
  if (listed.has(key)) return null;
  listed.add(key);
  const time = new Date(event.time);
  const item = element("li", {},
    element("time", { datetime: event.time, title: time.toString() }, time.toTimeString().slice(0, 8)),
    element("bdi", { class: "region" }, event.region),
    element("span", { class: "move" }, pill(event.old), " → ", pill(event.new)),
    element("bdi", { class: "reason" }, changeText(event)));
  item.key = key;
  return item;
}

function addToTimeline(event) {
  if (!transitions.has(event.region)) transitions.set(event.region, []);
  const events = transitions.get(event.region);
  events.push(event);
  while (events.length > 1 && events[1].at < now() - HOUR) events.shift();
}

function showItems(items) {
  const list = $("events");
  list.prepend(...items.reverse());
  while (list.children.length > MAX_EVENTS) {
    listed.delete(list.lastChild.key);
    list.lastChild.remove();
  }
  list.hidden = !list.children.length;
  $("no-events").hidden = !list.hidden;
}

// For screen readers: the latest state change, at most once a second

let announcement = "";
function announce(event) {
  if (!announcement) {
    setTimeout(() => {
      setText($("announcement"), announcement);
      announcement = "";
    }, 1000);
  }
  announcement = `${event.region} is ${event.new}: ${event.reason}`;
}

// Messages. Those that arrive together are shown together.

let newItems = [];
let isScheduled = false;
function scheduleShow() {
  if (isScheduled) return;
  isScheduled = true;
  queueMicrotask(() => {
    isScheduled = false;
    const items = newItems;
    newItems = [];
    if (items.length) showItems(items);
    showRows();
    outdated.forEach(drawTimeline);
    outdated.clear();
  });
}

function addEvent(event) {
  const item = createItem(event);
  if (!item) return false;
  newItems.push(item);
  addToTimeline(event);
  return true;
}

function receiveState(page) {
  setClock(page.clock);
  knownSince = page.known_since;
  setText($("process"), `${page.host} · process ${page.process}`);
  rows.clear();
  transitions.clear();
  listed.clear();
  outdated.clear();
  $("events").replaceChildren();
  newItems = [];
  page.history.forEach(addEvent);
  page.regions.forEach(showCircuit);
  scheduleShow();
}

function receiveUpdate(update) {
  setClock(update.clock);
  for (const region of update.gone) {
    rows.delete(region);
    transitions.delete(region);
  }
  update.regions.forEach(showCircuit);
  if (update.gone.length || update.regions.length) scheduleShow();
  else rows.forEach(showTimes);
}

function receiveTransition(event) {
  if (!addEvent(event)) return;
  announce(event);
  const row = rows.get(event.region);
  if (row) {
    showCircuit({
      ...row.circuit,
      state: event.new,
      since: event.at,
      seconds_in_state: 0,
      retry_after: event.retry_after,
      forced: event.new === "OPEN" && event.retry_after === null,
      streak: event.streak,
      reason: event.new === "OPEN" ? event.reason : row.circuit.reason,
      ignored_probes: 0,
      ignored_reasons: [],
    });
  }
  scheduleShow();
}

// The connection

function setLive(isLive) {
  $("live").className = isLive ? "on" : "off";
  setText($("live"), isLive ? "live" : "not live, reconnecting");
}

function onMessage(name, receive) {
  source.addEventListener(name, (message) => {
    lastMessageAt = performance.now();
    setLive(true);
    receive(JSON.parse(message.data));
  });
}

function connect() {
  source = new EventSource("stream");
  onMessage("state", receiveState);
  onMessage("update", receiveUpdate);
  onMessage("transition", receiveTransition);
  source.onerror = () => {
    setLive(false);
    // The browser reconnects by itself, unless the server has refused the connection.
    if (source.readyState === EventSource.CLOSED) {
      fetch("api/circuits").then((answer) => answer.json()).then(receiveState).catch(() => {});
      setTimeout(connect, RECONNECT);
    }
  };
}

for (const state of ["", ...STATES]) {
  const button = element("button",
    { type: "button", value: state, class: state, "aria-pressed": "false" },
    element("span", {}, state || "All"), element("b", {}, "0"));
  button.addEventListener("click", () => {
    stateFilter = state;
    showRows();
  });
  $("filters").append(button);
}
$("find").addEventListener("input", (event) => {
  textFilter = event.target.value.trim().toLowerCase();
  showRows();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("find")) {
    event.preventDefault();
    $("find").focus();
  }
});
let ticks = 0;
setInterval(() => {
  ticks++;
  rows.forEach(showTimes);
  if (ticks % 10 === 0) rows.forEach(drawTimeline);
  if (lastMessageAt && performance.now() - lastMessageAt > SILENCE) setLive(false);
}, 1000);
$("events").hidden = true;
connect();
