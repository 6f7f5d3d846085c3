// The front panel: shows what the box tells over its socket, and asks it for stops.
//
// Whatever comes from the box is put in place as text, never as markup. What is old is greyed by this page's own clock,
// whether or not anything comes any more.

const OLD_S = 2;           // words of guardian or quoter that are older say nothing about now
const SILENT_S = 1.5;      // nothing new on the socket for so long: everything shown is old
const DEAD_S = 5;          // and for so long: the socket is given up and made anew
const BACKOFF_MS = [250, 500, 1000, 2000, 5000];
const TICK_MS = 200;
const LEVELS = 5;
const RANGES = [{ name: "5 min", track: 0, s: 300 }, { name: "1 h", track: 1, s: 3600 }, { name: "24 h", track: 2, s: 86400 }];
const PARTS = ["spread", "inventory", "funding", "fees"];
const LINES = [
  { key: "total", dash: "", words: "total" },
  { key: "spread", dash: "7 3", words: "spread" },
  { key: "inventory", dash: "2 3", words: "inventory" },
  { key: "funding", dash: "9 3 2 3", words: "funding" },
  { key: "fees", dash: "14 4", words: "− fees" },
];

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const at = (id) => document.getElementById(id);
const token = { value: document.querySelector("meta[name=mmpi-token]").content };

let state = null;          // the last PageState
let heard = { perf: -Infinity, wall: -Infinity };
let run = null;
let range = RANGES[0];
let subject = "";
let tracks = [];

// Elements -----------------------------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function keyed(parent, keys, make) {
  // One child for each key, in this order; those that are there already stay.
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  keys.forEach((key, place) => {
    let child = there.get(key);
    if (!child) { child = make(key); child.dataset.key = key; }
    there.delete(key);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  for (const gone of there.values()) gone.remove();
  return [...parent.children];
}

function facts(list, rows) {
  // rows: [name, text, mark]; a mark is a sign before the text that something is not as it should be.
  const shown = rows.filter(([, text]) => text !== null && text !== undefined);
  const made = keyed(list, shown.map(([name]) => name), (name) => el("div", {}, el("dt", {}, name), el("dd")));
  shown.forEach(([, text, sign], place) => {
    const value = made[place].lastElementChild;
    put(value, text);
    mark(value, "data-mark", sign || null);
  });
}

// Words --------------------------------------------------------------------------------------------------------------

const minus = (text) => text.replace("-", "−");
const rounded = (number, digits) => Number(number.toFixed(digits)) || 0;
const signed = (number, digits) => (rounded(number, digits) > 0 ? "+" : "") + minus(rounded(number, digits).toFixed(digits));
const known = (value) => value !== null && value !== undefined;

function money(value) {
  const number = Number(value);
  return signed(number, Math.abs(number) < 1 && number !== 0 ? 4 : 2);
}

function ago(seconds) {
  if (!Number.isFinite(seconds)) return "never";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function micros(us) {
  if (!known(us)) return "–";
  return us < 1000 ? `${Math.round(us)} µs` : `${(us / 1000).toFixed(us < 10000 ? 2 : 1)} ms`;
}

const count = (number) => Number(number).toLocaleString("en-US").replaceAll(",", " ");
const hour = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });
const plain = (text) => text.replaceAll("`", "");
const tone = (number) => (number > 0 ? "plus" : number < 0 ? "minus" : "");

// Ages ---------------------------------------------------------------------------------------------------------------

function since() {
  // The larger of two clocks: one of them stands still while a phone sleeps, the other may be set.
  return Math.max(performance.now() - heard.perf, Date.now() - heard.wall) / 1000;
}

function ageOf(part) {
  // Seconds, Infinity = never heard of.
  if (!state) return Infinity;
  const passed = since();
  const told = { quoter: state.box.quoter_age_s, guardian: state.lamps.age_s, telemetry: 0 }[part];
  return known(told) ? told + passed : Infinity;
}

function isOld(part) {
  return since() > SILENT_S || ageOf(part) > OLD_S || (part === "quoter" && !state.box.quoter_alive);
}

function tick() {
  const lost = since() > SILENT_S;
  for (const card of document.querySelectorAll("[data-of]")) {
    const part = card.dataset.of;
    const old = isOld(part);
    card.classList.toggle("stale", old);
    const age = card.querySelector(".age");
    if (age) put(age, !old ? "" : Number.isFinite(ageOf(part)) ? `${ago(ageOf(part))} old` : state ? "not known" : "no word yet");
  }
  document.body.dataset.stale = lost ? "all" : "";
  mark(at("link"), "data-link", lost ? "lost" : "live");
  put(at("link-text"), !lost ? "live" : state ? `silent for ${ago(since())}` : "connecting");
  lamps();
  if (socket && since() > DEAD_S && Date.now() - socket.began > DEAD_S * 1000) socket.give_up();
}

// The socket ---------------------------------------------------------------------------------------------------------

