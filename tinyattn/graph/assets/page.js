// The page of a computation graph: draws it, opens and closes its boxes, plays the passes forward and backward.
//
// A "node" is a value of the graph, a "box" a call of a module, or the inside of an operation.
// An "item" is what stands in the picture: a node, or a closed box. An open box is a "frame" around items.
// A "time" counts operations: each has one when it is computed, and one when it sends its gradients back.

const { nodes, boxes, rules, ...graph } = JSON.parse(document.getElementById("data").textContent);
for (const { sources } of [...nodes, ...boxes.map((box) => box.operation ?? { sources: [] })]) {
  for (const source of sources) if (source.gradient === "same") source.gradient = nodes[source.node].gradient;
}
const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

// ---- what the data says

/** The boxes around, innermost first. */
const around = (box) => (box === null ? [] : [box, ...around(boxes[box].parent)]);

const members = boxes.map(() => []); // the nodes in each box, at any depth
const users = nodes.map(() => []); // for each node, where it goes: [node, place among that one's sources]
nodes.forEach((node, i) => {
  for (const box of around(node.box)) members[box].push(i);
  node.sources.forEach((source, k) => users[source.node].push([i, k]));
});
const operations = [...nodes.keys()].filter((i) => nodes[i].kind === "operation");
const senders = operations.filter((i) => nodes[i].sources.some((source) => source.gradient)).reverse();
const roots = [...nodes.keys()].filter((i) => nodes[i].seed);

const madeAt = nodes.map(() => 0); // leaves are there from the start
operations.forEach((i, n) => (madeAt[i] = n + 1));
const seedTime = operations.length + 1; // when the gradient of the root appears
const sentAt = nodes.map(() => 0); // 0: never
senders.forEach((i, n) => (sentAt[i] = seedTime + 1 + n));
const endTime = seedTime + (senders.length && senders.length + 1); // everything is shown

const sourceOf = ([i, k]) => nodes[i].sources[k];
const sends = (edge) => sourceOf(edge).gradient !== null;
/** What a node's gradient is the sum of: what backward starts with, and what comes back over its edges. */
const arrivals = nodes.map(({ seed }, i) => [
  ...(seed ? [{ time: seedTime, gradient: seed }] : []),
  ...users[i].filter(sends).map((edge) => ({ time: sentAt[edge[0]], gradient: sourceOf(edge).gradient })),
]);

// ---- words and numbers

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
const greatest = (numbers, least = 1) => numbers.reduce((most, x) => Math.max(most, x), least);
const sum = (numbers) => numbers.reduce((so_far, x) => so_far + x, 0);
const amount = (n) => `${scaled(n, 1000, ["", " k", " M", " G", " T"])} FLOP`;
const bytes = (n) => scaled(n, 1024, [" B", " KB", " MB", " GB", " TB"]);
const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const titlesOf = (items) => new Intl.ListFormat("en").format(new Set(items.map((item) => item.record.title)));

const range = ({ least, most }) => `${short(least, 3)} … ${short(most, 3)}`;

/** Numbers on a line. */
function told(numbers) {
  if (!numbers) return "";
  const { rows, mean } = numbers;
  if (!rows) return mean === null ? "nothing finite" : `${range(numbers)}, mean ${short(mean, 3)}`;
  const lines = rows.map((row) => row.join(" "));
  return lines.length > 1 ? lines.map((line) => `[${line}]`).join(" ") : lines[0];
}

