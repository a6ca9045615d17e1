// The attention viewer: words, lines as thick as the weights between them, and panels that take the weights apart.
//
// A "query" is a word that asks, a "key" one that is looked at; a word's "place" is its number in the text. The numbers
// of one query are a "row". `view.state` is plain JSON, all that links and files keep; `refresh` derives `view.now`
// from it and shows that. An array is { shape, values }, heads × rows × columns.

// ---- numbers

const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);
const greatest = (numbers, least = -Infinity) => numbers.reduce((most, x) => (x > most ? x : most), least);
const clamp = (x, least, most) => Math.max(least, Math.min(most, x));
const upTo = (n) => Array.from({ length: n }, (_, i) => i);
const strongest = (values) => values.reduce((best, x, i) => (x > values[best] ? i : best), 0);
const sizeOf = (values) => greatest(Array.from(values, Math.abs).filter(Number.isFinite), 0);
/** The places of the n greatest, in the order of the text. */
const chief = (values, n) => upTo(values.length).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, n).sort((a, b) => a - b);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** As Python's `%.4g`, but with a true minus. */
function short(x, digits = 4) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "−∞";
  const isPlain = x === 0 || (Math.abs(x) >= 1e-4 && Math.abs(x) < 10 ** digits);
  return (isPlain ? String(Number(x.toPrecision(digits))) : x.toExponential(digits - 1)).replaceAll("-", "−");
}

const signed = (x, digits = 3) => (x > 0 ? "+" : "") + short(x, digits);
const share = (x) => (Number.isFinite(x) ? x.toFixed(2).replace("-", "−") : short(x));
const percent = (x) => (Number.isFinite(x) ? `${Math.round(100 * x)} percent` : "not a finite number");
const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

/** Weights from scores; what the mask hides gets none. */
function softmax(scores, mask) {
  const open = Array.from(scores, (s, k) => (mask && !mask[k] ? -Infinity : s));
  const top = greatest(open.filter((s) => s < Infinity)); // ∞ and NaN spoil the row, as they do in every softmax
  const powers = open.map((s) => (s === -Infinity ? 0 : Math.exp(s - top)));
  const total = sum(powers);
  return powers.map((x) => (total === 0 ? 0 : x / total));
}

const dot = (a, b) => sum(Array.from(a, (x, i) => (x && b[i] ? x * b[i] : 0)));

/** What softmax makes of a gradient in its weights: w ⊙ (g − Σ g w). */
function softmaxBackward(weights, gradient) {
  const mean = dot(gradient, weights);
  return Array.from(weights, (w, k) => w && w * (gradient[k] - mean));
}

/** KL(p ‖ q) in nats. */
const divergence = (p, q) => sum(Array.from(p, (x, k) => x && x * Math.log(x / q[k])));

// ---- arrays

const STORES = { float64: Float64Array, float32: Float32Array, float16: Uint16Array, uint8: Uint8Array };

function fromHalf(bits) {
  const [power, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = power === 31 ? (fraction ? NaN : Infinity) : power ? 2 ** (power - 25) * (1024 + fraction) : fraction / 2 ** 24;
  return bits >> 15 ? -size : size;
}

function decoded(array) {
  if (!array || array.values) return array;
  const text = atob(array.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const values = new STORES[array.dtype](bytes.buffer);
  return { shape: array.shape, values: array.dtype === "float16" ? Float32Array.from(values, fromHalf) : values };
}

const opened = new WeakMap();

/** A layer with its arrays decoded, when it's first looked at. */
function open(layer) {
  if (!opened.has(layer)) {
    const arrays = ["weights", "mask", "scores", "query", "key", "value", "d_weights"].map((name) => [name, decoded(layer[name])]);
    opened.set(layer, { ...layer, ...Object.fromEntries(arrays) });
  }
  return opened.get(layer);
}

/** A row of an array; an axis of length 1 serves for all. */
function rowOf({ shape: [heads, rows, columns], values }, head, row) {
  const start = ((heads > 1 ? head : 0) * rows + (rows > 1 ? row : 0)) * columns;
  return values.subarray(start, start + columns);
}

const headCount = (layer) => layer.weights.shape[0];
const headName = (layer, head) => layer.heads?.[head] ?? `head ${head + 1}`;
const maskOf = (layer, head, row) => layer.mask && rowOf(layer.mask, head, row);
const rowAt = (layer, place) => (layer.asking ? layer.asking.indexOf(place) : place);
const placeAt = (layer, row) => layer.asking?.[row] ?? row;
const scaleOf = (layer) => layer.scale ?? 1 / Math.sqrt(layer.query?.shape[2] ?? 1);
/** Query vectors may be given for all words, or for those that ask alone. */
const queryOf = (layer, head, row) => rowOf(layer.query, head, layer.query.shape[1] === layer.weights.shape[1] ? row : placeAt(layer, row));

/** Scaled scores before the mask; where none are given, the logarithms of the weights. */
function scoresOf(layer, head, row) {
  if (layer.scores) return rowOf(layer.scores, head, row);
  if (!layer.query || !layer.key) return Array.from(rowOf(layer.weights, head, row), Math.log);
  const query = queryOf(layer, head, row);
  return upTo(layer.weights.shape[2]).map((k) => dot(query, rowOf(layer.key, head, k)) * scaleOf(layer));
}

// ---- words

const SIGNS = { "": "∅", " ": "␣", "\n": "⏎", "\t": "⇥" };

/** A token as it's shown: what would be blank has a sign, control characters have their pictures. */
function shown(token) {
  return token && token
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\u007f\ufffe\uffff]/g, "�")
    .replace(/^ +| +$|[\n\t]/g, (blank) => Array.from(blank, (c) => SIGNS[c]).join(""))
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))) || SIGNS[""];
}

const shownBefore = new WeakMap();

function allShown(tokens) {
  if (!shownBefore.has(tokens)) shownBefore.set(tokens, tokens.map(shown));
  return shownBefore.get(tokens);
}

const spoken = (token) => token.trim() || { "": "empty", " ": "space" }[token] || "blank";

const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const widths = new Map();

/** How wide a shown word is, for 1 px of font size. */
function widthOf(word) {
  if (!widths.has(word)) {
    brush.font = "100px system-ui, sans-serif";
    widths.set(word, brush.measureText(word).width / 100);
  }
  return widths.get(word);
}

/** Any CSS colour as [red, green, blue, alpha]. */
function colourOf(css) {
  brush.clearRect(0, 0, 1, 1);
  brush.fillStyle = css;
  brush.fillRect(0, 0, 1, 1);
  return [...brush.getImageData(0, 0, 1, 1).data];
}

// ---- elements

/** A new element, as `make("p.kind", { title }, child, ...)`. Strings become text: no data is ever read as markup. */
function make(what, ...parts) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.map((name) => `ta-${name}`).join(" ");
  element.given = {};
  for (const part of parts.flat(4).filter(Boolean)) {
    if (part.constructor === Object) Object.assign(Object.assign(element, part).given, part);
    else element.append(part);
  }
  return element;
}

function shape(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children.flat(2));
  return element;
}

/** Makes an element like a fresh one and keeps what it can: the focus, the caret, the slider under a finger. */
function become(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.data !== fresh.data) old.data = fresh.data;
  if (!fresh.attributes) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  fill(old, [...fresh.childNodes]);
  for (const [name, value] of Object.entries(fresh.given ?? {})) if (old[name] !== value) old[name] = value;
}

function fill(element, ...children) {
  const [old, fresh] = [[...element.childNodes], [...make("div", children).childNodes]];
  fresh.forEach((child, i) => (old[i] ? become(old[i], child) : element.append(child)));
  for (const extra of old.slice(fresh.length)) extra.remove();
}

const button = (what, text, onclick, more = {}) => make(`button${what}`, { type: "button", onclick, ...more }, text);
const toggle = (text, isOn, onclick) => button("", text, onclick, { ariaPressed: `${isOn}` });
const tick = (text, checked, change) => make("label.tick", make("input", { type: "checkbox", checked, onchange: (e) => change(e.target.checked) }), text);
const hint = (...text) => make("p.how", text);

function slider(label, min, max, step, value, change) {
  const oninput = (event) => change(Number(event.target.value));
  return make("input", { type: "range", min: `${min}`, max: `${max}`, step: `${step}`, value: `${value}`, ariaLabel: label, oninput });
}

/** Buttons of which one is pressed, or a list where they would be many. `options`: [value, text, sign]. */
function chooser(label, options, chosen, choose, most = 9) {
  const title = make("span.label", label);
  if (options.length <= most) {
    return make("div.choice", { role: "group", ariaLabel: label }, title,
      options.map(([value, text, sign]) => toggle([sign, text], value === chosen, () => choose(value))));
  }
  const list = options.map(([value, text]) => make("option", { selected: value === chosen }, text));
  return make("label.choice", title, make("select", { onchange: (event) => choose(options[event.target.selectedIndex][0]) }, list));
}

/** The first cell of each row is its heading. */
function table(caption, heads, rows) {
  const line = ([first, ...cells]) =>
    make("tr", make("th", { scope: "row" }, first), cells.map((cell) => (cell.nodeName === "TD" ? cell : make("td", cell))));
  return make("div.scroll", { tabIndex: 0, role: "group", ariaLabel: caption }, make("table.table", make("caption", caption),
    make("thead", make("tr", heads.map((text) => make("th", { scope: "col" }, text)))), make("tbody", rows.map(line))));
}

const toneOf = (x) => (x < 0 ? "ta-minus" : "ta-plus");
/** A cell shaded by its number: orange above 0, blue below. */
const heated = (x, most, text) => make("td", { className: `ta-heat ${toneOf(x)}`, style: `--share: ${Math.abs(x) / most || 0}` }, text);