let socket = null;
let failures = 0;

function connect() {
  const line = new WebSocket(`ws://${location.host}/live`);
  let over = false;
  const end = () => {
    if (over) return;
    over = true;
    socket = null;
    setTimeout(connect, BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)]);
    failures += 1;
  };
  socket = { began: Date.now(), give_up: () => { end(); line.close(); } };
  line.onmessage = (event) => {
    if (over) return;
    const told = JSON.parse(event.data);
    if (told.kind === "history") past(told);
    else take(told);
  };
  line.onclose = end;
}

function take(told) {
  // A state that was told before is no sign of life.
  if (state && told.box.run === state.box.run && told.box.sequence <= state.box.sequence) return;
  heard = { perf: performance.now(), wall: Date.now() };
  failures = 0;
  if (run !== null && run !== told.box.run) renew();
  run = told.box.run;
  state = told;
  record();
  render();
  tick();
}

async function renew() {
  // Telemetry began anew, and its token with it.
  try {
    const page = await (await fetch("/", { cache: "no-store" })).text();
    const fresh = new DOMParser().parseFromString(page, "text/html").querySelector("meta[name=mmpi-token]");
    if (fresh) token.value = fresh.content;
  } catch { /* the next command tries again */ }
}

// Commands -----------------------------------------------------------------------------------------------------------

async function post(name) {
  const body = JSON.stringify({ name, reason: `${name} on the page` });
  for (let attempt = 0; ; attempt += 1) {
    const headers = { "Content-Type": "application/json", "X-Mmpi": "1", "X-Mmpi-Token": token.value };
    const answer = await fetch("/command", { method: "POST", headers, body, cache: "no-store" });
    const told = await answer.json();
    if (told.refused === "token" && attempt === 0) { await renew(); continue; }
    return ["refused", "failed"].includes(told.result) ? { ...told, error: told.error || told.text } : told;
  }
}

async function send(name) {
  // A stop that could not be sent is sent again: it may be said twice.
  const tries = name === "kill" || name === "pause" ? 3 : 1;
  for (let number = 1; ; number += 1) {
    try {
      return await post(name);
    } catch (error) {
      if (number === tries) return { error: "the box could not be reached; press the button on the box", unsent: true };
      await new Promise((done) => setTimeout(done, 500));
    }
  }
}

let resultTimer = 0;

function result(strong, text, quality = "", seconds = 0) {
  const box = at("result");
  box.replaceChildren(el("strong", {}, strong), text ? ` ${text}` : "");
  mark(box, "data-tone", quality || null);
  box.hidden = false;
  clearTimeout(resultTimer);
  if (seconds) resultTimer = setTimeout(() => { box.hidden = true; }, seconds * 1000);
}

const proof = (stop) => (stop && known(stop.verified_ms) ? `${stop.reason}/${stop.first_zero_ms}/${stop.verified_ms}` : "");
const zeroIn = (ms) => `Zero orders, verified after ${Math.round(ms)}\u00a0ms.`;
let pressed = null;        // { before: the last proof when it was pressed, again: it was stopped already, sent }

function settle(ms) {
  if (!pressed) return;
  pressed = null;
  at("kill").classList.remove("sent");
  result(`Stopped at ${hour(Date.now() / 1000)}.`, known(ms) ? zeroIn(ms) : "Zero orders, verified.", "good");
}

async function kill() {
  const again = Boolean(state && state.box.latch === "latched" && state.stop && state.stop.verified);
  const press = pressed = { before: proof(state && state.stop), again, sent: false };
  at("kill").classList.add("sent");
  result("Pressed.", "Waiting for the proof that no order is left.");
  const virtual = Boolean(state && state.panel);
  const told = await send(virtual ? "red_down" : "kill");
  if (virtual) {
    await new Promise((done) => setTimeout(done, 300));
    await send("red_up");
  }
  press.sent = true;
  if (told.error) {
    if (pressed !== press) return;
    pressed = null;
    at("kill").classList.remove("sent");
    result(told.unsent ? "NOT sent." : "Not proven.", told.error, "bad");
  } else if (told.verified && !virtual) {
    settle(told.verified_ms);
  } else if (!virtual && told.verified === false) {
    result("Pressed.", "That no order is left is not proven yet.", "bad");
  }
}

async function simple(name, doing, done) {
  result(doing, "");
  const told = await send(name);
  if (told.error) result(`${doing.replace("…", "")}: not done.`, told.error, "bad");
  else if (told.verified === false) result(done, "That no order is left is not proven yet.", "bad");
  else {
    const left = told.causes && told.causes.length ? `Still there: ${told.causes.join(", ")}.` : told.note ? `${told.note}.` : told.text || "";
    result(done, known(told.verified_ms) ? zeroIn(told.verified_ms) : left, "good", 12);
  }
}

// Holding ------------------------------------------------------------------------------------------------------------

