// The page of a computation graph: draws it, opens and closes its boxes, plays the passes forward and backward.
//
// A "node" is a value of the graph, a "box" a call of a module, or the inside of an operation.
// An "item" is what stands in the picture: a node, or a closed box. An open box is a "frame" around items.
// A "time" counts operations: each has one when it is computed, and one when it sends its gradients back.

const { nodes, boxes, rules, ...graph } = JSON.parse(document.getElementById("data").textContent);
for (const node of [...nodes, ...boxes.flatMap((box) => box.operation ?? [])]) {
	node.sums ??= [];
	for (const numbers of [node.value, node.gradient, node.seed, ...node.sums]) setGaps(numbers, node.shape);
	for (const source of node.sources) {
		if (source.gradient === "same") source.gradient = nodes[source.node].gradient;
		else setGaps(source.gradient, nodes[source.node].shape);
	}
}
const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

// ---- what the data says

const greatest = (numbers, least = 1) => numbers.reduce((most, x) => Math.max(most, x), least);
const sum = (numbers) => numbers.reduce((so_far, x) => so_far + x, 0);

/** The boxes around, innermost first. */
const around = (box) => (box === null ? [] : [box, ...around(boxes[box].parent)]);

/** What was removed belongs to an earlier graph: it stands in the picture, and takes no part in the passes. */
const isLive = (i) => nodes[i].change !== "removed";

const members = boxes.map(() => []); // the nodes in each box, at any depth
const users = nodes.map(() => []); // for each node, where it goes: [node, place among that one's sources]
nodes.forEach((node, i) => {
	for (const box of around(node.box)) members[box].push(i);
	node.sources.forEach((source, k) => {
		if (isLive(i) || !isLive(source.node)) users[source.node].push([i, k]);
	});
});
const operations = [...nodes.keys()].filter((i) => nodes[i].kind === "operation" && isLive(i));
const senders = operations.filter((i) => nodes[i].sources.some((source) => source.gradient)).reverse();
const roots = [...nodes.keys()].filter((i) => nodes[i].seed && isLive(i));
const failure = nodes.find((node) => node.failed);

const madeAt = nodes.map(() => 0); // leaves are there from the start
operations.forEach((i, n) => (madeAt[i] = n + 1));
const seedTime = operations.length + 1; // when the gradient of the root appears
const sentAt = nodes.map(() => 0); // 0: never
senders.forEach((i, n) => (sentAt[i] = seedTime + 1 + n));
const endTime = seedTime + (senders.length && senders.length + 1); // everything is shown

const sourceOf = ([i, k]) => nodes[i].sources[k];
const sends = (edge) => sourceOf(edge).gradient !== null;
/** What a node's gradient is the sum of, as it arrives: what backward starts with, and what comes over its edges. */
const arrivals = nodes.map(({ seed }, i) => {
	const back = users[i].filter(sends).map((edge) => ({ time: sentAt[edge[0]], gradient: sourceOf(edge).gradient }));
	const all = [...(seed ? [{ time: seedTime, gradient: seed }] : []), ...back];
	return isLive(i) ? all.sort((a, b) => a.time - b.time) : [];
});
const shownAt = nodes.map((_, i) => (isLive(i) ? madeAt[i] : endTime));
const wholeAt = nodes.map((_, i) => (isLive(i) ? greatest(arrivals[i].map(({ time }) => time), seedTime) : endTime));

// ---- words and numbers

/** Before which rows of cells another matrix begins, in an array of more than two dimensions. */
function setGaps(numbers, shape) {
	const sizes = shape.match(/\d+/g)?.map(Number) ?? [];
	if (!numbers?.cells || sizes.length < 3 || sizes.at(-2) < 2) return;
	const { length } = numbers.cells;
	const n = sizes.slice(0, -1).reduce((product, size) => product * size);
	const begins = numbers.cells.map((_, r) => Math.floor((r * n) / length) % sizes.at(-2) === 0);
	const gaps = [...begins.keys()].filter((r) => r && begins[r]);
	if (gaps.length + 1 === n / sizes.at(-2)) numbers.gaps = gaps; // else blocks reach from one into the next
}

/** The number of numbers in an array of this shape. */
const sizeOf = (shape) => (shape.match(/\d+/g) ?? []).reduce((size, n) => size * n, 1);