/** The sum of what has arrived, in rows; null where not all its numbers are known. */
function sumOf(arrived) {
  const all = arrived.map(({ gradient }) => gradient.rows);
  if (!all.length || all.includes(null)) return null;
  const total = all[0].map((row, r) => row.map((_, c) => sum(all.map((rows) => parsed(rows[r][c])))));
  return total.flat().some(Number.isNaN) ? null : total.map((row) => row.map((x) => short(x)));
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

/** A heat map, `side` pixels a cell; cells that hold anything not finite are crossed out. */
function heatMap(cells, side, label) {
  const [width, height] = [cells[0].length * side, cells.length * side];
  const canvas = make("canvas", { width: 2 * width, height: 2 * height, role: "img", ariaLabel: label }); // 2: sharp
  canvas.style.width = `${width}px`;
  const brush = canvas.getContext("2d");
  brush.scale(2, 2);
  const top = topOf(cells.flat());
  cells.forEach((row, r) =>
    row.forEach((x, c) => {
      const place = [c * side, r * side, side, side];
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
    td.style.background = heatOf(x === null ? 0 : parsed(x), top, 0.4);
    return td;
  };
  return make("table.matrix", caption && make("caption", caption), rows.map((row) => make("tr", row.map(cell))));
}

const longest = (cells) => greatest([cells.length, cells[0].length]);
const scrolling = (table, label) => make("div.scroll", { tabIndex: 0, role: "group", ariaLabel: label }, table);

function smallNumbers(numbers) {
  const { rows, cells, mean } = numbers;
  if (rows) return [matrix(rows)];
  return [heatMap(cells, longest(cells) > 8 ? 4 : 6, ""), make("small", mean !== null && range(numbers))];
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
  return { items, edges, frames, byKey, itemOf };
}

const inOrder = (a, b) => a.members.at(-1) - b.members.at(-1); // each after what it needs
const asItem = (i) => ({ node: i, record: nodes[i], parent: nodes[i].box, members: [i] });
const fromBox = (b) => ({ node: records[b].output, record: records[b], parent: boxes[b].parent, members: members[b] });

/** What each box says as a node. Its numbers are those of its output, if it has just one. */
const records = boxes.map((box, b) => {
  const inside = members[b];
  const all = inside.map((i) => nodes[i]);
  const outputs = inside.filter((i) => i === nodes.length - 1 || users[i].some(([user]) => !inside.includes(user)));
  const output = outputs.length === 1 ? outputs[0] : null;
  const marks = new Set(all.flatMap((node) => node.marks));
  const n_operations = all.filter((node) => node.kind === "operation").length;
  const last = nodes[output ?? inside.at(-1)];
  const common = { output, n_operations, uses: last?.uses };
  if (box.operation) return { ...box.operation, ...common, ...changeOf(all) };
  return {
    ...last,
    ...common,
    ...(output === null && { shape: count(outputs.length, "output"), value: null, gradient: null, name: "" }),
    kind: box.isRule ? "operation" : "box",
    rule: box.isRule && box.type,
    title: box.name || box.type,
    options: box.name && box.type,
    marks: [...marks].map((mark) => (last.marks.includes(mark) ? mark : `inside: ${mark}`)),
    bytes: sum(all.map((node) => node.bytes)),
    flops: sum(all.map((node) => node.flops)),
    failed: all.map((node) => node.failed).find(Boolean) ?? "",
    ...changeOf(all),
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

/** Arrows that reach an item stand beside each other, in the order in which they come. */
function spreadArrows({ into, width }) {
  const comesFrom = (edge) => edge.points.at(-2).x;
  const sorted = [...into].sort((a, b) => comesFrom(a) - comesFrom(b));
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
  }
}

function put({ style }, given) {
  for (const [name, x] of Object.entries(given)) style[name] = `${x}px`;
}

function putInPlace(item) {
  const { x, y, width, height, isFrame, into } = item;
  const { whole, area, roles } = elementOf(item);
  put(whole, { left: isFrame ? x + 3 : x, top: isFrame ? y + 3 : y });
  put(area, isFrame ? { left: x, top: y, width, height } : { width, height });
  roles?.forEach((role, k) => put(role, { left: width / 2 + into[k].shift }));
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
    { role: "button", tabIndex: 0, id: key, onclick: () => choose(item) },
    roles,
    make("div.title", breakable(title)),
    word !== title && word && make("div.word", word),
    record.options && make("div.word", record.options),
    !record.failed && make("div.word", `${record.shape} ${record.dtype}`),
    make("div.figures", parts.value, parts.gradient),
    parts.arrived,
    marksOf(record),
  );
  const longest = greatest(roles.map((role) => role.textContent.length), 0);
  put(area, { minWidth: Math.max(100, 24 + 6 * roles.length * longest) });
  const toggle = box !== null && button(".toggle", "+", () => toggleBox(box), `Open ${title}`);
  return { whole: make("div.item", area, toggle), area, roles, parts };
}

/** Long names may break after their dots and underscores. */
const breakable = (text) => text.split(/(?<=[._])/).flatMap((part) => [part, make("wbr")]);

/** What changes on a node while it plays. Gradients leave room for the widest of the running sums. */
function partsOf({ record, node }) {
  const figure = (word, x) => x && make(`div.figure.${word}`, make("span.word", word), smallNumbers(x));
  const parts = node === null ? [] : arrivals[node];
  const sums = parts.slice(-9).map((_, n, first) => sumOf(first.slice(n)) ?? []);
  const gradient = figure("gradient", record.gradient);
  gradient?.style.setProperty("--widest", `${greatest(sums.flat(2).map((text) => text.length)) + 1}ch`);
  const isInTitle = record.value?.rows?.[0][0] === record.title; // the number of a constant
  return {
    value: !isInTitle && figure("value", record.value),
    gradient,
    arrived: gradient && parts.length > 1 ? make("div.arrived", arrivedText(1, parts.length)) : null,
  };
}

/** The names of arguments, which stand where their arrows end; one alone needs no name. */
function rolesOf({ record, into }) {
  const isTold = into.length > 1 && into.length <= 4 && record.sources.length;
  return isTold ? into.map((edge) => make("span.role", edge.source.role)) : [];
}

/** A value of zeros may be meant, as a bias at the start. */
const isAlarm = (mark) => !["all zero", "inside: all zero"].includes(mark);

function marksOf({ marks, failed, change }) {
  const signs = { added: "+", removed: "−", changed: "≠" };
  return [
    ...marks.map((mark) => (isAlarm(mark) ? make("div.mark", `⚠ ${mark}`) : make("div.word", mark))),
    failed && make("div.mark", `✗ failed: ${failed}`),
    change && make("div.change", `${signs[change]} ${change}`),
  ];
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
    const found = items.map((item) => ({ item, phase, time: greatest(item.members.map((i) => times[i]), 0) }));
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

const isMade = (item) => item.members.every((i) => madeAt[i] <= state.time);

/** Whether a gradient goes over an edge after one time and up to another. */
const isSending = (edge, after) =>
  edge.parts.some((part) => sends(part) && sentAt[part[0]] > after && sentAt[part[0]] <= state.time);

/** How far the gradient of an item has come: what has arrived, of how many, and the running sum. */
function gradientNow({ node, record }) {
  const all = node === null ? [] : arrivals[node];
  const here = all.filter(({ time }) => time <= state.time);
  const isWhole = all.length ? here.length === all.length : state.time >= seedTime;
  const rows = isWhole ? null : sumOf(here);
  return { here: here.length, of: all.length, isWhole, numbers: isWhole ? record.gradient : rows && { rows } };
}

const arrivedText = (here, of) => (here === of ? `sum of ${of}` : `${here} of ${of} gradients arrived`);

function captionOf({ phase, item, number = 0, of, sent }, before) {
  const { title, name, shape, failed } = item?.record ?? {};
  const [forward, backward] = [`forward ${number} of ${of}:`, `backward ${number} of ${of}:`];
  const given = phase === "forward" && titlesOf(item.into.map((edge) => edge.from));
  const made = name ? `${name} ${shape}` : shape;
  const start = (i) => `${nodes[i].title}, whose gradient is ${told(nodes[i].seed)}`;
  const why = nodes.some((node) => node.failed) ? "an operation failed" : "the root isn't a single number";
  const captions = {
    start: () => `${forward} nothing is computed yet; parameters, inputs and constants are given`,
    forward: () => `${forward} ${title} ${failed ? `fails: ${failed}` : `makes ${made} from ${given}`}`,
    seed: () => `${backward} it starts at ${roots.map(start).join("; ")}`,
    backward: () => `${backward} ${title} sends back to ${sentText(item, before)}`,
    end: () => `everything: ${count(of, "operation")} forward, ${sent ? `${sent} backward` : `no gradient: ${why}`}`,
  };
  return captions[phase]();
}

/** Who receives what an item sends, and who of them has to wait for more. */
function sentText(item, before) {
  const receivers = new Set(item.into.filter((edge) => isSending(edge, before)).map((edge) => edge.from));
  const remarks = [...receivers].map((from) => {
    const { here, of, isWhole } = gradientNow(from);
    if (of < 2) return "";
    const all = of === 2 ? "both of its 2 gradients" : `all ${of} of its gradients`;
    return `; ${from.record.title} has ${isWhole ? `${all}: they are added` : `${here} of its ${of} gradients`}`;
  });
  return titlesOf([...receivers]) + remarks.join("");
}

function update() {
  const place = stopNow();
  const stop = stops[place];
  const before = place ? stops[place - 1].time : -1;
  page.graph.dataset.phase = stop.phase;
  for (const item of drawn.items) showItem(item, stop);
  for (const edge of drawn.edges) showEdge(edge, stop, before);
  for (const frame of drawn.frames) elementOf(frame).area.classList.toggle("selected", frame.key === state.selected);
  const caption = captionOf(stop, before);
  if (page.caption.textContent !== caption) page.caption.textContent = caption; // or it would be read out again
  page.step.max = stops.length - 1;
  page.step.value = place;
  page.step.setAttribute("aria-valuetext", caption);
  page.back.disabled = place === 0;
  page.forth.disabled = place === stops.length - 1;
  showPanel();
  keepState();
}

function toggleAll(element, classes) {
  for (const [name, isOn] of Object.entries(classes)) element.classList.toggle(name, isOn);
}

function showItem(item, stop) {
  const { record, key, box } = item;
  const { area, parts } = elementOf(item);
  const { here, of, isWhole, numbers } = gradientNow(item);
  const current = stop.item === item || (stop.phase === "seed" && item.members.some((i) => roots.includes(i)));
  const pending = !isMade(item);
  toggleAll(area, { pending, current, waiting: here > 0 && !isWhole });
  parts.gradient?.classList.toggle("hidden", !numbers);
  if (parts.arrived) {
    parts.arrived.textContent = arrivedText(here, of);
    parts.arrived.classList.toggle("hidden", !here);
    if (numbers) parts.gradient.replaceChildren(parts.gradient.firstChild, ...smallNumbers(numbers));
  }
  const kind = box === null ? record.kind : `closed box of ${count(record.n_operations, "operation")}`;
  const value = record.value && `value ${told(record.value)}`;
  const gradient = numbers && `gradient ${told(numbers)}`;
  const figures = pending ? ["not computed yet"] : [value, gradient];
  const words = [record.title, kind, record.shape, ...figures, ...record.marks, record.failed];
  area.ariaLabel = words.filter(Boolean).join(", ");
  area.ariaPressed = key === state.selected;
}

function showEdge(edge, stop, before) {
  const isBackward = stop.phase === "backward";
  const sending = isBackward && isSending(edge, before);
  const sent = isBackward && isSending(edge, seedTime);
  const giving = stop.phase === "forward" && stop.item === edge.to;
  const near = [edge.from.key, edge.to.key].includes(state.selected);
  toggleAll(edge.element, { pending: !isMade(edge.to), sent, sending, giving, near });
  if (sending || giving) page.edges.append(edge.element); // above the others
}

// ---- player

let timer = null; // while it plays

function goTo(time) {
  state.time = time;
  update();
}

function step(by) {
  const stop = stops[stopNow() + by];
  if (!stop) return;
  goTo(stop.time);
  if (stop.item) bringIntoView(stop.item);
}

function play() {
  if (timer) return pause();
  if (state.time === endTime) goTo(0);
  const next = () => {
    step(1);
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

const view = { x: 0, y: 0, scale: 1 };
const FAR = 0.45; // below that, titles alone are readable
const NEAR = 0.75; // from there on, numbers are easy to read
const FEW = 8; // items that a first view has at least

function showView() {
  page.stage.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  page.graph.classList.toggle("far", view.scale < FAR);
}

function moveBy(dx, dy) {
  view.x += dx;
  view.y += dy;
  showView();
}

/** Zooms by a factor; what is under the pointer, or else in the middle, stays where it is. */
function zoomBy(factor, pointer = null) {
  const { left, top, width, height } = page.graph.getBoundingClientRect();
  const [x, y] = pointer ? [pointer.clientX - left, pointer.clientY - top] : [width / 2, height / 2];
  const scale = Math.min(Math.max(view.scale * factor, 0.02), 4);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  showView();
}

function fit(width = page.graph.clientWidth, height = page.graph.clientHeight, margin = 24) {
  const scale = Math.min((width - 2 * margin) / drawn.width, (height - 2 * margin) / drawn.height, 1.25);
  view.scale = Math.max(scale, 0.02);
  view.x = (width - drawn.width * view.scale) / 2;
  view.y = (height - drawn.height * view.scale) / 2;
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
  if (event.button || event.target.closest("#legend")) return;
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
  panel.hidden = !item;
  panel.dataset.key = item?.key ?? "";
  page["panel-title"].textContent = item?.record.title;
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
  const { record, box, into, outOf, isFrame } = item;
  const isRule = box !== null && boxes[box].isRule;
  const isResult = record.kind === "operation" || record.kind === "box";
  const kind = box === null ? record.kind : `${isFrame ? "open" : "closed"} ${isRule ? "operation" : "module"}`;
  return [
    make("p.kind", kind, box !== null && button("", `${isFrame ? "Close" : "Open"} this box`, () => toggleBox(box))),
    marksOf(record),
    record.difference && make("p", `${record.change}: ${record.difference}`),
    facts({
      Name: record.name !== record.title && record.name,
      Shape: !record.failed && record.shape,
      "Data type": record.dtype,
      [record.kind === "box" ? "Type" : "Options"]: record.options,
      Holds: box !== null && count(record.n_operations, "operation"),
      Used: record.uses ? count(record.uses, "time") : isResult && !record.failed && "not: it's a result",
      Memory: record.bytes && bytes(record.bytes),
      Work: record.flops && amount(record.flops),
      Saved: record.savesOutput && "its output, for backward",
      "Made in": record.line,
      In: item.parent !== null && around(item.parent).reverse().map((b) => link(records[b].title, `b${b}`)),
    }),
    theory(record),
    valueSections(item),
    edgeSection("Made of", into, (edge) => edge.from, "sends back"),
    edgeSection("Used by", outOf, (edge) => edge.to, "sends"),
    jacobianSection(item),
  ];
}

function facts(given) {
  const found = Object.entries(given).filter(([, value]) => value);
  return make("dl", found.map(([word, value]) => [make("dt", word), make("dd", value)]));
}

/** What the rule does, in words and formulas; a formula's label stands at the right. */
function theory({ rule }) {
  const { about = "", formula = [] } = rules[rule] ?? {};
  const lines = formula.map((line) => {
    const label = line.match(/\([a-z]\w*\.\d+\)$/)?.[0] ?? "";
    return make("div", make("code", line.slice(0, line.length - label.length).trim()), make("span", label));
  });
  return [about && make("p", about), lines.length > 0 && make("div.formula", lines)];
}

function allNumbers(numbers, word) {
  const { rows, cells } = numbers;
  if (rows) return [scrolling(matrix(rows), word)];
  const side = Math.min(24, Math.floor(288 / longest(cells)));
  return [heatMap(cells, side, `heat map of the ${word}`), make("p.later", told(numbers))];
}

function valueSections(item) {
  const { value, gradient } = item.record;
  const { here, of, numbers } = gradientNow(item);
  const section = (title, numbers) => [
    make(`h3.${title.toLowerCase()}`, title),
    numbers ? allNumbers(numbers, title.toLowerCase()) : make("p.later", "not there yet"),
  ];
  const remark = of > 1 && here > 0 && arrivedText(here, of);
  return [
    value && section("Value", isMade(item) && value),
    gradient && section("Gradient", numbers),
    gradient && remark && make("p", remark),
  ];
}

function edgeSection(title, edges, other, verb) {
  const entries = edges.map((edge) => {
    const { role, saved, carries, gradient } = edge.source;
    const remarks = [role && `as ${role}`, saved && "saved for backward", !carries && "no gradient flows back"];
    const isSent = gradient && isSending(edge, seedTime);
    const sent = isSent && make("div.sum.gradient", make("span.word", verb), smallNumbers(gradient));
    return make("li", link(other(edge).record.title, other(edge).key), ` ${remarks.filter(Boolean).join(", ")}`, sent);
  });
  return entries.length > 0 && [make("h3", title), make("ul", entries)];
}

function jacobianSection({ record, into }) {
  const tables = into.filter(({ source }) => source.jacobian).map(({ source }) => {
    const caption = `∂ ${record.title} / ∂ ${source.role}: a row for each number of the output`;
    return scrolling(matrix(source.jacobian, caption), caption);
  });
  return tables.length > 0 && [make("h3", "Derivative"), ...tables];
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
  if (!isTable) fit();
  else page.rows.replaceChildren(...nodes.map(rowOf));
}

function rowOf({ title, kind, name, options, sources, marks, failed, shape, dtype, value, gradient }, i) {
  const word = kind === "operation" ? name : kind !== title && kind;
  const remarks = [word, options, ...marks, failed && `failed: ${failed}`];
  const given = sources.map((source) => `${sources.length > 1 ? `${source.role} ` : ""}#${source.node + 1}`);
  const cells = [given.join(", "), `${shape} ${dtype}`, told(value), told(gradient)].map((text) => make("td", text));
  const call = make("td", link(title, `n${i}`), ` ${remarks.filter(Boolean).join(", ")}`);
  return make("tr", make("th", { scope: "row" }, `${i + 1}`), call, cells);
}

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

/** On paper: all of the graph, on white. */
function beforePrint() {
  showTheme("light");
  fit(680, 900, 0);
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
  Escape: closePanel,
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

/** With a node selected to its neighbours; else the graph moves. */
function arrow(key) {
  const item = drawn.byKey.get(state.selected);
  if (!item) return moveBy(...MOVES[key]);
  const place = drawn.items.indexOf(item);
  const [before, after] = place < 0 ? [] : [drawn.items[place - 1], drawn.items[place + 1]];
  const next = { ArrowUp: item.into[0]?.from, ArrowDown: item.outOf[0]?.to, ArrowLeft: before, ArrowRight: after }[key];
  if (next) select(next.key);
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
    if (location.hash.slice(1) !== String(kept)) history.replaceState(null, "", `#${kept}`);
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
  page.step.oninput = () => goTo(stops[page.step.value].time);
  darkness.onchange = () => showTheme();
  window.onpointerup = window.onpointercancel = (event) => pointers.delete(event.pointerId);
  window.onkeydown = keyDown;
  window.onhashchange = readState;
  window.onbeforeprint = beforePrint;
  window.onafterprint = () => {
    showTheme();
    fit();
  };
}

page.title.textContent = graph.title;
page.summary.textContent = `${graph.summary}; ${graph.costs}`;
page.depth.hidden = !boxes.length;
showTheme();
listen();
readState();
