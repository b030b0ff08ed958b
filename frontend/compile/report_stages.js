"use strict";
// Part of report.js: the passes, and any two stages side by side.

function showPasses() {
  const { stages } = state.graph;
  byId("pass-table").replaceChildren(
    make("tr", {}, make("th", {}, "stage"), make("th", { class: "n" }, "nodes"), make("th", { class: "n" }, "change"), make("th", { class: "n" }, "ms")),
    ...stages.map((stage, i) => {
      const change = i ? stage.nodes.length - stages[i - 1].nodes.length : 0;
      return make("tr", { class: "can", onclick: () => { showPair(Math.max(0, i - 1), i); byId("stages").scrollIntoView(); } },
        make("td", {}, stage.name), make("td", { class: "n" }, number(stage.nodes.length)),
        make("td", { class: "n" }, change ? (change > 0 ? "+" : "−") + Math.abs(change) : ""), make("td", { class: "n" }, i ? milliseconds(stage.seconds) : ""));
    }));
}

function showPair(left, right) {
  byId("left").value = String(left);
  byId("right").value = String(right);
  showStages();
}

/** The lines of a stage's text, each with the node it defines, its text without the location, and what it is called. */
function stageLines(stage) {
  const nodes = new Map();
  for (const node of everyNode(stage.nodes)) nodes.set(node.text_line, node);
  return stage.text.split("\n").map((text, i) => {
    const node = nodes.get(i);
    const code = text.replace(/   # .*$/s, "").trim();
    return { text, node, code, key: node && !node.body.length ? valueKey(node) : code };
  });
}

/** Pairs of lines [a, b]: those of one key side by side where their order agrees (longest increasing subsequence), the
 *  others alone; `mark` says changed, removed, added or "". A line that only moved is not marked. */
function pairLines(a, b) {
  const where = new Map();
  b.forEach((line, j) => { if (!where.has(line.key)) where.set(line.key, j); });
  const inA = new Map(a.map((line) => [line.key, line]));
  const common = a.map((line, i) => [i, where.get(line.key)]).filter(([, j]) => j !== undefined);
  const pairs = [];
  let nextA = 0, nextB = 0;
  const differs = (one, other) => other && one.code !== other.code;
  const alone = (line, other, mark) => (other ? (differs(line, other) ? "changed" : "") : mark);
  for (const [i, j] of [...increasing(common), [a.length, b.length]]) {
    while (nextA < i) { const line = a[nextA++]; pairs.push([line, null, alone(line, b[where.get(line.key)], "removed")]); }
    while (nextB < j) { const line = b[nextB++]; pairs.push([null, line, alone(line, inA.get(line.key), "added")]); }
    if (i < a.length) pairs.push([a[i], b[j], differs(a[i], b[j]) ? "changed" : ""]);
    nextA = i + 1;
    nextB = j + 1;
  }
  return pairs;
}

/** The longest subsequence of the pairs whose second parts increase (patience sorting). */
function increasing(pairs) {
  const tails = [], previous = [];
  pairs.forEach(([, j], n) => {
    let low = 0, high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[tails[middle]][1] < j) low = middle + 1; else high = middle;
    }
    previous[n] = low ? tails[low - 1] : -1;
    tails[low] = n;
  });
  const found = [];
  for (let n = tails.length ? tails.at(-1) : -1; n >= 0; n = previous[n]) found.push(pairs[n]);
  return found.reverse();
}

function showStages() {
  const { stages } = state.graph;
  const left = stages[Number(byId("left").value)];
  const right = byId("right").value === "" ? null : stages[Number(byId("right").value)];
  const view = byId("stage-view");
  byId("only-changes").disabled = !right;
  view.className = right ? "code stage two" : "code stage";
  if (!right) {
    byId("diff-facts").textContent = `${left.nodes.length} nodes`;
    view.replaceChildren(...stageLines(left).map((line) => codeRow(line.text, line.node)));
  } else {
    let pairs = pairLines(stageLines(left), stageLines(right));
    const count = (mark) => pairs.filter(([a, b, m]) => m === mark && (a || b).node).length;
    byId("diff-facts").textContent = `${count("removed")} removed, ${count("added")} added, ${count("changed")} changed (locations and order aside)`;
    if (byId("only-changes").checked) pairs = pairs.filter(([, , mark]) => mark);
    const column = (side, own) => make("div", {}, ...pairs.map((pair) =>
      pair[side] ? codeRow(pair[side].text, pair[side].node, pair[2]) : make("div", { class: "row" }, " ")));
    view.replaceChildren(column(0), column(1));
  }
  markAll();
}

function showStageChoices() {
  const choices = () => state.graph.stages.map((stage, i) => make("option", { value: String(i) }, stage.name));
  byId("left").replaceChildren(...choices());
  byId("right").replaceChildren(make("option", { value: "" }, "(nothing)"), ...choices());
  showPair(0, state.graph.stages.length - 1);
}