/** As Python's `%.4g`. */
function short(x, digits = 4) {
	if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
	const [mantissa, power] = x.toExponential(digits - 1).split("e").map(Number);
	if (power >= -4 && power < digits) return String(Number(x.toPrecision(digits)));
	return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

/** The number that stands in the data as text; NaN for what isn't a real number. */
const parsed = (text) => Number(`${text}`.replace("inf", "Infinity"));

function scaled(x, step, units) {
	const place = units.findIndex((_, n) => x < step ** (n + 1) * 0.9995);
	return short(x / step ** place, 3) + units[place];
}
const amount = (n) => `${scaled(n, 1000, ["", " k", " M", " G", " T"])} FLOP`;
const bytes = (n) => scaled(n, 1024, [" B", " KB", " MB", " GB", " TB"]);
const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const listed = (items) => new Intl.ListFormat("en").format(new Set(items.map(wordsOf)));

/** The number in the table; that of a box is the one of what comes out of it. */
const numberOf = ({ node, members }) => `#${(node ?? members.at(-1)) + 1}`;

/** What an item is called: an operation by its given name, too. */
function titleOf({ record: { title, name, kind } }) {
	return kind === "operation" && name && name !== title ? `${name} (${title})` : title;
}

/** What an item is called where others stand beside it: those of the same title have numbers. */
const wordsOf = (item) => (drawn.titles.get(titleOf(item)) > 1 ? `${titleOf(item)} ${numberOf(item)}` : titleOf(item));

/** What an operation raised; its own name at the start is told anyway. */
const failureOf = ({ failed, title }) => (failed.startsWith(`${title}: `) ? failed.slice(title.length + 2) : failed);

function range({ least, most, areEqual }) {
	const [first, last] = [least, most].map((x) => short(x, 3));
	return areEqual ? `all ${first}` : `${first} … ${last}`;
}

/** Numbers on a line. */
function told(numbers) {
	if (!numbers) return "";
	const { rows, mean, note } = numbers;
	if (note && mean === undefined) return note;
	const isConstant = numbers.least === numbers.most;
	if (!rows) return mean === null ? "nothing finite" : range(numbers) + (isConstant ? "" : `, mean ${short(mean, 3)}`);
	const lines = rows.map((row) => row.join(" "));
	return lines.length > 1 ? lines.map((line) => `[${line}]`).join(" ") : lines[0];
}

/** The sum of gradients: of numbers, or of the means of blocks, which add up as well. Null where one isn't a number. */
function sumOf(gradients, note = "sum so far") {
	if (gradients.length < 2) return gradients[0] ?? null;
	const added = (all, add) => all[0].map((row, r) => row.map((_, c) => add(all.map((rows) => rows[r][c]))));
	const all = gradients.map(({ rows, cells }) => rows ?? cells);
	const { rows: isFew, gaps } = gradients[0];
	if (!isFew) return { cells: added(all, (cells) => (cells.includes(null) ? null : sum(cells))), gaps, note };
	const rows = added(all, (texts) => short(sum(texts.map(parsed))));
	return rows.flat().includes("nan") ? null : { rows };
}

// ---- elements

/** A new element, as `make("p.kind", { title }, child, ...)`. Strings become text: no data is ever read as markup. */
function make(what, ...parts) {
	const [tag, ...classes] = what.split(".");
	const element = document.createElement(tag);
	element.className = classes.join(" ");
	for (const part of parts.flat(2).filter(Boolean)) {
		if (part.constructor === Object) Object.assign(element, part);
		else element.append(part);
	}
	return element;
}

const button = (what, text, onclick, label = null) => make(`button${what}`, { onclick, ariaLabel: label }, text);
const link = (text, key) => button(".link", text, () => select(key));
const linkTo = (item) => link(wordsOf(item), item.key);

function makeShape(tag, className, d) {
	const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
	element.setAttribute("class", className);
	if (d) element.setAttribute("d", d);
	return element;
}

/** Blue below 0, orange above; `most` is how strong it gets. */
function heatOf(x, top, most = 1) {
	const share = top && Number.isFinite(x) ? (most * Math.abs(x)) / top : 0;
	return `rgb(${x > 0 ? "224 107 16" : "47 117 198"} / ${share})`;
}

const topOf = (numbers) => greatest(numbers.filter(Number.isFinite).map(Math.abs), 0);

/**
 * A heat map, `side` pixels a cell; cells that hold anything not finite are crossed out. Arrays of more than two
 * dimensions are matrices below each other, with gaps between them.
 */
function heatMap({ cells, gaps = [] }, side, label) {
	const GAP = 2;
	const [width, height] = [cells[0].length * side, cells.length * side + gaps.length * GAP];
	const canvas = make("canvas", { width: 2 * width, height: 2 * height, role: "img", ariaLabel: label }); // 2: sharp
	canvas.style.width = `${width}px`;
	const brush = canvas.getContext("2d");
	brush.scale(2, 2);
	const top = topOf(cells.flat());
	cells.forEach((row, r) =>
		row.forEach((x, c) => {
			const place = [c * side, r * side + gaps.filter((gap) => gap <= r).length * GAP, side, side];
			brush.fillStyle = heatOf(x, top);
			brush.fillRect(...place);
			if (x === null) cross(brush, ...place);
		}),
	);
	return canvas;
}

function cross(brush, x, y, width, height) {
	brush.strokeStyle = "#e00000";
	brush.strokeRect(x, y, width, height);
	brush.stroke(new Path2D(`M${x} ${y}l${width} ${height}m0 ${-height}l${-width} ${height}`));
}

function matrix(rows, caption) {
	const values = rows.flat().map((x) => (x === null ? NaN : parsed(x)));
	const top = values.length > 1 ? topOf(values) : 0;
	const cell = (x) => {
		const td = make("td", x === null ? "×" : typeof x === "string" ? x : short(x, 3));
		td.style.background = heatOf(x === null ? 0 : parsed(x), top, 0.36);
		return td;
	};
	return make("table.matrix", caption && make("caption", caption), rows.map((row) => make("tr", row.map(cell))));
}

const longest = (cells) => greatest([cells.length, cells[0].length]);
function scrolling(table, label, kind = "") {
	return make(`div.scroll.${kind}`, { tabIndex: 0, role: "group", ariaLabel: label }, table);
}

function smallNumbers(numbers) {
	const { rows, cells, mean, note } = numbers;
	if (rows) return [matrix(rows)];
	return [heatMap(numbers, longest(cells) > 8 ? 4 : 6, ""), make("small", note ?? (mean !== null && range(numbers)))];
}

/** "a + b = sum", number by number where they are few, and else as small maps; "" where nothing is added yet. */
function addends(arrived, total) {
	if (arrived.length < 2 || !total) return "";
	const all = arrived.map(({ gradient }) => gradient);
	const minus = (x) => x.replaceAll("-", "−");
	const term = (x, n) => (n && x.startsWith("-") ? `(${minus(x)})` : minus(x));
	if (total.rows && total.rows.flat().length <= 6 && all.length <= 4) {
		const terms = (r, c) => all.map(({ rows }, n) => term(rows[r][c], n)).join(" + ");
		return total.rows.flatMap((row, r) => row.map((x, c) => make("div", `${terms(r, c)} = ${minus(x)}`)));
	}
	const asMap = (rows) => ({ cells: rows.map((row) => row.map(parsed)) });
	const map = (numbers) => {
		const small = numbers.rows ? asMap(numbers.rows) : numbers;
		return heatMap(small, Math.max(3, Math.floor(24 / longest(small.cells))), "");
	};
	const first = all.slice(0, 5).flatMap((gradient, n) => (n ? ["+", map(gradient)] : [map(gradient)]));
	return all.length > 5 ? [...first, "+ …"] : first;
}

// ---- what is drawn

/** What is drawn while these boxes are open: items in forward order, the edges between them, frames around them. */
function drawnWith(open) {
	const closed = []; // for each box the outermost closed one around it, itself included
	boxes.forEach(({ parent }, b) => closed.push(closed[parent] ?? (open.has(b) ? null : b)));
	const byKey = new Map();
	const itemOf = nodes.map((node, i) => {
		const box = closed[node.box] ?? null;
		const key = box === null ? `n${i}` : `b${box}`;
		if (!byKey.has(key)) byKey.set(key, { key, box, outOf: [], ...(box === null ? asItem(i) : fromBox(box)) });
		return byKey.get(key);
	});
	const items = [...byKey.values()].sort(inOrder);
	for (const item of items) item.into = edgesInto(item, itemOf);
	const edges = items.flatMap((item) => item.into);
	for (const edge of edges) edge.from.outOf.push(edge);
	const opened = [...boxes.keys()].filter((b) => closed[b] === null && members[b].length);
	const frames = opened.map((b) => ({ key: `b${b}`, box: b, isFrame: true, into: [], outOf: [], ...fromBox(b) }));
	for (const frame of frames) byKey.set(frame.key, frame);
	const titles = new Map();
	for (const title of [...items, ...frames].map(titleOf)) titles.set(title, (titles.get(title) ?? 0) + 1);
	return { items, edges, frames, byKey, itemOf, titles };
}

const inOrder = (a, b) => a.members.at(-1) - b.members.at(-1); // each after what it needs
const withLive = (item) => ({ ...item, live: item.members.filter(isLive) });
const asItem = (i) => withLive({ node: i, record: nodes[i], parent: nodes[i].box, members: [i] });
const fromBox = (b) =>
	withLive({ node: records[b].output, record: records[b], parent: boxes[b].parent, members: members[b] });

/** Others may be meant: zeros, as a bias at the start, and the infinities of a mask. */
const isAlarm = ({ alarms }, mark) => alarms.includes(mark);

/** What is odd about a node, and alarming in a box whose output it is: each with the time from which it can be known. */
function oddities(inside, output) {
	const found = new Map();
	for (const i of inside) {
		const node = nodes[i];
		const add = (text, isBad, from) => {
			const known = found.get(text) ?? { text, isBad: false, from: Infinity };
			found.set(text, { text, isBad: isBad || known.isBad, from: Math.min(from, known.from) });
		};
		for (const mark of node.marks) {
			if (i !== output && !isAlarm(node, mark)) continue;
			const text = i === output || mark.startsWith("inside: ") ? mark : `inside: ${mark}`;
			add(text, isAlarm(node, mark), mark.includes("gradient ") ? wholeAt[i] : shownAt[i]);
		}
		if (node.failed) add(`failed: ${i === output ? failureOf(node) : node.failed}`, true, shownAt[i]);
	}
	for (const text of [...found.keys()]) found.delete(`inside: ${text}`); // it's told already
	return [...found.values()];
}
nodes.forEach((node, i) => (node.oddities = oddities([i], i)));

/** What each box says as a node. Its numbers are those of its output, if it has just one. */
const records = boxes.map((box, b) => {
	const inside = members[b].some(isLive) ? members[b].filter(isLive) : members[b];
	const within = new Set(inside);
	const all = inside.map((i) => nodes[i]);
	const isUsedOutside = (i) => users[i].some(([user]) => !within.has(user));
	const outputs = inside.filter((i) => nodes[i].isRoot || !users[i].length || isUsedOutside(i));
	const output = outputs.length === 1 ? outputs[0] : null;
	const n_operations = all.filter((node) => node.kind === "operation").length;
	const last = nodes[output ?? inside.at(-1)];
	const change = changeOf(members[b].map((i) => nodes[i]));
	const common = { output, n_operations, uses: last?.uses, oddities: oddities(inside, output), ...change };
	if (box.operation) return { ...box.operation, ...common };
	return {
		...last,
		...common,
		...(output === null && { shape: count(outputs.length, "output"), value: null, gradient: null, name: "" }),
		kind: box.isRule ? "operation" : "box",
		rule: box.isRule && box.type,
		title: box.name || box.type,
		options: box.name && box.type,
		bytes: sum(all.map((node) => (node.kind === "operation" ? node.bytes : 0))),
		flops: sum(all.map((node) => node.flops)),
		failed: all.map((node) => node.failed).find(Boolean) ?? "",
		sources: [],
	};
});

/** What a closed box says of the differences in it: all was added, all was removed, or how many of its nodes. */
function changeOf(inside) {
	const kinds = ["added", "removed", "changed"].filter((kind) => inside.some((node) => node.change === kind));
	if (!kinds.length) return { change: "", difference: "" };
	if (kinds.length === 1 && inside.every((node) => node.change)) return { change: kinds[0], difference: "" };
	const told = kinds.map((kind) => `${inside.filter((node) => node.change === kind).length} ${kind}`);
	return { change: "changed", difference: `inside: ${told.join(", ")}` };
}

/** The edges into an item. What a closed box takes several times from the same item is one edge. */
function edgesInto(item, itemOf) {
	const edge = (source, parts) => ({ from: itemOf[source.node], to: item, source, parts });
	const { sources } = item.record;
	if (item.box === null) return sources.map((source, k) => edge(source, [[item.node, k]]));
	const all = item.members.flatMap((i) => nodes[i].sources.map((_, k) => [i, k]));
	const partsOf = (source) => all.filter((part) => sourceOf(part).node === source.node);
	if (sources.length) return sources.map((source) => edge(source, partsOf(source)));
	const fromOf = (part) => itemOf[sourceOf(part).node];
	return [...new Set(all.map(fromOf))].filter((from) => from !== item).map((from) => {
		const parts = all.filter((part) => fromOf(part) === from);
		const given = parts.map(sourceOf);
		const [carries, saved] = ["carries", "saved"].map((key) => given.some((source) => source[key]));
		const gradient = given.length > 1 ? null : given[0].gradient;
		return edge({ node: given[0].node, role: "", carries, saved, gradient, jacobian: null }, parts);
	});
}

// ---- layout
//
// Each open box is laid out on its own, the innermost first, and is then one item of the level around it. On a level
// items stand in rows. What an item gives to others is a "signal": it runs down through a free lane in each row, so
// that no line crosses a node. A signal enters and leaves boxes through ports.

const MOST_ROLES = 4; // that are told on the face of a node
const IN_ORDER = ["matmul", "subtract", "divide", "power"]; // whose inputs can't change places
const [GAP_ACROSS, GAP_DOWN, LANE, PADDING, HEADER, SWEEPS] = [24, 26, 14, 16, 30, 12];

/** Gives every item and frame its x and y, and every edge the points it runs through. Sizes must be known. */
function layOut(drawn) {
	const levels = levelsOf(drawn);
	const depth = (frame) => around(frame.box).length;
	for (const frame of [...drawn.frames].sort((a, b) => depth(b) - depth(a))) {
		const level = levels.get(frame.box);
		arrange(level);
		frame.width = Math.max(level.width + 2 * PADDING, frame.width + PADDING); // not less than its header
		frame.height = HEADER + level.height + PADDING;
		level.dx = (frame.width - level.width) / 2;
		frame.entries = new Map();
		frame.exits = new Map();
		for (const { source, from, start, exit } of level.signals.values()) {
			if (!from) frame.entries.set(source, start.x + level.dx);
			if (exit) frame.exits.set(source, exit.x + level.dx);
		}
	}
	const top = levels.get(null);
	arrange(top);
	settle(top, 0, 0, levels);
	for (const edge of drawn.edges) edge.points = pointsOf(edge);
	drawn.items.forEach(spreadArrows);
	[drawn.width, drawn.height] = [top.width, top.height];
}

/** For each open box, and null for the outermost level: its items, and the signals that run in it. */
function levelsOf({ items, frames, edges, byKey }) {
	const newLevel = (box) => [box, { items: [], signals: new Map() }];
	const levels = new Map([null, ...frames.map((frame) => frame.box)].map(newLevel));
	for (const item of [...items, ...frames].sort(inOrder)) levels.get(item.parent).items.push(item);
	const run = (edge, box, from, to) => {
		const level = levels.get(box);
		const { signals } = level;
		if (!signals.has(edge.from)) signals.set(edge.from, { source: edge.from, from, to: new Map() });
		const signal = signals.get(edge.from);
		if (!to) signal.leaves = true;
		else if (!signal.to.has(to)) signal.to.set(to, edge.to.into.indexOf(edge));
		edge.legs.push({ level, signal, to });
	};
	for (const edge of edges) {
		edge.legs = [];
		const [left, entered] = [edge.from, edge.to].map((item) => around(item.parent).map((box) => byKey.get(`b${box}`)));
		let common = null;
		while (left.length && left.at(-1) === entered.at(-1)) [common] = [left.pop().box, entered.pop()];
		const path = [...entered.reverse(), edge.to];
		left.forEach((frame, n) => run(edge, frame.box, left[n - 1] ?? edge.from, null));
		path.forEach((to, n) => run(edge, n ? path[n - 1].box : common, n ? null : left.at(-1) ?? edge.from, to));
	}
	return levels;
}

function arrange(level) {
	level.ranks = ranksOf(level);
	level.rows = rowsOf(level);
	orderRows(level.rows);
	setAcross(level);
	setDown(level);
}

/** The row of each item: below all that it needs, and, with one line into it at most, right above its first user. */
function ranksOf({ items, signals }) {
	const needs = new Map(items.map((item) => [item, []]));
	for (const { from, to } of signals.values()) {
		for (const item of to.keys()) needs.get(item).push(from);
	}
	const ranks = new Map(); // from 1 on: row 0 is for ports
	const rankOf = (item) => ranks.get(item) ?? 0;
	for (const item of items) {
		item.isLight = !needs.get(item).length && !item.isFrame; // it goes where its users want it, and doesn't move them
		ranks.set(item, 1 + greatest(needs.get(item).map(rankOf), 0));
	}
	const last = greatest([...ranks.values()]);
	for (const item of [...items].reverse()) {
		const users = [...(signals.get(item)?.to.keys() ?? [item])];
		const isFree = !item.isFrame && needs.get(item).filter((from) => !from?.isLight).length < 2;
		const above = Math.min(last, ...users.map((user) => rankOf(user) - 1));
		if (isFree) ranks.set(item, Math.max(rankOf(item), above));
	}
	return ranks;
}

const newSlot = (item = null) => ({ item, width: item?.width ?? LANE, height: item?.height ?? 0, x: 0, links: [] });

/** Rows of slots: one for each item, and one for each lane of a signal. */
function rowsOf({ items, signals, ranks }) {
	const rows = Array.from({ length: greatest([...ranks.values()]) + 2 }, () => []);
	const add = (row, item) => rows[row][rows[row].push(newSlot(item)) - 1];
	const slots = new Map(items.map((item) => [item, add(ranks.get(item), item)]));
	for (const signal of signals.values()) {
		const { from, source } = signal;
		const first = from ? ranks.get(from) : 0;
		signal.start = from ? slots.get(from) : add(0);
		const ends = [...signal.to].map(([item, place]) => [ranks.get(item), slots.get(item), place]);
		if (signal.leaves) {
			signal.exit = add(rows.length - 1);
			ends.push([rows.length - 1, signal.exit, 0]);
		}
		signal.lanes = new Map([[first, signal.start]]); // one in each row, down to the last where it's needed
		for (let row = first + 1; row < greatest(ends.map(([row]) => row)); row++) {
			signal.lanes.set(row, add(row));
			join(signal.lanes.get(row - 1), signal.lanes.get(row), source, 0);
		}
		for (const [row, slot, place] of ends) join(signal.lanes.get(row - 1) ?? signal.start, slot, source, place);
	}
	return rows;
}

function join(upper, lower, source, place) {
	const isChain = upper.item && lower.item && !upper.item.isLight;
	const weight = isChain ? 1 : upper.item || lower.item ? 0.2 : 6; // long lines, and then chains, are to be straight
	const shift = portOf(upper.item, "exits", source) - portOf(lower.item, "entries", source);
	const tie = shift * 1e-6 - place * 1e-8; // arguments in their order
	upper.links.push({ isDown: true, to: lower, weight, shift: -shift, tie: -tie });
	lower.links.push({ isDown: false, to: upper, weight, shift, tie });
}

/** A port's place, from the middle of the item. */
const portOf = (item, side, source) => (item?.isFrame ? item[side].get(source) - item.width / 2 : 0);

/** Orders the slots of each row so that few lines cross: each to the middle of its neighbours, down and up in turn. */
function orderRows(rows) {
	const number = (row) => row.forEach((slot, n) => (slot.place = (n + 0.5) / row.length));
	rows.forEach(number);
	for (let sweep = 0; sweep < SWEEPS; sweep++) {
		const isUp = sweep % 2 === 1;
		for (const row of isUp ? [...rows].reverse() : rows) {
			for (const slot of row) {
				const places = slot.links.filter((link) => link.isDown === isUp).map((link) => link.to.place + link.tie);
				slot.wish = places.length ? sum(places) / places.length : slot.place;
			}
			row.sort((a, b) => a.wish - b.wish);
			number(row);
		}
	}
}

/** Moves slots towards those they are linked to, row by row, down and up, and lastly to both sides. */
function setAcross(level) {
	for (const row of level.rows) spread(row, row.map(() => [0, 1]));
	for (let pass = 0; pass < 10; pass++) {
		const isUp = pass % 2 === 1;
		const wish = (slot) => {
			const links = slot.links.filter((link) => pass > 5 || link.isDown === isUp);
			const weight = sum(links.map((link) => link.weight));
			const wishes = links.map((link) => (link.to.x + link.shift) * link.weight);
			return weight ? [sum(wishes) / weight, weight] : [slot.x, 0.01];
		};
		for (const row of isUp ? [...level.rows].reverse() : level.rows) spread(row, row.map(wish));
	}
	const slots = level.rows.flat();
	const left = greatest(slots.map((slot) => slot.width / 2 - slot.x), -Infinity);
	for (const slot of slots) slot.x += left;
	level.width = greatest(slots.map((slot) => slot.x + slot.width / 2));
}

/**
 * Puts the slots of a row as near as possible to where they want to be, without overlap. It's a regression to a row
 * that grows: slots that would overlap become a block, which stands at the mean of their wishes.
 */
function spread(row, wishes) {
	const blocks = [];
	let offset = 0;
	row.forEach((slot, n) => {
		const before = row[n - 1];
		if (n) offset += (before.width + slot.width) / 2 + (slot.item || before.item ? GAP_ACROSS : 0);
		const [x, weight] = wishes[n];
		slot.offset = offset;
		let block = { x: x - offset, weight, slots: [slot] };
		while (blocks.length && blocks.at(-1).x > block.x) {
			const other = blocks.pop();
			const both = other.weight + block.weight;
			const x = (other.x * other.weight + block.x * block.weight) / both;
			block = { x, weight: both, slots: [...other.slots, ...block.slots] };
		}
		blocks.push(block);
	});
	for (const { x, slots } of blocks) {
		for (const slot of slots) slot.x = x + slot.offset;
	}
}

/** Where each row begins and ends: further apart where lines have far to go sideways. */
function setDown(level) {
	let y = 0;
	for (const row of level.rows) {
		row.top = y;
		row.bottom = y + greatest(row.map((slot) => slot.height), 0);
		const down = row.flatMap(({ x, links }) => links.filter((link) => link.isDown).map((link) => ({ x, ...link })));
		const sideways = down.map(({ x, to, shift }) => Math.abs(x - to.x - shift));
		y = row.bottom + (sideways.length && GAP_DOWN + Math.min(60, greatest(sideways) / 8));
	}
	level.height = y;
}

/** From places on a level to places on the page. */
function settle(level, x, y, levels) {
	for (const row of level.rows) {
		row.top += y;
		row.bottom += y;
		for (const slot of row) {
			slot.x += x;
			const { item } = slot;
			if (!item) continue;
			item.x = slot.x - item.width / 2;
			item.y = item.isLight ? row.bottom - item.height : row.top;
			if (!item.isFrame) continue;
			const inner = levels.get(item.box);
			settle(inner, item.x + inner.dx, item.y + HEADER, levels);
		}
	}
}

/** The points an edge runs through; at each it is vertical from `top` to `bottom`, and between them it's a curve. */
function pointsOf(edge) {
	const points = [];
	for (const { level, signal, to } of edge.legs) {
		const { start, lanes, source, exit } = signal;
		const end = to ? level.ranks.get(to) : level.rows.length - 1;
		for (const [r, slot] of lanes) {
			if (r >= end && slot !== start) break;
			const { top, bottom } = level.rows[r];
			const x = slot.x + portOf(slot.item, "exits", source);
			points.push({ x, top: slot.item ? slot.item.y + slot.item.height : top, bottom });
		}
		const { top } = level.rows[end];
		if (to) points.push({ x: to.x + to.width / 2 + portOf(to, "entries", source), top, bottom: to.y });
		else points.push({ x: exit.x, top, bottom: top });
	}
	return points;
}

/** Arrows that reach an item stand beside each other: in the order in which they come, or in that of the arguments. */
function spreadArrows({ into, width, record }) {
	const comesFrom = (edge) => edge.points.at(-2).x;
	const sorted = [...into].sort((a, b) => comesFrom(a) - comesFrom(b));
	if (IN_ORDER.includes(record.rule) && record.sources.length) sorted.splice(0, sorted.length, ...into);
	const step = Math.min(width / sorted.length, 60);
	sorted.forEach((edge, n) => {
		edge.shift = (n - (sorted.length - 1) / 2) * step; // of the arrow from the middle of the item
		edge.points.at(-1).x += edge.shift;
	});
}

function curveThrough(points) {
	const at = (...place) => place.map((x) => Math.round(x * 10) / 10).join(" ");
	let path = `M${at(points[0].x, points[0].top)}`;
	points.forEach(({ x, top, bottom }, n) => {
		if (n) {
			const before = points[n - 1];
			const half = Math.max((top - before.bottom) / 2, 8);
			path += `C${at(before.x, before.bottom + half, x, top - half, x, top)}`;
		}
		if (bottom > top) path += `V${at(bottom)}`;
	});
	return path;
}

// ---- drawing

const state = { open: new Set(), selected: null, time: endTime };
let drawn; // what stands in the picture
let stops; // the times at which something happens in it
const elements = new Map(); // of items and frames, made once

function redraw() {
	drawn = drawnWith(state.open);
	stops = stopsOf(drawn);
	state.time = stops[stopNow()].time; // or a box that was closed in the middle would have sent half of its gradients
	const { items, frames, edges } = drawn;
	if (state.selected && !drawn.byKey.has(state.selected)) state.selected = standsFor(state.selected).key;
	page.frames.replaceChildren(...frames.map((frame) => elementOf(frame).area));
	page.items.replaceChildren(...[...frames, ...items].map((item) => elementOf(item).whole));
	measure();
	layOut(drawn);
	for (const item of [...frames, ...items]) putInPlace(item);
	page.edges.replaceChildren(...edges.map(edgeElement));
	page["close-all"].disabled = !frames.length;
	page["open-all"].disabled = page["open-level"].disabled = items.every((item) => item.box === null);
	update();
}

/** What is drawn in the place of a node or a box. */
const standsFor = (key) => drawn.itemOf[key[0] === "n" ? key.slice(1) : members[key.slice(1)][0]];

function elementOf(item) {
	const key = item.key + (item.isFrame ? " open" : "");
	if (!elements.has(key)) elements.set(key, item.isFrame ? frameElement(item) : itemElement(item));
	return elements.get(key);
}

/** Sizes are read all at once, before anything is moved, and kept. */
function measure() {
	page.graph.classList.remove("far");
	for (const item of [...drawn.items, ...drawn.frames]) {
		const element = elementOf(item);
		const { area, whole } = element;
		element.size ??= item.isFrame ? [whole.offsetWidth, 0] : [area.offsetWidth + 1, area.offsetHeight];
		[item.width, item.height] = element.size;
		if (item.isFrame) [item.header] = element.size;
	}
}

function put({ style }, given) {
	for (const [name, x] of Object.entries(given)) style[name] = `${x}px`;
}

function putInPlace(item) {
	const { x, y, width, height, isFrame, into } = item;
	const { whole, area, roles } = elementOf(item);
	put(whole, { left: x, top: isFrame ? y + 3 : y });
	put(area, isFrame ? { left: x, top: y, width, height } : { width, height });
	if (isFrame) return put(whole, { left: x + besidePorts(item) });
	const letters = greatest(titleOf(item).split(WORD_END).map((part) => part.length));
	area.style.setProperty("--far", `${Math.min(21, width / letters / 0.68)}px`); // a title isn't broken inside words
	roles.forEach((role, k) => put(role, { left: width / 2 + into[k].shift }));
}

/** Where the header of a frame stands: where no line comes in, if there is such a place. */
function besidePorts({ entries, width, header }) {
	const ports = [...entries.values()];
	const isFree = (x) => x + header < width && ports.every((port) => port < x - 4 || port > x + header + 4);
	return [3, ...ports.map((port) => port + 8)].find(isFree) ?? 3;
}

function frameElement({ box: b, key }) {
	const { name, type, isRule } = boxes[b];
	const title = name || (isRule ? `inside ${type}` : type);
	const toggle = button(".toggle", "−", () => toggleBox(b), `Close ${title}`);
	const text = button(".name", [make("b", title), name && ` ${type}`], () => select(key));
	return { area: make(isRule ? "div.frame.rule" : "div.frame", { id: key }), whole: make("div.header", toggle, text) };
}

function itemElement(item) {
	const { record, key, box } = item;
	const { kind, title, name, change } = record;
	const roles = rolesOf(item);
	const parts = partsOf(item);
	const word = box !== null ? count(record.n_operations, "operation") : kind === "operation" ? name : kind;
	const area = make(
		`div.node.${kind}.${change}`,
		{
			role: "button",
			tabIndex: 0,
			id: key,
			onclick: () => choose(item),
			onpointerenter: () => showRoles(key),
			onpointerleave: () => showRoles(state.selected),
		},
		roles,
		make("div.title", breakable(title)),
		word !== title && word && make("div.word", word),
		record.options && make("div.word", record.options),
		!record.failed && make("div.word", `${record.shape} ${record.dtype}`),
		make("div.figures", parts.value, parts.gradient),
		parts.arrived,
		parts.addends,
		parts.marks.map(({ element }) => element),
		changeMark(record),
		savesOutput(item) && make("span.saved", { title: "its output is saved for backward" }),
	);
	const longest = greatest(roles.map((role) => role.textContent.length), 0);
	put(area, { minWidth: Math.max(100, 24 + 6 * roles.length * longest) });
	const toggle = box !== null && button(".toggle", "+", () => toggleBox(box), `Open ${title}`);
	return { whole: make("div.item", area, toggle), area, roles, parts };
}

/** Long names may break after their dots and underscores. */
const WORD_END = /(?<=[._])|\s/;
const breakable = (text) => text.split(/(?<=[._])/).flatMap((part) => [part, make("wbr")]);

const byLength = (a, b) => b.length - a.length; // the longest first

/** What changes on a node while it plays. Gradients leave room for the widest of the running sums. */
function partsOf(item) {
	const { record, node } = item;
	const figure = (word, x) => x && make(`div.figure.${word}`, make("span.word", word), smallNumbers(x));
	const parts = node === null ? [] : arrivals[node];
	const sums = parts.slice(0, 9).map((_, n) => sumSoFar(node, n + 1)?.rows ?? []);
	const gradient = figure("gradient", record.gradient);
	gradient?.style.setProperty("--widest", `${greatest(sums.flat(2).map((text) => text.length)) + 1}ch`);
	const isInTitle = record.value?.rows?.[0][0] === record.title; // the number of a constant
	const isSum = gradient && parts.length > 1;
	const marks = record.oddities.map((odd) => ({ ...odd, element: markOf(odd) }));
	return {
		value: !isInTitle && figure("value", record.value),
		gradient,
		arrived: isSum && make("div.arrived", [1, parts.length].map((here) => arrivedText(item, here)).sort(byLength)[0]),
		addends: isSum && make("div.addends", addends(parts, record.gradient)),
		marks,
	};
}

/** The names of arguments, which stand where their arrows end; one alone needs no name. */
function rolesOf({ record, into }) {
	const isTold = into.length > 1 && into.length <= MOST_ROLES && record.sources.length;
	return isTold ? into.map((edge) => make("span.role", edge.source.role)) : [];
}

/** Where there are too many for the face, they stand at the arrows while one looks at the node. */
function showRoles(key) {
	const { into = [], record } = drawn.byKey.get(key) ?? {};
	const isTold = into.length > MOST_ROLES && record.sources.length;
	const hints = isTold ? into.map(({ source }) => make("div.label.hint", source.role)) : [];
	hints.forEach((hint, k) => put(hint, { left: into[k].points.at(-1).x, top: into[k].points.at(-1).bottom - 14 }));
	page.hints.replaceChildren(...hints);
}

const savesOutput = ({ record }) => record.kind === "operation" && record.savesOutput;

const odditiesNow = ({ oddities }) => oddities.filter(({ from }) => from <= state.time);

function markOf({ text, isBad }) {
	const sign = text.startsWith("failed") ? "✗" : "⚠";
	return isBad ? make("div.mark", `${sign} ${text}`) : make("div.word", text);
}

function changeMark({ change, difference }) {
	const signs = { added: "+", removed: "−", changed: "≠" };
	return change && make("div.change", `${signs[change]} ${change}`, difference && `: ${difference}`);
}

function edgeElement(edge) {
	const { source, points } = edge;
	const element = makeShape("g", source.carries ? "edge" : "edge dashed");
	const [start, end] = [points[0], points.at(-1)];
	const tip = `${end.x} ${end.bottom}`;
	element.append(
		makeShape("path", "line", curveThrough([...points.slice(0, -1), { ...end, bottom: end.bottom - 7 }])),
		makeShape("path", "head", `M${tip}l-4 -8h8z`),
		makeShape("path", "back-head", `M${start.x} ${start.top}l-4.5 9h9z`),
	);
	if (source.saved) element.append(makeShape("path", "head", `M${tip}m-3 -11a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z`));
	edge.element = element;
	return element;
}

// ---- the two passes

/** The times at which something happens that can be seen: a closed box takes one step for all that is in it. */
function stopsOf({ items }) {
	const stopsAt = (times, phase) => {
		const found = items.map((item) => ({ item, phase, time: greatest(item.live.map((i) => times[i]), 0) }));
		const sorted = found.filter((stop) => stop.time).sort((a, b) => a.time - b.time);
		return sorted.map((stop, n) => ({ ...stop, number: n + 1, of: sorted.length }));
	};
	const [made, sent] = [stopsAt(madeAt, "forward"), stopsAt(sentAt, "backward")];
	return [
		{ time: 0, phase: "start", of: made.length },
		...made,
		...(sent.length ? [{ time: seedTime, phase: "seed", of: sent.length }, ...sent] : []),
		{ time: endTime, phase: "end", of: made.length, sent: sent.length },
	];
}

const stopNow = () => stops.findLastIndex((stop) => stop.time <= state.time);

function isMade({ live }) {
	return live.length ? live.every((i) => madeAt[i] <= state.time) : state.time === endTime;
}

/** Whether a gradient goes over an edge after one time and up to another. */
const isSending = (edge, after) =>
	edge.parts.some((part) => sends(part) && sentAt[part[0]] > after && sentAt[part[0]] <= state.time);

/** What goes back over an edge; over that of a closed box it may be the sum of several. */
function gradientOf({ source, parts }) {
	return source.gradient ?? sumOf(parts.filter(sends).map((part) => sourceOf(part).gradient), "sum");
}

/** The sum of the first gradients that arrive at a node, which the data has, or else of what is shown of them. */
function sumSoFar(node, n) {
	const [{ sums }, all] = [nodes[node], arrivals[node]];
	const known = sums.length === all.length && sums[n - 1];
	if (known) return n > 1 ? { ...known, note: "sum so far" } : known;
	return sumOf(all.slice(0, n).map(({ gradient }) => gradient));
}

/** How far the gradient of an item has come: what has arrived, of how many, and the running sum. */
function gradientNow({ node, record }) {
	const all = node === null ? [] : arrivals[node];
	const here = all.filter(({ time }) => time <= state.time);
	const isWhole = state.time >= (node === null ? seedTime : wholeAt[node]);
	const numbers = isWhole ? record.gradient : here.length > 0 ? sumSoFar(node, here.length) : null;
	return { here, of: all.length, isWhole, numbers };
}

/** Of a sum: how much of it is here, and where it comes from what can't be seen. */
function arrivedText(item, here) {
	const of = arrivals[item.node].length;
	if (here < of) return `${here} of ${of} gradients arrived`;
	const seen = item.outOf.filter((edge) => edge.parts.some(sends)).length + Boolean(nodes[item.node].seed);
	return `sum of ${of}${seen < of ? insideOf(item) : ""}`;
}

/** Which closed boxes take an item more than once; their edges are one. */
function insideOf({ outOf }) {
	const boxes = outOf.filter(({ parts }) => parts.length > 1).map((edge) => edge.to);
	return boxes.length ? `, inside ${listed(boxes)}` : ", inside";
}

function captionOf({ phase, item, number = 0, of, sent }, before) {
	const [forward, backward] = [`forward ${number} of ${of}:`, `backward ${number} of ${of}:`];
	const captions = {
		start: () => `${forward} nothing is computed yet; parameters, inputs and constants are given`,
		forward: () => `${forward} ${wordsOf(item)} ${madeText(item)}`,
		seed: () => `${backward} it starts at ${roots.map(seedText).join("; ")}`,
		backward: () => `${backward} ${wordsOf(item)} ${sentText(item, before)}`,
		end: () => endText(of, sent),
	};
	return captions[phase]();
}

function madeText({ record, into }) {
	if (record.failed) return `fails: ${failureOf(record)}`;
	return `makes ${record.shape} from ${listed(into.map((edge) => edge.from))}`;
}

const seedText = (i) => `${wordsOf(drawn.itemOf[i])}, whose gradient is ${told(nodes[i].seed)}`;

/** The formula of what happens, where it is short; those of the way back begin with `d_` or `∂`. */
function reasonOf({ phase, item }) {
	const formulas = formulaOf(item?.record.rule).flatMap(({ text }) => text.split(/, {2,}/));
	const told = formulas.filter((text) => /^(d_|∂)/.test(text) === (phase === "backward")).join(",  ");
	return told.length <= 100 && !item?.record.failed ? told : "";
}

/** Who receives what an item sends, and who of them has to wait for more. Parameters of a box can't be seen. */
function sentText(item, before) {
	const receivers = [...new Set(item.into.filter((edge) => isSending(edge, before)).map((edge) => edge.from))];
	const isFilled = (i) => arrivals[i].some(({ time }) => time > before && time <= state.time);
	const own = item.box === null ? [] : item.live.filter((i) => nodes[i].kind === "parameter" && isFilled(i));
	const remarks = receivers.map((from) => {
		const { here, of, isWhole } = gradientNow(from);
		if (of < 2) return "";
		const all = of === 2 ? "both of its 2 gradients" : `all ${of} of its gradients`;
		return `; ${wordsOf(from)} has ${isWhole ? `${all}: they are added` : `${here.length} of its ${of} gradients`}`;
	});
	const sent = receivers.length && `sends back to ${listed(receivers)}`;
	const fills = own.length && `fills the gradients of its ${count(own.length, "parameter")}`;
	return ([sent, fills].filter(Boolean).join(", and ") || "sends nothing out of it") + remarks.join("");
}

/** How much there was: a closed box is one step for many operations. */
function endText(steps, sent) {
	const n_operations = operations.length - Boolean(failure);
	const made = count(n_operations, "operation");
	const forward = steps === operations.length ? `${made} forward` : `${count(steps, "step")} forward (${made})`;
	if (failure) return `everything: ${forward}, then ${failure.title} failed`;
	if (!sent && roots.length) return `everything: ${forward}, and nothing that a gradient could be sent back to`;
	if (!sent) return `everything: ${forward}, no gradient: the root isn't a single number`;
	const without = n_operations - senders.length;
	const rest = without && `; ${count(without, "operation")} without a gradient`;
	return `everything: ${forward}, ${sent} backward${rest || ""}`;
}


function update() {
	const place = stopNow();
	const stop = stops[place];
	const before = place ? stops[place - 1].time : -1;
	page.graph.dataset.phase = stop.phase;
	for (const item of drawn.items) showItem(item, stop);
	for (const edge of drawn.edges) showEdge(edge, stop, before);
	showLabels(stop.phase === "backward" ? before : endTime);
	for (const frame of drawn.frames) elementOf(frame).area.classList.toggle("selected", frame.key === state.selected);
	const caption = captionOf(stop, before);
	if (page.caption.textContent !== caption) page.caption.textContent = caption; // or it would be read out again
	page.reason.textContent = reasonOf(stop);
	page.step.max = stops.length - 1;
	page.step.value = place;
	page.step.setAttribute("aria-valuetext", caption);
	page.back.disabled = place === 0;
	page.forth.disabled = place === stops.length - 1;
	showPanel();
	showRoles(state.selected);
	if (!page.table.hidden) showRows(before);
	keepState();
}

/** What is on its way to a sum stands on its edge, for it can't be seen at the end of it. */
function showLabels(before) {
	const sending = drawn.edges.filter((edge) => isSending(edge, before) && gradientNow(edge.from).of > 1);
	const labels = sending.map((edge) => make("div.label.gradient", smallNumbers(gradientOf(edge))));
	page.labels.replaceChildren(...labels);
	const taken = [];
	sending.forEach((edge, n) => {
		const line = edge.element.firstChild;
		const middle = line.getPointAtLength(Math.min(line.getTotalLength() / 2, 60));
		const { offsetWidth: width, offsetHeight: height } = labels[n];
		const place = { x: middle.x - width / 2, y: middle.y - height / 2, width, height };
		const isInWay = (other) => Math.abs(other.y - place.y) < height && Math.abs(other.x - place.x) < width;
		for (const other of taken) if (isInWay(other)) place.x = other.x + other.width + 4;
		taken.push(place);
		put(labels[n], { left: place.x, top: place.y });
	});
}

function toggleAll(element, classes) {
	for (const [name, isOn] of Object.entries(classes)) element.classList.toggle(name, isOn);
}

function showItem(item, stop) {
	const { record, key, box } = item;
	const { area, parts } = elementOf(item);
	const { here, isWhole, numbers } = gradientNow(item);
	const current = stop.item === item || (stop.phase === "seed" && item.members.some((i) => roots.includes(i)));
	const pending = !isMade(item);
	const isSum = here.length > 1 && numbers;
	toggleAll(area, { pending, current, waiting: here.length > 0 && !isWhole });
	parts.gradient?.classList.toggle("hidden", !numbers);
	for (const { element, from } of parts.marks) element.classList.toggle("hidden", from > state.time);
	if (parts.arrived) {
		parts.arrived.textContent = arrivedText(item, here.length);
		parts.arrived.classList.toggle("hidden", !here.length);
		parts.addends.classList.toggle("hidden", !isSum);
		if (numbers) parts.gradient.replaceChildren(parts.gradient.firstChild, ...smallNumbers(numbers));
		if (isSum) parts.addends.replaceChildren(...addends(here, numbers));
	}
	const kind = box === null ? record.kind : `closed box of ${count(record.n_operations, "operation")}`;
	const value = record.value && `value ${told(record.value)}`;
	const gradient = numbers && `gradient ${told(numbers)}`;
	const figures = !pending ? [value, gradient] : item.live.length > 0 && ["not computed yet"];
	const odd = odditiesNow(record).map(({ text }) => text);
	const change = [record.change, record.difference].filter(Boolean).join(": ");
	const words = [titleOf(item), kind, record.shape, ...(figures || []), ...odd, change];
	area.ariaLabel = words.filter(Boolean).join(", ");
	area.ariaPressed = key === state.selected;
}

function showEdge(edge, stop, before) {
	const isEnd = stop.phase === "end";
	const sending = stop.phase === "backward" && isSending(edge, before);
	const sent = (isEnd || stop.phase === "backward") && isSending(edge, seedTime);
	const giving = stop.phase === "forward" && stop.item === edge.to;
	const near = isEnd && [edge.from.key, edge.to.key].includes(state.selected);
	toggleAll(edge.element, { pending: !isMade(edge.to), sent, sending, giving, near });
	if (sending || giving) page.edges.append(edge.element); // above the others
}

// ---- player

let timer = null; // while it plays

function goTo(time) {
	state.time = time;
	update();
}

/** To one of the stops, and to where it happens; `near` comes close enough to read. */
function goToStop(place, near = false) {
	const stop = stops[place];
	if (!stop) return;
	goTo(stop.time);
	const item = stop.phase === "seed" ? drawn.itemOf[roots[0]] : stop.item;
	if (item && !page.graph.hidden) bringIntoView(item, near);
}

const step = (by, near) => goToStop(stopNow() + by, near);

function play() {
	if (timer) return pause();
	if (state.time === endTime) goTo(0);
	const next = () => {
		step(1, true);
		if (state.time === endTime) pause();
		else timer = setTimeout(next, 900 / page.speed.value);
	};
	timer = setTimeout(next, 300);
	page.play.textContent = "❚❚ Pause";
}

function pause() {
	clearTimeout(timer);
	timer = null;
	page.play.textContent = "▶ Play";
}

// ---- boxes

/** Opens or closes boxes, and keeps what the reader's eye is on where it is. */
function setOpen(open, eye = null) {
	const before = drawn.byKey.get(eye);
	state.open = new Set(open);
	redraw();
	const after = drawn.byKey.get(eye);
	if (before && after) moveBy((before.x - after.x) * view.scale, (before.y - after.y) * view.scale);
	else fit();
}

function toggleBox(b) {
	const open = new Set(state.open);
	if (!open.delete(b)) open.add(b);
	const hadFocus = page.items.contains(document.activeElement);
	setOpen(open, `b${b}`);
	if (hadFocus) elementOf(drawn.byKey.get(`b${b}`)).whole.querySelector(".toggle").focus({ preventScroll: true });
}

function openLevel() {
	const closed = drawn.items.filter((item) => item.box !== null).map((item) => item.box);
	const level = (b) => around(b).length;
	setOpen([...state.open, ...closed.filter((b) => level(b) === Math.min(...closed.map(level)))]);
}

/** Opens what is around a node or a box. */
function openAround(key) {
	const needed = around(key[0] === "n" ? nodes[key.slice(1)].box : boxes[key.slice(1)].parent);
	if (needed.some((b) => !state.open.has(b))) setOpen([...state.open, ...needed], standsFor(key).key);
}

// ---- view

const view = { x: 0, y: 0, scale: 1, isFitted: false };
const FAR = 0.45; // below that, titles alone are readable
const NEAR = 0.75; // from there on, numbers are easy to read
const FEW = 8; // items that a first view has at least

function showView() {
	page.stage.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
	page.graph.classList.toggle("far", view.scale < FAR);
}

function moveBy(dx, dy) {
	if (dx || dy) view.isFitted = false;
	view.x += dx;
	view.y += dy;
	showView();
}

/** What changes the room of the graph leaves its middle where it is, or all of it in view. */
function withRoom(change) {
	const { clientWidth, clientHeight } = page.graph;
	change();
	if (view.isFitted) fit();
	else moveBy((page.graph.clientWidth - clientWidth) / 2, (page.graph.clientHeight - clientHeight) / 2);
}

/** Zooms by a factor; what is under the pointer, or else in the middle, stays where it is. */
function zoomBy(factor, pointer = null) {
	const { left, top, width, height } = page.graph.getBoundingClientRect();
	const [x, y] = pointer ? [pointer.clientX - left, pointer.clientY - top] : [width / 2, height / 2];
	const scale = Math.min(Math.max(view.scale * factor, 0.02), 4);
	view.x = x - ((x - view.x) * scale) / view.scale;
	view.y = y - ((y - view.y) * scale) / view.scale;
	view.scale = scale;
	view.isFitted = false;
	showView();
}

function fit(width = page.graph.clientWidth, height = page.graph.clientHeight, margin = 24) {
	const scale = Math.min((width - 2 * margin) / drawn.width, (height - 2 * margin) / drawn.height, 1.25);
	view.scale = Math.max(scale, 0.02);
	view.x = (width - drawn.width * view.scale) / 2;
	view.y = (height - drawn.height * view.scale) / 2;
	view.isFitted = true;
	showView();
}

/** The first view: unless a depth was asked for, boxes are closed from the inside until titles can be read. */
function startView() {
	fit();
	while (view.scale < FAR && !graph.depthIsGiven && state.open.size > 0) {
		const open = [...state.open];
		const deepest = greatest(open.map((b) => around(b).length));
		const fewer = open.filter((b) => around(b).length < deepest);
		if (drawnWith(new Set(fewer)).items.length < FEW) break;
		setOpen(fewer);
	}
	openAtFirst = [...state.open];
	if (view.scale >= NEAR) return;
	zoomBy(NEAR / view.scale);
	const { width } = drawn;
	const { x, width: firstWidth } = drawn.items.reduce((first, item) => (item.y < first.y ? item : first));
	const room = page.graph.clientWidth / view.scale;
	const middle = width <= room ? width / 2 : x + firstWidth / 2;
	moveBy((room / 2 - middle) * view.scale - view.x, 24 - view.y); // forward starts above
}

/** Moves what is out of view to the middle; `near` comes closer where nothing could be read. */
function bringIntoView({ x, y, width, height }, near = false) {
	if (near && view.scale < FAR) zoomBy(0.8 / view.scale);
	const shift = (from, size, room) => (from >= 0 && from + size <= room ? 0 : (room - Math.min(size, room)) / 2 - from);
	const { x: left, y: top, scale } = view;
	const { clientWidth, clientHeight } = page.graph;
	moveBy(shift(left + x * scale, width * scale, clientWidth), shift(top + y * scale, height * scale, clientHeight));
}

const pointers = new Map(); // those that are down: one moves, two zoom
let dragged = 0; // how far, since the first came down

function pointerDown(event) {
	if (event.button) return;
	if (!pointers.size) dragged = 0;
	pointers.set(event.pointerId, event);
}

function pointerMove(event) {
	const before = pointers.get(event.pointerId);
	if (!before) return;
	pointers.set(event.pointerId, event);
	const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
	dragged += Math.abs(dx) + Math.abs(dy);
	if (dragged > 5) page.graph.setPointerCapture(event.pointerId); // not at once, or nodes would get no click
	const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
	if (!other) return moveBy(dx, dy);
	const distance = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY) || 1;
	zoomBy(distance(event) / distance(before), other);
}