function hold(button, seconds, { fire, begin = () => {}, end = () => {}, early = "Let go too early; nothing was sent.", sure }) {
  let started = 0, timer = 0, frame = 0, key = "", touched = -Infinity, confirming = 0, from = [0, 0];
  mark(button, "data-holds", "");
  const show = (share) => button.style.setProperty("--held", calm.matches ? Math.floor(share * 4) / 4 : share);
  const draw = () => {
    show(Math.min(1, (performance.now() - started) / (seconds * 1000)));
    if (started) frame = requestAnimationFrame(draw);
  };
  const start = () => {
    if (started) return;
    started = touched = performance.now();
    button.classList.add("holding");
    result("Hold on…", "");
    begin();
    timer = setTimeout(() => { timer = 0; show(1); fire(); }, seconds * 1000);
    draw();
  };
  const stop = () => {
    if (!started) return;
    const cancelled = timer !== 0;
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    timer = started = 0;
    touched = performance.now();
    button.classList.remove("holding");
    show(0);
    end(cancelled);
    if (cancelled) result(early, "", "", 6);
  };
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    from = [event.clientX, event.clientY];
    start();
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) button.addEventListener(name, stop);
  button.addEventListener("pointermove", (event) => {
    // Measured from where it began: the page may move under the finger.
    if (Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 70) stop();
  });
  button.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) { key = event.key; start(); }
  });
  button.addEventListener("keyup", (event) => {
    if (event.key !== key) return;
    event.preventDefault();
    key = "";
    stop();
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); });
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("click", (event) => {
    // Screen readers and switches cannot hold: theirs is a click out of nothing, and has to be said twice.
    if (event.detail !== 0 || started || performance.now() - touched < 500 || !sure) return;
    if (confirming) {
      clearTimeout(confirming);
      confirming = 0;
      button.classList.remove("sure");
      sure();
      return;
    }
    button.classList.add("sure");
    result("Sure?", "Activate it once more within five seconds.");
    confirming = setTimeout(() => { confirming = 0; button.classList.remove("sure"); }, 5000);
  });
}

hold(at("kill"), 1, { fire: kill, sure: kill });
hold(at("flatten"), 1, { fire: flatten, sure: flatten });
at("pause").addEventListener("click", () => simple("pause", "Pausing…", "Paused."));
at("resume").addEventListener("click", () => simple("resume", "Resuming…", "Resumed."));
hold(at("arm"), 3, {
  begin: () => send("arm_down"),
  fire: () => result("Held for long enough.", "Let go."),
  end: () => send("arm_up"),
  early: "Let go too early; it was not armed.",
  sure: armAlone,
});

function flatten() {
  return simple("flatten", "Selling what is held…", "Flat.");
}

async function armAlone() {
  result("Holding the arm button…", "");
  await send("arm_down");
  await new Promise((done) => setTimeout(done, 3300));
  await send("arm_up");
  result("Held for long enough.", "", "", 6);
}

// Lamps --------------------------------------------------------------------------------------------------------------

let shown = { sign: "", from: 0, lit: [], rhythm: [] };
let blinking = 0;

function lamps() {
  const told = state && !isOld("guardian") ? state.lamps : null;
  const sign = told ? told.sign : "unknown";
  if (sign === shown.sign) return;
  const last = state && state.lamps.age_s !== null ? ` Its last sign was ${state.lamps.sign}.` : "";
  shown = { sign, from: performance.now(), lit: told ? told.lit : [], rhythm: told ? told.rhythm : [] };
  put(at("sign"), sign.replaceAll("_", " "));
  const silent = since() > SILENT_S ? `No word from the box.${last}` : "The guardian does not answer: only the lamps of the box itself count.";
  put(at("says"), plain(told ? told.says : state ? silent : "Nothing was heard of the box yet."));
  document.title = `${sign.replaceAll("_", " ")} · ${state ? state.box.device : "mmpi"}`;
  for (const led of document.querySelectorAll(".led")) mark(led, "data-used", shown.lit.includes(led.dataset.led) ? "" : null);
  const cycle = shown.rhythm.reduce((sum, part) => sum + part, 0);
  const spans = cycle ? Array.from({ length: 40 }, (_, place) => litAt((place * 50) % cycle)) : Array(40).fill(false);
  at("rhythm").replaceChildren(...spans.map((on) => el("span", on ? { class: "on" } : {})));
  mark(at("rhythm"), "aria-label", cycle ? `Two seconds of the lamps: ${shown.lit.join(" and ")}, ${shown.rhythm.join(", ")} ms on and off in turn` : "Rhythm of the lamps: not known");
  clearTimeout(blinking);
  blink();
}

function litAt(ms) {
  let end = 0;
  for (let part = 0; part < shown.rhythm.length; part += 1) {
    end += shown.rhythm[part];
    if (ms < end) return part % 2 === 0;
  }
  return false;
}

