// The attention viewer: words, lines as thick as the weights between them, and panels that take the weights apart.
//
// A "query" is a word that asks, a "key" one that is looked at; a word's "place" is its number in the text. The numbers
// of one query are a "row". Arrays are { shape, values }: heads × rows × columns.

// ---- numbers

const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);
const greatest = (numbers) => numbers.reduce((most, x) => (x > most ? x : most), -Infinity);
const clamp = (x, least, most) => Math.max(least, Math.min(most, x));
const upTo = (n) => Array.from({ length: n }, (_, i) => i);
const strongest = (values) => values.reduce((best, x, i) => (x > values[best] ? i : best), 0);
const sizeOf = (values) => Math.max(0, greatest(Array.from(values, Math.abs).filter(Number.isFinite)));
const ranked = (places, values) => places.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
const chief = (values, n) => ranked(upTo(values.length), values).slice(0, n).sort((a, b) => a - b);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function short(x, digits = 4) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "−∞";
  const isPlain = x === 0 || (Math.abs(x) >= 1e-4 && Math.abs(x) < 10 ** digits);
  return (isPlain ? `${Number(x.toPrecision(digits))}` : x.toExponential(digits - 1)).replaceAll("-", "−");
}

const signed = (x, digits = 3) => (x > 0 ? "+" : "") + short(x, digits);
const share = (x) => (Number.isFinite(x) ? x.toFixed(2).replace("-", "−") : short(x));
const percent = (x) => `${Math.round(100 * x)} percent`;

/** Weights from scores; what the mask hides gets none. ∞ and NaN spoil the row, as they do in every softmax. */
function softmax(scores, mask) {
  const open = Array.from(scores, (s, k) => (mask && !mask[k] ? -Infinity : s));
  const top = greatest(open.filter((s) => s < Infinity));
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

const divergence = (p, q) => sum(Array.from(p, (x, k) => x && x * Math.log(x / q[k]))); // KL(p ‖ q) in nats

// ---- arrays

const STORES = { float64: Float64Array, float32: Float32Array, float16: Uint16Array, uint8: Uint8Array };

function fromHalf(bits) {
  const [power, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = power > 30 ? (fraction ? NaN : Infinity) : power ? 2 ** (power - 25) * (1024 + fraction)
    : fraction / 2 ** 24;
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
const ARRAYS = ["weights", "mask", "scores", "query", "key", "value", "d_weights"];

function open(layer) {
  const withArray = (all, name) => ({ ...all, [name]: decoded(layer[name]) });
  return remembered(opened, layer, () => ARRAYS.reduce(withArray, layer));
}

/** A row of an array; an axis of length 1 serves for all. */
function rowOf({ shape: [heads, rows, columns], values }, head, row) {
  const start = ((heads > 1 ? head : 0) * rows + (rows > 1 ? row : 0)) * columns;
  return values.subarray(start, start + columns);
}

const headCount = (layer) => layer.weights.shape[0];
const headName = (layer, head) => layer.heads?.[head] ?? `head ${head + 1}`;
const headTitle = (layer, head) => `${layer.name}, ${headName(layer, head)}`;
const maskOf = (layer, head, row) => layer.mask && rowOf(layer.mask, head, row);
const rowAt = (layer, place) => (layer.asking ? layer.asking.indexOf(place) : place);
const placeAt = (layer, row) => layer.asking?.[row] ?? row;
const scaleOf = (layer) => layer.scale ?? 1 / Math.sqrt(layer.query?.shape[2] ?? 1);
/** Query vectors may be given for all words, or for those that ask alone. */
const queryOf = (layer, head, row) =>
  layer.query && layer.key && rowOf(layer.query, head, layer.query.shape[1] === layer.weights.shape[1] ? row
    : placeAt(layer, row));

function scoresOf(layer, head, row) {
  const query = queryOf(layer, head, row);
  if (layer.scores) return rowOf(layer.scores, head, row);
  if (!query) return Array.from(rowOf(layer.weights, head, row), Math.log);
  return upTo(layer.weights.shape[2]).map((k) => dot(query, rowOf(layer.key, head, k)) * scaleOf(layer));
}

// ---- words

const SIGNS = { "": "∅", " ": "␣", "\n": "⏎", "\t": "⇥" };

/** A token as it's shown: what would be blank has a sign, control characters have their pictures. */
const shown = (token) =>
  token.replace(/[\u007f\ufffe\uffff]/g, "�").replace(/^ +| +$|[\n\t]/g, (blank) =>
    Array.from(blank, (c) => SIGNS[c]).join(""))
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))) || SIGNS[token];
const spoken = (token) => token.trim() || "blank";

const remembered = (memory, key, found) => (memory.has(key) || memory.set(key, found(key)), memory.get(key));
const shownBefore = new WeakMap();
const allShown = (tokens) => remembered(shownBefore, tokens, () => tokens.map(shown));

const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const widths = new Map();

const widthOf = (word) => remembered(widths, word, () => {
  brush.font = "100px system-ui, sans-serif";
  return brush.measureText(word).width / 100;
});

function colourOf(css) {
  brush.clearRect(0, 0, 1, 1);
  brush.fillStyle = css;
  brush.fillRect(0, 0, 1, 1);
  return [...brush.getImageData(0, 0, 1, 1).data];
}

function plain(css) {
  const [r, g, b, a] = colourOf(css === "none" ? "transparent" : css);
  return a ? `rgb(${r},${g},${b})` : "none";
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
  const [old, fresh] = [element, make("div", children)].map((parent) => [...parent.childNodes]);
  fresh.forEach((child, i) => (old[i] ? become(old[i], child) : element.append(child)));
  for (const extra of old.slice(fresh.length)) extra.remove();
}

const button = (what, text, onclick, more = {}) => make(`button${what}`, { type: "button", onclick, ...more }, text);
const toggle = (text, isOn, onclick) => button("", text, onclick, { ariaPressed: `${isOn}` });
const tick = (text, checked, onchange) =>
  make("label.tick", make("input", { type: "checkbox", checked, onchange }), text);
const hint = (...text) => make("p.how", text);

function slider(label, min, max, step, value, change) {
  const oninput = (event) => change(Number(event.target.value));
  return make("input", { type: "range", min, max, step, value: `${value}`, ariaLabel: label, oninput });
}

/** Buttons of which one is pressed, or a list where they would be many. `options`: [value, text, sign]. */
function chooser(label, options, chosen, choose, most = 9) {
  const title = make("span.label", label);
  if (options.length <= most) {
    return make("div.choice", { role: "group", ariaLabel: label }, title,
      options.map(([value, text, sign]) => toggle([sign, text], value === chosen, () => choose(value))));
  }
  const list = options.map(([value, text]) => make("option", { selected: value === chosen }, text));
  return make("label.choice", title, make("select",
    { onchange: ({ target }) => choose(options[target.selectedIndex][0]) }, list));
}

/** A table with a row for each item. `columns`: [title, item => what the cell holds]; the first are headings. */
function table(caption, items, columns) {
  const [first, ...others] = columns.filter(Boolean);
  const cell = (inside) => (inside.nodeName === "TD" ? inside : make("td", inside));
  const line = (item) => make("tr", make("th", { scope: "row" }, first[1](item)),
    others.map(([, of]) => cell(of(item))));
  return make("div.scroll", { tabIndex: 0, role: "group", ariaLabel: caption },
    make("table.table", make("caption", caption),
    make("thead", make("tr", [first, ...others].map(([title]) => make("th", { scope: "col" }, title)))),
      make("tbody", items.map(line))));
}

const toneOf = (x) => (x < 0 ? "ta-minus" : "ta-plus");
const heated = (x, most, text) =>
  make("td", { className: `ta-heat ${toneOf(x)}`, style: `--share: ${Math.abs(x) / most || 0}` }, text);

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