function wheel(event) {
	event.preventDefault();
	const pixels = event.deltaY * (event.deltaMode ? 20 : 1);
	zoomBy(Math.exp(-Math.max(-200, Math.min(200, pixels)) / 400), event);
}

// ---- panel

function select(key) {
	if (key !== null) openAround(key);
	state.selected = key;
	update();
	const item = drawn.byKey.get(key);
	if (!item || page.graph.hidden) return;
	bringIntoView(item, true);
	if (!page.panel.contains(document.activeElement)) focusOn(item);
}

/** Selects an item; opens a closed box that is selected. */
function choose({ key, box }) {
	if (key === state.selected && box !== null) toggleBox(box);
	else select(key);
}

function focusOn(item) {
	const { area, whole } = elementOf(item);
	(item.isFrame ? whole.lastChild : area).focus({ preventScroll: true });
}

/** The panel is made anew with every change; focus and scrolling stay where they are while it shows the same. */
function showPanel() {
	const item = drawn.byKey.get(state.selected);
	const { panel, about } = page;
	const isSame = panel.dataset.key === item?.key;
	const stations = () => [...about.querySelectorAll("button, .scroll")];
	const focused = stations().indexOf(document.activeElement);
	if (panel.hidden === Boolean(item)) withRoom(() => (panel.hidden = !item));
	panel.dataset.key = item?.key ?? "";
	page["panel-title"].textContent = item && titleOf(item);
	page["panel-number"].textContent = item && numberOf(item);
	about.replaceChildren(...(item ? aboutItem(item) : []).flat(3).filter(Boolean));
	if (focused >= 0) (stations()[isSame ? focused : 0] ?? page.close).focus({ preventScroll: true });
	if (!isSame) panel.scrollTop = 0;
}