/** Numbers as bars, up for +, down for −. */
function bars(values, label) {
  const [most, wide] = [sizeOf(values) || 1, clamp(Math.floor(240 / values.length), 3, 14)];
  const bar = (x, i) => {
    const height = (16 * Math.abs(x)) / most || 0;
    const at = { x: i * wide, y: x > 0 ? 17 - height : 17, width: wide - 1, height, class: toneOf(x) };
    return shape("rect", at, shape("title", {}, `${i + 1}: ${signed(x)}`));
  };
  const width = values.length * wide;
  return shape("svg", { width, height: 34, class: "ta-bars", role: "img", "aria-label": label },
    shape("path", { class: "ta-axis", d: `M0 17h${width}` }), Array.from(values, bar));
}

// ---- state

/** What a view shows before anybody chose. */
const START = {
  show: "lines", // or "grid", "table"
  layout: "auto", // or "rows", "columns"
  theme: "auto", // or "light", "dark"
  layer: 0, head: 0, // a number, "mean" or "all"
  selected: null, key: null, // places: of the query, and of the key that panels speak of
  back: false, gradient: "d_scores", // lines show gradients: of the scores, or "d_weights"
  tab: null, // of PANELS
  text: null, pronoun: null, answer: null, // for the engine: the sentence, a place, the word that the loss wants
  snapshot: null, outlines: true, // a moment of training; null: its end
  tweak: null, // { layer, head, row, heat: factor of √d_k, by: { key: what its score gains } }
  guess: null, revealed: false, // { key: 0 to 100 }
  cutHeads: [], cutLines: [], // [layer, head], [layer, head, row, key]
};

const kept = ({ state, start }) => Object.entries(state).filter(([name, value]) => !same(value, start[name]));
const hashOf = (view) => String(new URLSearchParams(kept(view).map(([name, value]) => [name, JSON.stringify(value)])));
const fromHash = () => Object.fromEntries([...new URLSearchParams(location.hash.slice(1))].map(([name, text]) => [name, JSON.parse(text)]));

function startOf({ data, engine }) {
  if (!engine) return START;
  const text = data.queries.join(" ").replace(/ ([.,;:!?])/g, "$1");
  const head = headCount(data.layers.at(-1)) > 1 ? "mean" : 0;
  return { ...START, text: engine.read(text).problem ? engine.examples[0] : text, layer: data.layers.length - 1, head, tab: "edit" };
}

/** Takes over a state from a link or a file, as far as it can be shown. */
function load(view, read) {
  stop(view);
  try {
    const isFit = ([name, value]) => name in START && Array.isArray(value) === Array.isArray(START[name]) && (name !== "tweak" || value.by);
    view.state = { ...view.start, ...Object.fromEntries(Object.entries(read()).filter(isFit)) };
    refresh(view);
  } catch {
    view.state = { ...view.start };
    refresh(view);
    say(view, "This is no state that can be shown here.");
  }
}

function set(view, changes) {
  Object.assign(view.state, changes);
  refresh(view);
}

/** Writes the state into the address, a moment later: browsers allow that only so often. */
function keepState(view) {
  clearTimeout(view.keeping);
  if (view.isPage) view.keeping = setTimeout(() => location.hash.slice(1) === hashOf(view) || history.replaceState(null, "", `#${hashOf(view)}`), 250);
}

// ---- what follows from the state

/** Runs the engine; what it has computed before it remembers. */
function runOf(view, options) {
  const { words, pronoun } = view.reading;
  const name = JSON.stringify([words, pronoun, options]);
  if (view.runs.size > 80) view.runs.clear();
  if (!view.runs.has(name)) view.runs.set(name, view.engine.run(words, pronoun, options));
  return view.runs.get(name);
}

const lastOf = ({ engine }) => (engine.snapshots?.length ?? 1) - 1;
const momentOf = (view) => clamp(view.state.snapshot ?? Infinity, 0, lastOf(view));

function optionsOf(view) {
  const { cutHeads, cutLines } = view.state;
  return { ...(momentOf(view) < lastOf(view) && { snapshot: momentOf(view) }), cutHeads, cutLines };
}

const nudged = (view, nudges) =>
  nudges.length ? runOf(view, { ...optionsOf(view), nudge: nudges.length === 1 ? nudges[0] : nudges }) : view.now.base;

function derive(view) {
  const { state, engine, data } = view;
  const now = (view.now = { queries: data.queries, keys: data.keys ?? data.queries, layers: data.layers });
  if (engine) {
    view.asked = engine.read(state.text);
    if (!view.asked.problem) view.reading = view.asked;
    view.reading ??= engine.read(engine.examples[0]);
    if (view.reading.pronouns?.includes(state.pronoun)) view.reading = { ...view.reading, pronoun: state.pronoun };
    now.queries = now.keys = view.reading.words;
    now.run = now.base = runOf(view, optionsOf(view)); // the base is without the reader's changes of scores
    now.layers = now.base.layers;
  }
  [now.asks, now.names] = [now.queries, now.keys].map(allShown);
  if (!now.layers.length) return;
  now.at = clamp(state.layer, 0, now.layers.length - 1);
  deriveTweak(view);
  const layer = (now.layer = open(now.layers[now.at]));
  const nHeads = headCount(layer);
  now.head = Number.isInteger(state.head) ? clamp(state.head, 0, nHeads - 1) : nHeads > 1 ? state.head : 0;
  now.one = Number.isInteger(now.head) ? now.head : 0; // where it must be one
  // Shown is the query under the pointer or the focus, else the selected one, else the only one that asks.
  const only = layer.weights.shape[1] === 1 && now.queries.length ? placeAt(layer, 0) : null;
  const asks = (place) => place !== null && place < now.queries.length && rowAt(layer, place) >= 0;
  now.place = [view.preview, state.selected, only].find(asks) ?? null;
  now.row = now.place === null ? null : rowAt(layer, now.place);
  now.key = state.key in now.keys ? state.key : null;
  now.isHidden = state.tab === "predict" && !state.revealed;
  if (now.row !== null) Object.assign(now, rowShown(view, now.head, now.row));
}

/** The reader's changes of a row of scores: the weights that follow, and with an engine all that follows from them. */
function deriveTweak(view) {
  const { now, state: { tweak }, engine } = view;
  const layer = tweak && now.layers[tweak.layer] && open(now.layers[tweak.layer]);
  if (!layer || tweak.head >= headCount(layer) || tweak.row >= layer.weights.shape[1]) return;
  const [scores, mask] = [scoresOf(layer, tweak.head, tweak.row), maskOf(layer, tweak.head, tweak.row)];
  const changed = Array.from(scores, (s, k) => (s + (tweak.by[k] ?? 0)) / tweak.heat);
  const nudges = changed.map((s, key) => ({ layer: tweak.layer, head: tweak.head, query: tweak.row, key, by: s - scores[key] }));
  now.tweak = { ...tweak, changed, weights: softmax(changed, mask), nudges: nudges.filter(({ key, by }) => by && Number.isFinite(by) && (!mask || mask[key])) };
  if (!engine) return;
  now.run = nudged(view, now.tweak.nudges);
  now.layers = now.run.layers;
}

const isTweaked = ({ now: { tweak, at } }, head, row) => tweak?.layer === at && tweak.head === head && tweak.row === row;
const weightsOf = (view, head, row) => (isTweaked(view, head, row) ? view.now.tweak.weights : rowOf(view.now.layer.weights, head, row));
const headsOf = ({ now }) => upTo(headCount(now.layer));

/** A row as it's drawn, of one head or of the mean of all: its weights, and the keys that it may look at. */
function rowShown(view, head, row) {
  const heads = Number.isInteger(head) ? [head] : headsOf(view);
  const rows = heads.map((h) => weightsOf(view, h, row));
  const masks = heads.map((h) => maskOf(view.now.layer, h, row));
  const all = upTo(view.now.keys.length);
  return {
    weights: heads.length === 1 ? rows[0] : all.map((k) => sum(rows.map((weights) => weights[k])) / rows.length),
    open: all.map((k) => masks.some((mask) => !mask || mask[k])),
  };
}

const answerOf = ({ state, now: { run } }) => (run.answers.find(({ word }) => word === state.answer) ?? run.answers[0])?.word;

/** The gradients of the row: of the loss of an answer, those that were given, or of −log of one key's weight. */
function gradientsOf(view) {
  const { now, engine } = view;
  return (now.gradients ??= engine?.gradients && answerOf(view) ? ofAnswer(view, answerOf(view)) : ofRow(now, weightsOf(view, now.one, now.row)));
}

function ofAnswer(view, word) {
  const { now, engine, gradients } = view;
  if (!gradients.has(now.run)) gradients.set(now.run, {});
  const { loss, layers } = (gradients.get(now.run)[word] ??= engine.gradients(now.run, word));
  const [d_weights, d_scores] = ["d_weights", "d_scores"].map((name) => rowOf(layers[now.at][name], now.one, now.row));
  return { layers, d_weights, d_scores, about: `loss = −log p(${word}) = ${short(loss)}` };
}

function ofRow({ layer, one, row, key, names }, weights) {
  if (layer.d_weights) {
    const d_weights = rowOf(layer.d_weights, one, row);
    const about = "d_weights came with the data; checks take L = Σ d_weights · weights of this row";
    return { d_weights, d_scores: softmaxBackward(weights, d_weights), about, lossOf: (w) => dot(d_weights, w) };
  }
  const wanted = key ?? strongest(weights);
  const d_weights = Array.from(weights, (w, k) => (k === wanted ? -1 / w : 0));
  const about = `loss = −log(weight of “${names[wanted]}”) = ${short(-Math.log(weights[wanted]))}; click a key to take that one`;
  return { d_weights, d_scores: softmaxBackward(weights, d_weights), about, lossOf: (w) => -Math.log(w[wanted]) };
}

// ---- where words stand

const SIZES = [28, 24, 20, 17, 15]; // of letters in rows, px
const [LINE, WIDEST, LEAST, GAP, HEADING] = [34, 200, 58, 6, 26]; // px
const [THICKEST, FAINTEST, LABELLED] = [16, 0.01, 0.1]; // px for a weight of 1; the least weights with a line, a numeral

