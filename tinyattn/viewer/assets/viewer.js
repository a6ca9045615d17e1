// The attention viewer: words, lines as thick as the weights between them, and panels that take the weights apart.
//
// A "query" is a word that asks, a "key" one that is looked at, a "place" a word's number in the text, a "row" all that
// one query has. Arrays are { shape, values }: heads × rows × columns.

// ---- numbers

const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);
const greatest = (numbers) => numbers.reduce((most, x) => (x > most ? x : most), -Infinity);
const clamp = (x, least, most) => Math.max(least, Math.min(most, x));
const upTo = (n) => Array.from({ length: n }, (_, i) => i);
const strongest = (values) => values.reduce((best, x, i) => (x > values[best] ? i : best), 0);
const sizeOf = (values) => Math.max(0, greatest(Array.from(values, Math.abs).filter(isFinite)));
const ranked = (places, values) => places.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
const chief = (values, n) => ranked(upTo(values.length), values).slice(0, n).sort((a, b) => a - b);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function short(x, digits = 4) {
	if (!isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "−∞";
	const isPlain = x === 0 || (Math.abs(x) >= 1e-4 && Math.abs(x) < 10 ** digits);
	return (isPlain ? `${Number(x.toPrecision(digits))}` : x.toExponential(digits - 1)).replaceAll("-", "−");
}

const signed = (x, digits = 3) => (x > 0 ? "+" : "") + short(x, digits);
const share = (x) => (isFinite(x) ? x.toFixed(2).replace("-", "−") : short(x));
const percent = (x) => `${Math.round(100 * x)} percent`;

/** Weights from scores; what is masked gets none. ∞ and NaN spoil the row, as in every softmax. */
function softmax(scores, mask) {
	const open = Array.from(scores, (s, k) => (mask && !mask[k] ? -Infinity : s));
	const top = greatest(open.filter((s) => s < Infinity));
	const powers = open.map((s) => (s === -Infinity ? 0 : Math.exp(s - top)));
	const total = sum(powers);
	return powers.map((x) => (total === 0 ? 0 : x / total));
}

/** Where `open` is given, the rest counts nothing, be it NaN. */
const dot = (a, b, open) => sum(Array.from(a, (x, i) => (!open || open[i] ? x * b[i] : 0)));

function softmaxBackward(weights, gradient, open) {
	const mean = dot(gradient, weights, open);
	return Array.from(weights, (w, k) => (open[k] ? w * (gradient[k] - mean) : 0));
}

const divergence = (p, q) => sum(Array.from(p, (x, k) => x && x * Math.log(x / q[k]))); // KL(p ‖ q) in nats

// ---- arrays

const STORES = { float64: Float64Array, float32: Float32Array, float16: Uint16Array, uint8: Uint8Array };

/** A float16 from its bits; few browsers have arrays of them. */
function half(bits) {
	const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, (bits & 1023) / 1024];
	if (exponent === 31) return fraction ? NaN : sign * Infinity;
	return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}

function decoded({ shape, dtype, data }) {
	const text = atob(data);
	const bytes = new Uint8Array(text.length);
	for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
	const values = new STORES[dtype](bytes.buffer);
	return { shape, values: dtype === "float16" ? Float64Array.from(values, half) : values };
}

const opened = new WeakMap();

const open = (layer) => remembered(opened, layer, () => Object.fromEntries(Object.entries(layer).map(
	([name, value]) => [name, value?.data ? decoded(value) : value])));

/** A row of an array; an axis of length 1 serves for all. */
function rowOf({ shape: [heads, rows, columns], values }, head, row) {
	const start = ((heads > 1 ? head : 0) * rows + (rows > 1 ? row : 0)) * columns;
	return values.subarray(start, start + columns);
}

const headCount = (layer) => layer.weights.shape[0];
const headName = (head) => `head ${head + 1}`;
const headTitle = (layer, head) => `${layer.name}, ${headName(head)}`;
const maskOf = (layer, head, row) => layer.mask && rowOf(layer.mask, head, row);
const rowAt = (layer, place) => (layer.asking ? layer.asking.indexOf(place) : place);
const placeAt = (layer, row) => layer.asking?.[row] ?? row;
const queryOf = (layer, head, row) => layer.query && layer.key && rowOf(layer.query, head, row);

function scoresOf(layer, head, row) {
	const query = queryOf(layer, head, row);
	if (layer.scores) return rowOf(layer.scores, head, row);
	if (!query) return Array.from(rowOf(layer.weights, head, row), Math.log);
	return upTo(layer.weights.shape[2]).map((k) => dot(query, rowOf(layer.key, head, k)) * layer.scale);
}

// ---- words

const spoken = (token) => token.replaceAll("␣", "") || "blank";

const remembered = (memory, key, found) => (memory.has(key) || memory.set(key, found(key)), memory.get(key));

const FONT = "system-ui, sans-serif";
const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const widths = new Map();

const widthOf = (word) => remembered(widths, word, () => {
	brush.font = `100px ${FONT}`;
	return brush.measureText(word).width / 100;
});

/** A colour of the style sheet in a way that every reader of SVG knows. */
function plain(css) {
	brush.clearRect(0, 0, 1, 1);
	brush.fillStyle = css === "none" ? "transparent" : css;
	brush.fillRect(0, 0, 1, 1);
	const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
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
	for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
	element.append(...children.flat(2));
	return element;
}

/** Makes an element like a fresh one, and keeps focus, caret, and slider under a finger. */
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
const counted = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const hint = (...text) => make("p.how", text);

function slider(label, min, max, step, value, change) {
	const oninput = (event) => change(Number(event.target.value));
	return make("input", { type: "range", min, max, step, value: `${value}`, ariaLabel: label, oninput });
}

/** Buttons, or a list where they would be many. `options`: [value, text, sign]. */
function chooser(label, options, chosen, choose, most = 9) {
	const title = make("span.label", label);
	if (options.length <= most) {
		return make("div.choice", { role: "group", ariaLabel: label }, title,
			options.map(([value, text, sign]) => toggle([sign, text], value === chosen, () => choose(value))));
	}
	return make("label.choice", title,
		make("select", { onchange: ({ target }) => choose(options[target.selectedIndex][0]) },
			options.map(([value, text]) => make("option", { selected: value === chosen }, text))));
}

/** A table with a row for each item. `columns`: [title, item => what the cell holds]. */
function table(caption, items, columns) {
	const [first, ...others] = columns.filter(Boolean);
	const cell = (inside) => (inside.nodeName === "TD" ? inside : make("td", inside));
	const line = (item) =>
		make("tr", make("th", { scope: "row" }, first[1](item)), others.map(([, of]) => cell(of(item))));
	const titles = [first, ...others].map(([title]) => make("th", { scope: "col" }, title));
	return make("div.scroll", { tabIndex: 0, role: "group", ariaLabel: caption }, make("table.table",
		make("caption", caption), make("thead", make("tr", titles)), make("tbody", items.map(line))));
}

const toneOf = (x) => (x < 0 ? "ta-minus" : "ta-plus");
const leaning = (x, most) => ({ className: toneOf(x), style: `--share: ${Math.abs(x) / most || 0}` });

function bars(values, label) {
	const most = sizeOf(values);
	return make("div.bars", { role: "img", ariaLabel: label },
		Array.from(values, (x) => make("i", leaning(x, most), { title: signed(x) })));
}