function closePanel() {
	const item = drawn.byKey.get(state.selected);
	select(null);
	if (item && !page.graph.hidden) focusOn(item);
}

function aboutItem(item) {
	const { record, box, isFrame } = item;
	const { into, outOf } = closedFormOf(item);
	const isRule = box !== null && boxes[box].isRule;
	const isResult = record.kind === "operation" || record.kind === "box";
	const kind = box === null ? record.kind : `${isFrame ? "open" : "closed"} ${isRule ? "operation" : "module"}`;
	return [
		make("p.kind", kind, box !== null && button("", `${isFrame ? "Close" : "Open"} this box`, () => toggleBox(box))),
		odditiesNow(record).map(markOf),
		changeMark(record),
		facts({
			Name: record.name !== record.title && record.name,
			Shape: !record.failed && record.shape,
			"Data type": record.dtype,
			[record.kind === "box" ? "Type" : "Options"]: record.options,
			Holds: box !== null && count(record.n_operations, "operation"),
			Used: record.uses ? usesText(item) : isResult && !record.failed && "not: it's a result",
			Memory: record.bytes && bytes(record.bytes),
			Work: record.flops && amount(record.flops),
			Saved: savesOutput(item) && "its output, for backward",
			"Made in": record.line,
			In: item.parent !== null && around(item.parent).reverse().map((b) => linkTo(drawn.byKey.get(`b${b}`))),
		}),
		theory(record),
		valueSections(item),
		edgeSection("Inputs", into, (edge) => edge.from),
		edgeSection("Used by", outOf, (edge) => edge.to, "sends to this node"),
		backwardSection(item, into),
	];
}