/** Two rows where both fit, else two columns, which scroll. Gives the box of each word in its list. */
function layOut({ state, now, parts }) {
  const width = parts.picture.clientWidth || 800;
  const lists = { queries: now.asks, keys: now.names };
  const room = window.innerHeight * (width < 600 ? 0.55 : 0.62);
  const widest = (word, size) => clamp(widthOf(word) * size + 24, LEAST, WIDEST * (size / 20));
  const rowWidth = (words, size) => sum(words.map((word) => widest(word, size) + GAP)) - GAP;
  const most = (size) => Math.max(rowWidth(now.asks, size), rowWidth(now.names, size));
  const longest = Math.max(now.asks.length, now.names.length, 1);
  const fitting = longest <= 80 && SIZES.find((size) => most(size) <= width);
  if (longest > 80 || state.layout === "columns" || (state.layout === "auto" && !fitting)) {
    const total = Math.min(width, 1000);
    const wide = clamp(greatest(now.asks.concat(now.names).map((word) => widthOf(word) * 18 + 84)), 110, Math.min(300, width * 0.38));
    const height = Math.min(longest * LINE, Math.max(240, room)) + HEADING;
    const left = { queries: (width - total) / 2, keys: (width + total) / 2 - wide };
    return { size: 18, width, height, left, wide, boxOf: (name, i) => ({ x: 0, y: i * LINE, width: wide, height: LINE - 4 }) };
  }
  const size = fitting || SIZES.at(-1);
  const [total, height] = [Math.max(width, most(size)), clamp(room, 280, 480)];
  const boxesOf = (words, y, tall) => {
    let x = (total - rowWidth(words, size)) / 2;
    return words.map((word) => ({ x: (x += widest(word, size) + GAP) - widest(word, size) - GAP, y, width: widest(word, size), height: tall }));
  };
  const tall = size * 1.5 + 20;
  const boxes = { queries: boxesOf(lists.queries, HEADING, size * 1.9), keys: boxesOf(lists.keys, height - HEADING - tall, tall) };
  return { isRows: true, size, width: total, height, boxOf: (name, i) => boxes[name][i] };
}

/** Where a word's lines start or end in the picture. */
function endOf({ parts, layout: { isRows, boxOf, left, wide } }, name, place) {
  const { x, y, width, height } = boxOf(name, place);
  if (isRows) return [x + width / 2, name === "queries" ? y + height : y];
  return [left[name] + (name === "queries" ? wide : 0), HEADING + y + height / 2 - parts[name].scrollTop];
}

/** The places of a list that can be seen, and the one that the Tab key reaches. */
function placesSeen({ parts, layout, focus }, name, n) {
  if (layout.isRows) return upTo(n);
  const { scrollTop, clientHeight } = parts[name];
  const first = Math.max(0, Math.floor(scrollTop / LINE) - 3);
  const seen = upTo(n).slice(first, Math.ceil((scrollTop + clientHeight) / LINE) + 3);
  return seen.includes(focus[name]) || focus[name] >= n ? seen : [...seen, focus[name]].sort((a, b) => a - b);
}

function bringIntoView({ parts, layout }, name, place) {
  const [list, top] = [parts[name], place * LINE];
  const isSeen = layout.isRows || (top >= list.scrollTop && top + LINE <= list.scrollTop + list.clientHeight);
  if (!isSeen) list.scrollTop = top - (list.clientHeight - LINE) / 2;
}

// ---- words

/** What stands beside a key: its number, or what keeps it from having one; and how it's shaded. */
function notesOf(view) {
  const { now, state } = view;
  if (now.row === null) return () => ({});
  if (now.isHidden) {
    const guess = guessOf(view);
    return (k) => ({ text: share(guess[k]), share: guess[k] });
  }
  if (state.back) {
    const values = gradientsOf(view)[state.gradient];
    return (k) => ({ text: signed(values[k], 2), share: Math.abs(values[k]) / sizeOf(values) || 0, tone: toneOf(values[k]) });
  }
  const isCut = (k) => state.cutLines.some((line) => same(line, [now.at, now.head, now.row, k]));
  return (k) => {
    const x = now.weights[k];
    if (isCut(k) || !now.open[k]) return { text: isCut(k) ? "cut" : "masked", tone: "ta-masked" };
    if (!Number.isFinite(x)) return { text: short(x), tone: "ta-odd" };
    return { text: Math.abs(x) < FAINTEST ? "" : share(x), share: clamp(x, 0, 1) };
  };
}

/** Draws the words of a list that can be seen; elements of words that stay are kept, and with them the focus. */
function drawWords(view, name) {
  const { now, state, layout, focus } = view;
  const [isQuery, list, elements] = [name === "queries", view.parts[name].firstChild, view.elements[name]];
  const words = isQuery ? now.asks : now.names;
  const noteOf = isQuery ? () => ({}) : notesOf(view);
  const wanted = placesSeen(view, name, words.length);
  for (const [place, element] of elements) {
    if (wanted.includes(place)) continue;
    element.remove();
    elements.delete(place);
  }
  let next = list.firstChild;
  for (const place of wanted) {
    if (!elements.has(place)) elements.set(place, make("div.word", { role: "option" }, make("span.text", { dir: "auto" }), make("span.number")));
    const element = elements.get(place);
    if (element === next) next = next.nextSibling;
    else list.insertBefore(element, next);
    const note = noteOf(place);
    const isOff = isQuery && rowAt(now.layer, place) < 0;
    const { x, y, width, height } = layout.boxOf(name, place);
    Object.assign(element, {
      className: `ta-word ${note.tone ?? ""} ${isQuery && place === now.place ? "ta-asking" : ""}`,
      title: words[place], tabIndex: place === focus[name] ? 0 : -1, ariaDisabled: isOff ? "true" : null,
      ariaSelected: `${place === (isQuery ? state.selected : now.key)}`, ariaPosInSet: `${place + 1}`, ariaSetSize: `${words.length}`,
      style: `left:${x}px;top:${y}px;width:${width}px;height:${height}px;--share:${note.share ?? 0}`,
    });
    element.dataset.place = place;
    element.firstChild.textContent = words[place];
    element.lastChild.textContent = note.text ?? "";
  }
}

// ---- lines

// Okabe and Ito's colours, which everybody tells apart; dashes and numerals say the same without colour.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a", "#a89a00"];
const DASHES = [null, "14 5", "4 4", "16 4 3 4", "8 3", "2 3", "20 3 8 3", "10 10"];
const inkOf = (head) => ({ stroke: COLOURS[head % 8], "stroke-dasharray": DASHES[head % 8] });
const signOf = (head) =>
  shape("svg", { width: 26, height: 10, class: "ta-sign", "aria-hidden": true }, shape("path", { d: "M0 5h26", "stroke-width": 4, ...inkOf(head) }));

/** What is drawn from the query that is shown: values for each key, the value that is thickest, outlines of others. */
function strandsOf(view) {
  const { now, state } = view;
  if (now.isHidden) return [{ head: now.one, values: guessOf(view) }];
  if (state.back) {
    const values = gradientsOf(view)[state.gradient];
    return [{ head: now.one, values, top: sizeOf(values), isBack: true }];
  }
  if (now.head !== "all") return [{ head: now.head, values: now.weights, outlines: outlinesOf(view) }];
  return headsOf(view).map((head) => ({ head, values: weightsOf(view, head, now.row), numeral: `${head + 1}` }));
}

/** A curve between two words, as four points; `by` moves it aside. */
function curveOf(view, query, key, by = 0) {
  const [[x, y], [toX, toY]] = [endOf(view, "queries", query), endOf(view, "keys", key)];
  const [middleX, middleY] = [(x + toX) / 2, (y + toY) / 2];
  if (view.layout.isRows) return [[x + by, y], [x + by, middleY], [toX + by, middleY], [toX + by, toY]];
  return [[x, y + by], [middleX, y + by], [middleX, toY + by], [toX, toY + by]];
}

const pathOf = ([start, ...others]) => `M${start}C${others.join(" ")}`;

/** A curve's point and direction at t, from 0 to 1. */
function pointAt(curve, t) {
  const u = 1 - t;
  const along = (factors, axis) => sum(curve.map((point, i) => factors[i] * point[axis]));
  const [x, y] = [0, 1].map((axis) => along([u ** 3, 3 * t * u * u, 3 * t * t * u, t ** 3], axis));
  const [dx, dy] = [0, 1].map((axis) => along([-u * u, u * u - 2 * t * u, 2 * t * u - t * t, t * t], axis));
  const length = Math.hypot(dx, dy) || 1;
  /** The point so far along the curve, and aside. */
  const shifted = (by, aside) => [x + (by * dx - aside * dy) / length, y + (by * dy + aside * dx) / length].map((z) => z.toFixed(1));
  return { x, y, shifted };
}

function outlineOf(curve, width) {
  const side = (sign) => upTo(33).map((i) => pointAt(curve, i / 32).shifted(0, (sign * width) / 2));
  return `M${[...side(1), ...side(-1).reverse()].join("L")}Z`;
}

function arrowOf(curve, tone) {
  const { shifted } = pointAt(curve, 0.04);
  return shape("path", { class: `ta-arrow ${tone}`, d: `M${shifted(-6, 0)}L${shifted(9, 8)}L${shifted(9, -8)}Z` });
}

function drawLines(view) {
  const { now, layout, parts } = view;
  const lines = now.row === null ? overview(view) : strandsOf(view).flatMap((strand, i, { length }) => linesOf(view, strand, i - (length - 1) / 2, length));
  parts.lines.setAttribute("width", layout.width);
  parts.lines.setAttribute("height", layout.height);
  parts.lines.replaceChildren(...lines.flatMap((line) => line.shapes), ...numerals(lines));
}