function plot(title, moments, name, at) {
	const most = greatest(moments.map((moment) => moment[name])) || 1;
	const last = moments.at(-1).step || 1;
	const points = moments.map((moment) => [(400 * moment.step) / last, 86 - (66 * moment[name]) / most]);
	const [cx, cy] = points[at];
	const told = `${title} ${short(moments[at][name], 3)}`;
	const isJump = (_, i) => i && moments[i].accuracy - moments[i - 1].accuracy > 0.08;
	return shape("svg", { viewBox: "-6 0 412 90", class: "ta-plot", role: "img", "aria-label": told },
		points.filter(isJump).map(([x]) => shape("path", { class: "ta-jump", d: `M${x} 18V90` })),
		shape("polyline", { class: "ta-curve", points }), shape("circle", { class: "ta-dot", cx, cy, r: 6 }),
		shape("text", { class: "ta-small", y: 13 }, told));
}

/** A heat map of a head. Of many numbers a pixel shows the greatest. */
function paint(canvas, closed, head) {
	const layer = open(closed);
	const [, rows, columns] = layer.weights.shape;
	if (!rows || !columns) return;
	const [height, width] = [rows, columns].map((n) => Math.min(n, 104));
	const most = Array(width * height).fill(-1); // masked
	for (let row = 0; row < rows; row++) {
		const mask = maskOf(layer, head, row);
		rowOf(layer.weights, head, row).forEach((x, k) => {
			const at = Math.floor((row * height) / rows) * width + Math.floor((k * width) / columns);
			if (!mask || mask[k]) most[at] = Math.max(most[at], x); // NaN stays
		});
	}
	const pixels = new ImageData(width, height);
	const colour = (x) => (x === -1 ? [136, 144, 152, 110] : !isFinite(x) ? [224, 0, 0, 255]
		: [38, 120, 230, 255 * clamp(x, 0, 1) ** 0.7]);
	most.forEach((x, i) => pixels.data.set(colour(x), 4 * i));
	Object.assign(canvas, { width, height }).getContext("2d").putImageData(pixels, 0, 0);
}

// ---- curves

const THICKEST = 16; // px for a weight of 1
const [FAINTEST, LABELLED] = [0.01, 0.1]; // the least weights with a line, with a numeral
const LOOKS = 8; // colours and dashes of heads, in the style sheet
const inkOf = (head) => `ta-ink-${head % LOOKS}`;
const signOf = (head) => shape("svg", { width: 26, height: 10, class: "ta-sign" },
	shape("path", { d: "M0 5h26", class: inkOf(head) }));

function pointAt(path, share) {
	const [{ x, y }, before, after] = [0, -0.01, 0.01].map((more) =>
		path.getPointAtLength((share + more) * path.getTotalLength()));
	const [dx, dy] = [after.x - before.x, after.y - before.y];
	const n = Math.hypot(dx, dy);
	const beside = (by) => [x - (by * dy) / n, y + (by * dx) / n];
	return { x, y, beside };
}

function outlineOf(path, width, kind) {
	const side = (by) => upTo(33).map((i) => pointAt(path, i / 32).beside(by));
	return shape("polygon", { points: [...side(width / 2), ...side(-width / 2).reverse()], class: kind });
}

/** The heads' numerals on their lines, the thickest first, each where it covers no other. */
function numerals(lines) {
	const taken = [];
	const wanted = lines.filter(({ numeral, size }) => numeral && size >= LABELLED).sort((a, b) => b.size - a.size);
	return wanted.flatMap(({ path, numeral, tone }) => {
		const isFree = ({ x, y }) => taken.every((other) => Math.hypot(other.x - x, other.y - y) > 21);
		const free = [0.75, 0.6, 0.86, 0.48, 0.36, 0.25].map((part) => pointAt(path, part)).find(isFree);
		if (!free) return [];
		const { x, y } = free;
		taken.push(free);
		return [shape("circle", { class: `ta-bead ${tone}`, cx: x, cy: y, r: 9.5 }),
			shape("text", { class: "ta-numeral", x, y: y + 4.5, "text-anchor": "middle" }, numeral)];
	});
}

// ---- state

const [PLACE, NUMBERS, TEXT, YES] = ["\\d+", '{("\\d+":-?[\\d.e-]+,?)*}', '".*"', "true|false"];
/** All that a link keeps: how it is before anybody chose, and what it may be, as JSON. */
const STATE = {
	show: ["lines", '"(lines|grid|table)"'], theme: ["auto", '"(auto|light|dark)"'], tab: [null, `${TEXT}|null`],
	layer: [0, PLACE], head: [0, `${PLACE}|"(mean|all)"`], selected: [null, PLACE], key: [null, PLACE], // places of words
	back: [false, YES], gradient: ["d_scores", '"d_(scores|weights)"'], // whether lines show gradients, and which
	text: [null, TEXT], pronoun: [null, PLACE], answer: [null, TEXT], snapshot: [null, PLACE], // null: the last
	tweak: [null, // heat is a factor of √d_k, by what each key's score gains
		`{"layer":\\d+,"head":\\d+,"row":\\d+,"heat":(10|0\\.[1-9]\\d*|[1-9](\\.\\d+)?),"by":${NUMBERS}}`],
	guess: [null, `{"of":\\[\\d+,\\d+,\\d+\\],"by":${NUMBERS},"revealed":(${YES})}`], // of layer, head, row; 0 to 100
	cuts: [[], "\\[(\\[\\d+,\\d+(,\\d+,\\d+)?\\],?)*\\]"], // heads as [layer, head], lines as [layer, head, row, key]
};
const START = Object.fromEntries(Object.entries(STATE).map(([name, [value]]) => [name, value]));
const isFit = ([name, value]) =>
	Object.hasOwn(STATE, name) && RegExp(`^(${STATE[name][1]})$`).test(JSON.stringify(value));
const hash = () => location.hash.slice(1);

const [LINE, HEADING] = [34, 26]; // px, as in the style sheet