/** An open box has the edges that it has when it is closed. */
function closedFormOf(item) {
	if (!item.isFrame) return item;
	const open = new Set(state.open);
	open.delete(item.box);
	return drawnWith(open).byKey.get(item.key);
}

function usesText(item) {
	const shown = closedFormOf(item);
	const { uses } = item.record;
	return count(uses, "time") + (shown.outOf.length < uses ? insideOf(shown) : "");
}

function facts(given) {
	const found = Object.entries(given).filter(([, value]) => value);
	return make("dl", found.map(([word, value]) => [make("dt", word), make("dd", value)]));
}

/** The lines of a rule's formulas, and their labels. */
function formulaOf(rule) {
	return (rules[rule]?.formula ?? []).map((line) => {
		const label = line.match(/\([a-z]\w*\.\d+\)$/)?.[0] ?? "";
		return { text: line.slice(0, line.length - label.length).trim(), label };
	});
}

/** What the rule does, in words and formulas; a formula's label stands at the right. */
function theory({ rule }) {
	const { about = "" } = rules[rule] ?? {};
	const lines = formulaOf(rule).map(({ text, label }) => make("div", make("code", text), make("span", label)));
	return [about && make("p", withCode(about)), lines.length > 0 && make("div.formula", lines)];
}

/** What stands in backticks is code. */
const withCode = (text) => text.split("`").map((part, n) => (n % 2 ? make("code", part) : part));