function linesOf(view, { head, values, numeral, top = 1, isBack, outlines = [] }, place, n) {
  const { now } = view;
  const by = numeral ? place * Math.min(5, 30 / n) : 0;
  const isDrawn = (k) => values[k] && Number.isFinite(values[k]) && Math.abs(values[k]) >= FAINTEST * top;
  const isOutlined = (outline, k) => Math.abs(outline.values[k] - values[k]) >= FAINTEST;
  return upTo(values.length).filter((k) => isDrawn(k) || outlines.some((outline) => isOutlined(outline, k))).map((key) => {
    const curve = curveOf(view, now.place, key, by);
    const [x, size, d] = [values[key], clamp(Math.abs(values[key]) / top || 0, 0, 1), pathOf(curve)];
    const [tone, data] = [isBack ? toneOf(x) : "", { d, "data-key": key, "data-head": head }];
    const ink = numeral ? inkOf(head) : { "stroke-dasharray": isBack && x < 0 ? "9 6" : null };
    const look = { ...ink, "stroke-width": (THICKEST * size).toFixed(2), opacity: (0.4 + 0.6 * size).toFixed(2) };
    const shapes = [
      isDrawn(key) && shape("path", { ...data, ...look, class: `ta-line ${tone} ${key === now.key ? "ta-chosen" : ""}` }),
      isBack && size > 0.05 && arrowOf(curve, tone),
      ...outlines.filter((outline) => isOutlined(outline, key)).map((outline) =>
        shape("path", { class: `ta-outline ta-${outline.name}`, d: outlineOf(curve, Math.max(2, THICKEST * outline.values[key])) })),
      shape("path", { ...data, class: "ta-hit" }, shape("title", {}, `${now.asks[now.place]} → ${now.names[key]}: ${short(x)}`)),
    ];
    return { curve, numeral, size, head, shapes: shapes.filter(Boolean) };
  });
}

/** Nothing is selected: the lines of all words, where they aren't too many. */
function overview(view) {
  const { now, parts } = view;
  const rows = upTo(now.layer.weights.shape[1]);
  if (now.isHidden || rows.length * now.keys.length > 1600) return [];
  return rows.flatMap((row) => {
    const { weights } = rowShown(view, now.head, row);
    return upTo(weights.length).filter((k) => weights[k] >= 0.05).map((k) => {
      const look = { "stroke-width": (THICKEST * 0.5 * weights[k]).toFixed(2), opacity: (0.15 + 0.6 * weights[k]).toFixed(2) };
      return { shapes: [shape("path", { class: "ta-line", d: pathOf(curveOf(view, placeAt(now.layer, row), k)), ...look })] };
    });
  });
}

/** The heads' numerals on their lines, the thickest first, each where it covers no other. */
function numerals(lines) {
  const taken = [];
  const wanted = lines.filter(({ numeral, size }) => numeral && size >= LABELLED).sort((a, b) => b.size - a.size);
  return wanted.flatMap(({ curve, numeral, head }) => {
    const isFree = ({ x, y }) => taken.every((other) => Math.hypot(other.x - x, other.y - y) > 21);
    const free = [0.75, 0.6, 0.86, 0.48, 0.36, 0.25].map((t) => pointAt(curve, t)).find(isFree);
    if (!free) return [];
    taken.push(free);
    return [
      shape("circle", { class: "ta-bead", cx: free.x, cy: free.y, r: 9.5, stroke: COLOURS[head % 8] }),
      shape("text", { class: "ta-numeral", x: free.x, y: free.y + 4.5, "text-anchor": "middle" }, numeral),
    ];
  });
}

// ---- the picture, and what is said of it

function drawPicture(view) {
  const { now, parts, state } = view;
  const isLines = now.layer && state.show === "lines";
  parts.picture.hidden = !isLines;
  parts.other.hidden = isLines;
  if (isLines) drawWhole(view);
  else if (now.isHidden || !now.layer) fill(parts.other, make("p", now.layer ? "The weights are hidden until you reveal them." : "There are no weights to show."));
  else if (state.show === "table") fill(parts.other, asTable(view));
  else drawGrid(view);
  fill(parts.told, now.layer && toldOf(view));
  const told = now.row !== null && now.layer && !now.isHidden ? announcement(now) : "";
  if (parts.live.textContent !== told) parts.live.textContent = told;
}

function drawWhole(view) {
  const { now, parts, state, focus } = view;
  const { isRows, width, height, size, left, wide } = (view.layout = layOut(view));
  parts.lists.dataset.layout = isRows ? "rows" : "columns";
  parts.lists.style = `width:${width}px;height:${height}px;--size:${size}px`;
  for (const name of ["queries", "keys"]) {
    const n = now[name].length;
    parts[name].style = isRows ? "" : `left:${left[name]}px;width:${wide + 12}px;top:${HEADING}px;height:${height - HEADING}px`;
    parts[`${name}Title`].style = isRows ? "" : `left:${left[name]}px`;
    parts[name].firstChild.style = isRows ? "" : `height:${n * LINE}px`;
    parts[name].firstChild.role = n ? "listbox" : "note";
    focus[name] = clamp(focus[name], 0, Math.max(0, n - 1));
  }
  const title = JSON.stringify([now.at, now.head, state.selected]);
  if (now.row !== null && view.brought !== title && view.preview === null && !now.isHidden) {
    bringIntoView(view, "queries", now.place);
    bringIntoView(view, "keys", strongest(now.weights));
    view.brought = title;
  }
  drawMoved(view);
}

/** What follows the scrolling. */
function drawMoved(view) {
  drawWords(view, "queries");
  drawWords(view, "keys");
  drawLines(view);
}

function announcement({ place, queries, keys, weights }) {
  const top = upTo(weights.length).filter((k) => weights[k] >= 0.05).sort((a, b) => weights[b] - weights[a]).slice(0, 3);
  return `${spoken(queries[place])} → ${top.map((k) => `${spoken(keys[k])}, ${percent(weights[k])}`).join("; ") || "nothing that stands out"}`;
}

/** Under the picture: the strongest keys, the rest in one number, and how to read the lines. */
function toldOf(view) {
  const { now, state } = view;
  const { weights, open } = now;
  if (now.row === null) return [hint(now.queries.length ? "Click a word to see what it looks at. The key ? lists the keys." : "There are no words.")];
  const title = make("b", { dir: "auto" }, now.asks[now.place]);
  if (now.isHidden) return [make("p", title, " looks where? The thickness of the lines is your guess.")];
  if (state.back) {
    const { about, [state.gradient]: values } = gradientsOf(view);
    return [make("p", about), hint(`Lines are ${state.gradient} of ${headTitle(view)}, back to “${now.asks[now.place]}”: orange and solid for +, ` +
      `blue and dashed for −. The thickest is ${short(sizeOf(values), 3)}.`)];
  }
  const among = (isOf) => upTo(weights.length).filter((k) => open[k] && isOf(weights[k]));
  const drawn = among((x) => x >= FAINTEST && x < Infinity).sort((a, b) => weights[b] - weights[a]);
  const [more, rest, odd] = [drawn.slice(6), among((x) => x < FAINTEST), among((x) => !Number.isFinite(x))];
  const total = (of) => share(sum(of.map((k) => weights[k])));
  const remarks = [
    more.length && `${total(more)} in ${count(more.length, "more word")}`, rest.length && `rest: ${total(rest)} in ${count(rest.length, "word")}`,
    open.includes(false) && `${open.filter((isOpen) => !isOpen).length} masked`, odd.length && `${odd.length} not finite`,
  ];
  const chip = (k) => button(".chip", [make("bdi", now.names[k]), ` ${share(weights[k])}`], () => pickKey(view, k, true));
  return [
    make("p.chips", title, " → ", drawn.slice(0, 6).map(chip), make("span", remarks.filter(Boolean).join(", "))),
    hint(`A line is as thick as its weight${now.head === "all" ? `; numerals from ${LABELLED} on, where there's room` : ""}. ` +
      `Under ${FAINTEST} neither lines nor numbers are shown.`, now.tweak && " You changed the scores of a row.", (state.cutHeads.length || state.cutLines.length) && " Something is cut."),
  ];
}

const headTitle = ({ now }, layer = now.layer, head = now.one) => `${layer.name}, ${headName(layer, head)}`;

/** All numbers as a real table: of the query that is shown in each head, or of all queries where they are few. */
function asTable(view) {
  const { now } = view;
  const rows = upTo(now.layer.weights.shape[1]);
  const isAll = now.row === null;
  if (isAll && rows.length * now.keys.length > 1600) return make("p", "Choose a word in the picture first: the whole table would be too long.");
  const columns = isAll
    ? rows.map((row) => [`${now.asks[placeAt(now.layer, row)]} asks`, rowShown(view, now.head, row)])
    : [...headsOf(view), "mean"].map((head) => [head === "mean" ? head : headName(now.layer, head), rowShown(view, head, now.row)]);
  const listed = isAll ? upTo(now.keys.length) : chief(columns.at(-1)[1].weights, 200);
  const lines = listed.map((k) => [now.names[k], ...columns.map(([, { weights, open }]) => (open[k] ? short(weights[k]) : "masked"))]);
  const rest = (weights) => short(sum(Array.from(weights)) - sum(listed.map((k) => weights[k])));
  const isCut = listed.length < now.keys.length;
  if (isCut) lines.push([`rest: ${count(now.keys.length - listed.length, "word")}`, ...columns.map(([, { weights }]) => rest(weights))]);
  const caption = isAll ? `Weights in ${now.layer.name}, ${now.one === now.head ? headName(now.layer, now.one) : "the mean of all heads"}` : `What “${now.asks[now.place]}” looks at in ${now.layer.name}`;
  return table(caption, ["looked at", ...columns.map(([title]) => title)], lines);
}

// ---- the grid of all layers and heads

const CELL = 104; // px, at most