/** anywidget's way in: fills `el` with the viewer of the model's "data"; returns what cleans up. */
function render({ model, el }) {
	const isPage = !model.save_changes && !document.querySelector(".ta-view") && window.parent === window;
	const [parts, runs, ended] = [{}, new Map(), new AbortController()];
	let data, engine, start, state; // what is given; what stays of START and what was chosen
	let now, layout; // what follows from them
	let asked, reading; // the sentence, and the last that could be read
	let focus, elements; // for each list, the place that the Tab key reaches, and its words by place
	let [preview, checks, playing, keeping, painted, brought, frame, lastWidth] = [null];

	// ---- state

	const hashOf = () => String(new URLSearchParams(Object.entries(state)
		.filter(([name, value]) => !same(value, start[name])).map(([name, value]) => [name, JSON.stringify(value)])));

	function load(hash) {
		stop();
		state = { ...start };
		try {
			const given = [...new URLSearchParams(hash)].map(([name, text]) => [name, JSON.parse(text)]);
			set(Object.fromEntries(given.filter(isFit)));
		} catch {
			state = { ...start };
			refresh();
			say("This link can't be shown.");
		}
	}

	function set(changes) {
		Object.assign(state, changes);
		say("");
		refresh();
	}

	/** Into the address, a moment later: browsers allow that only so often, some frames never. */
	function keepState() {
		clearTimeout(keeping);
		if (isPage) keeping = setTimeout(() => {
			try {
				if (hash() !== hashOf()) history.replaceState(null, "", `#${hashOf()}`);
			} catch {}
		}, 250);
	}

	// ---- what follows from it

	function runOf(options) {
		const name = JSON.stringify([reading.words, reading.pronoun, options]);
		if (runs.size > 80) runs.clear();
		return remembered(runs, name, () => engine.run(reading.words, reading.pronoun, options));
	}

	const lastMoment = () => (engine?.snapshots.length ?? 1) - 1;
	const moment = () => clamp(state.snapshot ?? Infinity, 0, lastMoment());
	const isPast = () => moment() < lastMoment();
	const cutsOf = (length) => state.cuts.filter((cut) => cut.length === length);
	const options = (more) =>
		({ ...(isPast() && { snapshot: moment() }), cutHeads: cutsOf(2), cutLines: cutsOf(4), ...more });
	const tweaked = (more) => runOf(options({ nudge: tweakOf(runOf(options(more)).layers)?.nudges ?? [], ...more }));

	/** All that's drawn; under the pointer or the focus may be another query than the one that panels are of. */
	function derive(pointed = null) {
		now = { ...data, keys: data.keys ?? data.queries };
		if (engine) {
			asked = engine.read(state.text, state.pronoun);
			if (!asked.problem) reading = asked;
			reading ??= engine.read(engine.examples[0]);
			now.queries = now.keys = reading.words;
			now.base = runOf(options()); // without the reader's changes of scores
			now.run = state.tweak ? tweaked() : now.base;
			now.layers = now.run.layers;
		}
		if (!now.layers.length) return;
		now.at = clamp(state.layer, 0, now.layers.length - 1);
		now.tweak = tweakOf((now.base ?? now).layers);
		const layer = (now.layer = open(now.layers[now.at]));
		const nHeads = headCount(layer);
		now.one = clamp(Number.isInteger(state.head) ? state.head : 0, 0, nHeads - 1);
		now.isOne = state.back || PANELS[state.tab]?.[2]; // gradients and some panels are of one head
		now.head = nHeads === 1 || now.isOne || Number.isInteger(state.head) ? now.one : state.head;
		// Shown is the query under the pointer or the focus, else the selected one, else the only one that asks.
		const only = layer.weights.shape[1] === 1 ? placeAt(layer, 0) : null;
		now.place = [pointed, state.selected, only].find((at) => at in now.queries && rowAt(layer, at) >= 0) ?? null;
		now.key = state.key in now.keys ? state.key : null;
		now.row = now.place === null ? null : rowAt(layer, now.place);
		now.isHidden = state.tab === "predict" && PANELS.predict[3]() && !guess().revealed;
		now.isBack = state.back && state.tab !== "predict";
		if (now.row === null) return;
		Object.assign(now, rowShown(now.head, now.row));
		now.values = now.isHidden ? guessed() : now.isBack ? gradients()[state.gradient] : now.weights;
		now.top = now.isBack ? sizeOf(now.values) : 1;
		[now.finite, now.odd] = [true, false].map((is) =>
			upTo(now.keys.length).filter((k) => now.open[k] && isFinite(now.values[k]) === is));
	}

	function tweakOf(layers) {
		const { layer: at, head, row, by, heat } = state.tweak ?? {};
		const [nHeads, nRows] = layers[at]?.weights.shape ?? [];
		if (!(head < nHeads && row < nRows)) return null;
		const [scores, mask] = [scoresOf, maskOf].map((of) => of(open(layers[at]), head, row));
		const changed = Array.from(scores, (s, k) => (s + (by[k] ?? 0)) / heat);
		const nudges = changed.map((s, key) => ({ layer: at, head, query: row, key, by: s - scores[key] }));
		return { ...state.tweak, changed, nudges: nudges.filter(({ by }) => by), weights: softmax(changed, mask) };
	}

	const isTweaked = (head, row) => now.tweak?.layer === now.at && now.tweak.head === head && now.tweak.row === row;
	/** A row's weights; what is masked has none, whatever was given. */
	function weightsOf(head, row) {
		const mask = maskOf(now.layer, head, row);
		const weights = isTweaked(head, row) ? now.tweak.weights : rowOf(now.layer.weights, head, row);
		return mask ? Array.from(weights, (w, k) => (mask[k] ? w : 0)) : weights;
	}

	const heads = () => upTo(headCount(now.layer));
	const ofOne = (of, layer = now.layer) => of(layer, now.one, now.row);

	function rowShown(head, row) {
		const some = Number.isInteger(head) ? [head] : heads();
		const [rows, masks] = [some.map((h) => weightsOf(h, row)), some.map((h) => maskOf(now.layer, h, row))];
		const weights = now.keys.map((_, k) => sum(rows.map((row) => row[k])) / rows.length);
		return { weights, open: now.keys.map((_, k) => masks.some((mask) => !mask || mask[k])) };
	}

	/** What the reader chose, else what the whole trained model answers. */
	const wanted = () => (now.run.answers.find(({ word }) => word === state.answer) ?? runOf({}).answers[0])?.word;
	const gradientsOf = (run) => ((run.gradients ??= {})[wanted()] ??= engine.gradients(run, wanted()));
	const gradients = () => (now.gradients ??= engine && wanted() ? gradientsOfAnswer() : gradientsOfRow());

	function gradientsOfAnswer() {
		const { loss, layers } = gradientsOf(now.run);
		const [d_weights, d_scores] = ["d_weights", "d_scores"].map((name) => ofOne(rowOf, layers[now.at][name]));
		return { d_weights, d_scores, about: `loss = −log p(${wanted()}) = ${short(loss)}` };
	}

	function gradientsOfRow() {
		const [weights, { open }] = [weightsOf(now.one, now.row), now];
		const given = now.layer.d_weights && ofOne(rowOf, now.layer.d_weights);
		if (given) return { d_weights: given, d_scores: softmaxBackward(weights, given, open),
			lossOf: (some) => dot(given, some, open), about: "L = Σ d_weights · weights, with the d_weights given" };
		const key = open[now.key] ? now.key : strongest(weights);
		const lossOf = (some) => -Math.log(some[key]);
		return { d_weights: Array.from(weights, (w, k) => (k === key ? -1 / w : 0)), lossOf,
			d_scores: Array.from(weights, (w, k) => (open[k] ? w - (k === key) : 0)), // finite where w is 0 too
			about: `loss = −log(weight of ${named(key)}) = ${short(lossOf(weights))}` };
	}

	// ---- where words stand

	/** Two rows where both fit, else two columns, which scroll. */
	function layOut() {
		const width = parts.picture.clientWidth || 800;
		const room = window.innerHeight * (width < 600 ? 0.55 : 0.62);
		const lists = [now.queries, now.keys];
		const size = Math.floor(Math.min(28, ...lists.map((words) =>
			(width - 24 * words.length) / sum(words.map((word) => clamp(widthOf(word), 2.3, 9))))));
		if (size >= 15 && width > 480) return { isRows: true, size, wide: 0, height: clamp(room, 280, 540) };
		const wide = clamp(greatest(lists.flat().map(widthOf)) * 18 + 84, 110, Math.min(300, width * 0.38));
		const longest = Math.max(...lists.map((words) => words.length));
		return { size: 18, wide, height: Math.min(longest * LINE, Math.max(240, room)) + HEADING };
	}

	function endOf(name, place) {
		const [isQuery, { offsetLeft, offsetTop, scrollTop }] = [name === "queries", parts[name]];
		const y = offsetTop + (place + 0.5) * LINE - 2 - scrollTop;
		if (!layout.isRows) return [offsetLeft + (isQuery && layout.wide), y];
		const word = elements[name].get(place);
		return [word.offsetLeft + word.offsetWidth / 2, offsetTop + (isQuery && word.offsetHeight)];
	}

	function placesSeen(name) {
		const all = upTo(now[name].length);
		if (layout.isRows) return all;
		const { scrollTop, clientHeight } = parts[name];
		const [first, end] = [Math.floor(scrollTop / LINE) - 3, Math.ceil((scrollTop + clientHeight) / LINE) + 3];
		return all.filter((place) => place === focus[name] || (place >= first && place < end));
	}

	function bringIntoView(name, place) {
		const list = parts[name];
		list.scrollTop = clamp(list.scrollTop, (place + 3) * LINE - list.clientHeight, (place - 2) * LINE);
	}

	// ---- words

	function noteOf(k) {
		if (now.row === null) return {};
		const isCutHere = ([at, , row, key]) => same([at, row, key], [now.at, now.row, k]);
		if (!now.open[k]) return { text: cutsOf(4).some(isCutHere) ? "cut" : "masked", tone: "ta-masked" };
		const x = now.values[k];
		if (!isFinite(x)) return { text: short(x), tone: "ta-odd" };
		const dark = clamp(Math.abs(x) / now.top || 0, 0, 1);
		if (now.isBack) return { text: dark < FAINTEST ? "" : signed(x, dark < 0.3 ? 1 : 2), dark, tone: toneOf(x) };
		return { text: Math.abs(x) < FAINTEST ? "" : share(x), dark };
	}

	/** Draws the words in sight; elements that stay keep the focus. */
	function drawWords(name) {
		const [list, seen, isQuery] = [parts[name].firstChild, placesSeen(name), name === "queries"];
		const words = now[name];
		for (const [place, element] of elements[name]) {
			if (!seen.includes(place)) element.remove(elements[name].delete(place)); 
		}
		let next = list.firstChild;
		for (const place of seen) {
			const { text = "", tone = "", dark = 0 } = isQuery ? {} : noteOf(place);
			const isSilent = isQuery && rowAt(now.layer, place) < 0;
			const fresh = make("div.word", {
				className: `ta-word ${tone} ${isQuery && place === now.place ? "ta-asking" : ""}`, word: { name, place },
				role: "option", title: isSilent ? silence(place) : words[place], ariaLabel: `${words[place]} ${text}`,
				tabIndex: place === focus[name] ? 0 : -1,
				ariaSelected: `${place === (isQuery ? state.selected : now.key)}`,
				ariaDisabled: isSilent ? "true" : null,
				ariaPosInSet: place + 1, ariaSetSize: words.length,
				style: `--share:${dark};--place:${place}`,
			}, make("span.text", { dir: "auto" }, words[place]), make("span.number", ` ${text}`));
			fresh.dataset.place = place;
			const element = remembered(elements[name], place, () => fresh);
			become(element, fresh);
			if (element === next) next = next.nextSibling;
			else list.insertBefore(element, next);
		}
	}

	// ---- lines

	function strands() {
		if (now.head !== "all") return [{ head: now.head, values: now.values, outlines: outlines() }];
		return heads().map((head) => ({ head, values: weightsOf(head, now.row), numeral: `${head + 1}`, outlines: [] }));
	}

	function lineTo(key, by, size, more, ...inside) {
		const [[x, y], [toX, toY]] = [endOf("queries", now.place), endOf("keys", key)];
		const d = layout.isRows ? `M${x + by} ${y}C${[x + by, (y + toY) / 2, toX + by, (y + toY) / 2, toX + by, toY]}`
			: `M${x} ${y + by}C${[(x + toX) / 2, y + by, (x + toX) / 2, toY + by, toX, toY + by]}`;
		return shape("path", { d, "stroke-width": THICKEST * size, ...more }, inside);
	}

	function drawLines() {
		const lines = now.row === null ? [] : strands().flatMap((strand, i, { length }) =>
			linesOf(strand, (i - (length - 1) / 2) * Math.min(5, 30 / length)));
		parts.lines.replaceChildren(...lines.flatMap((line) => line.shapes), ...numerals(lines));
	}

	function linesOf({ head, values, numeral, outlines }, by) {
		return now.keys.flatMap((name, key) => {
			const x = values[key];
			const isDrawn = x && isFinite(x) && Math.abs(x) >= FAINTEST * now.top;
			const differing = outlines.filter((outline) => Math.abs(outline.values[key] - x) * THICKEST >= 1);
			if (!isDrawn && !differing.length) return [];
			const tone = numeral ? inkOf(head) : now.isBack || x < 0 ? toneOf(x) : "";
			const size = clamp(Math.abs(x) / now.top || 0, 0, 1);
			const ids = { "data-key": key, "data-head": head };
			const path = lineTo(key, by, 1, { ...ids, class: "ta-hit" },
				shape("title", {}, `${now.queries[now.place]} → ${name}: ${short(x)}`));
			const shapes = [
				isDrawn && lineTo(key, by, size,
					{ ...ids, class: `ta-line ${tone}`, opacity: 0.4 + 0.6 * size }),
				isDrawn && now.isBack && arrow(tone),
				...differing.map((outline) =>
					outlineOf(path, Math.max(2, THICKEST * outline.values[key]), `ta-outline ta-${outline.name}`)),
				path,
			];
			return { path, numeral, size, tone, shapes: shapes.filter(Boolean) };
		});
	}

	const arrow = (tone) => shape("path", { class: `ta-arrow ${tone}`,
		d: `M${endOf("queries", now.place)}${layout.isRows ? "l-8 15h16z" : "l15-8v16z"}` });

	// ---- the picture, and what is said of it

	function drawPicture() {
		const isLines = now.layer && (now.isHidden || state.show === "lines");
		parts.picture.hidden = !isLines;
		parts.other.hidden = isLines;
		if (isLines) drawWhole();
		else if (!now.layer) fill(parts.other, hint("There are no weights."));
		else if (state.show === "table") painted = fill(parts.other, asTable());
		else drawGrid();
		parts.caption.textContent = isLines && now.weights ? captionOf() : "";
		fill(parts.told, now.layer && [isLines && told(), past()]);
		const news = now.weights && !now.isHidden ? announcement() : "";
		if (parts.live.textContent !== news) parts.live.textContent = news;
	}

	function drawWhole() {
		layout = layOut();
		Object.assign(parts.lists.dataset, { layout: layout.isRows ? "rows" : "columns", guess: now.isHidden });
		parts.lists.style = `--size:${layout.size}px;--height:${layout.height}px;--wide:${layout.wide}px`;
		for (const name of ["queries", "keys"]) {
			const { length } = now[name];
			Object.assign(parts[name].firstChild, { role: length ? "listbox" : "note", style: `--length:${length}` });
			focus[name] = clamp(focus[name], 0, Math.max(0, length - 1));
		}
		const title = `${[now.at, now.head, state.selected]}`;
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
		const { values, finite, odd, top, isBack } = now;
		const told = ranked(finite.filter((k) => values[k] && Math.abs(values[k]) >= 0.05 * top), values).slice(0, 3);
		const news = told.map((k) => `${spoken(now.keys[k])}, ${isBack ? signed(values[k]) : percent(values[k])}`);
		if (odd.length) news.push(notFinite());
		return `${spoken(now.queries[now.place])} → ${isBack ? `${state.gradient}: ` : ""}`
			+ (news.join("; ") || "nothing that stands out");
	}

	const notFinite = () => `NaN or infinite: ${counted(now.odd.length, "word")}`;

	function captionOf() {
		const which = { mean: "mean of heads", all: "all heads" }[now.head] ?? headName(now.one);
		const what = now.isHidden ? "your guess" : now.isBack ? `${state.gradient}, ${gradients().about}` : "weights";
		return `${asker()} in ${now.layer.name}, ${which}: ${what}`;
	}

	function told() {
		const { weights, open } = now;
		if (!weights) return now.queries.length ? choose() : hint("There are no words.");
		if (now.isHidden) return hint("The lines are your guess.");
		if (now.isBack) return hint(`Solid lines are +, dashed −; the thickest is ${short(now.top, 3)}.`);
		const places = ranked([...now.finite], weights);
		const rest = places.splice(Math.min(6, places.filter((k) => Math.abs(weights[k]) >= FAINTEST).length));
		const nMasked = open.filter((isOpen) => !isOpen).length;
		const chip = (k) => button(".chip", [make("bdi", now.keys[k]), ` ${share(weights[k])}`], () => pickKey(k));
		return [
			make("p.chips", make("b", make("bdi", now.queries[now.place]), " →"), places.map(chip),
				rest.length > 0 && make("span.rest",
					`rest: ${share(sum(rest.map((k) => weights[k])))} in ${counted(rest.length, "word")}`),
				now.odd.length > 0 && make("span.rest", notFinite()),
				nMasked > 0 && make("span.rest", `${nMasked} masked${cutsOf(4)[0] ? " or cut" : ""}`)),
			hint(`Lines are as thick as weights; those under ${FAINTEST} are hidden.`, now.head === "all"
				&& ` Numerals are heads, from ${LABELLED} on.`),
		];
	}

	function past() {
		const all = [isPast() && `as in step ${engine.snapshots[moment()].step} of training`,
			now.tweak && "with changed scores", state.cuts[0] && `with ${counted(state.cuts.length, "cut")}`].filter(Boolean);
		return all.length > 0 && make("p.force", make("span", `Shown ${all.join(", ")}. `),
			button(".link", "Show it as it was given", () => set({ snapshot: null, tweak: null, cuts: [] })));
	}

	function asTable() {
		if (!now.weights) return choose();
		const columns = now.isBack ? gradientColumns() : [...heads(), "mean"].map((head) => {
			const { weights, open } = rowShown(head, now.row);
			return [head === "mean" ? head : headName(head), (k) => (open[k] ? short(weights[k]) : "masked")];
		});
		const listed = chief(rowShown("mean", now.row).weights, 200);
		const where = now.isBack ? headTitle(now.layer, now.one) : now.layer.name;
		return table(`What ${asker()} looks at in ${where}${some(listed)}`, listed,
			[["looked at", (k) => now.keys[k]], ...columns]);
	}

	function drawGrid() {
		if (painted?.isConnected && painted.of === now.layers) return;
		const mapOf = (layer, at) => (head) => {
			const canvas = make("canvas");
			setTimeout(paint, 0, canvas, layer, head);
			return button(".map", [canvas, make("span", headName(head))], () => set({ layer: at, head, show: "lines" }),
				{ ariaLabel: `Open ${headTitle(layer, head)}` });
		};
		const rows = now.layers.map((layer, at) => make("div.maps", { style: `--heads: ${headCount(layer)}` },
			make("b", layer.name), make("div.cells", upTo(headCount(layer)).map(mapOf(layer, at)))));
		painted = make("div", { of: now.layers },
			hint("Rows ask; grey is masked, red isn't finite."), rows);
		parts.other.replaceChildren(painted);
	}

	// ---- panels

	const PANELS = { // title, what shows it, whether it's of the row that is shown, whether it can be
		edit: ["Edit", editPanel, false, () => engine],
		steps: ["Steps", stepsPanel, true, () => true],
		back: ["Backward", backPanel, true, () => true],
		training: ["Training", trainingPanel, true, () => lastMoment() > 0],
		cut: ["Cut and see", cutPanel, false, () => engine],
		predict: ["Predict", predictPanel, true, () => now.keys.length > 1 && now.keys.length <= 60],
	};

	function openPanel(tab) {
		stop();
		set({ tab, back: tab === "back", ...(tab === "predict" && { guess: null, show: "lines" }) });
	}

	function drawPanel() {
		const names = Object.keys(PANELS).filter((name) => now.layer && PANELS[name][3]());
		const tab = names.find((name) => name === state.tab);
		const [title, show, isOfRow] = PANELS[tab] ?? [];
		fill(parts.tabs, names.map((name) =>
			toggle(PANELS[name][0], name === tab, () => openPanel(name === tab ? null : name))));
		parts.panel.ariaLabel = title;
		fill(parts.panel, isOfRow && !now.weights ? choose()
			: isOfRow && !now.open.some(Boolean) ? hint(asker(), " may look at nothing.") : show?.());
	}

	const choose = () => hint("Choose a word to see what it looks at.");
	const asker = () => `“${now.queries[now.place]}”`;
	const silence = (place) => `“${now.queries[place]}” doesn't ask in ${now.layer.name}.`;
	const named = (k) => `“${now.keys[k]}”`;
	const some = (listed) => (listed.length < now.keys.length ? `, the strongest of ${now.keys.length} keys` : "");
	const keyLink = ["key", (k) => button(".link", now.keys[k], () => pickKey(k))];
	const unlessMasked = (of, masked = "masked") => (k) => (now.open[k] ? of(k) : masked);
	const column = (title, of) => [title, (k) => short(of(k), 3)];
	const weightCell = ["weight", unlessMasked((k) => short(now.weights[k], 3))];

	function answerBars(before) {
		const best = now.run.answers.slice(0, 6).map(({ word }) => word);
		const of = ({ answers }, word) => answers.find((answer) => answer.word === word)?.probability
			?? (best.includes(word) ? 0 : 1 - sum(best.map((word) => of({ answers }, word))));
		const line = (word) => {
			const [is, was] = [now.run, before || now.run].map((run) => of(run, word));
			return make(before ? "li.changed" : "li", { style: `--is:${is};--was:${was}` }, make("bdi", word),
				make("span.track"), make("span.number", before && `${share(was)} → `, share(is)));
		};
		return [make("h2", "Answer"), make("ul.answers", [...best, "other words"].map(line))];
	}

	function setText(text, pronoun = state.pronoun) {
		const { problem, words } = engine.read(text);
		const forgotten = { tweak: null, guess: null, cuts: cutsOf(2), answer: null,
			...(words.length !== now.queries.length && { selected: null, key: null }) };
		set({ text, pronoun, ...(!problem && forgotten) });
	}

	function editPanel() {
		const { text } = state;
		const chip = (word) => (by) => button(".chip", by, () => setText(engine.replaced(text, word, by)));
		const pronouns = reading.pronouns.map((place) => [place, `${reading.words[place]}, word ${place + 1}`]);
		return [
			make("label.field", "Sentence", make("input.sentence",
				{ type: "text", value: text, spellcheck: false, oninput: ({ target }) => setText(target.value) })),
			make("p.problem", { role: "status" }, asked.problem),
			asked.unknown.map(({ word, nearest }) => make("p.choice", `Instead of “${word}”:`, nearest.map(chip(word)))),
			pronouns.length > 1 && chooser("Who asks", pronouns, reading.pronoun, (pronoun) => setText(text, pronoun)),
			answerBars(),
			make("div.examples", engine.examples.map((text) => button("", text, () => setText(text)))),
		];
	}

	// -- steps

	const tweakShown = () => (isTweaked(now.one, now.row) ? now.tweak
		: { layer: now.at, head: now.one, row: now.row, heat: 1, by: {}, changed: ofOne(scoresOf) });

	function stepsPanel() {
		const { heat, by, head, row, layer: at, changed } = tweakShown();
		const isChanged = isTweaked(head, row);
		const layer = isChanged && now.base ? open(now.base.layers[at]) : now.layer; // before the changes
		const { scoring, scale } = layer; // "÷ √d_k", "× 0.3", "scores" that were given, "log w"
		const [scores, query] = [scoresOf, queryOf].map((of) => ofOne(of, layer));
		const formula = /[÷×]/.test(scoring) ? `q kᵀ ${scoring}` : scoring;
		const all = upTo(now.keys.length).filter((k) => now.open[k]);
		const top = greatest(all.map((k) => changed[k]).filter((s) => s < Infinity));
		const powerOf = (k) => Math.exp(changed[k] - top);
		const changeTo = (change) => set({ tweak: { layer: at, head, row, heat, by, ...change } });
		const change = (k) => make("td", slider(`What the score of ${named(k)} gains, place ${k + 1}`, -6, 6, 0.1,
			by[k] ?? 0, (x) => changeTo({ by: { ...by, [k]: x } })), isChanged && signed(by[k] ?? 0));
		const listed = chief(rowOf(layer.weights, head, row), 40); // not by the changes, or they'd move under the finger
		const told = (k, sum) => `Sum ${short(sum)}, ${scoring} ${short(scores[k])}`
			+ (isChanged ? `, changed ${short(changed[k])}` : "");
		return [
			make("p.formula", `weights = softmax(${formula})\n`,
				isChanged && `s = (${formula} + change) ÷ ${heat.toFixed(2)}\n`, "mix = Σ weights · v"),
			make("label.field", scoring === "÷ √d_k" && `√d_k = ${short(1 / scale, 3)}; `,
				`temperature × ${heat.toFixed(2)}`,
				slider("temperature, a factor of √d_k", -1, 1, 0.02, Math.log10(heat), (x) => changeTo({ heat: 10 ** x }))),
			scoring === "log w" && hint("log w: the scores up to a constant; none were given."),
			table(`From scores to weights${some(listed)}`, listed, [
				keyLink, query && column("q · k", (k) => dot(query, rowOf(layer.key, head, k))),
				column(scoring, (k) => scores[k]), ["change", unlessMasked(change)],
				isChanged && column("s", (k) => changed[k]),
				all.length < now.keys.length && ["+ mask", (k) => (now.open[k] ? "0" : "−∞")],
				column("exp(s − max)", unlessMasked(powerOf, 0)), weightCell,
			]),
			hint(`Σ exp = ${short(sum(all.map(powerOf)))}`),
			now.run && answerBars(state.tweak && now.base), query && pairOf(layer, query, told), layer.value && mixOf(layer),
		];
	}

	const chosen = () => now.key ?? strongest(now.weights);
	const barRows = (rows) => Object.entries(rows).map(([name, values]) =>
		make("p.pair", make("b", name), bars(values, name)));

	function pairOf(layer, query, told) {
		const key = rowOf(layer.key, now.one, chosen());
		const products = Array.from(query, (x, i) => x * key[i]);
		return [make("h2", `q · k of ${asker()} and ${named(chosen())}, by dimension`),
			barRows({ q: query, k: key, "q × k": products }),
			hint(told(chosen(), sum(products)), ". Click a key for another pair.")];
	}

	function mixOf(layer) {
		const values = now.keys.map((_, k) => rowOf(layer.value, now.one, k));
		const mix = upTo(layer.value.shape[2]).map((i) => dot(now.weights, values.map((v) => v[i]), now.open));
		return [make("h2", `v of ${named(chosen())}, and the mix, Σ weights · v`), barRows({ v: values[chosen()], mix }),
			make("p.numbers", mix.map((x) => short(x, 3)).join("  "))];
	}

	// -- backward

	function slopeAt(key) {
		const { lossOf } = gradients();
		const nudge = { layer: now.at, head: now.one, query: now.row, key };
		// The logarithms of weights are scores, up to a constant.
		const lossAt = (by) => lossOf ? lossOf(softmax(Array.from(now.weights, (w, k) => Math.log(w) + (k === key && by))))
			: runOf(options({ nudge: [...(now.tweak?.nudges ?? []), { ...nudge, by }] })).loss(wanted());
		return (lossAt(1e-4) - lossAt(-1e-4)) / 2e-4;
	}

	function gradientColumns() {
		const { d_weights, d_scores } = gradients();
		const cell = (values, most = sizeOf(values)) =>
			unlessMasked((k) => make("td", leaning(values[k], most), signed(values[k])));
		return [weightCell, ["d_weights", cell(d_weights)], ["d_scores", cell(d_scores)]];
	}

	function backPanel() {
		const { d_scores } = gradients();
		const of = JSON.stringify([state, now.row]);
		if (checks?.of !== of) checks = { of };
		const check = (keys) => {
			derive();
			for (const k of keys) checks[k] = slopeAt(k);
			refresh();
		};
		const checked = unlessMasked((k) => button("", k in checks
			? `${short(checks[k], 3)}, off by ${short(Math.abs(checks[k] - d_scores[k]), 1)}` : "Check", () => check([k]),
			{ title: named(k) }));
		const listed = chief(d_scores, 30);
		const optionOf = (word) => [word, word];
		return [
			make("p.formula", "d_scores = weights ⊙ (d_weights − Σ d_weights · weights)"),
			now.run && chooser("Answer wanted", now.run.answers.map(({ word }) => optionOf(word)), wanted(),
				(answer) => set({ answer }), 4),
			chooser("Lines show", ["d_scores", "d_weights"].map(optionOf), state.gradient,
				(gradient) => set({ gradient, back: true })),
			!now.run && !now.layer.d_weights && hint("Click a key for the loss of another."),
			table(`Gradients; a check nudges the score both ways${some(listed)}`, listed,
				[keyLink, ...gradientColumns(), ["check", checked]]),
			lastMoment() && !isPast() && !state.cuts[0] && sizeOf(d_scores) < 1e-5
				&& button(".link", "Learned already: see it half-way",
					() => set({ snapshot: engine.snapshots.findIndex(({ accuracy }) => accuracy > 0.6) })),
			button("", "Verify all", () => check(listed.filter((k) => now.open[k]))), jacobian(),
		];
	}

	/** The softmax's Jacobian, diag(p) − ppᵀ. Its rows sum to zero where the weights sum to 1. */
	function jacobian() {
		const weights = weightsOf(now.one, now.row);
		const listed = chief(weights, 12);
		const at = (a, b) => weights[a] * ((a === b) - weights[b]);
		const most = greatest(listed.map((k) => at(k, k)));
		const tidy = (x) => (Math.abs(x) < 1e-6 ? "0" : short(x, 2));
		return table(`Softmax's Jacobian, diag(p) − ppᵀ${some(listed)}`, listed, [
			["weight", (a) => now.keys[a]],
			...listed.map((b) => [now.keys[b], (a) => make("td", leaning(at(a, b), most), tidy(at(a, b)))]),
			["sum", (a) => tidy(sum(Array.from(weights, (_, b) => at(a, b))))],
		]);
	}

	// -- training

	function outlines() {
		if (state.tab === "predict") return now.isHidden ? [] : [{ name: "guess", values: guessed() }];
		if (state.tab !== "training" || now.isBack || now.head !== now.one) return [];
		const before = tweaked({ snapshot: Math.max(0, moment() - 1) }).layers[now.at];
		return [{ name: "before", values: ofOne(rowOf, before.weights) }, { name: "push", values: pushed() }];
	}

	function pushed() {
		const { d_scores } = gradients();
		const most = sizeOf(d_scores) || 1; // moves its score by 1
		return softmax(Array.from(ofOne(scoresOf), (s, k) => s - d_scores[k] / most), ofOne(maskOf));
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
		const { snapshots } = engine;
		const { step, loss, accuracy } = snapshots[at];
		const goTo = (snapshot) => set({ snapshot }, stop());
		return [
			make("p.big", `Step ${step}: loss ${short(loss, 3)}, accuracy ${percent(accuracy)}`),
			slider("moment of training", 0, last, 1, at, goTo),
			button("", playing ? "Pause" : "Play", play),
			hint(`Dotted: one moment before. Dashed: where −d_scores pushes, 1 at most, for “${wanted()}”.`),
			plot("Loss", snapshots, "loss", at), plot("Accuracy", snapshots, "accuracy", at),
			answerBars(),
		];
	}

	// -- cut and see

	const isCut = (...entry) => state.cuts.some((cut) => same(cut, entry));

	/** What is cut already is mended. */
	const cut = (entries) => set({ cuts: [...state.cuts.filter((old) => !entries.some((entry) => same(entry, old))),
		...(entries.every((entry) => isCut(...entry)) ? [] : entries)] });

	/** Cuts a line of a head, or, where it is the mean's, of all. */
	function cutLine(key, head = now.head) {
		const some = head in heads() ? [Number(head)] : heads();
		if (engine && now.weights) cut(some.map((head) => [now.at, head, now.row, key]));
	}

	function cutPanel() {
		const whole = tweaked({ cutHeads: [], cutLines: [] });
		const word = wanted();
		const size = (run) => ([at, head]) => {
			const { d_scores } = gradientsOf(run).layers[at];
			return short(Math.hypot(...upTo(d_scores.shape[1]).flatMap((row) => [...rowOf(d_scores, head, row)])), 3);
		};
		const all = now.layers.flatMap((layer, at) => upTo(headCount(layer)).map((head) => [at, head]));
		const isAny = state.cuts.length > 0;
		return [
			hint("Untick a head, click a line, or press Delete on a key."),
			answerBars(isAny && whole),
			word && make("p", `Loss of “${word}”: `,
				isAny && `${short(whole.loss(word))} → `, short(now.run.loss(word))),
			table("Heads, and ‖d_scores‖ of each", all, [
				["head", ([at, head]) => make("label.tick", make("input", { type: "checkbox", checked: !isCut(at, head),
					onchange: () => cut([[at, head]]) }), headTitle(now.layers[at], head))],
				word && ["whole", size(whole)], word && isAny && ["cut", size(now.run)],
			]),
		];
	}

	// -- predict, then reveal

	function guess() {
		const of = [now.at, now.one, now.row];
		return same(state.guess?.of, of) ? state.guess : { of, by: {}, revealed: false };
	}

	const raw = (k) => (now.open[k] ? clamp(guess().by[k] ?? 50, 0, 100) : 0);
	const setGuess = (k, x) => set({ guess: { ...guess(), by: { ...guess().by, [k]: clamp(Math.round(x), 0, 100) } } });

	/** The reader's guess, as weights that sum to 1; what is masked gets none. */
	function guessed() {
		const total = sum(now.keys.map((_, k) => raw(k))) || 1;
		return now.keys.map((_, k) => raw(k) / total);
	}

	function predictPanel() {
		const [mine, of] = [guessed(), guess()];
		const listed = upTo(mine.length).filter((k) => now.open[k]);
		if (!listed.every((k) => isFinite(now.weights[k]))) return hint("Weights that aren't finite can't be guessed.");
		const columns = [["key", (k) => now.keys[k]], ["guess", (k) => share(mine[k])]];
		const sliderOf = (k) => slider(`Guess for ${named(k)}`, 0, 100, 1, raw(k), (x) => setGuess(k, x));
		if (now.isHidden) return [
			make("p.big", "Where does it look?"), hint("Drag keys up or down, or move sliders."),
			table("Your guess", listed, [...columns, ["more or less", sliderOf]]),
			button(".main", "Reveal", () => set({ guess: { ...of, revealed: true } })),
		];
		const [loss, flat] = [mine, mine.map(() => 1 / listed.length)].map((other) => divergence(now.weights, other));
		return [
			make("p.big", `KL(true ‖ guess) = ${share(loss)} nats`),
			make("p", `0 would be right${loss === Infinity ? "; ∞: a key that you gave nothing has some" : ""}. `,
				`All equal gives ${share(flat)} nats.`),
			table("True weights (lines), your guess (outlines)", listed, [...columns, ["true", weightCell[1]]]),
			button("", "Guess again", () => set({ guess: null })),
		];
	}

	// ---- pictures and files

	/** What is on screen, with styles written out. */
	function asSvg() {
		const { shown, lists, lines } = parts;
		const boxOf = (element) => {
			const [{ x, y, width, height }, origin] = [element, shown].map((one) => one.getBoundingClientRect());
			return { x: x - origin.x, y: y - origin.y, width, height };
		};
		const line = (element) => {
			const { fill, stroke, strokeWidth, strokeDasharray, fontSize } = getComputedStyle(element);
			const copy = element.cloneNode(true);
			Object.assign(copy.style,
				{ fill: plain(fill), stroke: plain(stroke), strokeWidth, strokeDasharray, fontSize, fontFamily: FONT });
			return copy;
		};
		const text = (element, { x, y, width, height }) => {
			const { fontWeight, fontSize, color } = getComputedStyle(element);
			const { textContent } = element;
			return shape("text", { x: x + width / 2, y: y + height / 2, dy: "0.35em", "text-anchor": "middle",
				"font-size": Math.min(parseFloat(fontSize), width / widthOf(textContent)), "font-family": FONT,
				"font-weight": fontWeight, fill: plain(color) }, textContent);
		};
		const drawn = (element) => {
			const [box, seen] = [element, element.closest(".ta-list") ?? shown].map(boxOf);
			const middle = box.y + box.height / 2 - seen.y;
			if (!box.width || middle < 0 || middle > seen.height) return [];
			if (element.matches("canvas")) return shape("image",
				{ ...box, href: element.toDataURL(), style: "image-rendering:pixelated" });
			if (!element.matches(".ta-word")) return text(element, box);
			const { backgroundColor, borderColor, borderStyle } = getComputedStyle(element);
			return shape("rect", { ...box, rx: 8, fill: plain(backgroundColor), stroke: plain(borderColor),
				"stroke-dasharray": borderStyle === "solid" ? "none" : "4 3" });
		};
		parts.other.scrollLeft = 0;
		const { height } = boxOf(shown);
		const width = Math.max(shown.clientWidth, parts.other.scrollWidth);
		return shape("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
			shape("rect", { width, height, fill: plain(getComputedStyle(parts.root).backgroundColor) }),
			shape("svg", boxOf(lists), Array.from(lines.querySelectorAll(":scope > :not(.ta-hit)"), line)),
			Array.from(shown.querySelectorAll(
				".ta-caption, .ta-word, span, canvas, b, td, th, caption, .ta-chip"),
			drawn));
	}

	function save(name, blob) {
		const link = make("a", { href: URL.createObjectURL(blob), download: `attention.${name}` });
		link.click();
		setTimeout(() => URL.revokeObjectURL(link.href), 1000);
	}

	const svgFile = () => new Blob([new XMLSerializer().serializeToString(asSvg())], { type: "image/svg+xml" });

	async function savePng() {
		const image = make("img", { src: URL.createObjectURL(svgFile()) });
		await image.decode();
		const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
		canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
		canvas.toBlob((blob) => save("png", blob));
		URL.revokeObjectURL(image.src);
	}

	const say = (text) => (parts.said.textContent = text);

	// ---- choosing

	function pickQuery(place) {
		if (rowAt(now.layer, place) < 0) return say(silence(place));
		preview = null;
		set({ selected: state.selected === place ? null : place });
	}

	function pickKey(place) {
		focus.keys = place;
		if (state.tab === "cut" && cutsOf(4)[0] && !now.open?.[place]) return cutLine(place);
		set({ key: state.key === place ? null : place });
		if (!parts.picture.hidden) bringIntoView("keys", place);
	}

	function showPreview(place) {
		if (preview === place) return;
		derive((preview = place));
		drawPicture();
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
		if (all.length > 3) chooseHead(all.at((all.indexOf(now.head) + by) % all.length));
	}

	const chooseHead = (head) => set({ head, ...(now.isOne && !Number.isInteger(head) && { back: false, tab: null }) });

	const showOr = (show) => set({ show: state.show === show ? "lines" : show });
	const turn = () => set({ back: !state.back });

	const KEYS = [
		["arrows", "another word; across: the other list"], ["Home End", "first, last word"],
		["Enter Space", "select; once more clears"],
		["[", "layer before", () => set({ layer: now.at && now.at - 1 })],
		["]", "layer after", () => set({ layer: now.at + 1 })],
		[", -", "head before", () => moveHead(-1)],
		[". + =", "head after", () => moveHead(1)],
		["a", "all heads", () => chooseHead("all")],
		["m", "the mean of heads", () => chooseHead("mean")],
		["g", "the grid of heads", () => showOr("grid")],
		["t", "as a table", () => showOr("table")],
		["b", "turn round: gradients", turn],
		["Delete Backspace", "cut the line to this key", (word) => word?.name === "keys" && cutLine(word.place)],
		["Escape", "clear the selection", () => set({ selected: (preview = null), key: null })],
		["?", "this help", () => parts.help.showModal()],
	];

	function keyDown(event) {
		const { key, target } = event;
		const isElsewhere = parts.help.open || !now.layer || target.matches("[type=text], select");
		if (event.ctrlKey || event.metaKey || event.altKey || isElsewhere) return;
		const word = wordAt(target);
		const action = (word && wordAction(key, word)) ?? KEYS.find(([keys]) => keys.split(" ").includes(key))?.[2];
		if (!action) return;
		event.preventDefault();
		event.stopPropagation(); // a notebook has keys of its own
		action(word);
	}

	const wordAt = (target) => target.closest?.(".ta-word")?.word;

	const queryAt = (word) => (word?.name === "queries" ? word.place : null);
	const pick = ({ name, place }) => (name === "keys" ? pickKey(place) : pickQuery(place));

	function wordAction(key, { name, place }) {
		if (key === "Enter" || key === " ") return pick;
		const [back, on] = layout.isRows ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
		const to = { Home: 0, End: Infinity, [back]: place - 1, [on]: place + 1 }[key];
		const other = name === "keys" ? ["queries", now.place ?? focus.queries] : ["keys", focus.keys];
		if (to === undefined && !key.startsWith("Arrow")) return null;
		return () => moveTo(...(to === undefined ? other : [name, to]));
	}

	// ---- start

	function drawTools() {
		Object.assign(parts.root.dataset, { theme: state.theme, stale: Boolean(asked?.problem) });
		parts.heading.textContent = reading?.title ?? data.title;
		parts.theme.textContent = `theme: ${state.theme}`;
		if (!now.layer) return;
		const choices = heads().map((head) => [head,
			`${headName(head)}${isCut(now.at, head) ? " (cut)" : ""}`, now.head === "all" && signOf(head)]);
		if (choices.length > 1) choices.push(["mean", "mean"], ["all", "all"]);
		fill(parts.tools, now.layers.length > 1 && chooser("Layer", now.layers.map(({ name }, at) => [at, name]), now.at,
				(layer) => set({ layer }), 4),
			choices.length > 1 && chooser("Head", choices, now.head, chooseHead, 10),
			make("div.choice", [["Grid", "grid"], ["As a table", "table"]].map(([text, show]) =>
				toggle(text, state.show === show, () => showOr(show))), toggle("Gradients", now.isBack, turn)));
	}

	function refresh() {
		const focused = document.activeElement;
		const isInside = parts.root.contains(focused);
		derive();
		drawTools();
		drawPanel();
		if (preview !== null) derive(preview);
		drawPicture();
		if (isInside && !focused.getClientRects().length) parts.root.focus({ preventScroll: true }); // keys stay here
		keepState();
	}

	function build() {
		const part = (what, ...inside) => (parts[what.split(".").at(-1)] = make(what, ...inside));
		const list = (name, does) => [`${name}: who ${does}`].map((ariaLabel) =>
			[make(`span.title.${name}`, ariaLabel), part(`div.list.${name}`, make("div", { ariaLabel }))]);
		const nextTheme = { auto: "light", light: "dark", dark: "auto" };
		parts.lines = shape("svg", { class: "ta-lines", "aria-hidden": true });
		parts.theme = button("", "", () => set({ theme: nextTheme[state.theme] }));
		parts.root = make(`section.view${isPage ? ".page" : ""}`, { ariaLabel: data.title, dir: "ltr", tabIndex: -1 },
			make("div.header", part(`${isPage ? "h1" : "h2"}.heading`, { dir: "auto" }), make("div.choice.menu",
				button("", "SVG", () => save("svg", svgFile())), button("", "PNG", savePng),
				parts.theme, button("", "Keys ?", () => parts.help.showModal()))),
			part("div.tools"), (data.notes ?? []).map((note) => make("p.note", note)),
			make("div.body",
				part("div.shown", part("p.caption"),
					part("div.picture", part("div.lists", list("queries", "asks"), list("keys", "is looked at"), parts.lines)),
					part("div.other"), part("div.told"), part("p.said", { role: "status" }),
					part("p.unseen.live", { ariaLive: "polite" })),
				make("div", part("div.choice.tabs", { role: "group", ariaLabel: "Panels" }),
					part("div.panel", { role: "region" }))),
			part("dialog.help", { ariaLabel: "Keys" },
				make("dl", KEYS.map(([keys, text]) => [make("dt", make("kbd", keys)), make("dd", text)])),
				button("", "Close", () => parts.help.close())));
		return parts.root;
	}

	function listen() {
		const { root, lists, shown } = parts;
		let drag; // a key, while guessing
		(isPage ? document.body : root).onkeydown = keyDown;
		lists.onclick = ({ target }) => {
			const [word, hit] = [wordAt(target), target.closest(".ta-hit")?.dataset];
			if (word) now.isHidden && word.name === "keys" || pick(word);
			else if (hit && state.tab === "cut") cutLine(Number(hit.key), hit.head);
			else if (hit) pickKey(Number(hit.key));
		};
		lists.onpointerdown = ({ target, clientY, pointerId }) => {
			const word = now.isHidden && wordAt(target);
			if (word?.name !== "keys") return;
			drag = { place: word.place, from: raw(word.place) + clientY / 2 };
			lists.setPointerCapture(pointerId);
		};
		lists.onlostpointercapture = () => (drag = null);
		lists.onpointermove = ({ target, clientY, pointerType }) => {
			if (drag) setGuess(drag.place, drag.from - clientY / 2);
			else if (pointerType === "mouse") showPreview(queryAt(wordAt(target)));
		};
		lists.onpointerleave = () => showPreview(null);
		shown.addEventListener("focusout", ({ relatedTarget }) => shown.contains(relatedTarget) || showPreview(null));
		lists.addEventListener("focusin", ({ target }) => {
			const word = wordAt(target);
			if (word) focus[word.name] = word.place;
			if (word?.name === "queries" && target.matches(":focus-visible")) showPreview(word.place); // keys leave the lines
		});
		for (const name of ["queries", "keys"]) parts[name].onscroll = () => (frame ??= requestAnimationFrame(() => {
			frame = null;
			if (!parts.picture.hidden) drawMoved();
		}));
	}

	const resizes = new ResizeObserver(() => lastWidth !== (lastWidth = parts.root.clientWidth) && refresh());
	/** Lays out anew for paper: lines are in px. */
	const print = ({ type }) => refresh((parts.root.style.width = type === "beforeprint" ? "680px" : ""));
	const readHash = () => isPage && hash() !== hashOf() && load(hash());

	function begin() {
		data = { title: "Attention", queries: [], layers: [], ...model.get("data") };
		[engine, focus, elements] = [model.get("engine"), { queries: 0, keys: 0 }, { queries: new Map(), keys: new Map() }];
		start = engine
			? { ...START, text: engine.examples[0], layer: data.layers.length - 1, head: "mean", tab: "edit" } : START;
		el.replaceChildren(build());
		parts.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's
		listen();
		load(isPage ? hash() : state ? hashOf() : "");
	}

	begin();
	resizes.observe(el);
	model.on?.("change:data", begin);
	for (const [name, act] of Object.entries({ beforeprint: print, afterprint: print, hashchange: readHash })) {
		window.addEventListener(name, act, ended);
	}
	return () => {
		stop();
		clearTimeout(keeping);
		resizes.disconnect();
		ended.abort();
		model.off?.("change:data", begin);
		parts.root.remove();
	};
}

export default { render };