function allNumbers(numbers, word) {
	const { rows, cells } = numbers;
	if (rows) return [scrolling(matrix(rows), word, word)];
	const side = Math.min(24, Math.floor(288 / longest(cells)));
	const line = make(word === "gradient" ? "p.gradient" : "p.later", told(numbers));
	return [heatMap(numbers, side, `heat map of the ${word}`), line];
}

function valueSections(item) {
	const { value, gradient } = item.record;
	const { here, of, numbers } = gradientNow(item);
	const sums = make("div.addends", addends(here, numbers));
	const section = (title, numbers) => [
		make(`h3.${title.toLowerCase()}`, title),
		numbers ? allNumbers(numbers, title.toLowerCase()) : make("p.later", "not there yet"),
	];
	const remark = of > 1 && here.length > 0 && make("p", arrivedText(item, here.length));
	return [
		value && section("Value", isMade(item) && value),
		gradient && section("Gradient", numbers),
		gradient && remark && [remark, scrolling(sums, "the sum")],
	];
}

function edgeSection(title, edges, other, verb) {
	const entries = edges.map((edge) => {
		const { role, saved, carries } = edge.source;
		const remarks = [role && `as ${role}`, saved && "saved for backward", !carries && "no gradient flows back"];
		const gradient = verb && isSending(edge, seedTime) && gradientOf(edge);
		const sent = gradient && make("div.sum.gradient", make("span.word", verb), smallNumbers(gradient));
		return make("li", linkTo(other(edge)), ` ${remarks.filter(Boolean).join(", ")}`, sent);
	});
	return entries.length > 0 && [make("h3", title), make("ul", entries)];
}