function plot(title, curve, name, step, jumps) {
  const most = greatest(curve.map((point) => point[name])) || 1;
  const x = (point) => (4 + (392 * point.step) / (curve.at(-1).step || 1)).toFixed(1);
  const y = (point) => (86 - (66 * point[name]) / most).toFixed(1);
  const here = curve.reduce((best, point) => (Math.abs(point.step - step) < Math.abs(best.step - step) ? point : best));
  const told = `${title} ${short(here[name], 3)}`;
  return shape("svg", { viewBox: "0 0 400 90", class: "ta-plot", role: "img", "aria-label": told },
    jumps.map((jump) => shape("path", { class: "ta-jump", d: `M${x(jump)} 18V90` })),
    shape("path", { class: "ta-curve", d: `M${curve.map((point) => `${x(point)} ${y(point)}`).join("L")}` }),
    shape("circle", { class: "ta-dot", cx: x({ step }), cy: y(here), r: 6 }),
      shape("text", { class: "ta-small", x: 4, y: 13 }, told));
}

/** A heat map of a head; where there are more numbers than pixels, a pixel shows the greatest. */
function paint(canvas, closed, head, style) {
  const layer = open(closed);
  const [, rows, columns] = layer.weights.shape;
  if (!rows || !columns) return;
  const [height, width] = [Math.min(rows, 104), Math.min(columns, 104)];
  Object.assign(canvas, { width, height });
  const [mark, masked] = ["--mark", "--rule"].map((name) => colourOf(style.getPropertyValue(name)));
  const most = new Float64Array(width * height).fill(-Infinity); // masked
  for (let row = 0; row < rows; row++) {
    const [weights, mask] = [rowOf(layer.weights, head, row), maskOf(layer, head, row)];
    const start = Math.floor((row * height) / rows) * width;
    for (let k = 0; k < columns; k++) {
      const at = start + Math.floor((k * width) / columns);
      if ((!mask || mask[k]) && !(weights[k] <= most[at])) most[at] = Number.isNaN(weights[k]) ? Infinity : weights[k];
    }
  }
  const pixels = new ImageData(width, height);
  const colour = (x) => (x === Infinity ? [224, 0, 0, 255] : x < -1e9 ? masked
    : [...mark.slice(0, 3), 255 * clamp(x, 0, 1) ** 0.7]);
  most.forEach((x, i) => pixels.data.set(colour(x), 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// ---- curves

const THICKEST = 16; // px for a weight of 1
const [FAINTEST, LABELLED] = [0.01, 0.1]; // the least weights with a line, with a numeral
// Okabe and Ito's colours, which everybody tells apart; dashes and numerals say the same without colour.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a", "#a89a00"];
const DASHES = [null, "14 5", "4 4", "16 4 3 4", "8 3", "2 3", "20 3 8 3", "10 10"];
const inkOf = (head) => ({ stroke: COLOURS[head % 8], "stroke-dasharray": DASHES[head % 8] });
const signOf = (head) =>
  shape("svg", { width: 26, height: 10, class: "ta-sign", "aria-hidden": true },
    shape("path", { d: "M0 5h26", "stroke-width": 4, ...inkOf(head) }));

function pointAt(curve, t) {
  const u = 1 - t;
  const mix = (...factors) => [0, 1].map((axis) => sum(curve.map((point, i) => factors[i] * point[axis])));
  const [x, y] = mix(u ** 3, 3 * t * u * u, 3 * t * t * u, t ** 3);
  const [dx, dy] = mix(-u * u, u * u - 2 * t * u, 2 * t * u - t * t, t * t);
  const length = Math.hypot(dx, dy) || 1;
  const shifted = (by, aside) => [x + (by * dx - aside * dy) / length, y + (by * dy + aside * dx) / length].map((z) =>
    z.toFixed(1));
  return { x, y, shifted };
}

function outlineOf(curve, width) {
  const side = (by) => upTo(33).map((i) => pointAt(curve, i / 32).shifted(0, by));
  return `M${[...side(width / 2), ...side(-width / 2).reverse()].join("L")}Z`;
}

function arrowOf(curve, tone) {
  const { shifted } = pointAt(curve, 0.04);
  return shape("path", { class: `ta-arrow ${tone}`, d: `M${shifted(-6, 0)}L${shifted(9, 8)}L${shifted(9, -8)}Z` });
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
    return [shape("circle", { class: "ta-bead", cx: free.x, cy: free.y, r: 9.5, stroke: COLOURS[head % 8] }),
      shape("text", { class: "ta-numeral", x: free.x, y: free.y + 4.5, "text-anchor": "middle" }, numeral)];
  });
}

// ---- state

/** All that links and files keep, as it is before anybody chose. */
const START = {
  show: "lines", theme: "auto", layer: 0, head: 0, tab: null, // show: or "grid", "table"; head: or "mean", "all"
  selected: null, key: null, back: false, gradient: "d_scores", // places; whether lines show gradients, and which
  text: null, pronoun: null, answer: null, snapshot: null, outlines: true, // for the engine; null: the end of training
  tweak: null, // { layer, head, row, heat: factor of √d_k, by: { key: what its score gains } }
  guess: null, revealed: false, cutHeads: [], cutLines: [], // { key: 0 to 100 }; [layer, head], [layer, head, row, key]
};
const isFit = ([name, value]) => name in START && Array.isArray(value) === Array.isArray(START[name])
  && (name !== "tweak" || value.by);
const fromHash = () => Object.fromEntries([...new URLSearchParams(location.hash.slice(1))].map(([name, text]) =>
  [name, JSON.parse(text)]));

const darkness = matchMedia("(prefers-color-scheme: dark)");
const [LINE, GAP, HEADING] = [34, 6, 26]; // px
const boxWidth = (word, size) => clamp(widthOf(word) * size + 24, 58, 10 * size);

/** anywidget's way in: fills `el` with the viewer of the model's "data"; returns what cleans up. */
function render({ model, el }) {
  const isPage = !model.save_changes && !document.querySelector(".ta-view") && window.parent === window;
  const [parts, runs, gradientsOfRuns, undo] = [{}, new Map(), new WeakMap(), []];
  let data, engine, start, state; // what is given; what stays of START and what was chosen
  let now, layout; // what follows from them
  let asked, reading; // the sentence, and the last that could be read
  let focus, elements; // for each list, the place that the Tab key reaches, and its words by place
  let [preview, checks, playing, keeping, painted, brought, frame, lastWidth] = [null];

  // ---- state

  const kept = () => Object.entries(state).filter(([name, value]) => !same(value, start[name]));
  const hashOf = () => String(new URLSearchParams(kept().map(([name, value]) => [name, JSON.stringify(value)])));

  function startOf() {
    if (!engine) return START;
    const text = data.queries.join(" ").replace(/ ([.,;:!?])/g, "$1");
    const head = headCount(data.layers.at(-1)) > 1 ? "mean" : 0;
    return { ...START, text: engine.read(text).problem ? engine.examples[0] : text, layer: data.layers.length - 1,
      head, tab: "edit" };
  }

  function load(read) {
    stop();
    try {
      state = { ...start, ...Object.fromEntries(Object.entries(read()).filter(isFit)) };
      refresh();
    } catch {
      state = { ...start };
      refresh();
      say("This is no state that can be shown here.");
    }
  }

  function set(changes) {
    Object.assign(state, changes);
    refresh();
  }

  /** Writes the state into the address, a moment later: browsers allow that only so often. */
  function keepState() {
    clearTimeout(keeping);
    if (isPage) keeping = setTimeout(() =>
      location.hash.slice(1) === hashOf() || history.replaceState(null, "", `#${hashOf()}`), 250);
  }

  // ---- what follows from it

  function runOf(options) {
    const name = JSON.stringify([reading.words, reading.pronoun, options]);
    if (runs.size > 80) runs.clear();
    return remembered(runs, name, () => engine.run(reading.words, reading.pronoun, options));
  }

  const lastMoment = () => (engine.snapshots?.length ?? 1) - 1;
  const moment = () => clamp(state.snapshot ?? Infinity, 0, lastMoment());
  const options = (more = {}) =>
    ({ ...(moment() < lastMoment() && { snapshot: moment() }), cutHeads: state.cutHeads, cutLines: state.cutLines,
    ...more });
  const nudged = (nudges) => (nudges.length ? runOf(options({ nudge: nudges })) : now.base);

  function derive() {
    now = { queries: data.queries, keys: data.keys ?? data.queries, layers: data.layers };
    if (engine) {
      asked = engine.read(state.text);
      if (!asked.problem) reading = asked;
      reading ??= engine.read(engine.examples[0]);
      if (reading.pronouns?.includes(state.pronoun)) reading = { ...reading, pronoun: state.pronoun };
      now.queries = now.keys = reading.words;
      now.run = now.base = runOf(options()); // the base is without the reader's changes of scores
      now.layers = now.base.layers;
    }
    [now.asks, now.names] = [now.queries, now.keys].map(allShown);
    if (!now.layers.length) return;
    now.at = clamp(state.layer, 0, now.layers.length - 1);
    deriveTweak();
    const layer = (now.layer = open(now.layers[now.at]));
    const nHeads = headCount(layer);
    now.head = Number.isInteger(state.head) ? clamp(state.head, 0, nHeads - 1) : nHeads > 1 ? state.head : 0;
    now.one = Number.isInteger(now.head) ? now.head : 0; // where it must be one
    // Shown is the query under the pointer or the focus, else the selected one, else the only one that asks.
    const only = layer.weights.shape[1] === 1 && now.queries.length ? placeAt(layer, 0) : null;
    now.place = [preview, state.selected, only].find((place) =>
      place in now.queries && rowAt(layer, place) >= 0) ?? null;
    now.row = now.place === null ? null : rowAt(layer, now.place);
    now.key = state.key in now.keys ? state.key : null;
    now.isHidden = state.tab === "predict" && !state.revealed;
    if (now.row !== null) Object.assign(now, rowShown(now.head, now.row));
  }

  function deriveTweak() {
    const { tweak } = state;
    const layer = tweak && now.layers[tweak.layer] && open(now.layers[tweak.layer]);
    if (!layer || tweak.head >= headCount(layer) || tweak.row >= layer.weights.shape[1]) return;
    const [scores, mask] = [scoresOf, maskOf].map((of) => of(layer, tweak.head, tweak.row));
    const changed = Array.from(scores, (s, k) => (s + (tweak.by[k] ?? 0)) / tweak.heat);
    const nudges = changed.map((s, key) =>
      ({ ...tweak, query: tweak.row, key, by: s - scores[key] })).filter(({ by }) => by);
    now.tweak = { ...tweak, changed, nudges, weights: softmax(changed, mask) };
    if (engine) now.layers = (now.run = nudged(now.tweak.nudges)).layers;
  }

  const isTweaked = (head, row) => now.tweak?.layer === now.at && now.tweak.head === head && now.tweak.row === row;
  const weightsOf = (head, row) => (isTweaked(head, row) ? now.tweak.weights : rowOf(now.layer.weights, head, row));
  const heads = () => upTo(headCount(now.layer));
  const ofOne = (of, layer = now.layer) => of(layer, now.one, now.row);

  function rowShown(head, row) {
    const some = Number.isInteger(head) ? [head] : heads();
    const [rows, masks] = [some.map((h) => weightsOf(h, row)), some.map((h) => maskOf(now.layer, h, row))];
    const weights = some.length === 1 ? rows[0] : now.keys.map((_, k) => sum(rows.map((row) => row[k])) / rows.length);
    return { weights, open: now.keys.map((_, k) => masks.some((mask) => !mask || mask[k])) };
  }

  const wanted = () => (now.run.answers.find(({ word }) => word === state.answer) ?? now.run.answers[0])?.word;
  const gradients = () => (now.gradients ??= engine?.gradients && wanted() ? gradientsOfAnswer(wanted())
    : gradientsOfRow());

  const gradientsOf = (run, word) => remembered(remembered(gradientsOfRuns, run, () => new Map()), word, () =>
    engine.gradients(run, word));

  function gradientsOfAnswer(word) {
    const { loss, layers } = gradientsOf(now.run, word);
    const [d_weights, d_scores] = ["d_weights", "d_scores"].map((name) => ofOne(rowOf, layers[now.at][name]));
    return { d_weights, d_scores, about: `loss = −log p(${word}) = ${short(loss)}` };
  }

  function gradientsOfRow() {
    const weights = weightsOf(now.one, now.row);
    const given = now.layer.d_weights && ofOne(rowOf, now.layer.d_weights);
    const key = now.key ?? strongest(weights);
    const d_weights = given ?? Array.from(weights, (w, k) => (k === key ? -1 / w : 0));
    const about = given ? "d_weights were given; L = Σ d_weights · weights of this row"
      : `loss = −log(weight of ${named(key)}) = ${short(-Math.log(weights[key]))}; click a key for another`;
    return { d_weights, d_scores: softmaxBackward(weights, d_weights), about, lossOf: (w) =>
      (given ? dot(given, w) : -Math.log(w[key])) };
  }

  // ---- where words stand

  /** Two rows where both fit, else two columns, which scroll. */
  function layOut() {
    const width = parts.picture.clientWidth || 800;
    const room = window.innerHeight * (width < 600 ? 0.55 : 0.62);
    const longest = Math.max(now.asks.length, now.names.length, 1);
    const fits = (size) => [now.asks, now.names].every((words) =>
      sum(words.map((word) => boxWidth(word, size) + GAP)) - GAP <= width);
    const size = longest <= 80 && width > 480 && [28, 24, 20, 17, 15].find(fits); // of letters
    if (size) return { isRows: true, size, width, height: clamp(room, 280, 480) };
    const wide = clamp(greatest(now.asks.concat(now.names).map(widthOf)) * 18 + 84, 110, Math.min(300, width * 0.38));
    const [middle, half] = [width / 2, Math.min(width, 1000) / 2];
    return { size: 18, width, height: Math.min(longest * LINE, Math.max(240, room)) + HEADING, wide,
      left: { queries: middle - half, keys: middle + half - wide } };
  }

  /** Where a word's lines start or end in the picture. */
  function endOf(name, place) {
    const [isQuery, { offsetTop, scrollTop }] = [name === "queries", parts[name]];
    if (!layout.isRows) return [layout.left[name] + (isQuery ? layout.wide : 0),
      HEADING + place * LINE + LINE / 2 - 2 - scrollTop];
    const { offsetLeft, offsetWidth, offsetHeight } = elements[name].get(place);
    return [offsetLeft + offsetWidth / 2, offsetTop + (isQuery ? offsetHeight : 0)];
  }

  /** The places of a list that can be seen, and the one that the Tab key reaches. */
  function placesSeen(name) {
    const all = upTo(now[name].length);
    if (layout.isRows) return all;
    const { scrollTop, clientHeight } = parts[name];
    const [first, end] = [Math.floor(scrollTop / LINE) - 3, Math.ceil((scrollTop + clientHeight) / LINE) + 3];
    return all.filter((place) => place === focus[name] || (place >= first && place < end));
  }

  function bringIntoView(name, place) {
    const [list, top] = [parts[name], place * LINE];
    const isSeen = layout.isRows || (top >= list.scrollTop && top + LINE <= list.scrollTop + list.clientHeight);
    if (!isSeen) list.scrollTop = top - (list.clientHeight - LINE) / 2;
  }

  // ---- words

  function notes() {
    if (now.row === null) return () => ({});
    if (now.isHidden) return ((guess) => (k) => ({ text: share(guess[k]), share: guess[k] }))(guessed());
    if (state.back) {
      const values = gradients()[state.gradient];
      const most = sizeOf(values);
      return (k) => ({ text: signed(values[k], 2), share: Math.abs(values[k]) / most || 0, tone: toneOf(values[k]) });
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
  function drawWords(name) {
    const [isQuery, list, words] = [name === "queries", parts[name].firstChild,
      name === "queries" ? now.asks : now.names];
    const noteOf = isQuery ? () => ({}) : notes();
    const seen = placesSeen(name);
    for (const [place, element] of elements[name]) {
      if (!seen.includes(place)) elements[name].delete(place, element.remove());
    }
    let next = list.firstChild;
    for (const place of seen) {
      const element = remembered(elements[name], place, () =>
        make("div.word", { role: "option" }, make("span.text", { dir: "auto" }), make("span.number")));
      if (element === next) next = next.nextSibling;
      else list.insertBefore(element, next);
      const { text = "", tone = "", share = 0 } = noteOf(place);
      Object.assign(element, {
        className: `ta-word ${tone} ${isQuery && place === now.place ? "ta-asking" : ""}`,
        title: words[place], ariaLabel: `${words[place]} ${text}`, tabIndex: place === focus[name] ? 0 : -1,
        ariaSelected: `${place === (isQuery ? state.selected : now.key)}`,
          ariaDisabled: isQuery && rowAt(now.layer, place) < 0 ? "true" : null,
        ariaPosInSet: place + 1, ariaSetSize: words.length,
        style: `--share:${share};${layout.isRows ? `width:${boxWidth(words[place], layout.size)}`
          : `top:${place * LINE}`}px`,
      });
      element.dataset.place = place;
      [element.firstChild.textContent, element.lastChild.textContent] = [words[place], ` ${text}`];
    }
  }

  // ---- lines

  /** What is drawn from the query that is shown: values for each key, which of them is thickest, and outlines. */
  function strands() {
    if (now.isHidden) return [{ head: now.one, values: guessed() }];
    if (state.back) return ((values) =>
      [{ head: now.one, values, top: sizeOf(values), isBack: true }])(gradients()[state.gradient]);
    if (now.head !== "all") return [{ head: now.head, values: now.weights, outlines: outlines() }];
    return heads().map((head) => ({ head, values: weightsOf(head, now.row), numeral: `${head + 1}` }));
  }

  function curveOf(query, key, by = 0) {
    const [[x, y], [toX, toY]] = [endOf("queries", query), endOf("keys", key)];
    const [middleX, middleY] = [(x + toX) / 2, (y + toY) / 2];
    return layout.isRows ? [[x + by, y], [x + by, middleY], [toX + by, middleY], [toX + by, toY]]
      : [[x, y + by], [middleX, y + by], [middleX, toY + by], [toX, toY + by]];
  }

  const lineOf = ([first, ...others], size, more) =>
    shape("path", { d: `M${first}C${others.join(" ")}`, "stroke-width": (THICKEST * size).toFixed(2), ...more });

  function drawLines() {
    const lines = now.row === null ? [] : strands().flatMap((strand, i, { length }) =>
      linesOf(strand, (i - (length - 1) / 2) * Math.min(5, 30 / length)));
    for (const side of ["width", "height"]) parts.lines.setAttribute(side, layout[side]);
    parts.lines.replaceChildren(...lines.flatMap((line) => line.shapes), ...numerals(lines));
  }

  function linesOf({ head, values, numeral, top = 1, isBack, outlines = [] }, by) {
    const isDrawn = (k) => values[k] && Number.isFinite(values[k]) && Math.abs(values[k]) >= FAINTEST * top;
    const isOutlined = (outline, k) => Math.abs(outline.values[k] - values[k]) >= FAINTEST;
    const keys = upTo(values.length).filter((k) => isDrawn(k) || outlines.some((outline) => isOutlined(outline, k)));
    return keys.map((key) => {
      const [x, curve, tone] = [values[key], curveOf(now.place, key, by), isBack ? toneOf(values[key]) : ""];
      const size = clamp(Math.abs(x) / top || 0, 0, 1);
      const ids = { "data-key": key, "data-head": head };
      const ink = numeral ? inkOf(head) : { "stroke-dasharray": x < 0 ? "9 6" : null };
      const shapes = [
        isDrawn(key) && lineOf(curve, size, { ...ink, ...ids, opacity: (0.4 + 0.6 * size).toFixed(2),
          class: `ta-line ${tone}` }),
        isBack && isDrawn(key) && arrowOf(curve, tone),
        ...outlines.filter((outline) => isOutlined(outline, key)).map((outline) =>
          shape("path", { class: `ta-outline ta-${outline.name}`,
            d: outlineOf(curve, Math.max(2, THICKEST * outline.values[key])) })),
        lineOf(curve, 1, { ...ids, class: "ta-hit" }),
      ];
      shapes.at(-1).append(shape("title", {}, `${now.asks[now.place]} → ${now.names[key]}: ${short(x)}`));
      return { curve, numeral, size, head, shapes: shapes.filter(Boolean) };
    });
  }

  // ---- the picture, and what is said of it

  function drawPicture() {
    const isLines = now.layer && state.show === "lines";
    parts.picture.hidden = !isLines;
    parts.other.hidden = isLines;
    if (isLines) drawWhole();
    else if (!now.layer || now.isHidden) fill(parts.other,
      hint(now.layer ? "Hidden until you reveal them." : "There are no weights."));
    else if (state.show === "table") fill(parts.other, asTable());
    else drawGrid();
    fill(parts.told, now.layer && told());
    const news = now.weights && !now.isHidden ? announcement() : "";
    if (parts.live.textContent !== news) parts.live.textContent = news;
  }

  function drawWhole() {
    layout = layOut();
    const { isRows, width, height, size, left, wide } = layout;
    parts.lists.dataset.layout = isRows ? "rows" : "columns";
    parts.lists.style = `width:${width}px;height:${height}px;--size:${size}px`;
    for (const name of ["queries", "keys"]) {
      const n = now[name].length;
      parts[name].style = isRows ? ""
        : `left:${left[name]}px;width:${wide + 12}px;top:${HEADING}px;height:${height - HEADING}px`;
      parts[`${name}Title`].style = isRows ? "" : `left:${left[name]}px`;
      Object.assign(parts[name].firstChild, { role: n ? "listbox" : "note",
        style: isRows ? "" : `height:${n * LINE}px` });
      focus[name] = clamp(focus[name], 0, Math.max(0, n - 1));
    }
    const title = JSON.stringify([now.at, now.head, state.selected]);
    if (now.weights && brought !== title && preview === null && !now.isHidden) {
      bringIntoView("queries", now.place);
      bringIntoView("keys", strongest(now.weights));
      brought = title;
    }
    drawMoved();
  }

  function drawMoved() {
    drawWords("queries");
    drawWords("keys");
    drawLines();
  }

  function announcement() {
    const top = ranked(upTo(now.keys.length).filter((k) => now.weights[k] >= 0.05), now.weights).slice(0, 3);
    const news = top.map((k) => `${spoken(now.keys[k])}, ${percent(now.weights[k])}`).join("; ");
    return `${spoken(now.queries[now.place])} → ${news || "nothing that stands out"}`;
  }

  function told() {
    const { weights, open } = now;
    if (!weights) return hint(now.queries.length ? "Click a word to see what it looks at." : "There are no words.");
    const title = make("b", { dir: "auto" }, now.asks[now.place]);
    if (now.isHidden) return make("p", title, " looks where? The lines are your guess.");
    if (state.back) {
      const { about, [state.gradient]: values } = gradients();
      return [make("p", about),
        hint(`Lines are ${state.gradient}: orange and solid for +, blue and dashed for −. `,
          `The thickest is ${short(sizeOf(values), 3)}.`)];
    }
    const among = (isOne) => upTo(weights.length).filter((k) => open[k] && isOne(Math.abs(weights[k])));
    const [drawn, rest] = [ranked(among((x) => x >= FAINTEST && x < Infinity), weights), among((x) => x < FAINTEST)];
    const total = (of, name) => of.length > 0
      && `${name}: ${share(sum(of.map((k) => weights[k])))} in ${of.length} words`;
    const masked = open.filter((isOpen) => !isOpen).length;
    const remarks = [total(drawn.slice(6), "more"), total(rest, "rest"), masked && `${masked} masked`];
    const chip = (k) => button(".chip", [make("bdi", now.names[k]), ` ${share(weights[k])}`], () => pickKey(k, true));
    return [
      make("p.chips", title, " → ", drawn.slice(0, 6).map(chip), make("span", remarks.filter(Boolean).join(", "))),
      hint(`A line is as thick as its weight; under ${FAINTEST} neither lines nor numbers are shown`,
        now.head === "all" && `, under ${LABELLED} no numerals of heads`, "."),
    ];
  }

  function asTable() {
    if (!now.weights) return choose();
    const rows = [...heads(), "mean"].map((head) =>
      [head === "mean" ? head : headName(now.layer, head), rowShown(head, now.row)]);
    const listed = chief(rows.at(-1)[1].weights, 200);
    const cellOf = ({ weights, open }) => (k) => (open[k] ? short(weights[k]) : "masked");
    return table(`What ${asker()} looks at in ${now.layer.name}${some(listed)}`, listed,
      [["looked at", (k) => now.names[k]], ...rows.map(([title, row]) => [title, cellOf(row)])]);
  }

  function drawGrid() {
    const { theme } = parts.root.dataset;
    if (painted?.isConnected && painted.of === now.layers && painted.theme === theme) return;
    const rows = now.layers.map((layer, at) => {
      const maps = upTo(headCount(layer)).map((head) => {
        const canvas = make("canvas", { width: 1, height: 1 });
        setTimeout(paint, 0, canvas, layer, head, getComputedStyle(parts.root));
        return button(".map", [canvas, headName(layer, head)], () =>
          set({ layer: at, head, show: "lines" }), { ariaLabel: `Open ${headTitle(layer, head)}` });
      });
      return make("div.maps", { style: `--heads: ${maps.length}` }, make("b", layer.name), make("div.cells", maps));
    });
    painted = make("div", { of: now.layers, theme },
      hint("Rows ask, columns are looked at; grey is masked, red isn't finite."), rows);
    parts.other.replaceChildren(painted);
  }

  // ---- panels

  const PANELS = { // title, what shows it, whether it's of the row that is shown, whether it can be
    edit: ["Edit", editPanel, false, () => engine],
    steps: ["Steps", stepsPanel, true, () => true],
    back: ["Backward", backPanel, true, () => true],
    training: ["Training", trainingPanel, true, () => engine && lastMoment() > 0],
    cut: ["Cut and see", cutPanel, false, () => engine],
    predict: ["Predict", predictPanel, true, () => now.keys.length > 1 && now.keys.length <= 60],
  };
  const oneHead = () => (now.head === now.one ? {} : { head: 0 });

  function openPanel(tab) {
    stop();
    set({ tab, back: tab === "back", ...(PANELS[tab]?.[2] && oneHead()),
      ...(tab === "predict" && { revealed: false, show: "lines" }) });
  }

  function drawPanel() {
    const names = Object.keys(PANELS).filter((name) => now.layer && PANELS[name][3]());
    const tab = names.find((name) => name === state.tab);
    parts.tabs.hidden = !names.length;
    fill(parts.tabs, names.map((name) => button("", PANELS[name][0], () => openPanel(name === tab ? null : name),
      { role: "tab", ariaSelected: `${name === tab}`, tabIndex: name === (tab ?? names[0]) ? 0 : -1 })));
    parts.panel.hidden = !tab;
    if (!tab) return;
    const [title, show, isOfRow] = PANELS[tab];
    parts.panel.ariaLabel = title;
    fill(parts.panel, isOfRow && !now.weights ? choose() : show());
  }

  const choose = () => hint("Choose a word in the picture: this shows what it looks at.");
  const asker = () => `“${now.asks[now.place]}”`;
  const named = (k) => `“${now.names[k]}”`;
  const some = (listed) => (listed.length < now.keys.length ? `, the strongest of ${now.keys.length} keys` : "");
  const whose = () => hint(make("bdi", asker()), ` in ${headTitle(now.layer, now.one)}`);
  const keyLink = ["key", (k) => button(".link", now.names[k], () => pickKey(k))];
  const weightCell = ["weight", (k) => share(now.weights[k])];

  function answerBars(before) {
    const bar = (what, x) => make(what, { style: `width:${100 * clamp(x || 0, 0, 1)}%` });
    return [make("h2", "Answer"), make("ul.answers", now.run.answers.slice(0, 6).map(({ word, probability }) => {
      const was = before && (before.answers.find((answer) => answer.word === word)?.probability ?? 0);
      return make("li", make("bdi", word), make("span.track", bar("span.bar.is", probability),
        before && bar("span.bar.was", was)),
        make("span.number", before && `${share(was)} → `, share(probability)));
    }))];
  }

  function setText(text, pronoun = null) {
    const { problem, words } = engine.read(text);
    const isOther = words.length !== now.queries.length;
    const forgotten = { tweak: null, guess: null, cutLines: [], answer: null,
      ...(isOther && { selected: null, key: null }) };
    set({ text, pronoun, ...(!problem && forgotten) });
  }

  function editPanel() {
    const replaced = (word, by) =>
      state.text.replace(new RegExp(`(?<![\\p{L}\\p{N}])${word.replace(/[^\p{L}\p{N}]/gu, "\\$&")}(?![\\p{L}\\p{N}])`,
      "iu"), () => by);
    const pronouns = (reading.pronouns ?? []).map((place) => [place, `${reading.words[place]}, word ${place + 1}`]);
    return [
      make("label.field", "Sentence", make("input.sentence",
        { type: "text", value: state.text, spellcheck: false, oninput: ({ target }) => setText(target.value) })),
      make("p.problem", { role: "status" }, asked.problem),
      (asked.unknown ?? []).map(({ word, nearest }) =>
        make("p.choice", `Instead of “${word}”:`, nearest.map((by) =>
          button(".chip", by, () => setText(replaced(word, by)))))),
      pronouns.length > 1 && chooser("Who asks", pronouns, reading.pronoun, (pronoun) => setText(state.text, pronoun)),
      answerBars(), make("h2", "Examples"), make("div.examples",
        engine.examples.map((text) => button("", text, () => setText(text)))),
    ];
  }

  // -- steps

  function changeTweak(change) {
    const tweak = isTweaked(now.one, now.row) ? state.tweak
      : { layer: now.at, head: now.one, row: now.row, heat: 1, by: {} };
    set({ tweak: { ...tweak, ...change(tweak) } });
  }

  function stepsPanel() {
    const { one: head, row, weights } = now;
    const layer = open((now.base ?? now).layers[now.at]); // its scores are without the reader's changes
    const [scores, query, scale] = [ofOne(scoresOf, layer), ofOne(queryOf, layer), scaleOf(layer)];
    const { heat, by, changed } = isTweaked(head, row) ? now.tweak : { heat: 1, by: {}, changed: scores };
    const top = greatest(Array.from(changed).filter((s, k) => now.open[k] && s < Infinity));
    const isRoot = query && Math.abs(scale ** 2 * query.length - 1) < 1e-4;
    const isLog = !layer.scores && !query;
    const change = (k) => now.open[k] ? slider(`What the score of ${named(k)} gains`, -6, 6, 0.1, by[k] ?? 0, (x) =>
      changeTweak(({ by }) => ({ by: { ...by, [k]: x } }))) : "masked";
    const listed = chief(weights, 40);
    return [
      make("p.formula", `weights = softmax(q kᵀ ${isRoot || !query ? "/ √d_k" : `× ${short(scale)}`})`, make("br"),
        "mix = Σ weights · v"), whose(),
      make("label.field", `Temperature: √d_k${isRoot ? ` = ${short(1 / scale, 3)}` : ""}, × ${heat.toFixed(2)}`,
        slider("temperature, a factor of √d_k", -1, 1, 0.02, Math.log10(heat), (x) =>
          changeTweak(() => ({ heat: 10 ** x })))),
      button("", "Reset", () => set({ tweak: null }), { disabled: !state.tweak }),
      isLog && hint("No scores were given: these are the logarithms of the weights, scores up to a constant."),
      table(`From scores to weights${some(listed)}`, listed,
        [keyLink, query && ["q · k", (k) => short(dot(query, rowOf(layer.key, head, k)), 3)],
        [isLog ? "log w" : isRoot ? "÷ √d_k" : "score", (k) => short(scores[k], 3)], ["change", change],
        ["exp(s − max)", (k) => (now.open[k] ? short(Math.exp(changed[k] - top), 3) : "0")], weightCell]),
      now.run && answerBars(state.tweak && now.base), query && pairOf(layer, query, scale), layer.value && mixOf(layer),
    ];
  }

  function mixOf(layer) {
    const values = now.keys.map((_, k) => rowOf(layer.value, now.one, k));
    const mix = upTo(layer.value.shape[2]).map((i) => dot(now.weights, values.map((v) => v[i])));
    return [make("h2", "The mix, Σ weights · v"), bars(mix, "the mix"),
      make("p.numbers", mix.map((x) => short(x, 3)).join("  "))];
  }

  function pairOf(layer, query, scale) {
    const k = now.key ?? strongest(now.weights);
    const key = rowOf(layer.key, now.one, k);
    const products = Array.from(query, (x, i) => x * key[i]);
    const lines = Object.entries({ q: query, k: key, "q × k": products });
    return [
      make("h2", `q · k of ${asker()} and ${named(k)}, by dimension`),
        lines.map(([name, values]) => make("p.pair", make("b", name), bars(values, `${name} of this pair`))),
      hint(`Sum ${short(sum(products))}, scaled ${short(sum(products) * scale)}. Click a key for another pair.`),
    ];
  }

  // -- backward

  function slopeAt(key) {
    const { lossOf } = gradients();
    const scores = isTweaked(now.one, now.row) ? now.tweak.changed : ofOne(scoresOf);
    const lossAt = (by) => lossOf
      ? lossOf(softmax(Array.from(scores, (s, k) => s + (k === key && by)), ofOne(maskOf)))
      : nudged([...(now.tweak?.nudges ?? []), { layer: now.at, head: now.one, query: now.row, key,
        by }]).loss(wanted());
    return (lossAt(1e-4) - lossAt(-1e-4)) / 2e-4;
  }

  function backPanel() {
    const { d_weights, d_scores, about } = gradients();
    const of = JSON.stringify([state, now.row]);
    if (checks?.of !== of) checks = { of };
    const check = (keys) => {
      for (const k of keys) checks[k] = slopeAt(k);
      refresh();
    };
    const checked = (k) => (k in checks
      ? `${short(checks[k], 3)}, off by ${short(Math.abs(checks[k] - d_scores[k]), 1)}`
      : button("", "Check", () => check([k]), { ariaLabel: `Check ${named(k)}` }));
    const listed = chief(d_scores, 30);
    const cell = (values, most = sizeOf(values)) => (k) => heated(values[k], most, signed(values[k]));
    return [
      make("p.formula", "d_scores = weights ⊙ (d_weights − Σ d_weights · weights)"), whose(), make("p", about),
      now.run && chooser("Answer wanted", now.run.answers.map(({ word }) => [word, word]), wanted(), (answer) =>
        set({ answer }), 4),
      chooser("Lines show", ["d_scores", "d_weights"].map((name) => [name, name]), state.gradient, (gradient) =>
        set({ gradient, back: true })),
      table(`Gradients; a check nudges the score both ways${some(listed)}`, listed,
        [keyLink, weightCell, ["d_weights", cell(d_weights)], ["d_scores", cell(d_scores)], ["check", checked]]),
      button("", "Verify all", () => check(listed)), jacobian(),
    ];
  }

  /** The softmax's Jacobian, diag(p) − ppᵀ. Its rows sum to zero where the weights sum to 1. */
  function jacobian() {
    const weights = weightsOf(now.one, now.row);
    const listed = chief(weights, 12);
    const at = (a, b) => weights[a] * ((a === b) - weights[b]);
    const most = greatest(listed.map((k) => at(k, k)));
    const tidy = (x) => (Math.abs(x) < 1e-6 ? "0" : short(x, 2));
    return table(`Softmax's Jacobian, diag(p) − ppᵀ${some(listed)}`, listed, [["weight", (a) => now.names[a]],
      ...listed.map((b) => [now.names[b], (a) => heated(at(a, b), most, tidy(at(a, b)))]),
        ["sum", (a) => tidy(sum(Array.from(weights, (_, b) => at(a, b))))]]);
  }

  // -- training

  function outlines() {
    if (state.tab === "predict") return [{ name: "guess", values: guessed() }];
    if (state.tab !== "training" || !state.outlines || now.head !== now.one) return [];
    const before = runOf(options({ snapshot: Math.max(0, moment() - 1) })).layers[now.at];
    return [{ name: "before", values: ofOne(rowOf, before.weights) }, { name: "push", values: pushed() }];
  }

  function pushed() {
    const { d_scores } = gradients();
    const slope = sizeOf(softmaxBackward(now.weights, d_scores)) || 1;
    return softmax(Array.from(ofOne(scoresOf), (s, k) => s - (0.1 / slope) * d_scores[k]), ofOne(maskOf));
  }

  function stop() {
    clearInterval(playing);
    playing = null;
  }

  function play() {
    if (playing) return refresh(stop());
    playing = setInterval(() => {
      if (moment() + 1 >= lastMoment()) stop();
      set({ snapshot: moment() + 1 });
    }, 400);
    set({ snapshot: moment() === lastMoment() ? 0 : moment() });
  }

  function trainingPanel() {
    const [at, last] = [moment(), lastMoment()];
    const { step, loss, accuracy } = engine.snapshots[at];
    const goTo = (snapshot) => set({ snapshot }, stop());
    const curve = engine.curve ?? engine.snapshots;
    const jumps = curve.filter((point, i) => i && point.accuracy - curve[i - 1].accuracy > 0.08);
    return [
      make("p.big", `Step ${step}: loss ${short(loss, 3)}, accuracy ${percent(accuracy)}`),
        slider("moment of training", 0, last, 1, at, goTo),
      make("p.choice", button("", playing ? "Pause" : "Play", play),
        button("", "Step", () => goTo(at + 1), { disabled: at === last })),
      tick("Outlines: dotted before this step, dashed where −d_scores pushes", state.outlines, () =>
        set({ outlines: !state.outlines })),
      hint(`The push is of this sentence's loss for “${wanted()}”, scaled to a change of about 0.1; `,
        "a real step follows many sentences."),
      plot("Loss", curve, "loss", step, jumps), plot("Accuracy", curve, "accuracy", step, jumps),
        hint("Dashes: the accuracy jumps."), answerBars(),
    ];
  }

  // -- cut and see

  function cutTo(changes) {
    undo.push({ cutHeads: state.cutHeads, cutLines: state.cutLines });
    set(changes);
  }

  /** Cuts heads or lines; where all are cut already, mends them. */
  function cut(what, entries) {
    const others = state[what].filter((other) => !entries.some((entry) => same(entry, other)));
    cutTo({ [what]: others.length + entries.length === state[what].length ? others : [...others, ...entries] });
  }

  const cutLine = (key, head = now.head) =>
    engine && now.weights && cut("cutLines", (Number.isInteger(head) ? [head] : heads()).map((h) =>
      [now.at, h, now.row, key]));

  function cutPanel() {
    const whole = runOf(options({ cutHeads: [], cutLines: [] }));
    const isCut = state.cutHeads.length + state.cutLines.length > 0;
    const word = wanted();
    const size = (run) => ([at, head]) => {
      const { shape: [, ...sizes], values } = gradientsOf(run, word).layers[at].d_scores;
      const n = sizes[0] * sizes[1];
      return short(Math.hypot(...values.subarray(head * n, (head + 1) * n)), 3);
    };
    const title = ([at, head]) => headTitle(now.layers[at], head);
    const all = now.layers.flatMap((layer, at) => upTo(headCount(layer)).map((head) => [at, head]));
    const isOn = (entry) => !state.cutHeads.some((other) => same(other, entry));
    return [
      hint("Untick a head: it adds nothing. Click a line, or press Delete on a key: it's masked before softmax."),
      make("p.choice", button("", "Undo", () => set(undo.pop()), { disabled: !undo.length }),
        button("", "Mend all", () => cutTo({ cutHeads: [], cutLines: [] }), { disabled: !isCut })),
      answerBars(isCut && whole), word && make("p",
        `Loss of “${word}”: ${short(whole.loss(word))}${isCut ? ` → ${short(now.run.loss(word))}` : ""}`),
      table("Heads, and ‖d_scores‖ of each", all,
        [["head", (entry) => tick(title(entry), isOn(entry), () => cut("cutHeads", [entry]))],
        word && ["whole", size(whole)], word && isCut && ["cut", size(now.run)]]),
    ];
  }

  // -- predict, then reveal

  const raw = (k) => (now.open[k] ? clamp(state.guess?.[k] ?? 50, 0, 100) : 0);
  const setGuess = (k, x) => set({ guess: { ...state.guess, [k]: clamp(Math.round(x), 0, 100) } });

  /** The reader's guess, as weights that sum to 1; what is masked gets none. */
  function guessed() {
    const total = sum(now.keys.map((_, k) => raw(k))) || 1;
    return now.keys.map((_, k) => raw(k) / total);
  }

  function predictPanel() {
    const guess = guessed();
    const listed = upTo(now.keys.length).filter((k) => now.open[k]);
    const again = button("", "Guess again", () => set({ guess: null, revealed: false }));
    const [key, mine] = [["key", (k) => now.names[k]], ["guess", (k) => share(guess[k])]];
    if (!state.revealed) return [
      whose(), make("p", "Where does it look? Drag its keys up or down, or move the sliders; it's scaled to sum to 1."),
      table("Your guess", listed, [key,
        ["more or less", (k) => slider(`Guess for ${named(k)}`, 0, 100, 1, raw(k), (x) => setGuess(k, x))], mine]),
      make("p.choice", button(".main", "Reveal", () => set({ revealed: true })), again),
    ];
    const [loss, flat] = [divergence(now.weights, guess), divergence(now.weights, guess.map(() => 1 / listed.length))];
    return [
      make("p.big", `KL(true ‖ guess) = ${share(loss)} nats`),
      make("p", "So much more is who expects your weights surprised, on average, than who knows the true ones: 0 if they agree",
        loss === Infinity && ", ∞ if you gave nothing to a key that has some",
          `. Equal weights: ${share(flat)} nats, ${loss < flat - 1e-9 ? "worse than yours"
          : "no worse than yours"}.`),
      hint("Lines are true, outlines your guess."), table("True weights, and your guess", listed,
        [key, ["true", weightCell[1]], mine]), again,
    ];
  }

  // ---- pictures and files

  function asSvg() {
    const frame = parts.picture.hidden ? parts.other : parts.lists;
    const origin = frame.getBoundingClientRect();
    const [width, height] = [Math.ceil(origin.width), Math.ceil(origin.height) + 60];
    const boxOf = (element) => ((box) =>
      ({ x: box.x - origin.x, y: box.y - origin.y + 30, width: box.width,
      height: box.height }))(element.getBoundingClientRect());
    const text = (inside, element, { x, y, width, height }) => {
      const { fontSize, fontWeight, color } = getComputedStyle(element);
      const letters = Array.from(inside);
      const room = Math.ceil((letters.length * (width + 4)) / (widthOf(inside) * parseFloat(fontSize)));
      const middle = { x: x + width / 2, y: y + height / 2, "dominant-baseline": "central", "text-anchor": "middle" };
      const look = { "font-family": "system-ui, sans-serif", "font-size": fontSize, "font-weight": fontWeight,
        fill: plain(color) };
      return shape("text", { ...middle, ...look }, letters.length > room ? `${letters.slice(0, room - 1).join("")}…`
        : inside);
    };
    const words = frame.querySelectorAll(".ta-word, canvas, .ta-word > span, .ta-title, b, td, th, caption");
    const drawn = Array.from(words, (element) => {
      const box = boxOf(element);
      if (box.y + box.height < 50 || box.y > height - 34 || !box.width) return [];
      if (element.nodeName === "CANVAS") return shape("image",
        { ...box, href: element.toDataURL(), style: "image-rendering:pixelated" });
      if (!element.matches(".ta-word")) return text(element.textContent, element, box);
      const { backgroundColor, borderColor, borderStyle } = getComputedStyle(element);
      return shape("rect", { ...box, rx: 8, fill: plain(backgroundColor), stroke: plain(borderColor),
        "stroke-dasharray": borderStyle === "solid" ? null : "4 3" });
    });
    const lines = frame === parts.lists ? parts.lines.cloneNode(true) : shape("g", {});
    lines.querySelectorAll("*").forEach((element, i) => {
      const style = getComputedStyle(parts.lines.querySelectorAll("*")[i]);
      for (const name of ["fill", "stroke"]) element.setAttribute(name, plain(style[name]));
      for (const name of ["stroke-width", "stroke-dasharray", "font"]) element.setAttribute(name,
        style.getPropertyValue(name));
    });
    for (const hit of lines.querySelectorAll(".ta-hit")) hit.remove();
    lines.setAttribute("y", 30);
    const line = (inside, y) => text(inside, parts.root, { x: 0, y, width, height: 30 });
    return shape("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
      shape("title", {}, data.title),
      shape("rect", { width, height, fill: plain(getComputedStyle(parts.root).backgroundColor) }), 
      line(`${data.title}: ${now.layer.name}, ${now.head === now.one ? headName(now.layer, now.one)
        : `${now.head} heads`}`, 0), lines, drawn);
  }

  function save(name, ...content) {
    const link = make("a", { href: URL.createObjectURL(new Blob(...content)), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const svgFile = () => [[new XMLSerializer().serializeToString(asSvg())], { type: "image/svg+xml" }];

  async function savePng() {
    const image = make("img", { src: URL.createObjectURL(new Blob(...svgFile())) });
    await image.decode();
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save("attention.png", [blob]));
    URL.revokeObjectURL(image.src);
  }

  const say = (text) => (parts.live.textContent = parts.said.textContent = text);

  async function openFile({ target }) {
    const text = await target.files[0].text();
    load(() => JSON.parse(text).state);
  }

  const MENU = {
    SVG: () => save("attention.svg", ...svgFile()),
    PNG: savePng,
    "Save state": () => save("attention.json",
      [JSON.stringify({ viewer: "tinyattn", state: Object.fromEntries(kept()) })]),
  };

  // ---- choosing

  function pickQuery(place) {
    if (rowAt(now.layer, place) < 0) return say(`“${now.asks[place]}” doesn't ask in this layer.`);
    preview = null;
    set({ selected: state.selected === place ? null : place });
  }

  function pickKey(place, isFar) {
    focus.keys = place;
    set({ key: state.key === place && !isFar ? null : place });
    if (state.show === "lines") bringIntoView("keys", place);
  }

  function showPreview(place) {
    if (preview === place) return;
    preview = place;
    refresh();
  }

  function moveTo(name, place) {
    if (!now[name].length) return;
    focus[name] = clamp(place, 0, now[name].length - 1);
    bringIntoView(name, focus[name]);
    drawMoved();
    elements[name].get(focus[name]).focus({ preventScroll: !layout.isRows });
  }

  function moveHead(by) {
    const all = [...heads(), "mean", "all"];
    if (all.length > 3) set({ head: all.at((all.indexOf(now.head) + by) % all.length) });
  }

  const showOr = (show) => set({ show: state.show === show ? "lines" : show });
  const turn = () => set({ back: !state.back, ...oneHead() });

  const KEYS = [
    ["arrows", "another word; across: the other list"], ["Home End", "first, last word"],
      ["Enter Space", "select; once more clears"],
    ["[", "layer before", () => set({ layer: Math.max(0, now.at - 1) })],
    ["]", "layer after", () => set({ layer: now.at + 1 < now.layers.length ? now.at + 1 : now.at })],
    [", -", "head before", () => moveHead(-1)],
    [". + =", "head after", () => moveHead(1)],
    ["a", "all heads at once", () => set({ head: "all", back: false })],
    ["m", "the mean of all heads", () => set({ head: "mean", back: false })],
    ["g", "the grid of all heads", () => showOr("grid")],
    ["t", "as a table", () => showOr("table")],
    ["b", "turn the lines round: gradients", turn],
    ["Delete", "cut the line to this key", (word) => word?.name === "keys" && cutLine(word.place)],
    ["Escape", "clear the selection", () => set({ selected: (preview = null), key: null })],
    ["?", "this help", () => parts.help.showModal()],
  ];

  function keyDown(event) {
    const { key, target } = event;
    const isElsewhere = parts.help.open || !now.layer || target.matches("[type=text], select");
    if (event.ctrlKey || event.metaKey || event.altKey || isElsewhere) return;
    const word = wordAt(target);
    const own = word ? wordAction(key, word) : target.role === "tab" && tabAction(key, target);
    const action = own || KEYS.find(([keys, , action]) => action && keys.split(" ").includes(key))?.[2];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has keys of its own
    action(word);
  }

  function wordAt(target) {
    const element = target.closest?.(".ta-word");
    return element && { place: Number(element.dataset.place), name: parts.keys.contains(element) ? "keys" : "queries" };
  }

  function queryAt(target) {
    const word = wordAt(target);
    return word?.name === "queries" ? word.place : null;
  }

  const pick = ({ name, place }) => (name === "keys" ? pickKey(place) : pickQuery(place));

  function wordAction(key, { name, place }) {
    const to = (list, at) => () => moveTo(list, at);
    const across = name === "keys" ? to("queries", now.place ?? focus.queries) : to("keys", focus.keys);
    const along = { Home: to(name, 0), End: to(name, Infinity), Enter: pick, " ": pick };
    along[layout.isRows ? "ArrowLeft" : "ArrowUp"] = to(name, place - 1);
    along[layout.isRows ? "ArrowRight" : "ArrowDown"] = to(name, place + 1);
    return along[key] ?? (key.startsWith("Arrow") && across);
  }

  function tabAction(key, tab) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
    const tabs = [...parts.tabs.children];
    return by && (() => tabs.at((tabs.indexOf(tab) + by) % tabs.length).focus());
  }

  // ---- start

  function drawTools() {
    parts.root.dataset.theme = state.theme === "auto" ? (darkness.matches ? "dark" : "light") : state.theme;
    parts.theme.textContent = `theme: ${state.theme}`;
    if (!now.layer) return;
    const choices = heads().map((head) => [head, headName(now.layer, head), now.head === "all" && signOf(head)]);
    if (choices.length > 1) choices.push(["mean", "mean"], ["all", "all"]);
    fill(parts.tools,
      now.layers.length > 1 && chooser("Layer", now.layers.map(({ name }, at) => [at, name]), now.at, (layer) =>
        set({ layer }), 4),
      choices.length > 1 && chooser("Head", choices, now.head, (head) =>
        set({ head, back: state.back && Number.isInteger(head) }), 10),
      make("div.choice", toggle("Grid", state.show === "grid", () => showOr("grid")),
        toggle("As a table", state.show === "table", () => showOr("table")), toggle("Gradients", state.back, turn)));
  }

  function refresh() {
    const focused = document.activeElement;
    const isInside = parts.root.contains(focused);
    derive();
    drawTools();
    drawPanel();
    drawPicture();
    parts.said.textContent = "";
    const isLost = isInside && !focused.getClientRects().length;
    if (isLost) parts.root.focus({ preventScroll: true }); // or keys would go elsewhere
    keepState();
  }

  function build() {
    const part = (name, element) => (parts[name] = element);
    const list = (name, title) =>
      [part(`${name}Title`, make(`span.title.${name}`, title)),
      part(name, make(`div.list.${name}`, make("div", { ariaLabel: title })))];
    const title = data.title || "Attention";
    part("lines", shape("svg", { class: "ta-lines", "aria-hidden": true }));
    part("help", make("dialog.help", { ariaLabel: "Keys" }, make("h2", "Keys, while the focus is in the viewer"),
      make("dl", KEYS.map(([keys, text]) => [make("dt", make("kbd", keys)), make("dd", text)])),
        button("", "Close", () => parts.help.close())));
    return part("root", make(`section.view${isPage ? ".page" : ""}`, { ariaLabel: title, dir: "ltr", tabIndex: -1 },
      make("div.header", make(isPage ? "h1" : "h2", { dir: "auto" }, title),
        make("div.choice.menu", Object.entries(MENU).map(([text, action]) => button("", text, action)),
        make("label.button", "Open state", make("input.unseen", { type: "file", accept: ".json", onchange: openFile, ariaLabel: "Open a saved state" })),
        part("theme", button("", "", () =>
          set({ theme: { auto: "light", light: "dark", dark: "auto" }[state.theme] }))),
          button("", "Keys ?", () => parts.help.showModal()))),
      part("tools", make("div.tools")), (data.notes ?? []).map((note) => make("p.note", note)),
      make("div.body", make("div.main",
        part("picture", make("div.picture", part("lists",
          make("div.lists", list("queries", "queries: who asks"), list("keys", "keys: who is looked at"),
          parts.lines)))),
        part("other", make("div.other")), part("told", make("div.told")), part("said", make("p.said")),
          part("live", make("p.unseen", { ariaLive: "polite" }))),
        make("div.side", part("tabs", make("div.tabs", { role: "tablist", ariaLabel: "Panels" })),
          part("panel", make("div.panel", { role: "tabpanel", tabIndex: 0 })))),
      parts.help));
  }

  function listen() {
    const { root, lists } = parts;
    let drag; // a key, while guessing
    let hovered = null; // what is redrawn under a pointer says "over" once more
    const hover = (place) => place !== hovered && showPreview((hovered = place));
    root.onkeydown = keyDown;
    lists.onclick = ({ target }) => {
      const [word, hit] = [wordAt(target), target.closest(".ta-hit")?.dataset];
      if (word) pick(word);
      else if (hit && state.tab === "cut") cutLine(Number(hit.key), hit.head === "mean" ? "mean" : Number(hit.head));
      else if (hit) pickKey(Number(hit.key));
    };
    lists.onpointerover = ({ target, pointerType }) => pointerType === "mouse" && hover(queryAt(target));
    lists.onpointerleave = () => hover(null);
    lists.addEventListener("focusout", () => showPreview(null));
    lists.addEventListener("focusin", ({ target }) => {
      const word = wordAt(target);
      if (word) focus[word.name] = word.place;
      if (word && target.matches(":focus-visible")) showPreview(queryAt(target));
    });
    lists.onpointerdown = ({ target, clientY }) => {
      const word = now.isHidden && wordAt(target);
      drag = word?.name === "keys" && { place: word.place, from: raw(word.place) + clientY / 2 };
    };
    lists.onpointermove = ({ clientY, buttons }) => drag && buttons && setGuess(drag.place, drag.from - clientY / 2);
    for (const name of ["queries", "keys"]) parts[name].onscroll = () => (frame ??= requestAnimationFrame(() => {
      frame = null;
      if (state.show === "lines") drawMoved();
    }));
  }

  const resizes = new ResizeObserver(() => lastWidth !== (lastWidth = parts.root.clientWidth) && refresh());
  const readHash = () => location.hash.slice(1) !== hashOf() && load(fromHash);

  function begin() {
    data = { title: "", queries: [], layers: [], ...model.get("data") };
    [engine, focus, elements] = [model.get("engine"), { queries: 0, keys: 0 }, { queries: new Map(), keys: new Map() }];
    start = startOf();
    parts.root?.remove();
    el.append(build());
    parts.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's
    listen();
    load(() => (isPage ? fromHash() : state ?? {}));
    resizes.disconnect();
    resizes.observe(parts.root);
  }

  begin();
  model.on?.("change:data", begin);
  darkness.addEventListener("change", refresh);
  if (isPage) window.addEventListener("hashchange", readHash);
  return () => {
    stop();
    clearTimeout(keeping);
    resizes.disconnect();
    model.off?.("change:data", begin);
    darkness.removeEventListener("change", refresh);
    window.removeEventListener("hashchange", readHash);
    parts.root.remove();
  };
}

export default { render };
