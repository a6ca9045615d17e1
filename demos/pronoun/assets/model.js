// The pronoun toy in the browser, forward and backward: `tinyattn/by_hand/pronoun.py` for one sentence, in doubles.
//
// Names and labels are those of that module, whose primed lines `docs/derivations/pronoun.md` derives. A matrix is a
// list of rows. Gradients of parameters aren't needed here, nor is padding.

// eslint-disable-next-line no-unused-vars -- the viewer's page calls it
function pronounModel(given) {
	const EPSILON = 1e-5;
	const { vocabulary, nHeads, maxLength, nouns, pronouns } = given;
	const numbers = new Map(vocabulary.map((word, number) => [word, number]));
	const decoded = new Map(); // parameters by snapshot, each read when it's asked for first

	// ---- numbers from the page

	const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;

	/** A parameter as a list of rows; one of a single axis as one row. Snapshots have whole numbers, and a scale a row. */
	function rowsOf({ shape, data, scales }) {
		const [n, d] = shape.length === 1 ? [1, shape[0]] : shape;
		const all = scales ? new Int8Array(bytesOf(data)) : new Float32Array(bytesOf(data));
		const scale = scales && new Float32Array(bytesOf(scales));
		return Array.from({ length: n }, (_, i) =>
			Float64Array.from(all.subarray(i * d, (i + 1) * d), (x) => (scale ? x * scale[i] : x)),
		);
	}

	function parametersAt(snapshot) {
		if (!decoded.has(snapshot)) {
			const { parameters } = given.snapshots[snapshot];
			decoded.set(snapshot, Object.fromEntries(Object.entries(parameters).map(([name, x]) => [name, rowsOf(x)])));
		}
		return decoded.get(snapshot);
	}

	// ---- arithmetic of rows

	const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
	const total = (x) => x.reduce((sum, value) => sum + value, 0);
	const plus = (x, y) => x.map((value, i) => value + y[i]);
	const plusRows = (x, y) => x.map((row, i) => plus(row, y[i]));
	const transposed = (x) => Array.from(x[0], (_, j) => Float64Array.from(x, (row) => row[j]));
	const product = (x, weight) => {
		const columns = transposed(weight);
		return x.map((row) => Float64Array.from(columns, (column) => dot(row, column)));
	};
	const zeros = (x) => x.map((row) => new Float64Array(row.length));
	const flat = (shape, rows) => ({ shape, values: Float64Array.from(rows.flatMap((row) => [...row])) });

	function softmax(scores) {
		const top = Math.max(...scores);
		if (top === -Infinity) return scores.map(() => 0); // nobody to look at
		const exp = scores.map((score) => Math.exp(score - top)); // (softmax.1)
		const sum = total(exp);
		return exp.map((x) => x / sum); // (softmax.1)
	}

	/** diag(w) − w wᵀ, times d_weights. */
	function softmaxBackward(d_weights, weights) {
		const mean = dot(weights, d_weights);
		return d_weights.map((d_weight, i) => weights[i] * (d_weight - mean)); // (softmax.1')
	}

	function norm(x, p, name) {
		const [[weight], [bias]] = [p[`${name}.weight`], p[`${name}.bias`]];
		const saved = x.map((row) => {
			const mean = total(row) / row.length;
			const centred = row.map((value) => value - mean); // (norm.1)
			const deviation = Math.sqrt(dot(centred, centred) / row.length + EPSILON); // (norm.2)
			return { deviation, normal: centred.map((value) => value / deviation) }; // (norm.3)
		});
		return [saved.map(({ normal }) => normal.map((value, i) => value * weight[i] + bias[i])), saved]; // (norm.4)
	}

	function normBackward(d_output, saved, p, name) {
		const [weight] = p[`${name}.weight`];
		return saved.map(({ deviation, normal }, row) => {
			const d_normal = d_output[row].map((value, i) => value * weight[i]); // (norm.4')
			const d_deviation = -dot(d_normal, normal) / deviation; // (norm.3')
			const d_centred = d_normal.map((value, i) => value / deviation + (d_deviation * normal[i]) / normal.length); // (norm.2')
			const mean = total(d_centred) / normal.length;
			return d_centred.map((value) => value - mean); // (norm.1')
		});
	}

	function mlp(x, p, name) {
		const hidden = product(x, p[`${name}.expand.weight`]).map((row) => plus(row, p[`${name}.expand.bias`][0])); // (mlp.1)
		const active = hidden.map((row) => row.map((value) => Math.max(value, 0))); // (mlp.2)
		return [product(active, p[`${name}.contract.weight`]).map((row) => plus(row, p[`${name}.contract.bias`][0])), active]; // (mlp.3)
	}

	function mlpBackward(d_output, active, p, name) {
		const d_active = product(d_output, transposed(p[`${name}.contract.weight`])); // (mlp.3')
		const d_hidden = d_active.map((row, i) => row.map((value, j) => (active[i][j] > 0 ? value : 0))); // (mlp.2')
		return product(d_hidden, transposed(p[`${name}.expand.weight`])); // (mlp.1')
	}

	// ---- attention

	const headOf = (x, head) => x.map((row) => row.subarray((head * row.length) / nHeads, ((head + 1) * row.length) / nHeads));
	const merged = (heads) => heads[0].map((_, i) => Float64Array.from(heads.flatMap((head) => [...head[i]])));
	const eachHead = (f) => Array.from({ length: nHeads }, (_, head) => f(head));

	/** `change` says what is different from the model as it was trained: heads and lines that are cut, scores nudged. */
	function attend(x_query, x_key, x_value, p, name, change) {
		const query = product(x_query, p[`${name}.w_query`]); // (attend.1)
		const key = product(x_key, p[`${name}.w_key`]); // (attend.2)
		const value = product(x_value, p[`${name}.w_value`]); // (attend.3)
		const heads = eachHead((head) => {
			const [q, k, v] = [query, key, value].map((x) => headOf(x, head));
			const scale = 1 / Math.sqrt(q[0].length);
			const scores = q.map((q_i, i) =>
				Float64Array.from(k, (k_j, j) => dot(q_i, k_j) * scale + change.nudge(head, i, j)),
			); // (attend.4)
			const mask = scores.map((row, i) => row.map((_, j) => (change.isCutLine(head, i, j) ? 0 : 1)));
			const weights = scores.map((row, i) => softmax(row.map((score, j) => (mask[i][j] ? score : -Infinity)))); // (attend.5)
			const isCut = change.isCutHead(head);
			const mix = isCut ? zeros(q) : product(weights, v); // (attend.6)
			return { q, k, v, scale, scores, mask, weights, mix, isCut };
		});
		const output = product(merged(heads.map(({ mix }) => mix)), p[`${name}.w_output`]); // (attend.7)
		return [output, heads];
	}

	function attendBackward(d_output, heads, p, name) {
		const d_mix = product(d_output, transposed(p[`${name}.w_output`])); // (attend.7')
		const found = heads.map(({ q, k, v, scale, weights, isCut }, head) => {
			const d_head = isCut ? zeros(q) : headOf(d_mix, head); // (attend.6')
			const d_weights = product(d_head, transposed(v)); // (attend.6')
			const d_value = product(transposed(weights), d_head); // (attend.6')
			const d_scores = d_weights.map((row, i) => softmaxBackward(row, weights[i])); // (attend.5')
			const d_query = product(d_scores, k).map((row) => row.map((x) => x * scale)); // (attend.4')
			const d_key = product(transposed(d_scores), q).map((row) => row.map((x) => x * scale)); // (attend.4')
			return { d_weights, d_scores, d_query, d_key, d_value };
		});
		const back = (part, weight) => product(merged(found.map((head) => head[part])), transposed(p[`${name}.${weight}`]));
		// d_x_query, d_x_key, d_x_value: (attend.1') to (attend.3')
		return [found, back("d_query", "w_query"), back("d_key", "w_key"), back("d_value", "w_value")];
	}

	// ---- the model

	function forward(p, tokens, pronoun, changeOf) {
		const words = tokens.map((token) => p["words.weight"][token]); // (model.1)
		let stream = words.map((word, i) => plus(word, p["positions.weight"][i])); // (model.2)

		const [places_11, norm_11] = norm(stream, p, "block_1.norm_1"); // (model.3)
		const [update_1, attend_1] = attend(places_11, places_11, places_11, p, "block_1.attention", changeOf(0)); // (model.3)
		stream = plusRows(stream, update_1); // (model.3)
		const [places_12, norm_12] = norm(stream, p, "block_1.norm_2"); // (model.4)
		const [update_2, mlp_1] = mlp(places_12, p, "block_1"); // (model.4)
		stream = plusRows(stream, update_2); // (model.4)

		const [places, norm_21] = norm(stream, p, "block_2.norm_1"); // (model.5)
		const asker = [places[pronoun]]; // (model.5)
		const [told, attend_2] = attend(asker, places, words, p, "block_2.attention", changeOf(1)); // (model.6)
		let reader = plusRows([stream[pronoun]], told); // (model.6)
		const [normed_2, norm_22] = norm(reader, p, "block_2.norm_2"); // (model.7)
		const [thought, mlp_2] = mlp(normed_2, p, "block_2"); // (model.7)
		reader = plusRows(reader, thought); // (model.7)

		const [[normed], norm_3] = norm(reader, p, "norm"); // (model.8)
		const scores = p["words.weight"].map((word) => dot(word, normed)); // (model.8)
		return { p, pronoun, scores, norm_11, attend_1, norm_12, mlp_1, norm_21, attend_2, norm_22, mlp_2, norm_3 };
	}

	/** The gradients in the weights and scores of both layers, from that of the loss in the scores of words. */
	function backward(saved, d_scores) {
		const { p, pronoun, norm_11, attend_1, norm_12, mlp_1, norm_21, attend_2, norm_22, mlp_2, norm_3 } = saved;
		const d_normed = product([Float64Array.from(d_scores)], p["words.weight"]); // (model.8')
		let d_reader = normBackward(d_normed, norm_3, p, "norm"); // (model.8')

		d_reader = plusRows(d_reader, normBackward(mlpBackward(d_reader, mlp_2, p, "block_2"), norm_22, p, "block_2.norm_2")); // (model.7')
		const [layer_2, d_asker, d_places] = attendBackward(d_reader, attend_2, p, "block_2.attention"); // (model.6')
		d_places[pronoun] = plus(d_places[pronoun], d_asker[0]); // (model.5')
		let d_stream = normBackward(d_places, norm_21, p, "block_2.norm_1"); // (model.5')
		d_stream[pronoun] = plus(d_stream[pronoun], d_reader[0]); // (model.5')

		d_stream = plusRows(d_stream, normBackward(mlpBackward(d_stream, mlp_1, p, "block_1"), norm_12, p, "block_1.norm_2")); // (model.4')
		const [layer_1] = attendBackward(d_stream, attend_1, p, "block_1.attention"); // (model.3')
		return [layer_1, layer_2];
	}

	// ---- reading: as `demos/pronoun/text.py` and `demos/pronoun/resolve.py` do

	const IRREGULAR = [["won't", "will not"], ["can't", "can not"], ["cannot", "can not"], ["they're", "they were"]];
	for (const pronoun of ["it", "he", "she", "that"]) IRREGULAR.push([`${pronoun}'s`, `${pronoun} was`]);
	const edge = (at) => (at === "start" ? "(?<![\\p{L}\\p{N}_])" : "(?![\\p{L}\\p{N}_])");
	const CONTRACTION = new RegExp(`n't${edge("end")}|(?<=${edge("start")}(?:did|was|were|could))nt${edge("end")}`, "gu");
	const WORD = /[\p{L}\p{N}_]+(?:['-][\p{L}\p{N}_]+)*/gu;

	const WRITTEN = /[\p{L}\p{M}\p{N}_]+(?:['\u2019\u2018\u02bc\u00b4`-][\p{L}\p{M}\p{N}_]+)*/gu;

	/** Lower-case words without punctuation; n't is said as not, it's as it was. */
	function splitWords(text) {
		let found = text.toLowerCase().replace(/[\u2019\u2018\u02bc\u00b4`]/g, "'");
		for (const [short, long] of IRREGULAR) found = found.replace(new RegExp(edge("start") + short + edge("end"), "gu"), long);
		return found.replace(CONTRACTION, " not").match(WORD) ?? [];
	}

	/** The text with another word in place of one, which may be written in other letters than it's read in. */
	function replaced(text, word, by) {
		return text.replace(WRITTEN, (written) => {
			const words = splitWords(written);
			return words.includes(word) ? words.map((other) => (other === word ? by : other)).join(" ") : written;
		});
	}

	/** How alike two words are, from 0 to 1: the letters of their longest common parts (Ratcliff and Metzener, 1988). */
	function likeness(a, b) {
		const common = (a, b) => {
			let [from, to, longest] = [0, 0, 0];
			for (let i = 0; i < a.length; i++) {
				for (let j = 0; j < b.length; j++) {
					let n = 0;
					while (i + n < a.length && j + n < b.length && a[i + n] === b[j + n]) n++;
					if (n > longest) [from, to, longest] = [i, j, n];
				}
			}
			if (!longest) return 0;
			return longest + common(a.slice(0, from), b.slice(0, to)) + common(a.slice(from + longest), b.slice(to + longest));
		};
		return (2 * common(a, b)) / (a.length + b.length);
	}

	function nearest(word, n = 3) {
		const ranked = vocabulary.slice(1).map((known) => [likeness(known, word), known]);
		ranked.sort((a, b) => b[0] - a[0] || (a[1] < b[1] ? 1 : -1));
		const near = ranked.filter(([alike]) => alike >= 0.6).slice(0, n);
		return (near.length ? near : ranked.slice(0, 1)).map(([, known]) => known);
	}

	const candidatesOf = (words) =>
		[...words.keys()].filter((place) => nouns.includes(words[place]) && words.indexOf(words[place]) === place);

	function problemOf({ words, unknown, pronouns: places, candidates }) {
		if (!words.length) return "The sentence is empty.";
		if (unknown.length) {
			const told = unknown.slice(0, 3).map(({ word, nearest }) => `“${word.slice(0, 40)}” (nearest: ${nearest.join(", ")})`);
			return `The model never saw ${told.join("; ")}${unknown.length > 3 ? `; and ${unknown.length - 3} more` : ""}.`;
		}
		if (words.length > maxLength) return `The sentence has ${words.length} words, and the model reads at most ${maxLength}.`;
		if (!places.length) return `There is no pronoun in the sentence; the model knows ${pronouns.join(", ")}.`;
		return candidates.length ? "" : "There is no noun that the pronoun could mean; try cat, box or nurse.";
	}

	/** Of several pronouns the one at the `chosen` place asks, or the last. */
	function read(text, chosen = null) {
		const words = splitWords(text);
		const unknown = [...new Set(words)].filter((word) => !numbers.has(word));
		const places = [...words.keys()].filter((place) => pronouns.includes(words[place]));
		const pronoun = places.includes(chosen) ? chosen : (places.at(-1) ?? null);
		const found = {
			words,
			unknown: unknown.slice(0, 20).map((word) => ({ word, nearest: nearest(word.slice(0, 40)) })),
			pronouns: places,
			pronoun,
			candidates: candidatesOf(words),
			title: `What does “${words[pronoun] ?? "it"}” stand for?`,
		};
		return { ...found, problem: problemOf(found) };
	}

	// ---- what the viewer asks

	const has = (all, ...key) => all.some((one) => key.every((part, i) => one[i] === part));

	function run(words, pronoun, options = {}) {
		const { snapshot = given.snapshots.length - 1, cutHeads = [], cutLines = [], nudge = [] } = options;
		const nudges = [nudge].flat();
		const changeOf = (layer) => ({
			isCutHead: (head) => has(cutHeads, layer, head),
			isCutLine: (head, query, key) => has(cutLines, layer, head, query, key),
			nudge: (head, query, key) =>
				total(
					nudges
						.filter((one) => one.layer === layer && one.head === head && one.query === query && one.key === key)
						.map((one) => one.by),
				),
		});
		const tokens = words.map((word) => numbers.get(word));
		const saved = forward(parametersAt(snapshot), tokens, pronoun, changeOf);
		const probabilities = softmax(saved.scores); // (model.9)
		const answers = candidatesOf(words).map((place) => ({
			word: words[place],
			place,
			probability: probabilities[tokens[place]],
			score: saved.scores[tokens[place]],
		}));
		answers.sort((a, b) => b.probability - a.probability);
		const layers = [saved.attend_1, saved.attend_2].map((heads, layer) => {
			const [rows, n] = [heads[0].q.length, words.length];
			const all = (part, shape) => flat([nHeads, ...shape], heads.flatMap((head) => head[part]));
			const d_k = heads[0].q[0].length;
			return {
				name: `block ${layer + 1}`,
				asking: layer ? [pronoun] : null,
				weights: all("weights", [rows, n]),
				scores: all("scores", [rows, n]),
				mask: cutLines.some(([there]) => there === layer) ? all("mask", [rows, n]) : null,
				query: all("q", [rows, d_k]),
				key: all("k", [n, d_k]),
				value: all("v", [n, d_k]),
				scale: heads[0].scale,
				scoring: "÷ √d_k",
				d_weights: null,
			};
		});
		const loss = (word) => -Math.log(probabilities[numbers.get(word)]); // (model.9)
		return { layers, answers, loss, probabilities, saved };
	}

	/** The gradients of −log p(word) in what attention computes. */
	function gradients({ saved, probabilities, loss }, word) {
		const d_scores = probabilities.map((probability, number) => probability - (number === numbers.get(word) ? 1 : 0)); // (model.9')
		const layers = backward(saved, d_scores).map((heads) =>
			Object.fromEntries(
				Object.keys(heads[0]).map((part) => {
					const rows = heads.flatMap((head) => head[part]);
					return [part, flat([nHeads, heads[0][part].length, rows[0].length], rows)];
				}),
			),
		);
		return { loss: loss(word), layers };
	}

	return {
		examples: given.examples,
		snapshots: given.snapshots.map(({ step, loss, accuracy }) => ({ step, loss, accuracy })),
		read,
		replaced,
		run,
		gradients,
	};
}