function drawGrid(view) {
  const { now, parts, root } = view;
  if (view.painted?.isConnected && view.painted.of === now.layers && view.painted.theme === root.dataset.theme) return;
  const pending = [];
  const rows = now.layers.map((layer, at) => {
    const maps = upTo(headCount(layer)).map((head) => {
      const canvas = make("canvas", { width: 1, height: 1 });
      pending.push(() => paint(canvas, open(layer), head, root));
      return button(".map", [canvas, headName(layer, head)], () => set(view, { layer: at, head, show: "lines" }), { ariaLabel: `Open ${headTitle(view, layer, head)}` });
    });
    return make("div.maps", { role: "group", ariaLabel: layer.name }, make("b", layer.name), make("div.cells", maps));
  });
  view.painted = make("div.grid", { of: now.layers, theme: root.dataset.theme }, hint("Rows ask, columns are looked at. Strong is much; grey is masked, red isn't finite."), rows);
  parts.other.replaceChildren(view.painted);
  const paintSome = () => {
    const end = performance.now() + 12;
    while (pending.length && performance.now() < end) pending.shift()();
    if (pending.length) requestAnimationFrame(paintSome);
  };
  paintSome();
}

/** A heat map of a head; where there are more numbers than pixels, a pixel shows the greatest. */
function paint(canvas, layer, head, root) {
  const [, rows, columns] = layer.weights.shape;
  if (!rows || !columns) return;
  const [height, width] = [Math.min(rows, CELL), Math.min(columns, CELL)];
  Object.assign(canvas, { width, height }).style.aspectRatio = `${width} / ${clamp(height, width / 6, width * 2)}`;
  const [mark, masked] = ["--mark", "--rule"].map((name) => colourOf(getComputedStyle(root).getPropertyValue(name)));
  const most = new Float64Array(width * height).fill(-1); // masked
  for (let row = 0; row < rows; row++) {
    const [weights, mask] = [rowOf(layer.weights, head, row), maskOf(layer, head, row)];
    const start = Math.floor((row * height) / rows) * width;
    for (let k = 0; k < columns; k++) {
      const at = start + Math.floor((k * width) / columns);
      if ((!mask || mask[k]) && !(weights[k] <= most[at])) most[at] = Number.isNaN(weights[k]) ? Infinity : weights[k];
    }
  }
  const pixels = new ImageData(width, height);
  most.forEach((x, i) => pixels.data.set(x === -1 ? masked : x < Infinity ? [...mark.slice(0, 3), 255 * clamp(x, 0, 1) ** 0.7] : [224, 0, 0, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// ---- panels

const PANELS = {
  edit: { title: "Edit", needs: ({ engine }) => engine, show: editPanel },
  steps: { title: "Steps", needs: () => true, show: stepsPanel, ofRow: true },
  back: { title: "Backward", needs: () => true, show: backPanel, ofRow: true },
  training: { title: "Training", needs: ({ engine }) => engine && lastOf({ engine }) > 0, show: trainingPanel, ofRow: true },
  cut: { title: "Cut and see", needs: ({ engine }) => engine, show: cutPanel },
  predict: { title: "Predict", needs: ({ now: { keys } }) => keys.length > 1 && keys.length <= 60, show: predictPanel, ofRow: true },
};

const oneHead = ({ now }) => (Number.isInteger(now.head) ? {} : { head: 0 });

function openPanel(view, tab) {
  stop(view);
  set(view, { tab, back: tab === "back", ...(PANELS[tab]?.ofRow && oneHead(view)), ...(tab === "predict" && { revealed: false, show: "lines" }) });
}

function drawPanel(view) {
  const { parts, state, now } = view;
  const names = Object.keys(PANELS).filter((name) => now.layer && PANELS[name].needs(view));
  const tab = names.includes(state.tab) ? state.tab : null;
  const choose = (name) => () => openPanel(view, name === tab ? null : name);
  const look = (name) => ({ role: "tab", ariaSelected: `${name === tab}`, tabIndex: name === (tab ?? names[0]) ? 0 : -1 });
  Object.assign(parts.tabs, names.length ? { role: "tablist", ariaLabel: "Panels" } : { role: null, ariaLabel: null });
  fill(parts.tabs, names.map((name) => button("", PANELS[name].title, choose(name), look(name))));
  parts.panel.hidden = !tab;
  parts.panel.ariaLabel = PANELS[tab]?.title;
  const needsWord = PANELS[tab]?.ofRow && now.row === null;
  if (tab) fill(parts.panel, needsWord ? make("p", "Choose a word in the picture: this shows what it looks at.") : PANELS[tab].show(view));
}

const whose = (view) => hint(make("bdi", `“${view.now.asks[view.now.place]}”`), ` in ${headTitle(view)}`);
const linkTo = (view, k) => button(".link", view.now.names[k], () => pickKey(view, k));

/** Answers as bars; beside them those before a change. */
function answerBars({ now }, before) {
  const bar = (what, x) => make(what, { style: `width:${100 * clamp(x || 0, 0, 1)}%` });
  const rows = now.run.answers.slice(0, 6).map(({ word, probability }) => {
    const was = before && before.answers.find((answer) => answer.word === word)?.probability;
    return make("li", make("bdi", word), make("span.track", bar("span.bar.is", probability), before && bar("span.bar.was", was)),
      make("span.number", before && `${share(was ?? 0)} → `, share(probability)));
  });
  return [make("h2", "Answer"), make("ul.answers", rows)];
}

function setText(view, text, pronoun = null) {
  const { problem, words } = view.engine.read(text);
  const forgotten = { tweak: null, guess: null, cutLines: [], answer: null }; // of other words
  const isOther = words.length !== view.now.queries.length;
  set(view, { text, pronoun, ...(!problem && forgotten), ...(!problem && isOther && { selected: null, key: null }) });
}

function editPanel(view) {
  const { state, engine, asked, reading } = view;
  const replaced = (word, by) => state.text.replace(new RegExp(`(?<![\\p{L}\\p{N}])${word.replace(/[^\p{L}\p{N}]/gu, "\\$&")}(?![\\p{L}\\p{N}])`, "iu"), () => by);
  const unknown = (asked.unknown ?? []).map(({ word, nearest }) =>
    make("p.choice", `Instead of “${word}”:`, nearest.map((by) => button(".chip", by, () => setText(view, replaced(word, by))))));
  const pronouns = (reading.pronouns ?? []).map((place) => [place, `${reading.words[place]}, word ${place + 1}`]);
  return [
    make("label.field", "Sentence", make("input.sentence", { type: "text", value: state.text, spellcheck: false, oninput: (e) => setText(view, e.target.value) })),
    make("p.problem", { role: "status" }, asked.problem), unknown,
    pronouns.length > 1 && chooser("Who asks", pronouns, reading.pronoun, (pronoun) => setText(view, state.text, pronoun)),
    answerBars(view),
    make("h2", "Examples"), make("div.examples", engine.examples.map((text) => button("", text, () => setText(view, text)))),
  ];
}

// -- steps

/** Changes what the reader did to the scores of the row that is shown. */
function changeTweak(view, change) {
  const { now, state } = view;
  const tweak = isTweaked(view, now.one, now.row) ? state.tweak : { layer: now.at, head: now.one, row: now.row, heat: 1, by: {} };
  set(view, { tweak: { ...tweak, ...change(tweak) } });
}

function stepsPanel(view) {
  const { now, state } = view;
  const { one: head, row, names, weights } = now;
  const layer = open((now.base ?? now).layers[now.at]); // its scores are without the reader's changes
  const [scores, mask] = [scoresOf(layer, head, row), maskOf(layer, head, row)];
  const { heat, by, changed } = isTweaked(view, head, row) ? now.tweak : { heat: 1, by: {}, changed: scores };
  const top = greatest(Array.from(changed).filter((s, k) => now.open[k] && s < Infinity));
  const query = layer.query && layer.key && queryOf(layer, head, row);
  const scale = scaleOf(layer);
  const isRoot = query && Math.abs(scale ** 2 * query.length - 1) < 1e-4;
  const isLog = !layer.scores && !query;
  const nudge = (k) => slider(`What the score of “${names[k]}” gains`, -6, 6, 0.1, by[k] ?? 0, (x) => changeTweak(view, ({ by }) => ({ by: { ...by, [k]: x } })));
  const listed = chief(weights, 40);
  const rows = listed.map((k) => [
    linkTo(view, k), ...(query ? [short(dot(query, rowOf(layer.key, head, k)), 3)] : []), short(scores[k], 3),
    ...(now.open[k] ? [nudge(k), short(Math.exp(changed[k] - top), 3)] : ["masked", "0"]), share(weights[k]),
  ]);
  const given = rowOf(layer.weights, head, row);
  const off = greatest(softmax(scores, mask).map((w, k) => Math.abs(w - given[k])));
  return [
    make("p.formula", `weights = softmax(q kᵀ ${isRoot || !query ? "/ √d_k" : `× ${short(scale)}`})`, make("br"), "mix = Σ weights · v"), whose(view),
    make("label.field", `Temperature: √d_k${isRoot ? ` = ${short(1 / scale, 3)}` : ""}, × ${heat.toFixed(2)}`,
      slider("temperature, a factor of √d_k", -1, 1, 0.02, Math.log10(heat), (x) => changeTweak(view, () => ({ heat: 10 ** x })))),
    button("", "Reset", () => set(view, { tweak: null }), { disabled: !state.tweak }),
    isLog && hint("No scores came with the data: these are logarithms of the weights, the scores up to a constant in each row."),
    off > 0.01 && hint(`The weights differ from the softmax of these scores by up to ${short(off, 2)}: something else had a part in them.`),
    listed.length < weights.length && hint(`The ${listed.length} strongest of ${weights.length} keys.`),
    table("From scores to weights", ["key", ...(query ? ["q · k"] : []), isLog ? "log w" : isRoot ? "÷ √d_k" : "score", "change", "exp(s − max)", "weight"], rows),
    now.run && answerBars(view, state.tweak && now.base), query && pairOf(view, layer, query, scale), layer.value && mixOf(layer, head, weights),
  ];
}

function mixOf(layer, head, weights) {
  const values = upTo(weights.length).map((k) => rowOf(layer.value, head, k));
  const mix = upTo(layer.value.shape[2]).map((i) => dot(weights, values.map((v) => v[i])));
  return [make("h2", "The mix, Σ weights · v"), bars(mix, "the mix"), make("p.numbers", mix.map((x) => short(x, 3)).join("  "))];
}

function pairOf({ now }, layer, query, scale) {
  const k = now.key ?? strongest(now.weights);
  const key = rowOf(layer.key, now.one, k);
  const products = Array.from(query, (x, i) => x * key[i]);
  const line = (name, values) => make("p.pair", make("b", name), bars(values, `${name} of this pair`));
  return [
    make("h2", `q · k of “${now.asks[now.place]}” and “${now.names[k]}”, by dimension`), line("q", query), line("k", key), line("q × k", products),
    hint(`They sum to ${short(sum(products))}; scaled ${short(sum(products) * scale)}. Click a key for another pair.`),
  ];
}

// -- backward

/** The loss's slope in one score, by moving the score a little both ways. */
function slopeAt(view, key) {
  const { now } = view;
  const { lossOf } = gradientsOf(view);
  const [scores, mask] = [scoresOf(now.layer, now.one, now.row), maskOf(now.layer, now.one, now.row)];
  const lossAt = (by) => {
    if (lossOf) return lossOf(softmax(Array.from(now.tweak && isTweaked(view, now.one, now.row) ? now.tweak.changed : scores, (s, k) => s + (k === key && by)), mask));
    return nudged(view, [...(now.tweak?.nudges ?? []), { layer: now.at, head: now.one, query: now.row, key, by }]).loss(answerOf(view));
  };
  return (lossAt(1e-4) - lossAt(-1e-4)) / 2e-4;
}

function backPanel(view) {
  const { now, state } = view;
  const { d_weights, d_scores, about } = gradientsOf(view);
  const weights = weightsOf(view, now.one, now.row);
  const of = JSON.stringify([state, now.row]);
  if (view.checks?.of !== of) view.checks = { of };
  const check = (places) => {
    for (const k of places) view.checks[k] = slopeAt(view, k);
    refresh(view);
  };
  const checked = (k) => (k in view.checks ? `${short(view.checks[k], 3)}, off by ${short(Math.abs(view.checks[k] - d_scores[k]), 1)}`
    : button("", "Check", () => check([k]), { ariaLabel: `Check “${now.names[k]}”` }));
  const listed = chief(d_scores, 40);
  const cell = (values, k) => heated(values[k], sizeOf(values), signed(values[k]));
  return [
    make("p.formula", "d_scores = weights ⊙ (d_weights − Σ d_weights · weights)"), whose(view), make("p", about),
    now.run && chooser("Answer wanted", now.run.answers.map(({ word }) => [word, word]), answerOf(view), (answer) => set(view, { answer }), 4),
    chooser("Lines show", ["d_scores", "d_weights"].map((name) => [name, name]), state.gradient, (gradient) => set(view, { gradient, back: true })),
    table("Gradients of the row; a check moves the score a little both ways", ["key", "weight", "d_weights", "d_scores", "check"],
      listed.map((k) => [linkTo(view, k), share(weights[k]), cell(d_weights, k), cell(d_scores, k), checked(k)])),
    button("", "Check all", () => check(listed)), jacobianOf(now, weights),
  ];
}

/** The softmax's Jacobian, diag(p) − ppᵀ. Its rows sum to zero where the weights sum to 1. */
function jacobianOf({ names }, weights) {
  const listed = chief(weights, 12);
  const at = (a, b) => weights[a] * ((a === b) - weights[b]);
  const most = greatest(listed.map((k) => at(k, k)));
  const tidy = (x) => (Math.abs(x) < 1e-6 ? "0" : short(x, 2));
  const total = (a) => sum(Array.from(weights, (_, b) => at(a, b)));
  const rows = listed.map((a) => [names[a], ...listed.map((b) => heated(at(a, b), most, tidy(at(a, b)))), tidy(total(a))]);
  const some = listed.length < weights.length ? ", of the strongest keys; sums are over all" : "";
  return table(`Softmax's Jacobian, diag(p) − ppᵀ: how weights (rows) follow scores (columns)${some}`, ["weight", ...listed.map((k) => names[k]), "sum"], rows);
}

// -- training

/** Weights as outlines: those guessed; or of the moment before, and where a step against the gradient pushes. */
function outlinesOf(view) {
  const { state, now } = view;
  if (state.tab === "predict") return [{ name: "guess", values: guessOf(view) }];
  if (state.tab !== "training" || !state.outlines || now.head !== now.one) return [];
  const at = momentOf(view);
  const before = at && rowOf(open(runOf(view, { ...optionsOf(view), snapshot: at - 1 }).layers[now.at]).weights, now.one, now.row);
  return [at && { name: "before", values: before }, view.engine.gradients && { name: "push", values: pushed(view) }].filter(Boolean);
}

/** The weights after a step along −d_scores, as long as makes the greatest change about 0.1. */
function pushed(view) {
  const { layer, one, row, weights } = view.now;
  const { d_scores } = gradientsOf(view);
  const slope = sizeOf(softmaxBackward(weights, d_scores));
  const scores = Array.from(scoresOf(layer, one, row), (s, k) => s - (0.1 / slope) * d_scores[k]);
  return slope < 1e-12 ? weights : softmax(scores, maskOf(layer, one, row));
}

function stop(view) {
  clearInterval(view.playing);
  view.playing = null;
}

function play(view) {
  const isPlaying = view.playing;
  stop(view);
  if (isPlaying) return refresh(view);
  view.playing = setInterval(() => {
    if (momentOf(view) + 1 >= lastOf(view)) stop(view);
    set(view, { snapshot: momentOf(view) + 1 });
  }, 400);
  set(view, { snapshot: momentOf(view) === lastOf(view) ? 0 : momentOf(view) });
}

function trainingPanel(view) {
  const { state, engine } = view;
  const [at, last] = [momentOf(view), lastOf(view)];
  const { step, loss, accuracy } = engine.snapshots[at];
  const goTo = (snapshot) => stop(view) ?? set(view, { snapshot });
  const curve = engine.curve ?? engine.snapshots;
  const jumps = curve.filter((point, i) => i && point.accuracy - curve[i - 1].accuracy > 0.08);
  return [
    make("p.big", `Step ${step}: loss ${short(loss, 3)}, accuracy ${percent(accuracy)}`),
    slider("moment of training", 0, last, 1, at, goTo),
    make("p.choice", button("", view.playing ? "Pause" : "Play", () => play(view)),
      button("", "Step back", () => goTo(at - 1), { disabled: !at }), button("", "Step", () => goTo(at + 1), { disabled: at === last })),
    tick("Outlines: dotted is the moment before, dashed is where −d_scores pushes a line", state.outlines, (outlines) => set(view, { outlines })),
    hint(`The push is of this sentence alone, for “${answerOf(view)}”, so long that the greatest change is about 0.1. A step follows many sentences: what it did is seen after it.`),
    plot("Loss", curve, "loss", step, jumps), plot("Accuracy", curve, "accuracy", step, jumps),
    jumps.length > 0 && hint("Dashes stand where the accuracy jumps."), answerBars(view),
  ];
}

/** A curve of training with a dot at a step, and dashes at jumps. */
function plot(title, curve, name, step, jumps) {
  const most = greatest(curve.map((point) => point[name]), 1e-9);
  const x = (point) => ((4 + (392 * point.step) / (curve.at(-1).step || 1)).toFixed(1));
  const y = (point) => (86 - (66 * point[name]) / most).toFixed(1);
  const now = curve.reduce((best, point) => (Math.abs(point.step - step) < Math.abs(best.step - step) ? point : best));
  const told = `${title} ${short(now[name], 3)}`;
  return shape("svg", { viewBox: "0 0 400 90", class: "ta-plot", role: "img", "aria-label": `${told} at step ${step}` },
    jumps.map((jump) => shape("path", { class: "ta-jump", d: `M${x(jump)} 18V90` })),
    shape("path", { class: "ta-curve", d: `M${curve.map((point) => `${x(point)} ${y(point)}`).join("L")}` }),
    shape("circle", { class: "ta-dot", cx: x({ step }), cy: y(now), r: 6 }), shape("text", { class: "ta-small", x: 4, y: 13 }, told));
}

// -- cut and see

/** Cuts heads or lines; where all are cut already, mends them. */
function cut(view, what, entries) {
  const { [what]: old, cutHeads, cutLines } = view.state;
  view.undo.push({ cutHeads, cutLines });
  const others = old.filter((other) => !entries.some((entry) => same(entry, other)));
  set(view, { [what]: others.length + entries.length === old.length ? others : [...others, ...entries] });
}

/** The line to a key; where several heads are shown, in all of them. */
function cutLine(view, key, head = view.now.head) {
  const { now } = view;
  if (view.engine && now.row !== null) cut(view, "cutLines", (Number.isInteger(head) ? [head] : headsOf(view)).map((h) => [now.at, h, now.row, key]));
}

function cutPanel(view) {
  const { now, state, engine } = view;
  const whole = runOf(view, { ...optionsOf(view), cutHeads: [], cutLines: [] });
  const isCut = state.cutHeads.length + state.cutLines.length > 0;
  const word = answerOf(view);
  const layersOf = (run) => (engine.gradients && word ? engine.gradients(run, word).layers : null);
  const [before, after] = [layersOf(whole), isCut && layersOf(now.run)];
  const size = (layers, at, head) => {
    const { shape: [, rows], values } = layers[at].d_scores;
    return short(Math.hypot(...values.subarray(head * rows * now.keys.length, (head + 1) * rows * now.keys.length)), 3);
  };
  const heads = now.layers.flatMap((layer, at) => upTo(headCount(layer)).map((head) => [at, head]));
  const rows = heads.map((entry) => [
    tick(headTitle(view, now.layers[entry[0]], entry[1]), !state.cutHeads.some((other) => same(other, entry)), () => cut(view, "cutHeads", [entry])),
    ...[before, after].filter(Boolean).map((layers) => size(layers, ...entry)),
  ]);
  const lines = state.cutLines.map((line) => {
    const [layer, head, row, key] = [now.layers[line[0]], ...line.slice(1)];
    return make("li", button("", `Mend ${headTitle(view, layer, head)}: ${now.asks[placeAt(layer, row)]} → ${now.names[key]}`, () => cut(view, "cutLines", [line])));
  });
  return [
    hint("Untick a head and it adds nothing. Click a line, or press Delete on a word that is looked at, to mask the line before softmax."),
    make("p.choice", button("", "Undo", () => set(view, view.undo.pop()), { disabled: !view.undo.length }),
      button("", "Mend all", () => view.undo.push({ ...state }) && set(view, { cutHeads: [], cutLines: [] }), { disabled: !isCut })),
    answerBars(view, isCut && whole),
    word && make("p", `Loss of “${word}”: ${short(whole.loss(word))}${isCut ? ` → ${short(now.run.loss(word))}` : ""}`), make("ul.examples", lines),
    table("Heads, and the size of the gradient in their scores, ‖d_scores‖", ["head", ...(before ? ["whole"] : []), ...(after ? ["cut"] : [])], rows),
  ];
}

// -- predict, then reveal

/** The reader's guess, as weights that sum to 1; what is masked gets none. */
function guessOf({ now, state }) {
  const raw = now.open.map((isOpen, k) => (isOpen ? clamp(state.guess?.[k] ?? 50, 0, 100) : 0));
  const total = sum(raw) || 1;
  return raw.map((x) => x / total);
}

const setGuess = (view, k, x) => set(view, { guess: { ...view.state.guess, [k]: clamp(Math.round(x), 0, 100) } });

function predictPanel(view) {
  const { now, state } = view;
  const guess = guessOf(view);
  const listed = upTo(now.keys.length).filter((k) => now.open[k]);
  const again = button("", "Guess again", () => set(view, { guess: null, revealed: false }));
  const sliderOf = (k) => slider(`Guess for “${now.names[k]}”`, 0, 100, 1, state.guess?.[k] ?? 50, (x) => setGuess(view, k, x));
  if (!state.revealed) return [
    make("p", "What does ", make("bdi", `“${now.asks[now.place]}”`), ` look at in ${headTitle(view)}? Drag the words that are looked at up or down, or move the sliders. It's scaled to sum to 1.`),
    table("Your guess", ["key", "more or less", "weight"], listed.map((k) => [now.names[k], sliderOf(k), share(guess[k])])),
    make("p.choice", button(".main", "Reveal", () => set(view, { revealed: true })), again),
  ];
  const [mine, flat] = [guess, guess.map(() => 1 / listed.length)].map((q) => divergence(now.weights, q));
  const verdict = mine < flat - 1e-9 ? "Your guess knows more than equal weights do." : "Equal weights would have been as near, or nearer.";
  return [
    make("p.big", `KL(true ‖ guess) = ${short(mine, 3)} nats`),
    make("p", "This much who expects your weights is surprised, on average, more than who knows the true ones; 0 is a perfect guess.",
      mine === Infinity && " It's ∞, as you gave nothing to a word that is looked at.", ` Equal weights would have ${short(flat, 3)} nats. ${verdict}`),
    hint("Lines are the true weights, outlines your guess."),
    table("True weights, and your guess", ["key", "true", "guess"], listed.map((k) => [now.names[k], share(now.weights[k]), share(guess[k])])), again,
  ];
}

// ---- pictures and files

const plain = (css) => (([r, g, b, a]) => (a ? `rgb(${r},${g},${b})` : "none"))(colourOf(css));
const INLINED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font", "text-anchor"];

/** What is on screen as SVG that needs nothing else: lines with their styles written out, words as text. */
function asSvg({ parts, root, now, data }) {
  const frame = parts.picture.hidden ? parts.other : parts.lists;
  const origin = frame.getBoundingClientRect();
  const [width, height] = [Math.ceil(origin.width), Math.ceil(origin.height) + 60];
  const boxOf = (element) => {
    const box = element.getBoundingClientRect();
    return { x: box.left - origin.left, y: box.top - origin.top + 30, width: box.width, height: box.height };
  };
  const text = (inside, element, box) => {
    const { fontSize, fontWeight, color } = getComputedStyle(element);
    const letters = Array.from(inside);
    while (letters.length > 1 && widthOf(letters.join("")) * parseFloat(fontSize) > box.width + 12) letters.pop();
    const cut = letters.join("") + (letters.length < Array.from(inside).length ? "…" : "");
    return shape("text", { x: box.x + box.width / 2, y: box.y + box.height / 2, "dominant-baseline": "central", "text-anchor": "middle",
      "font-family": "system-ui, sans-serif", "font-size": fontSize, "font-weight": fontWeight, fill: plain(color) }, cut);
  };
  const drawn = [...frame.querySelectorAll(".ta-word, canvas, .ta-word > span, .ta-title, b, td, th, caption")].flatMap((element) => {
    const box = boxOf(element);
    if (box.y + box.height < 30 + 20 || box.y > height - 34 || !box.width) return [];
    if (element.nodeName === "CANVAS") return shape("image", { ...box, href: element.toDataURL() });
    if (!element.matches(".ta-word")) return text(element.textContent, element, box);
    const { backgroundColor, borderColor, borderStyle } = getComputedStyle(element);
    return shape("rect", { ...box, rx: 8, fill: plain(backgroundColor), stroke: plain(borderColor), "stroke-dasharray": borderStyle === "solid" ? null : "4 3" });
  });
  const lines = frame === parts.lists ? parts.lines.cloneNode(true) : shape("g", {});
  const originals = parts.lines.querySelectorAll("*");
  lines.querySelectorAll("*").forEach((element, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of INLINED) element.setAttribute(name, /^(fill|stroke)$/.test(name) ? plain(style[name]) : style.getPropertyValue(name));
  });
  for (const hit of lines.querySelectorAll(".ta-hit")) hit.remove();
  lines.setAttribute("y", 30);
  const row = (inside, y) => text(inside, root, { x: 0, y, width, height: 30 });
  const title = [data.title, now.layer.name, now.head === now.one ? headName(now.layer, now.one) : `${now.head} of heads`].join(", ");
  return shape("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` }, shape("title", {}, data.title),
    shape("rect", { width, height, fill: plain(getComputedStyle(root).backgroundColor) }), row(title, 0), lines, drawn, row(parts.live.textContent, height - 30));
}

const svgFile = (view) => new Blob([new XMLSerializer().serializeToString(asSvg(view))], { type: "image/svg+xml" });

function save(view, name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  view.root.append(link); // some browsers want it in the document
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function savePng(view) {
  const image = make("img", { src: URL.createObjectURL(svgFile(view)) });
  await image.decode();
  const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(view, "attention.png", blob));
  URL.revokeObjectURL(image.src);
}

const say = (view, text) => (view.parts.live.textContent = view.parts.said.textContent = text);

const SAVES = {
  SVG: (view) => save(view, "attention.svg", svgFile(view)),
  PNG: savePng,
  "Save state": (view) => save(view, "attention.json", new Blob([JSON.stringify({ viewer: "tinyattn", state: Object.fromEntries(kept(view)) })])),
};

// ---- choosing

/** Selects a query; the same once more clears. */
function pickQuery(view, place) {
  if (rowAt(view.now.layer, place) < 0) return say(view, `“${view.now.asks[place]}” doesn't ask in this layer.`);
  view.preview = null;
  set(view, { selected: view.state.selected === place ? null : place });
}

function pickKey(view, place, isFar) {
  view.focus.keys = place;
  set(view, { key: view.state.key === place && !isFar ? null : place });
  if (view.state.show === "lines") bringIntoView(view, "keys", place);
}

function preview(view, place) {
  if (view.preview === place) return;
  view.preview = place;
  refresh(view);
}

/** Moves the focus to a word. */
function moveTo(view, name, place) {
  const n = view.now[name].length;
  if (!n) return;
  view.focus[name] = clamp(place, 0, n - 1);
  bringIntoView(view, name, view.focus[name]);
  drawMoved(view);
  view.elements[name].get(view.focus[name]).focus({ preventScroll: !view.layout.isRows });
}

function moveHead(view, by) {
  const all = [...headsOf(view), ...(headsOf(view).length > 1 ? ["mean", "all"] : [])];
  set(view, { head: all.at((all.indexOf(view.now.head) + by) % all.length) });
}

const moveLayer = (view, by) => set(view, { layer: clamp(view.now.at + by, 0, view.now.layers.length - 1) });
const turn = (view) => set(view, { back: !view.state.back, ...oneHead(view) });
const showOr = (view, show) => set(view, { show: view.state.show === show ? "lines" : show });

/** Keys, what they do, and the words of the help. */
const KEYS = [
  [["["], "layer before", (view) => moveLayer(view, -1)],
  [["]"], "layer after", (view) => moveLayer(view, 1)],
  [[",", "-"], "head before", (view) => moveHead(view, -1)],
  [[".", "+", "="], "head after", (view) => moveHead(view, 1)],
  [["a"], "all heads at once", (view) => set(view, { head: "all", back: false })],
  [["m"], "the mean of all heads", (view) => set(view, { head: "mean", back: false })],
  [["g"], "the grid of all layers and heads", (view) => showOr(view, "grid")],
  [["t"], "as a table", (view) => showOr(view, "table")],
  [["b"], "turn the lines round: gradients", turn],
  [["Delete"], "cut the line to the word that has the focus", (view, word) => word?.name === "keys" && cutLine(view, word.place)],
  [["Escape"], "clear the selection", (view) => (view.preview = null) ?? set(view, { selected: null, key: null })],
  [["?"], "this help", (view) => view.parts.help.showModal()],
];
const WORD_KEYS = [["arrows", "word before and after; across: the other row or column"], ["Home End", "first and last word"], ["Enter Space", "select the word; once more clears"]];

function keyDown(view, event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || view.parts.help.open || !view.now.layer || target.matches("[type=text], select")) return;
  const word = wordAt(view, target);
  const action = word ? wordAction(view, key, word) : target.role === "tab" && tabAction(view, key, target);
  const entry = KEYS.find(([keys]) => keys.includes(key));
  if (!action && !entry) return;
  event.preventDefault();
  event.stopPropagation(); // a notebook has keys of its own
  if (action) action();
  else entry[2](view, word);
}

function wordAt({ parts }, target) {
  const element = target.closest?.(".ta-word");
  return element && { element, place: Number(element.dataset.place), name: parts.keys.contains(element) ? "keys" : "queries" };
}

function queryAt(view, target) {
  const word = wordAt(view, target);
  return word?.name === "queries" ? word.place : null;
}

function wordAction(view, key, { name, place }) {
  const { layout, now, focus } = view;
  const to = (list, at) => () => moveTo(view, list, at);
  const across = name === "keys" ? to("queries", now.place ?? focus.queries) : to("keys", focus.keys);
  const [before, after] = [to(name, place - 1), to(name, place + 1)];
  const pick = () => (name === "keys" ? pickKey : pickQuery)(view, place);
  const arrows = layout.isRows
    ? { ArrowLeft: before, ArrowRight: after, ArrowUp: across, ArrowDown: across }
    : { ArrowUp: before, ArrowDown: after, ArrowLeft: across, ArrowRight: across };
  return { ...arrows, Home: to(name, 0), End: to(name, Infinity), Enter: pick, " ": pick }[key];
}

function tabAction({ parts }, key, tab) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
  const tabs = [...parts.tabs.children];
  return by && (() => tabs.at((tabs.indexOf(tab) + by) % tabs.length).focus());
}

// ---- start

const darkness = matchMedia("(prefers-color-scheme: dark)");

function drawTools(view) {
  const { now, state, parts, root } = view;
  const { jpThemeLight, vscodeThemeKind = "" } = document.body.dataset; // a notebook's own theme
  const isDark = jpThemeLight ? jpThemeLight === "false" : /dark/.test(vscodeThemeKind) || (!vscodeThemeKind && darkness.matches);
  root.dataset.theme = state.theme === "auto" ? (isDark ? "dark" : "light") : state.theme;
  const next = (name, all) => button("", `${name}: ${state[name]}`, () => set(view, { [name]: all.at((all.indexOf(state[name]) + 1) % 3) }));
  fill(parts.theme, next("theme", ["auto", "light", "dark"]));
  if (!now.layer) return;
  const heads = headsOf(view).map((head) => [head, headName(now.layer, head), now.head === "all" && signOf(head)]);
  if (heads.length > 1) heads.push(["mean", "mean"], ["all", "all"]);
  fill(parts.tools,
    now.layers.length > 1 && chooser("Layer", now.layers.map(({ name }, at) => [at, name]), now.at, (layer) => set(view, { layer }), 4),
    heads.length > 1 && chooser("Head", heads, now.head, (head) => set(view, { head, back: state.back && Number.isInteger(head) }), 10),
    make("div.choice", toggle("Grid", state.show === "grid", () => showOr(view, "grid")), toggle("As a table", state.show === "table", () => showOr(view, "table")),
      toggle("Gradients", state.back, () => turn(view)), next("layout", ["auto", "rows", "columns"])));
}

/** Shows the state: what follows from it first, then all parts anew. */
function refresh(view) {
  const { root, parts } = view;
  const focused = document.activeElement;
  const wasInside = root.contains(focused);
  derive(view);
  drawTools(view);
  drawPanel(view);
  drawPicture(view);
  parts.said.textContent = "";
  if (wasInside && !focused.getClientRects().length) root.focus({ preventScroll: true }); // or keys would go elsewhere
  keepState(view);
}

function build(view) {
  const { data, parts, isPage } = view;
  const part = (name, element) => (parts[name] = element);
  const list = (name, title) => [part(`${name}Title`, make(`span.title.${name}`, title)), part(name, make(`div.list.${name}`, make("div", { ariaLabel: title })))];
  const openFile = async ({ target }) => {
    const text = await target.files[0].text();
    load(view, () => JSON.parse(text).state);
  };
  const file = make("input.unseen", { type: "file", accept: ".json", onchange: openFile, ariaLabel: "Open a saved state" });
  const copy = () => navigator.clipboard?.writeText(location.href).then(() => say(view, "The link is copied."));
  const help = part("help", make("dialog.help", { ariaLabel: "Keys" }, make("h2", "Keys, while the focus is in the viewer"),
    make("dl", [...WORD_KEYS, ...KEYS].map(([keys, text]) => [make("dt", make("kbd", [keys].flat().join(" "))), make("dd", text)])),
    button("", "Close", () => help.close())));
  part("lines", shape("svg", { class: "ta-lines", "aria-hidden": true }));
  return make(`section.view${isPage ? ".page" : ""}`, { ariaLabel: data.title || "Attention", dir: "ltr", lang: "en", tabIndex: -1 },
    make("div.header", make(isPage ? "h1" : "h2", { dir: "auto" }, data.title || "Attention"), make("div.choice.menu",
      Object.entries(SAVES).map(([text, action]) => button("", text, () => action(view))), make("label.button", "Open state", file),
      isPage && button("", "Copy link", copy), part("theme", make("span")), button("", "Keys ?", () => help.showModal()))),
    part("tools", make("div.tools")), (data.notes ?? []).map((note) => make("p.note", note)),
    make("div.body", make("div.main",
      part("picture", make("div.picture", part("lists", make("div.lists", list("queries", "queries: who asks"), list("keys", "keys: who is looked at"), parts.lines)))),
      part("other", make("div.other")), part("told", make("div.told")), part("said", make("p.said")), part("live", make("p.unseen", { ariaLive: "polite" }))),
      make("div.side", part("tabs", make("div.tabs")), part("panel", make("div.panel", { role: "tabpanel", tabIndex: 0 })))),
    help);
}

function listen(view) {
  const { root, parts } = view;
  const { lists } = parts;
  let drag = null; // while guessing: a key, dragged up for more
  root.onkeydown = (event) => keyDown(view, event);
  lists.onclick = ({ target }) => {
    const [word, hit] = [wordAt(view, target), target.closest(".ta-hit")?.dataset];
    if (drag?.hasMoved) return;
    if (word) (word.name === "keys" ? pickKey : pickQuery)(view, word.place);
    else if (hit && view.state.tab === "cut") cutLine(view, Number(hit.key), hit.head === "mean" ? "mean" : Number(hit.head));
    else if (hit) pickKey(view, Number(hit.key));
  };
  let hovered = null; // what is redrawn under a pointer at rest says that it's over it, once more
  const hover = (place) => place !== hovered && preview(view, (hovered = place));
  lists.onpointerover = ({ target, pointerType }) => pointerType === "mouse" && hover(queryAt(view, target));
  lists.onpointerleave = () => hover(null);
  lists.addEventListener("focusout", () => preview(view, null));
  lists.addEventListener("focusin", ({ target }) => {
    const word = wordAt(view, target);
    if (!word) return;
    view.focus[word.name] = word.place;
    if (target.matches(":focus-visible")) preview(view, queryAt(view, target));
  });
  lists.onpointerdown = ({ target, clientY }) => {
    const word = wordAt(view, target);
    drag = view.now.isHidden && word?.name === "keys" ? { ...word, clientY, from: view.state.guess?.[word.place] ?? 50, isDown: true } : null;
  };
  lists.onpointermove = ({ clientY, buttons }) => {
    if (!drag || !buttons) return;
    drag.hasMoved ||= Math.abs(drag.clientY - clientY) > 4;
    if (drag.hasMoved) setGuess(view, drag.place, drag.from + (drag.clientY - clientY) / 2);
  };
  for (const name of ["queries", "keys"]) parts[name].onscroll = () => (view.frame ??= requestAnimationFrame(() => {
    view.frame = null;
    if (view.layout && view.now.layer) drawMoved(view);
  }));
}

/** anywidget's way in: fills `el` with the viewer of the model's "data", and returns what cleans up. */
function render({ model, el }) {
  const isPage = !model.save_changes && !document.querySelector(".ta-view") && window.parent === window;
  const view = { isPage, parts: {}, runs: new Map(), gradients: new WeakMap(), undo: [], preview: null };
  const resizes = new ResizeObserver(() => view.width !== (view.width = view.root.clientWidth) && refresh(view));
  const redraw = () => refresh(view);
  const readHash = () => location.hash.slice(1) !== hashOf(view) && load(view, fromHash);
  const start = () => {
    Object.assign(view, { data: model.get("data"), engine: model.get("engine"), focus: { queries: 0, keys: 0 }, elements: { queries: new Map(), keys: new Map() } });
    view.start = startOf(view);
    view.root?.remove();
    view.root = build(view);
    view.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's
    el.append(view.root);
    listen(view);
    load(view, () => (isPage ? fromHash() : view.state ?? {}));
    resizes.disconnect();
    resizes.observe(view.root);
  };
  start();
  model.on?.("change:data", start);
  darkness.addEventListener("change", redraw);
  if (isPage) window.addEventListener("hashchange", readHash);
  return () => {
    stop(view);
    clearTimeout(view.keeping);
    resizes.disconnect();
    model.off?.("change:data", start);
    darkness.removeEventListener("change", redraw);
    window.removeEventListener("hashchange", readHash);
    view.root.remove();
  };
}

export default { render };