/** What happens on the way back: what arrives, times the derivative, goes on to each input. */
function backwardSection(item, into) {
	const { record } = item;
	const back = into.filter(({ source, parts }) => source.jacobian || parts.some(sends));
	if (!back.length) return "";
	const { isWhole, numbers } = gradientNow(item);
	const arrived = isWhole && numbers;
	const parts = back.map((edge) => {
		const gradient = isSending(edge, seedTime) && gradientOf(edge);
		const times = edge.source.jacobian ? "that times the derivative" : "";
		const words = make("span.word", `sends back to ${wordsOf(edge.from)}${times && `, ${times}`}:`);
		return [derivativeOf(record, edge), gradient && make("div.sum.gradient", words, smallNumbers(gradient))];
	});
	const start = arrived && make("div.sum.gradient", make("span.word", "arrives:"), smallNumbers(arrived));
	return [make("h3", "Backward"), start, parts];
}

/** Rows for the numbers of the output, columns for those of an input: written out where they are few. */
function derivativeOf({ title, shape, kind }, { source, from }) {
	const caption = `∂ ${title} / ∂ ${source.role || wordsOf(from)}`;
	const isFew = source.jacobian && `${caption}: a row for each number of the output`;
	if (isFew) return scrolling(matrix(source.jacobian, isFew), isFew);
	const [rows, columns] = [shape, nodes[source.node].shape].map(sizeOf);
	return kind === "operation" && make("p.later", `${caption}: ${rows} × ${columns} numbers, not written out`);
}

// ---- search, and the table

let matches = [];
let match = -1;

function search() {
	const wanted = page.query.value.trim().toLowerCase();
	const has = (...texts) => wanted && texts.join("\n").toLowerCase().includes(wanted);
	const found = [
		...nodes.map(({ title, name, rule }, i) => has(title, name, rule) && `n${i}`),
		...boxes.map(({ name, type }, b) => members[b].length && has(name, type) && `b${b}`),
	];
	matches = found.filter(Boolean);
	match = -1;
	page.found.textContent = wanted && `${matches.length} found`;
}

function nextMatch(by) {
	if (!matches.length) return;
	match = (Math.max(match, by < 0 ? 0 : -1) + by + matches.length) % matches.length;
	select(matches[match]);
	page.query.focus(); // to go on with Enter
	page.found.textContent = `${match + 1} of ${matches.length}`;
}

function toggleTable() {
	const isTable = page.table.hidden;
	page.table.hidden = !isTable;
	page.graph.hidden = isTable;
	page["as-table"].ariaPressed = isTable;
	if (!isTable) return fit();
	page.rows.replaceChildren(...nodes.map(rowOf));
	update();
}

