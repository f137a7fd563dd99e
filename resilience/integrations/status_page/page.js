"use strict";

// The stream sends three kinds of messages: "state" is everything, "transition" is one change of a
// circuit's state, and "update" is the circuits that have changed in another way. Times are seconds
// of the server's clock; between two messages this page lets it run on by itself. Text from outside
// becomes the text of a node and nothing else.

const HOUR = 3600; // seconds
const STATES = ["OPEN", "HALF_OPEN", "CLOSED"]; // in the order of the table
const COUNTS = {
  successes: "Succeeded", failures: "Failed", answered: "Answered", ignored: "Ignored",
  rejected: "Rejected", probes: "Probes", trips: "Times opened",
};
// What is written next to a circuit that rejects nobody.
const MODES = { enforce: "", observe: "only observed: no call is rejected", off: "switched off" };
const MAX_EVENTS = 200; // in the list
const SILENCE = 5000; // milliseconds without a message, after which the page is not live
const LEAST_WIDTH = 4; // pixels of an outage in the timeline
const LEAST_SAMPLE = 3; // seconds that a rate is about at least
const RECONNECT = 10000; // milliseconds until the next attempt, if the server has refused this one

const $ = (id) => document.getElementById(id);
const rows = new Map(); // the key of a circuit -> its row in the table
const transitions = new Map(); // the key -> the circuit's state changes of the last hour, oldest first
const listed = new Set(); // the keys of the state changes in the list
const outdated = new Set(); // the rows whose timeline has to be drawn again
let clock = { at: 0, readAt: 0 };
let knownSince = 0; // no state change before this is known
let stateFilter = ""; // a state, or "" for all
let textFilter = "";
let lastMessageAt = 0;
let lastContact = null; // the time of day of the last message
let showsClosed = false; // on a narrow screen
let token = ""; // for actions; kept as long as the page is open
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

const nameOf = ({ registry, region }) => (registry ? `${registry} / ${region}` : region);

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

function createRow(circuit) {
  const cell = (name, extra = {}) => element("td", { role: "cell", class: name, ...extra });
  const row = {
    node: element("tr", { role: "row" }),
    pill: element("span", { class: "pill" }),
    reason: element("bdi", { class: "reason" }),
    ignored: element("bdi", { class: "reason ignored" }),
    tenants: element("bdi", { class: "reason tenants" }),
    drain: element("bdi", { class: "reason drain" }),
    mode: element("bdi", { class: "reason mode" }),
    fleet: element("bdi", { class: "reason fleet" }),
    nextProbe: element("span"),
    progress: element("progress", { max: "1", "aria-hidden": "true" }),
    age: cell("age"),
    streak: cell("number streak"),
    minute: cell("number minute", { "data-label": "Last minute" }),
    samples: [], // of the last minute: the time, the calls, the failures, the rejections
    action: element("button", { type: "button" }),
    counts: Object.entries(COUNTS).map(([name, label]) => [name, cell("number", { "data-label": label })]),
    timeline: svgElement("svg", {
      class: "timeline", viewBox: `0 0 ${HOUR} 10`, preserveAspectRatio: "none", role: "img",
    }),
    drawn: "", // what the timeline shows
  };
  const name = element("th", { role: "rowheader", scope: "row", class: "name" });
  name.append(element("bdi", {}, nameOf(circuit)), row.reason, row.fleet, row.ignored, row.tenants, row.drain, row.mode);
  const state = cell("state");
  const next = cell("next");
  const hour = cell("hour");
  state.append(row.pill);
  next.append(row.nextProbe, row.progress);
  hour.append(row.timeline);
  const acts = cell("acts");
  acts.append(row.action);
  row.action.addEventListener("click", () => openDialog(row.circuit));
  row.node.append(state, name, next, row.age, row.streak, hour, row.minute,
    ...row.counts.map(([, node]) => node), acts);
  return row;
}

function showCircuit(circuit) {
  let row = rows.get(circuit.key);
  if (!row) rows.set(circuit.key, (row = createRow(circuit)));
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
  setText(row.fleet, fleetText(circuit));
  setText(row.streak, `${circuit.streak.toLocaleString("en")} / ${circuit.failure_threshold.toLocaleString("en")}`);
  setText(row.action, circuit.state === "CLOSED" ? "Hold open" : "Reset");
  row.action.setAttribute("aria-label", `${row.action.textContent} ${nameOf(circuit)}`);
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
  if (circuit.forced) return "Held open manually";
  if (circuit.state === "HALF_OPEN") return circuit.retry_after > 0 ? "in progress" : "Waiting for a call";
  return left > 0 ? `in ${formatDuration(left)}` : "Waiting for a call";
}