function blink() {
  const cycle = shown.rhythm.reduce((sum, part) => sum + part, 0);
  const now = cycle ? (performance.now() - shown.from) % cycle : 0;
  const on = cycle > 0 && (calm.matches || litAt(now));
  for (const led of document.querySelectorAll(".led")) led.classList.toggle("on", on && shown.lit.includes(led.dataset.led));
  if (!cycle || calm.matches) return;
  let end = 0;
  for (const part of shown.rhythm) {
    end += part;
    if (end > now) break;
  }
  blinking = setTimeout(blink, Math.max(10, end - now));
}
calm.addEventListener("change", () => { clearTimeout(blinking); blink(); });

// The past -----------------------------------------------------------------------------------------------------------

function past(told) {
  tracks = told.tracks.map((track) => {
    const columns = new Map();
    for (const [name, parts] of Object.entries(track.series))
      for (const [part, values] of Object.entries(parts)) columns.set(`${name}/${part}`, values);
    return { step: track.step_s, size: track.size, times: track.ages_s.map((age) => told.monotonic - age), columns };
  });
  charts();
}

function record() {
  const now = state.monotonic;
  const values = new Map();
  if (state.pnl && known(state.box.quoter_age_s) && state.box.quoter_age_s <= OLD_S) {
    for (const part of PARTS) values.set(`/${part}`, Number(state.pnl[part]));
    for (const [name, each] of Object.entries(state.pnl.instruments)) {
      for (const part of PARTS) values.set(`${name}/${part}`, Number(each[part]));
      values.set(`${name}/position`, Number(state.box.instruments[name].position));
    }
  }
  let due = false;
  for (const track of tracks) {
    const last = track.times.at(-1);
    if (last !== undefined && Math.floor(now / track.step) <= Math.floor(last / track.step)) continue;
    due = true;
    track.times.push(now);
    for (const key of values.keys()) if (!track.columns.has(key)) track.columns.set(key, Array(track.times.length - 1).fill(null));
    for (const [key, column] of track.columns) column.push(values.get(key) ?? null);
    if (track.times.length > track.size) {
      track.times.shift();
      for (const column of track.columns.values()) column.shift();
    }
  }
  if (due) charts();
}

function points(key) {
  // [seconds ago, value or null] of the chosen range; fees are what they cost.
  const track = tracks[range.track];
  if (!track || !state) return [];
  const now = state.monotonic;
  const column = (part) => track.columns.get(`${key.name}/${part}`);
  const parts = PARTS.map(column);
  const value = (place) => {
    if (key.part === "total") return parts.every((each) => each && known(each[place])) ? parts[0][place] + parts[1][place] + parts[2][place] - parts[3][place] : null;
    const found = column(key.part)?.[place] ?? null;
    return found !== null && key.part === "fees" ? -found : found;
  };
  const found = [];
  for (let place = 0; place < track.times.length; place += 1) {
    const age = now - track.times[place];
    if (age <= range.s) found.push([age, value(place)]);
  }
  return found;
}

// Charts -------------------------------------------------------------------------------------------------------------

function steps(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let each = Math.ceil(low / step) * step; each <= high + step * 1e-9; each += step) found.push(Math.abs(each) < step * 1e-9 ? 0 : each);
  return found;
}

function scaled(lines, least) {
  const all = lines.flatMap((line) => line.points.map(([, value]) => value)).filter(known);
  const low = Math.min(0, ...all), high = Math.max(0, ...all);
  const room = Math.max((high - low) * 0.08, least);
  return [low - (low < 0 || high === low ? room : 0), high + (high > 0 || high === low ? room : 0)];
}