/** Rows say what is there by now; those of the last step are marked. */
function showRows(before) {
	const isNow = (time) => time > before && time <= state.time && state.time !== endTime;
	[...page.rows.children].forEach((row, i) => {
		const current = isNow(madeAt[i]) || isNow(sentAt[i]);
		toggleAll(row, { pending: shownAt[i] > state.time, waits: wholeAt[i] > state.time, current });
	});
	page.rows.querySelector(".current")?.scrollIntoView({ block: "nearest" });
}

function rowOf(node, i) {
	const { title, kind, name, options, sources, oddities, savesOutput, change, difference } = node;
	const { shape, dtype, value, gradient } = node;
	const word = kind === "operation" ? name : kind !== title && kind;
	const odd = oddities.map(({ text, from }) => make(`span.of-${from < seedTime ? "value" : "gradient"}`, `, ${text}`));
	const remarks = [word, options, savesOutput && "output saved", change, difference].filter(Boolean).join(", ");
	const given = sources.map(({ role, node, saved }) => {
		return `${sources.length > 1 ? `${role} ` : ""}#${node + 1}${saved ? " (saved)" : ""}`;
	});
	const cells = [given.join(", "), `${shape} ${dtype}`].map((text) => make("td", text));
	const call = make("td", link(title, `n${i}`), ` ${remarks}`, odd);
	const terms = arrivals[i].length > 1 && make("small", `sum of ${arrivals[i].length}`);
	const values = [make("td.value", linesOf(value)), make("td.gradient", gradient && [linesOf(gradient), terms])];
	return make("tr", make("th", { scope: "row" }, `${i + 1}`), call, cells, values);
}

/** Numbers with a line for each row. */
const linesOf = (numbers) => numbers?.rows?.map((row) => make("div", row.join(" "))) ?? told(numbers);

// ---- theme, and printing

const darkness = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";

function showTheme(wanted = theme) {
	const isDark = wanted === "dark" || (wanted === "auto" && darkness.matches);
	document.documentElement.dataset.theme = isDark ? "dark" : "light";
	page.theme.textContent = `Theme: ${theme}`;
}

function nextTheme() {
	theme = { auto: "light", light: "dark", dark: "auto" }[theme];
	showTheme();
}

const [PAPER_WIDTH, PAPER_HEIGHT] = [690, 690]; // of the graph, as in the style
let before; // what was shown before it was printed

/** On paper: all of the graph, on white, and the legend. */
function beforePrint() {
	before = { ...view, isOpen: page.legend.open };
	showTheme("light");
	page.legend.open = true;
	fit(PAPER_WIDTH, PAPER_HEIGHT, 4);
	view.isFitted = false; // to paper
}

function afterPrint() {
	showTheme();
	const { isOpen, ...rest } = before;
	page.legend.open = isOpen;
	Object.assign(view, rest);
	showView();
}

// ---- keys

const MOVES = { ArrowUp: [0, 60], ArrowDown: [0, -60], ArrowLeft: [60, 0], ArrowRight: [-60, 0] };
const TRAVEL = [...Object.keys(MOVES), "Home", "End"];

const KEYS = {
	...Object.fromEntries(Object.keys(MOVES).map((key) => [key, () => arrow(key)])),
	" ": play,
	",": () => step(-1),
	".": () => step(1),
	Home: () => goTo(0),
	End: () => goTo(endTime),
	"+": () => zoomBy(1.25),
	"=": () => zoomBy(1.25),
	"-": () => zoomBy(0.8),
	0: () => fit(),
	"/": () => page.query.focus(),
	"?": () => page.help.showModal(),
	p: () => page.panel.hidden || page.close.focus(),
	Escape: escape,
	Enter: () => document.activeElement.matches(".node") && document.activeElement.click(),
};

/** Keys that mean something of their own to what has the focus. */
const OWN_KEYS = [
	["button, summary, a, select", [" ", "Enter"]],
	["#panel, #table, #step, select", TRAVEL],
];

function keyDown(event) {
	const { key, target } = event;
	if (event.ctrlKey || event.metaKey || event.altKey || page.help.open) return;
	if (target === page.query) return keyInSearch(event);
	if (!KEYS[key] || OWN_KEYS.some(([where, keys]) => keys.includes(key) && target.closest(where))) return;
	event.preventDefault();
	KEYS[key]();
}

function keyInSearch(event) {
	if (event.key === "Enter") nextMatch(event.shiftKey ? -1 : 1);
	else if (event.key === "Escape") page.graph.focus();
	else return;
	event.preventDefault();
}

let siblings = []; // what the last step up or down could have led to

/** With a node selected up to its inputs, down to its users, and sideways among those; else the graph moves. */
function arrow(key) {
	const item = drawn.byKey.get(state.selected);
	if (!item) return moveBy(...MOVES[key]);
	const { into, outOf } = closedFormOf(item);
	const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
	let next;
	if (by && siblings.length > 1 && siblings.includes(item.key)) {
		next = siblings.at((siblings.indexOf(item.key) + by) % siblings.length);
	} else if (by) {
		siblings = [];
		next = drawn.items.includes(item) && drawn.items[drawn.items.indexOf(item) + by]?.key;
	} else {
		const ends = key === "ArrowUp" ? into.map((edge) => edge.from) : outOf.map((edge) => edge.to);
		if (ends.length) siblings = [...new Set(ends.map((end) => end.key))];
		next = ends[0]?.key;
	}
	if (next) select(next);
}

/** Out of the panel, and then it closes. */
function escape() {
	const item = drawn.byKey.get(state.selected);
	if (item && page.panel.contains(document.activeElement) && !page.graph.hidden) focusOn(item);
	else closePanel();
}

// ---- what the address keeps

let openAtFirst = [...boxes.keys()].filter((b) => boxes[b].open);
let keeping;

/** Writes selection, time and open boxes into the address, a moment later: browsers allow that only so often. */
function keepState() {
	clearTimeout(keeping);
	keeping = setTimeout(() => {
		const kept = new URLSearchParams();
		const open = [...state.open].sort((a, b) => a - b).join(".");
		if (state.selected !== null) kept.set("node", state.selected);
		if (state.time !== endTime) kept.set("step", state.time);
		if (open !== openAtFirst.join(".")) kept.set("open", open);
		if (location.hash.slice(1) === String(kept)) return;
		try {
			history.replaceState(null, "", `#${kept}`);
		} catch {} // a frame inside of another page has no address of its own
	}, 250);
}

function readState() {
	const kept = new URLSearchParams(location.hash.slice(1));
	const open = kept.get("open")?.split(".").filter(Boolean).map(Number) ?? openAtFirst;
	const time = Number(kept.get("step") ?? endTime);
	const key = kept.get("node") ?? "";
	state.open = new Set(open.filter((b) => boxes[b]));
	state.time = time >= 0 && time <= endTime ? time : endTime;
	state.selected = null;
	redraw();
	if (kept.has("open")) fit();
	else startView();
	if (/^[nb]\d+$/.test(key) && { n: nodes, b: boxes }[key[0]][key.slice(1)]) select(key);
}

// ---- start

const CLICKS = {
	"close-all": () => setOpen([]),
	"open-level": openLevel,
	"open-all": () => setOpen(boxes.keys()),
	"zoom-in": () => zoomBy(1.25),
	"zoom-out": () => zoomBy(0.8),
	fit: () => fit(),
	"as-table": toggleTable,
	theme: nextTheme,
	"legend-head": (event) => {
		event.preventDefault();
		withRoom(() => (page.legend.open = !page.legend.open));
	},
	menu: () => withRoom(() => (page.menu.ariaExpanded = page.tools.parentNode.classList.toggle("open"))),
	"help-open": () => page.help.showModal(),
	close: closePanel,
	play,
	back: () => step(-1),
	forth: () => step(1),
	"skip-to-graph": () => page.graph.focus(),
	"skip-to-player": () => page.play.focus(),
	graph: ({ target }) => {
		if (target === page.graph && dragged <= 5) select(null);
	},
};

function listen() {
	for (const [id, onclick] of Object.entries(CLICKS)) page[id].onclick = onclick;
	page.graph.onpointerdown = pointerDown;
	page.graph.onpointermove = pointerMove;
	page.graph.addEventListener("wheel", wheel, { passive: false });
	page.items.addEventListener("focusin", ({ target }) => {
		const item = target.matches(":focus-visible") && drawn.byKey.get(target.id);
		if (item) bringIntoView(item);
	});
	page.search.onsubmit = (event) => event.preventDefault();
	page.query.oninput = search;
	page.step.oninput = () => goToStop(page.step.value);
	darkness.onchange = () => showTheme();
	window.onresize = () => view.isFitted && fit();
	window.onpointerup = window.onpointercancel = (event) => pointers.delete(event.pointerId);
	window.onkeydown = keyDown;
	window.onhashchange = readState;
	window.onbeforeprint = beforePrint;
	window.onafterprint = afterPrint;
}

page.title.textContent = graph.title;
page.summary.textContent = `${graph.summary}; ${graph.costs}`;
page.depth.hidden = !boxes.length;
page.legend.open = innerWidth >= 1000;
page.legend.querySelector(".compared").hidden = nodes.every((node) => !node.change);
showTheme();
listen();
readState();