// Returns what other processes have to do with a circuit that is shared with them.
function fleetText(circuit) {
  if (circuit.shared === null) return "";
  const parts = [];
  const events = transitions.get(circuit.key) || [];
  const opened = events.filter((event) => event.new === "OPEN").pop();
  if (circuit.state !== "CLOSED" && opened) parts.push(`opened by ${opened.by || "this process"}`);
  if (circuit.state === "HALF_OPEN" && circuit.shared) {
    if (circuit.holds_lease) parts.push("this process probes");
    else if (circuit.retry_after > 0) parts.push("another process probes");
  }
  if (!circuit.shared) parts.push("on its own: the store cannot be reached");
  return parts.join(", ");
}

// The rates: what has changed in a circuit's counters within the last minute

function takeSample(row) {
  const { successes, failures, answered, ignored, rejected } = row.circuit;
  const made = successes + failures + answered + ignored;
  const at = now();
  const { samples } = row;
  const last = samples[samples.length - 1];
  if (last && made < last[1]) samples.length = 0; // the registry has made a new circuit
  samples.push([at, made, failures, rejected]);
  while (samples.length > 2 && samples[1][0] <= at - 60) samples.shift();
}

function showRate(row) {
  const { samples } = row;
  const first = samples[0];
  const last = samples[samples.length - 1];
  const seconds = first ? last[0] - first[0] : 0;
  if (seconds < LEAST_SAMPLE) return setText(row.minute, "–");
  const [made, failed, rejected] = [1, 2, 3].map((i) => last[i] - first[i]);
  const perSecond = (made / seconds).toLocaleString("en", { maximumSignificantDigits: 2 });
  const parts = [`${perSecond}/s`];
  if (failed) parts.push(`${Math.max(1, Math.round((100 * failed) / made))} % failed`);
  if (rejected) parts.push(`${rejected.toLocaleString("en")} rejected`);
  setText(row.minute, parts.join("\n"));
  row.minute.classList.toggle("zero", !made && !rejected);
  row.minute.title = `in the last ${formatDuration(seconds)}`;
  return undefined;
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
  const visible = [...rows.entries()].filter(([, { circuit }]) => {
    const text = `${nameOf(circuit)} ${circuit.reason || ""}`.toLowerCase();
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
  showClosed(visible);
  showSummary();
}

// On a narrow screen, regions that are CLOSED are shown when they are asked for.
function showClosed(visible) {
  const count = visible.filter(([, { circuit }]) => circuit.state === "CLOSED").length;
  const isAsked = stateFilter === "CLOSED" || textFilter !== "";
  const button = $("show-closed");
  button.hidden = !count || isAsked;
  $("regions").classList.toggle("collapsed", !isAsked && !showsClosed);
  button.setAttribute("aria-expanded", String(showsClosed));
  const regions = count === 1 ? "1 region that is CLOSED" : `${count.toLocaleString("en")} regions that are CLOSED`;
  setText(button, `${showsClosed ? "Hide" : "Show"} ${regions}`);
}

function showFleet() {
  const shared = [...rows.values()].filter(({ circuit }) => circuit.shared !== null);
  const alone = shared.filter(({ circuit }) => !circuit.shared).length;
  $("fleet").hidden = !shared.length;
  setText($("fleet"), alone
    ? `${alone} of ${shared.length} circuits are on their own`
    : "circuits are shared with other processes");
}

function showSummary() {
  showFleet();
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
  const events = transitions.get(circuit.key) || [];
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
  const pixels = row.timeline.clientWidth || 120;
  const key = parts.map(([state, from, to]) => `${state}${Math.round(from)}${Math.round(to)}`).join()
    + Math.round(end / 5) + pixels;
  if (row.drawn === key) return;
  row.drawn = key;
  const least = (LEAST_WIDTH * HOUR) / pixels; // an outage is never too narrow to be seen
  const bars = parts.map(([state, from, to]) => {
    const x = Math.max(0, from - start);
    const width = Math.max(state === "CLOSED" ? 0 : least, to - start - x);
    return svgElement("rect", { class: state, x: Math.min(x, HOUR - width), width, height: 10 });
  });
  // The ground first: an outage that is drawn wider than it was lies on top of it.
  bars.sort((a, b) => (a.getAttribute("class") === "CLOSED" ? 0 : 1) - (b.getAttribute("class") === "CLOSED" ? 0 : 1));
  const ticks = [1, 2, 3].map((quarter) => svgElement("line", {
    class: "tick", x1: (quarter * HOUR) / 4, x2: (quarter * HOUR) / 4, y1: 7, y2: 10,
  }));
  row.timeline.replaceChildren(...bars, ...ticks);
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
  const key = `${event.key}|${event.time}|${event.old}|${event.new}`;
  if (listed.has(key)) return null;
  listed.add(key);
  const time = new Date(event.time);
  const item = element("li", {},
    element("time", { datetime: event.time, title: time.toString() }, time.toTimeString().slice(0, 8)),
    element("bdi", { class: "region" }, nameOf(event)),
    element("span", { class: "move" }, pill(event.old), " → ", pill(event.new)),
    element("bdi", { class: "reason" }, changeText(event)));
  item.key = key;
  return item;
}

function addToTimeline(event) {
  if (!transitions.has(event.key)) transitions.set(event.key, []);
  const events = transitions.get(event.key);
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
  announcement = `${nameOf(event)} is ${event.new}: ${event.reason}`;
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
  document.body.classList.toggle("can-act", page.actions);
  $("read-only").hidden = page.actions;
  rows.clear();
  transitions.clear();
  listed.clear();
  outdated.clear();
  $("events").replaceChildren();
  newItems = [];
  page.history.forEach(addEvent);
  page.regions.forEach(showCircuit);
  rows.forEach(takeSample);
  rows.forEach(showRate);
  scheduleShow();
}

function receiveUpdate(update) {
  setClock(update.clock);
  for (const key of update.gone) {
    rows.delete(key);
    transitions.delete(key);
  }
  update.regions.forEach(showCircuit);
  rows.forEach(takeSample);
  rows.forEach(showRate);
  if (update.gone.length || update.regions.length) scheduleShow();
  else rows.forEach(showTimes);
}

function receiveTransition(event) {
  if (!addEvent(event)) return;
  announce(event);
  const row = rows.get(event.key);
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
  document.body.classList.toggle("stale", !isLive);
  $("live").className = isLive ? "on" : "off";
  const since = lastContact ? `no contact since ${lastContact.toTimeString().slice(0, 8)}` : "no contact yet";
  setText($("live"), isLive ? "live" : `not live: ${since}`);
}

function onMessage(name, receive) {
  source.addEventListener(name, (message) => {
    lastMessageAt = performance.now();
    lastContact = new Date();
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
      fetch("api/circuits").then((answer) => answer.json()).then((page) => {
        receiveState(page);
        lastContact = new Date();
        setLive(false);
      }).catch(() => {});
      setTimeout(connect, RECONNECT);
    }
  };
}

// Actions, where the server lets somebody change circuits

let asked = null; // the circuit that the dialog is about

function openDialog(circuit) {
  asked = circuit;
  const isReset = circuit.state !== "CLOSED";
  setText($("dialog-title"), isReset ? `Reset ${nameOf(circuit)}?` : `Hold ${nameOf(circuit)} open?`);
  setText($("confirm"), isReset ? "Reset" : "Hold open");
  setText($("dialog-error"), "");
  $("dialog-reason").hidden = isReset;
  $("reason").required = !isReset;
  $("reason").value = "";
  $("dialog").showModal();
}

async function act() {
  const isReset = !$("reason").required;
  const headers = { "Content-Type": "application/json", "X-Resilience-Action": "page" };
  token = $("token").value || token;
  if (token) headers.Authorization = `Bearer ${token}`;
  const body = JSON.stringify({
    action: isReset ? "reset" : "force-open", region: asked.region, registry: asked.registry,
    reason: isReset ? "" : $("reason").value,
  });
  const answer = await fetch("api/actions", { method: "POST", headers, body });
  if (answer.ok) return $("dialog").close();
  if (answer.status === 401) {
    token = "";
    $("dialog-token").hidden = false;
    $("token").focus();
  }
  return setText($("dialog-error"), (await answer.text()).trim());
}

$("dialog").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  act().catch(() => setText($("dialog-error"), "The server cannot be reached."));
});
$("cancel").addEventListener("click", () => $("dialog").close());
$("show-closed").addEventListener("click", () => {
  showsClosed = !showsClosed;
  showRows();
  rows.forEach(drawTimeline);
});
const address = location.href.split(/[?#]/)[0].replace(/\/$/, "");
setText($("commands").lastChild, `python -m resilience watch --url ${address}`);

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
  if (lastMessageAt && performance.now() - lastMessageAt > SILENCE) setLive(false);
  rows.forEach(showTimes);
  if (ticks % 10 === 0) rows.forEach(drawTimeline);
}, 1000);
$("events").hidden = true;
connect();