function path(line, x, y) {
  let text = "", pen = false;
  for (const [age, value] of line.points) {
    if (!known(value)) { pen = false; continue; }
    text += `${pen ? "L" : "M"}${x(age).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = true;
  }
  return text;
}

function chart() {
  const box = at("chart");
  const width = Math.max(260, box.clientWidth), height = width < 500 ? 190 : 240;
  const left = 46, right = 82, top = 8, bottom = 20;
  const lines = LINES.map((line) => ({ ...line, points: points({ name: subject, part: line.key }) }));
  const [low, high] = scaled(lines, 0.01);
  const x = (age) => left + (width - left - right) * (1 - age / range.s);
  const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  const digits = high - low < 1 ? 3 : high - low < 20 ? 1 : 0;
  for (const value of steps(low, high, 4)) {
    picture.append(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: value === 0 ? "zero" : "grid" }));
    picture.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, minus(value.toFixed(digits))));
  }
  for (const share of [1, 0.5, 0]) {
    const words = share === 0 ? "now" : `−${range.s >= 7200 ? `${(share * range.s) / 3600} h` : `${(share * range.s) / 60} min`}`;
    picture.append(svg("text", { x: x(share * range.s), y: height - 5, "text-anchor": share === 1 ? "start" : share === 0 ? "end" : "middle" }, words));
  }
  for (const line of [...lines].reverse())
    picture.append(svg("path", { d: path(line, x, y), class: `series ${line.key}`, "stroke-dasharray": line.dash, stroke: `var(--s-${line.key})` }));
  const labels = lines.map((line) => ({ line, last: line.points.filter(([, value]) => known(value)).at(-1) })).filter((each) => each.last);
  labels.sort((one, other) => other.last[1] - one.last[1]);
  let from = -Infinity;
  for (const each of labels) { each.y = Math.max(y(each.last[1]), from + 14); from = each.y; }
  const over = Math.max(0, from - (height - bottom));
  let below = Infinity;
  for (const each of [...labels].reverse()) { each.y = Math.min(each.y, below - 14, height - bottom + (over ? 0 : 14)); below = each.y; }
  for (const { line, last, y: place } of labels) {
    picture.append(svg("path", { d: `M${x(last[0])} ${y(last[1])}L${width - right + 10} ${place}h8`, class: "lead", stroke: `var(--s-${line.key})`, "stroke-dasharray": line.dash ? "2 2" : "" }));
    const text = svg("text", { x: width - right + 21, y: place + 4, class: "label" }, line.words);
    text.style.fill = `var(--s-${line.key})`;
    picture.append(text);
  }
  box.replaceChildren(picture);
  const told = labels.map(({ line, last }) => `${line.key} ${money(last[1])}`).join(", ");
  mark(box, "aria-label", `Profit and loss over ${range.name}${subject ? ` of ${subject}` : ""}, now ${told || "not known"}`);
}

function spark(box, name) {
  const line = { points: points({ name, part: "position" }) };
  const width = Math.max(200, box.clientWidth), height = 46;
  const [low, high] = scaled([line], 1e-9);
  const x = (age) => width * (1 - age / range.s);
  const y = (value) => 3 + (height - 6) * (1 - (value - low) / (high - low));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  picture.append(svg("line", { x1: 0, x2: width, y1: y(0), y2: y(0), class: "zero" }));
  picture.append(svg("path", { d: path(line, x, y), class: "series", stroke: "var(--accent)" }));
  box.replaceChildren(picture);
  mark(box, "aria-label", `Position in ${name} over ${range.name}`);
}

function charts() {
  if (document.hidden) return;
  chart();
  for (const card of at("instruments").children) spark(card.querySelector(".spark"), card.dataset.key);
}

function pickers() {
  const names = state ? Object.keys(state.box.instruments) : [];
  if (subject && !names.includes(subject)) subject = "";
  const button = (words, pressed, choose) => {
    const made = el("button", { type: "button", "aria-pressed": String(pressed()) }, words);
    made.addEventListener("click", () => { choose(); pickers(); charts(); });
    return made;
  };
  at("ranges").replaceChildren(...RANGES.map((each) => button(each.name, () => each === range, () => { range = each; })));
  at("subjects").hidden = names.length < 2;
  at("subjects").replaceChildren(...["", ...names].map((name) => button(name || "all", () => name === subject, () => { subject = name; })));
  at("subjects").dataset.names = names.join();
}

// What is shown ------------------------------------------------------------------------------------------------------

function render() {
  const { box } = state;
  put(at("device"), box.device);
  put(at("mode"), box.mode === "live" ? "live money" : box.mode);
  mark(at("mode"), "data-mode", box.mode);
  at("mode").hidden = !box.mode;
  at("arm").hidden = !state.panel;
  document.querySelector(".buttons").classList.toggle("demo", state.panel);
  put(at("about"), `mmpi ${box.version} · ${box.venue || "no venue"} · telemetry for ${ago(box.uptime_s)}`);
  if (at("subjects").dataset.names !== Object.keys(box.instruments).join()) { pickers(); charts(); }
  renderPanel(box);
  renderAlerts();
  renderCauses();
  renderPnl();
  renderInstruments();
  renderFills();
  renderQuoter(box);
  renderHost();
  renderCounters(box);
}

function renderPanel(box) {
  const stop = state.stop;
  const fresh = pressed && stop && stop.verified && proof(stop) && proof(stop) !== pressed.before;
  if (fresh || (pressed && pressed.again && pressed.sent && stop && stop.verified)) settle(stop.verified_ms);
  put(at("kill-hint"), pressed ? "pressed" : "hold 1 s");
  facts(at("panel-facts"), [
    ["latch", box.latch === "latched" ? `latched: ${box.latch_reason || "no reason said"}` : box.latch, box.latch === "armed" ? "" : "■"],
    ["dead-man switch", box.deadman.toLowerCase(), box.deadman.startsWith("REFUSED") ? "▲" : ""],
    ["orders at the venue", stop && known(stop.live_orders) ? String(stop.live_orders) : "not known", stop && known(stop.live_orders) ? "" : "?"],
    ["last stop", stop && known(stop.verified_ms) ? `zero after ${Math.round(stop.verified_ms)} ms (${stop.reason})` : "none in this run"],
  ]);
}

function renderAlerts() {
  const now = state.box.at;
  put(at("alerts-n"), state.alerts.length ? `${state.alerts.length} active` : "");
  const keys = state.alerts.map((alert) => `${alert.name} ${alert.instrument}`);
  if (!keys.length) {
    keyed(at("alerts"), ["none"], () => el("li", { class: "empty" }, "None."));
    return;
  }
  const rows = keyed(at("alerts"), keys, () => el("li", {},
    el("div", { class: "line" }, el("span", { class: "mark" }), el("span", { class: "name" }), el("span", { class: "kind" }), el("span", { class: "when" })), el("p", { class: "detail" })));
  state.alerts.forEach((alert, place) => {
    const [sign, name, kind, when] = rows[place].firstElementChild.children;
    mark(rows[place], "data-severity", alert.severity);
    put(sign, alert.severity === "critical" ? "■" : "▲");
    put(name, alert.name.replaceAll("_", " ") + (alert.instrument ? ` ${alert.instrument}` : ""));
    put(kind, alert.severity);
    put(when, `for ${ago(Math.max(0, now - alert.since))}`);
    put(rows[place].lastElementChild, alert.text);
  });
}

function renderCauses() {
  if (!state.causes.length) {
    const words = state.lamps.age_s === null ? "Not known: the guardian does not answer." : "Nothing.";
    keyed(at("causes"), [words], () => el("li", { class: "empty" }, words));
    return;
  }
  const rows = keyed(at("causes"), state.causes.map((cause) => cause.name), () => el("li", {},
    el("div", { class: "line" }, el("span", { class: "name" }), el("span", { class: "kind" })), el("p", { class: "detail" }), el("p"), el("p")));
  state.causes.forEach((cause, place) => {
    const [line, detail, when, ends] = rows[place].children;
    put(line.children[0], cause.name.replaceAll("_", " "));
    put(line.children[1], cause.kind);
    put(detail, cause.detail);
    put(when, plain(cause.when));
    put(ends, cause.ends ? `Ends: ${plain(cause.ends)}.` : "");
  });
}

function renderPnl() {
  const told = state.pnl;
  const total = at("total");
  put(total, told ? money(told.total) : "–");
  total.className = `figure ${told ? tone(Number(told.total)) : ""}`;
  const rows = keyed(at("parts"), LINES.slice(1).map((line) => line.key), (key) => {
    const line = LINES.find((each) => each.key === key);
    const sample = svg("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" });
    sample.append(svg("path", { d: "M0 4h24", class: "series", stroke: `var(--s-${key})`, "stroke-dasharray": line.dash }));
    return el("div", {}, el("dt", {}, sample, line.words), el("dd"));
  });
  LINES.slice(1).forEach((line, place) => {
    const value = told ? Number(told[line.key]) * (line.key === "fees" ? -1 : 1) : null;
    put(rows[place].lastElementChild, value === null ? "–" : money(value));
  });
}

function makeInstrument(name) {
  const id = `instrument-${name.replace(/\W/g, "_")}`;
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" , class: "n" }, "size"), el("th", { scope: "col", class: "n" }, "price"), el("th", { scope: "col" }, "ours")));
  const table = el("table", { class: "ladder" }, el("caption", { class: "unseen" }, `Order book of ${name}, our orders marked`),
    el("colgroup", {}, el("col", { class: "size" }), el("col", { class: "price" }), el("col")), head, el("tbody"));
  return el("section", { class: "card", "data-of": "quoter", "aria-labelledby": id },
    el("div", { class: "head" }, el("h2", { id }, name), el("span", { class: "sub feed" }), el("span", { class: "age" })),
    el("div", { class: "quote" }, el("span", { class: "mid" }), el("span", { class: "sub spread" }), el("span", { class: "why" })),
    el("div", { class: "position" }, el("span", { class: "sub" }, "position"), el("span", { class: "held" })),
    el("div", { class: "bar", role: "img" }, el("span", { class: "amount" }), el("span", { class: "middle" })),
    el("div", { class: "scale", "aria-hidden": "true" }, el("span", {}, "short limit"), el("span", {}, "0"), el("span", {}, "long limit")),
    el("div", { class: "spark", role: "img", "aria-label": `Position in ${name}` }),
    table);
}

function renderInstruments() {
  const { instruments } = state.box;
  const names = Object.keys(instruments);
  keyed(at("instruments"), names, makeInstrument).forEach((card, place) => renderInstrument(card, names[place], instruments[names[place]]));
}

function renderInstrument(card, name, each) {
  const find = (part) => card.querySelector(part);
  const decimals = Math.max(...[each.bid, each.ask].map((text) => (text.split(".")[1] || "").length)) + 1;
  put(find(".mid"), known(each.mid) ? each.mid.toFixed(Math.min(decimals, 8)) : "no mid");
  put(find(".feed"), known(each.feed_age_s) ? `feed ${ago(each.feed_age_s)}` : "no feed");
  const quoted = known(each.quoted_spread_bps) ? `ours ${each.quoted_spread_bps.toFixed(1)}` : "ours –";
  put(find(".spread"), known(each.spread_bps) ? `spread ${each.spread_bps.toFixed(1)} bps, ${quoted}` : quoted);
  put(find(".why"), each.reason ? `▲ not quoted: ${each.reason}` : "");
  const share = known(each.limit_share) ? Math.min(1, each.limit_share) : 0;
  const short = Number(each.position) < 0;
  const percent = known(each.limit_share) ? `${Math.round(each.limit_share * 100)} % of limit` : "share not known";
  const words = `${minus(each.position)}${known(each.notional) ? ` (${money(each.notional)})` : ""}, ${percent}`;
  put(find(".held"), words);
  mark(find(".bar"), "aria-label", `${short ? "short" : "long"}, ${words}`);
  find(".amount").style.setProperty("--from", `${short ? 50 - share * 50 : 50}%`);
  find(".amount").style.setProperty("--long", `${share * 50}%`);
  renderLadder(find("tbody"), state.ladders[name] || { bids: [], asks: [], own: [] }, each);
}

function rungs(levels, own, side) {
  const found = new Map(levels.slice(0, LEVELS).map(([price, size]) => [Number(price), { price, size, own: [] }]));
  for (const order of own.filter((each) => each.side === side)) {
    const price = Number(order.price);
    if (!found.has(price)) found.set(price, { price: order.price, size: "", own: [] });
    found.get(price).own.push(order);
  }
  return [...found.entries()].sort(([one], [other]) => other - one).map(([, rung]) => rung);
}

function renderLadder(body, ladder, each) {
  const asks = rungs(ladder.asks, ladder.own, "sell"), bids = rungs(ladder.bids, ladder.own, "buy");
  const deepest = Math.max(...[...ladder.asks, ...ladder.bids].map(([, size]) => Number(size)), 0) || 1;
  const keys = [...asks.map((_, place) => `ask ${asks.length - place}`), "mid", ...bids.map((_, place) => `bid ${place + 1}`)];
  const rows = keyed(body, keys, (key) => {
    if (key === "mid") return el("tr", { class: "mid-row" }, el("td", { colspan: "3" }));
    return el("tr", { "data-side": key.split(" ")[0] }, el("td", { class: "n size" }), el("td", { class: "n price" }), el("td", { class: "ours" }, el("span"), el("small")));
  });
  [...asks, null, ...bids].forEach((rung, place) => {
    const row = rows[place];
    if (!rung) {
      put(row.firstElementChild, known(each.spread_bps) ? `${each.spread_bps.toFixed(1)} bps between` : "one side is empty");
      return;
    }
    const [size, price, ours] = row.children;
    put(size, rung.size || "·");
    size.style.setProperty("--deep", `${Math.round((Number(rung.size) / deepest) * 100)}%`);
    put(price, rung.price);
    row.classList.toggle("mine", rung.own.length > 0);
    const sign = row.dataset.side === "ask" ? "▼ sell" : "▲ buy";
    const unsure = rung.own.filter((order) => !["new", "partially_filled"].includes(order.status.toLowerCase()));
    const sizes = rung.own.map((order) => order.size).join(" + ");
    put(ours.firstElementChild, rung.own.length ? `${sign} ${sizes}` : "");
    put(ours.lastElementChild, unsure.length ? ` ${unsure[0].status.toLowerCase().replaceAll("_", " ")}` : "");
  });
}

function renderFills() {
  const fills = state.fills;
  at("fills-none").hidden = fills.length > 0;
  document.querySelector(".fills").hidden = fills.length === 0;
  const adverse = known(state.adverse_bps) ? `, mean after 5 s ${signed(-state.adverse_bps, 2)} bps` : "";
  put(at("fills-sub"), known(state.last_fill_s) ? `last ${ago(state.last_fill_s)} ago${adverse}` : "");
  const rows = keyed(at("fills"), fills.map((fill) => fill.exec_id), () => el("tr", {},
    el("td"), el("td", {}, el("span"), el("small")), el("td", { class: "n" }, el("span"), el("small")),
    el("td", { class: "n" }), el("td", { class: "n" }), el("td", { class: "n" })));
  fills.forEach((fill, place) => {
    const [time, what, price, ...after] = rows[place].children;
    put(time, hour(fill.at));
    put(what.firstElementChild, fill.side === "buy" ? "▲ buy" : "▼ sell");
    put(what.lastElementChild, fill.instrument + (fill.maker ? "" : " taker"));
    put(price.firstElementChild, fill.price);
    put(price.lastElementChild, fill.size);
    ["1s", "5s", "30s"].forEach((horizon, which) => {
      const moved = fill.markouts[horizon];
      put(after[which], known(moved) ? signed(moved, 1) : "–");
      after[which].className = `n ${known(moved) ? tone(rounded(moved, 1)) : ""}`;
    });
  });
}

function renderQuoter(box) {
  const { orders, requests, refusals } = box;
  const refused = Object.entries(refusals).filter(([, number]) => number).map(([why, number]) => `${why.replaceAll("_", " ")} ${count(number)}`);
  const odd = Object.entries(state.anomalies).filter(([, number]) => number).map(([what, number]) => `${what.replaceAll("_", " ")} ${count(number)}`);
  facts(at("quoter"), [
    ["state", box.state + (box.reason && box.reason !== box.state ? `: ${box.reason}` : ""), box.state === "quoting" ? "" : "▲"],
    ["last sign of life", known(box.quoter_age_s) ? `${ago(box.quoter_age_s)} ago` : "never", box.quoter_alive ? "" : "■"],
    ["tick to order", `${micros(box.latency_p50_us)}, p99 ${micros(box.latency_p99_us)}`],
    ["events", count(box.events)],
    ["orders placed", count(orders.placed)],
    ["cancelled, amended", `${count(orders.canceled)}, ${count(orders.amended)}`],
    ["rejected", count(orders.rejected)],
    ["fills", count(box.fills)],
    ["requests", requests ? `${count(requests.used)}${requests.cap ? ` of ${count(requests.cap)}` : ""}${requests.thinning > 1 ? `, thinned ${requests.thinning}×` : ""}` : null],
    ["quotes for a fill", requests ? requests.quote_to_trade.toFixed(1) : null],
    ["dead-man firings", requests ? count(requests.dead_man_firings) : null, requests && requests.dead_man_firings ? "▲" : ""],
    ["refused by risk", refused.length ? refused.join(", ") : "none"],
    ["odd", odd.length ? odd.join(", ") : null],
    ["flatten", state.flatten || null],
    ["accounts", box.invariant_violations ? `wrong ${box.invariant_violations} times` : "right", box.invariant_violations ? "■" : ""],
    ["journal", state.storage ? state.storage.fault || `kept, slowest commit ${Math.round(state.storage.worst_commit_ms)} ms` : null, state.storage && state.storage.fault ? "■" : ""],
  ]);
}

function renderHost() {
  const host = state.host;
  const why = (name) => (host.unavailable[name] ? `not known: ${host.unavailable[name]}` : "not known");
  const shown = (name, words) => (known(host[name]) ? words(host[name]) : why(name));
  const mb = (number) => (number >= 2048 ? `${(number / 1024).toFixed(1)} GB` : `${Math.round(number)} MB`);
  facts(at("host"), [
    ["temperature", shown("temperature_c", (value) => `${value.toFixed(1)} °C`)],
    ["processor", shown("cpu_percent", (value) => `${Math.round(value)} %`)],
    ["memory left", shown("memory_mb", mb)],
    ["disk left", shown("disk_free_mb", mb)],
    ["supply", shown("undervoltage", (value) => (value ? "too weak" : "good")), host.undervoltage ? "▲" : ""],
    ["throttled", shown("throttled", (value) => (value ? "yes" : "no")), host.throttled ? "▲" : ""],
    ["up for", shown("uptime_s", ago)],
    ["this boot", known(state.box.healthy) ? (state.box.healthy ? "healthy" : "not healthy") : "not judged yet", state.box.healthy === false ? "▲" : ""],
    ["quoter's memory", known(host.quoter_rss_mb) ? mb(host.quoter_rss_mb) : "–"],
    ["telemetry's memory", mb(host.telemetry_rss_mb)],
  ]);
}

function renderCounters(box) {
  const rows = Object.entries(box.counters).filter(([, number]) => number).sort(([one], [other]) => (one < other ? -1 : 1));
  facts(at("counters"), rows.length
    ? rows.map(([name, number]) => [name.replace(/^web_/, "page: ").replaceAll("_", " "), count(number)])
    : [["dropped or refused", "nothing"]]);
}

// Theme --------------------------------------------------------------------------------------------------------------

const THEMES = ["auto", "dark", "light"];
function theme(name) {
  mark(document.documentElement, "data-theme", name === "auto" ? null : name);
  put(at("theme").firstElementChild, { auto: "◐", dark: "☾", light: "☀" }[name]);
  for (const attribute of ["aria-label", "title"]) mark(at("theme"), attribute, `Theme: ${name}`);
}
function kept() {
  try { return localStorage.getItem("mmpi-theme") || "auto"; } catch { return "auto"; }
}
at("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(kept()) + 1) % THEMES.length];
  try { localStorage.setItem("mmpi-theme", next); } catch { /* a private window */ }
  theme(next);
});

// Beginning ----------------------------------------------------------------------------------------------------------

theme(kept());
pickers();
tick();
setInterval(tick, TICK_MS);
new ResizeObserver(charts).observe(at("chart"));
document.addEventListener("visibilitychange", () => { if (!document.hidden) { tick(); charts(); } });
connect();
